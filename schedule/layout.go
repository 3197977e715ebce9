package schedule

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// size is a batch size of the config with its key.
type size struct {
	key    string
	tokens units.Tokens
}

// build lays the batches of c out from p.from on; past is the number of sequences of the update before, 0 if there is none.
func (p *Plan) build(c BatchConfig, past int64, problems *problem.List) {
	full := size{"tokens", units.Tokens(c.Tokens)}
	var sizes []size
	switch {
	case c.Tokens == Law:
		sizes = []size{{"law.min", c.Law.Min}, {"law.max", c.Law.Max}}
	case !c.Linear.Until.IsZero():
		sizes = []size{{"linear.from", c.Linear.From}, full}
	default:
		for i, s := range c.Ramp {
			sizes = append(sizes, size{fmt.Sprintf("ramp[%d].tokens", i), s.Tokens})
		}
		sizes = append(sizes, full)
	}
	if p.micro == 0 {
		least := slices.MinFunc(sizes, func(a, b size) int { return cmp.Compare(a.tokens, b.tokens) })
		p.micro = max(1, (int64(least.tokens)+p.seqLen/2)/p.seqLen)
	}
	counts := make([]int64, len(sizes)) // micro-batches
	for i, s := range sizes {
		counts[i] = p.microBatches(s, problems)
	}
	if problems.Err() != nil {
		return
	}
	first := counts[0]
	if c.Tokens == Law && past > 0 { // it never shrinks
		first = min(max(first, past/p.micro), counts[1])
	}
	p.change(Stage{p.from, first * p.micro})
	p.most = slices.Max(counts) * p.micro
	switch {
	case c.Tokens == Law:
		problems.Check(counts[0] <= counts[1], "law.max", c.Law.Max, "at least law.min in micro-batches, %d tokens", counts[0]*p.micro*p.seqLen)
		p.law = lawBounds{counts[0], counts[1]}
	case !c.Linear.Until.IsZero():
		p.buildLinear(c.Linear, counts[0], counts[1], problems)
	default:
		p.buildRamp(c.Ramp, counts, problems)
	}
}

// buildRamp adds a stage for each size after the first, where the one before ends.
func (p *Plan) buildRamp(ramp []RampStage, counts []int64, problems *problem.List) {
	for i, s := range ramp {
		key, at, last := fmt.Sprintf("ramp[%d].until", i), p.boundary(s.Until, 1, 1), p.stages[len(p.stages)-1]
		problems.Check(at > last.step || at <= p.from, key, s.Until, "after the start of this stage at step %d; this is step %d", last.step, at)
		problems.Check(at < p.end() || at <= p.from, key, s.Until, "before the end of the run at step %d; this is step %d", p.end(), at)
		p.change(Stage{max(at, last.step, p.from), counts[i+1] * p.micro})
	}
}

// buildLinear adds the stairs: equally spaced numbers of micro-batches, as many as there are, over equal numbers of tokens
// (of steps, where until is in steps).
func (p *Plan) buildLinear(c LinearRamp, from, to int64, problems *problem.List) {
	n := min(int64(c.Sizes-1), to-from)
	for i := int64(1); i <= n; i++ {
		at := p.boundary(c.Until, i, n)
		problems.Check(i < n || at < p.end() || at <= p.from, "linear.until", c.Until, "before the end of the run at step %d; this is step %d", p.end(), at)
		p.change(Stage{max(at, p.from), (from + (2*i*(to-from)+n)/(2*n)) * p.micro})
	}
}

// boundary is the first update that begins at i/n of until or later, with the stages so far.
func (p *Plan) boundary(until units.Length, i, n int64) int64 {
	steps, inSteps := until.Steps()
	if f, ok := until.Fraction(); ok && p.inSteps { // the run's tokens are not known before its stages are
		steps, inSteps = int64(math.Round(float64(f)*float64(p.steps))), true
	}
	if inSteps {
		return (steps*i + n - 1) / n
	}
	return p.StepsFor((p.tokens(until)*i + n - 1) / n)
}

// end is the number of updates of the run with the stages so far.
func (p *Plan) end() int64 {
	if p.inSteps {
		return p.steps
	}
	return p.StepsFor(p.total)
}

// change starts a stage at a step not before the last one's.
func (p *Plan) change(c Stage) {
	if len(p.stages) == 0 {
		p.stages = []stage{{0, 0, c.Sequences}}
		return
	}
	last := p.stages[len(p.stages)-1]
	switch next := (stage{c.Step, p.TokensBefore(c.Step), c.Sequences}); {
	case c.Sequences == last.sequences:
	case c.Step == last.step:
		p.stages[len(p.stages)-1] = next
	default:
		p.stages = append(p.stages, next)
	}
}

// microBatches is a batch size in whole micro-batches. The law's bounds only need to lie within theirs.
func (p *Plan) microBatches(s size, problems *problem.List) int64 {
	unit := p.micro * p.seqLen
	below := int64(s.tokens) / unit
	n := max(1, (int64(s.tokens)+unit/2)/unit)
	switch s.key {
	case "law.min":
		return (int64(s.tokens) + unit - 1) / unit
	case "law.max":
		problems.Check(below >= 1, s.key, s.tokens, "at least one micro-batch of %d × %d = %d tokens", p.micro, p.seqLen, unit)
		return below
	}
	off := math.Abs(float64(n*unit - int64(s.tokens)))
	problems.Check(off <= 0.005*float64(s.tokens), s.key, s.tokens, "a multiple of micro_batch × sequence length, %d × %d = %d tokens, such as %v",
		p.micro, p.seqLen, unit, units.Tokens(n*unit))
	return n
}

// settle fixes the end of the run after its stages have changed.
func (p *Plan) settle() {
	p.steps = p.end()
	if p.inSteps {
		p.total = p.TokensBefore(p.steps)
	}
}

// Grows says whether a batch of "tokens: law" grows after step updates, given the validation loss there (nats per token), and
// to how many sequences: [LawTokens], rounded to the nearest power-of-two number of micro-batches so that few sizes occur, and
// within the law's bounds. It never shrinks: with a noisy loss it would swing. False where it stays, or does not follow the
// loss.
func (p *Plan) Grows(step int64, loss float64) (sequences int64, yes bool) {
	if p.law == (lawBounds{}) || !(loss > 0) {
		return 0, false
	}
	wanted := math.Exp2(math.Round(math.Log2(LawTokens(loss) / float64(p.micro*p.seqLen))))
	n := int64(min(max(wanted, float64(p.law.min)), float64(p.law.max))) * p.micro
	return n, n > p.SequencesAt(step)
}

// Grow is the plan with the batch that [Plan.Grows] gave, from its own first update on; p continues ([Plan.Continue]) the plan
// that gave it. A batch that p's law cannot give is an error.
func (p *Plan) Grow(sequences int64) (*Plan, error) {
	if n := sequences / p.micro; p.law == (lawBounds{}) || sequences%p.micro != 0 || n < p.law.min || n > p.law.max {
		return nil, fmt.Errorf("batch plan: %d sequences from step %d: want a multiple of micro_batch %d within batch.law", sequences, p.from, p.micro)
	}
	q := *p
	q.stages = slices.Clone(p.stages)
	q.change(Stage{p.from, sequences})
	q.settle()
	return &q, nil
}
