package schedule

import (
	"fmt"
	"math"
	"slices"
	"sort"

	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// Plan says how many sequences each update of a run trains on, and so turns steps into tokens and back: in closed form
// within a stage, by binary search among stages. It does not change; all methods may be called concurrently.
type Plan struct {
	stages  []stage // stages[0].step == 0; steps strictly increase
	from    int64   // the first update of its own: those before are another plan's, see Continue
	seqLen  int64   // tokens per sequence
	micro   int64   // sequences per micro-batch
	most    int64   // sequences of the largest batch
	inSteps bool    // the run's length was given in steps, so total follows from them, and not the other way round
	steps   int64   // updates of the run
	total   int64   // tokens of the run; as asked for, where the last update goes beyond
	scale   bool    // lr_scale: sqrt
	law     lawBounds
}

// stage is a batch size from an update on; tokens are those trained on before it.
type stage struct{ step, tokens, sequences int64 }

// lawBounds are in micro-batches; zero for a plan that does not follow the loss.
type lawBounds struct{ min, max int64 }

// Stage is a batch size: from update Step on, Sequences.
type Stage struct {
	Step      int64 `json:"step"`
	Sequences int64 `json:"sequences"`
}

// NewPlan lays the batch sizes out over a run of the given length, in steps or tokens; tokens are rounded up to whole
// updates. seqLen is the number of tokens of a sequence. What is wrong with the config is joined
// problem.Problem, those of [BatchConfig.Validate] among them.
func NewPlan(c BatchConfig, seqLen int64, run units.Length) (*Plan, error) {
	if seqLen < 1 {
		return nil, fmt.Errorf("batch plan: sequences of %d tokens: want 1 or more", seqLen)
	}
	return (&Plan{seqLen: seqLen}).extend(c, run, 0)
}

// Continue is the plan of a run that took p's updates before step and goes on by c: a resumed run whose batch changed, or a
// branch. The run's length, and every length in c, counts from the start of the run, p's part included; a stage of a ramp that
// ends before step is over, and a batch that follows the loss goes on from p's.
func (p *Plan) Continue(step int64, c BatchConfig, run units.Length) (*Plan, error) {
	if step <= 0 {
		return NewPlan(c, p.seqLen, run)
	}
	past := p.stages[:search(p.stages, func(s stage) bool { return s.step < step })+1]
	return (&Plan{seqLen: p.seqLen, from: step, stages: slices.Clone(past)}).extend(c, run, p.SequencesAt(step))
}

// extend lays c out from where the plan's past ends, with updates of so many sequences.
func (p *Plan) extend(c BatchConfig, run units.Length, sequences int64) (*Plan, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	steps, inSteps := run.Steps()
	tokens, inTokens := run.Tokens()
	if !(inSteps && steps > 0 || inTokens && tokens > 0) {
		return nil, fmt.Errorf(`batch plan: a run of %q: want steps or tokens above 0, such as "20Btok"`, run)
	}
	p.micro, p.inSteps, p.steps, p.total, p.scale = max(0, int64(c.MicroBatch)), inSteps, steps, int64(tokens), c.LRScale == "sqrt"
	var problems problem.List
	p.build(c, sequences, &problems)
	if err := problems.Err(); err != nil {
		return nil, err
	}
	p.settle()
	return p, nil
}

// Steps is the number of updates of the run.
func (p *Plan) Steps() int64 { return p.steps }

// Tokens is what the run trains on: whole updates, so up to one batch more than was asked for.
func (p *Plan) Tokens() int64 { return p.TokensBefore(p.steps) }

// SequenceLength is the number of tokens of a sequence.
func (p *Plan) SequenceLength() int64 { return p.seqLen }

// MicroBatch is the number of sequences that go through the devices at once; every batch is a multiple, but for those of a
// past that had another plan.
func (p *Plan) MicroBatch() int64 { return p.micro }

// SequencesAt is the number of sequences of update step.
func (p *Plan) SequencesAt(step int64) int64 { return p.stageOf(step).sequences }

// TokensBefore is the number of tokens trained on before update step, so after step updates. Steps beyond the run go on
// with the last batch.
func (p *Plan) TokensBefore(step int64) int64 {
	s := p.stageOf(step)
	return s.tokens + (step-s.step)*s.sequences*p.seqLen
}

// StepAt is the update that trains on token number tokens, counted from 0: the number of whole updates before it.
func (p *Plan) StepAt(tokens int64) int64 {
	i := search(p.stages, func(s stage) bool { return s.tokens <= tokens })
	s := p.stages[i]
	return s.step + (tokens-s.tokens)/(s.sequences*p.seqLen)
}

// StepsFor is the least number of updates that trains on at least so many tokens.
func (p *Plan) StepsFor(tokens int64) int64 {
	step := p.StepAt(tokens)
	if p.TokensBefore(step) < tokens {
		step++
	}
	return step
}

// LRScale multiplies the learning rate of update step: √(its batch / the largest) with lr_scale: sqrt, else 1.
func (p *Plan) LRScale(step int64) float64 {
	if !p.scale {
		return 1
	}
	return math.Sqrt(float64(p.SequencesAt(step)) / float64(p.most))
}

// Stages lists the batch sizes of the run in order, each with its first update.
func (p *Plan) Stages() []Stage {
	list := make([]Stage, len(p.stages))
	for i, s := range p.stages {
		list[i] = Stage{s.step, s.sequences}
	}
	return list
}

// nearest is the step whose start is closest to a number of tokens, the later of two; negative for negative tokens.
func (p *Plan) nearest(tokens int64) int64 {
	if tokens < 0 {
		first := p.stages[0].sequences * p.seqLen
		return -(-tokens + first - 1) / first
	}
	step := p.StepAt(tokens)
	if tokens-p.TokensBefore(step) >= p.TokensBefore(step+1)-tokens {
		step++
	}
	return step
}

// tokens is a length in tokens or as a fraction, in tokens; at least 1 if the length is above 0.
func (p *Plan) tokens(l units.Length) int64 {
	if f, ok := l.Fraction(); ok && f > 0 {
		return max(1, int64(math.Round(float64(f)*float64(p.total))))
	}
	t, _ := l.Tokens()
	return int64(t)
}

// head is the step at which a length that begins at a step ends: a whole number of steps, at least 1 if the length is above 0.
func (p *Plan) head(from int64, l units.Length) int64 {
	if n, ok := l.Steps(); ok {
		return from + n
	}
	tokens := p.tokens(l)
	return max(p.nearest(p.TokensBefore(from)+tokens), from+min(tokens, 1))
}

// tail is the step at which a length that ends with the run begins; negative if it is longer than the run.
func (p *Plan) tail(l units.Length) int64 {
	if n, ok := l.Steps(); ok {
		return p.steps - n
	}
	tokens := p.tokens(l)
	if tokens == 0 {
		return p.steps // which may lie beyond the tokens asked for
	}
	return min(p.nearest(p.total-tokens), p.steps-1)
}

// stageOf is the stage that holds a step.
func (p *Plan) stageOf(step int64) stage {
	return p.stages[search(p.stages, func(s stage) bool { return s.step <= step })]
}

// search is the last stage for which begun holds, the first at least.
func search(stages []stage, begun func(stage) bool) int {
	return max(0, sort.Search(len(stages), func(i int) bool { return !begun(stages[i]) })-1)
}
