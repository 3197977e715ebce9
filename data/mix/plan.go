package mix

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"pretrain/data/pack"
	"pretrain/internal/prng"
	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// Batches is what the order needs to know of the batch schedule, batch ramp included: how many rows of SeqLen tokens the
// steps before step hold, and step itself. SequencesBefore(0) = 0, and both agree.
type Batches interface {
	SequencesBefore(step int64) int64
	SequencesAt(step int64) int
}

// Run is what the order needs to know of the run.
type Run struct {
	// Key is the seed's part for data: prng.New(seed).Split("data").
	Key prng.Key
	// Steps is the run's length.
	Steps int64
	// SeqLen is the tokens in a row, T.
	SeqLen  int
	Batches Batches
	// Phases are the schedule's phases by name, with the step each begins at. One the schedule has not is not there.
	Phases map[string]int64
	// Params is the number of non-embedding parameters; only code_math goes by it.
	Params float64
}

// Available is a source as it lies on disk.
type Available struct {
	Index pack.Index
	// Hash identifies the content, such as a digest of the shard's files. It is part of the order's key.
	Hash string
}

// Plan is the order of a run's data. It does not change; its methods may be called concurrently.
type Plan struct {
	run     Run
	sources []source // sorted by name
	stages  []stage
	from    int64 // the first step of its own; those before are another plan's, see Continue
}

type source struct {
	name    string
	docs    int
	tokens  int64
	hash    string
	layout  pack.Layout
	packing Packing
	limit   float64 // max_epochs
	rows    int64   // asked of it by the whole plan
}

type stage struct {
	StagePlan
	row    int64              // the run's rows before it
	weigh  map[string]float64 // each source's part of the rows, which padding makes another than its part of the tokens
	share  *share             // deals the rows out by it
	before []int64            // by source: the source's rows that earlier stages have taken
	open   bool               // it is the past's and was not at its end
}

// StagePlan is a stage as planned, in plain numbers.
type StagePlan struct {
	Name   string `json:"name"`
	From   int64  `json:"from"` // steps, From ≤ step < To
	To     int64  `json:"to"`
	Tokens int64  `json:"tokens"`
	SeqLen int    `json:"seq_len"`
	// Mix is each source's share of the tokens; they sum to 1. Sources without a share are not in it.
	Mix map[string]float64 `json:"mix"`
}

// SourcePlan is what a plan asks of a source.
type SourcePlan struct {
	Name       string  `json:"name"`
	Docs       int     `json:"docs"`
	Tokens     int64   `json:"tokens"` // it has
	Asked      int64   `json:"asked"`  // tokens of its rows in the plan, padding included
	Epochs     float64 `json:"epochs"`
	MaxEpochs  float64 `json:"max_epochs"`
	Fill       float64 `json:"fill"`        // part of its rows that is not padding
	EpochStart []int64 `json:"epoch_start"` // the step with the first row of each epoch
}

// Expand plans the order of the data over a run. Errors are [problem.Problem]s, all that can be found at once: those of
// [Config.Validate], stages that do not follow each other or lie outside the run, a source that is missing or empty, and a
// source asked for more than its max_epochs, with the numbers.
func Expand(c Config, run Run, available map[string]Available) (*Plan, error) {
	return expand(c, run, available, nil, 0)
}

// expand is [Expand], or after the first steps of another plan what [Plan.Continue] says.
func expand(c Config, run Run, available map[string]Available, past *Plan, from int64) (*Plan, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.Resolved()
	if run.SeqLen < 1 || run.Steps < 1 || run.Batches.SequencesBefore(run.Steps) < 1 {
		return nil, fmt.Errorf("a run of %d steps of sequences of %d tokens; want at least one of each", run.Steps, run.SeqLen)
	}
	var p problem.List
	p.Check(!c.CodeMath.Enabled || run.Params > 0, "code_math.enabled", true, "a model whose number of parameters is known; it is given as %v", run.Params)
	plan := &Plan{run: run, from: from}
	plan.open(c, available, &p)
	if past != nil {
		plan.inherit(past, &p)
	}
	drafts := c.drafts(run, &p)
	if p.Err() != nil {
		return nil, p.Err()
	}
	plan.place(drafts, &p)
	if p.Err() != nil {
		return nil, p.Err()
	}
	if past != nil {
		drafts = plan.splice(past, drafts)
	}
	plan.deal(c, drafts, &p)
	plan.checkEpochs(&p)
	if p.Err() != nil {
		return nil, p.Err()
	}
	return plan, nil
}

// open lays every source out in rows.
func (plan *Plan) open(c Config, available map[string]Available, p *problem.List) {
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		a, ok := available[name]
		p.Check(ok, "sources."+name, "not available", "a source that has been opened")
		if !ok {
			continue
		}
		s := source{name: name, docs: a.Index.Docs(), hash: a.Hash, packing: c.Sources[name].Pack, limit: c.Sources[name].MaxEpochs}
		s.tokens = a.Index.Offset(s.docs)
		key := plan.run.Key.Split("source").Split(name).Split(a.Hash)
		var err error
		if c.Sources[name].Pack == BestFit {
			s.layout, err = pack.NewBestFit(a.Index, plan.run.SeqLen, key)
		} else {
			s.layout, err = pack.NewConcat(a.Index, plan.run.SeqLen, key)
		}
		p.Check(err == nil, "sources."+name+".path", c.Sources[name].Path, "usable documents: %v", err)
		plan.sources = append(plan.sources, s)
	}
}

// place puts the stages on steps.
func (plan *Plan) place(drafts []draft, p *problem.List) {
	run := plan.run
	for i, d := range drafts {
		key := fmt.Sprintf("stages[%d]", i)
		drafts[i].index = i
		st := stage{StagePlan: StagePlan{Name: d.Name, To: run.Steps, SeqLen: run.SeqLen}}
		if i > 0 {
			st.From = plan.stages[i-1].To
		}
		if !d.At.IsZero() {
			at, ok := run.step(d.At)
			p.Check(ok, key+".at", d.At, "a phase of this run's schedule: %s", strings.Join(slices.Sorted(maps.Keys(run.Phases)), ", "))
			p.Check(!ok || i > 0 || at == 0, key+".at", d.At, "the start of the run (step 0) for the first stage; this is step %d", at)
			p.Check(!ok || i == 0 || drafts[i-1].Until.IsZero() || at == st.From, key+".at", d.At,
				"where the stage before ends (step %d); this is step %d", st.From, at)
			if st.From = at; i > 0 {
				plan.stages[i-1].To = at
			}
		}
		last := i == len(drafts)-1
		if !d.Until.IsZero() {
			st.To, _ = run.step(Start{Length: d.Until})
			p.Check(!last || st.To >= run.Steps, key+".until", d.Until, "the end of the run (step %d) for the last stage; this is step %d", run.Steps, st.To)
			st.To = min(st.To, run.Steps)
		} else {
			p.Check(last || !drafts[i+1].At.IsZero(), key+".until", "none", "an end, since the next stage says no at")
		}
		if d.SeqLen > 0 {
			p.Check(run.SeqLen%d.SeqLen == 0, key+".seq_len", d.SeqLen, "a divisor of the run's sequence length %d", run.SeqLen)
			st.SeqLen = d.SeqLen
		}
		plan.stages = append(plan.stages, st)
	}
	for i, st := range plan.stages {
		p.Check(st.From < st.To || p.Err() != nil, fmt.Sprintf("stages[%d]", i), st.Name,
			"at least one step before the run's end at step %d; this stage is steps %d to %d", run.Steps, st.From, st.To)
	}
}

// step is where a start falls, if the run has its phase.
func (run Run) step(s Start) (int64, bool) {
	if s.Phase != "" {
		at, ok := run.Phases[s.Phase]
		return at, ok
	}
	return s.Length.Resolve(run.Steps, func(tokens int64) int64 {
		rows := (tokens + int64(run.SeqLen) - 1) / int64(run.SeqLen)
		return int64(sort.Search(int(run.Steps), func(step int) bool { return run.Batches.SequencesBefore(int64(step)) >= rows }))
	}), true
}

// deal gives each stage its weights and each source its rows.
func (plan *Plan) deal(c Config, drafts []draft, p *problem.List) {
	n, t := len(plan.sources), int64(plan.run.SeqLen)
	names, tokens := make([]string, n), make([]float64, n)
	for i, s := range plan.sources {
		names[i], tokens[i] = s.name, float64(s.tokens)
	}
	taken := make([]int64, n)
	planned := plan.stages
	plan.stages = plan.stages[:0:0]
	for k, st := range planned {
		if st.weigh == nil {
			used := make([]float64, n)
			for i, s := range plan.sources {
				used[i] = float64(taken[i]*t) * s.layout.Fill()
			}
			weights := drafts[k].weigh(c, plan.run, names, tokens, used, float64(plan.rows(st)*t))
			st.Mix, st.weigh = map[string]float64{}, map[string]float64{}
			for i, w := range weights {
				if w > 0 {
					st.Mix[names[i]] = w
					// Weights are of tokens: a source whose rows are part padding needs more of them.
					st.weigh[names[i]] = w / plan.sources[i].layout.Fill()
					p.Check(plan.sources[i].packing == Concat || st.SeqLen == plan.run.SeqLen, fmt.Sprintf("stages[%d].seq_len", drafts[k].index), st.SeqLen,
						"the run's %d: source %s is packed best_fit, whose rows cannot be cut", plan.run.SeqLen, names[i])
				}
			}
		}
		if last := len(plan.stages) - 1; last >= 0 && st.continues(plan.stages[last]) {
			st.From, st.before = plan.stages[last].From, plan.stages[last].before
			plan.stages = plan.stages[:last]
			taken = slices.Clone(st.before)
		}
		perRow := make([]float64, n)
		for i, name := range names {
			perRow[i] = st.weigh[name]
		}
		st.row = plan.run.Batches.SequencesBefore(st.From)
		st.share = newShare(perRow, plan.run.Key.Split("interleave").SplitN(uint64(len(plan.stages))))
		st.before = slices.Clone(taken)
		st.Tokens = plan.rows(st) * t
		for i := range taken {
			taken[i] += st.share.count(i, plan.rows(st))
		}
		plan.stages = append(plan.stages, st)
	}
	for i := range plan.sources {
		plan.sources[i].rows = taken[i]
	}
}

// rows is the number of rows of a stage.
func (plan *Plan) rows(st stage) int64 {
	return plan.run.Batches.SequencesBefore(st.To) - plan.run.Batches.SequencesBefore(st.From)
}

// checkEpochs refuses what would repeat a source too often.
func (plan *Plan) checkEpochs(p *problem.List) {
	for i, s := range plan.sources {
		whole := int(s.limit)
		allowed := s.layout.RowsBefore(whole)
		allowed += int64((s.limit-float64(whole))*float64(s.layout.RowsBefore(whole+1)-allowed) + 0.999)
		if s.rows <= allowed {
			continue
		}
		var where []string
		for k, st := range plan.stages {
			if st.Mix[s.name] > 0 {
				where = append(where, fmt.Sprintf("%.3g%% of stage %q, %v", 100*st.Mix[s.name], st.Name, units.Tokens(plan.took(k, i)*int64(plan.run.SeqLen))))
			}
		}
		p.Check(false, "sources."+s.name+".max_epochs", s.limit,
			"at least %.2f: the plan takes %v from the source's %v (%s); or a smaller weight, a shorter stage, more data",
			s.epochs(s.rows), units.Tokens(s.rows*int64(plan.run.SeqLen)), units.Tokens(s.tokens), strings.Join(where, "; "))
	}
}

// took is the rows that stage k takes of source i.
func (plan *Plan) took(k, i int) int64 {
	if k+1 < len(plan.stages) {
		return plan.stages[k+1].before[i] - plan.stages[k].before[i]
	}
	return plan.sources[i].rows - plan.stages[k].before[i]
}

// epochs is how many epochs a number of rows is.
func (s *source) epochs(rows int64) float64 {
	e := s.layout.Epoch(rows)
	first := s.layout.RowsBefore(e)
	return float64(e) + float64(rows-first)/float64(s.layout.RowsBefore(e+1)-first)
}

// Stages are the plain stages, presets written out.
func (plan *Plan) Stages() []StagePlan {
	out := make([]StagePlan, len(plan.stages))
	for i, st := range plan.stages {
		out[i] = st.StagePlan
	}
	return out
}

// Manifest identifies the data: a digest of every source's name, hash and size. With the seed and the stages so far it
// fixes every batch; a checkpoint records it.
func (plan *Plan) Manifest() string {
	h := sha256.New()
	for _, s := range plan.sources {
		fmt.Fprintf(h, "%q %q %d %d\n", s.name, s.hash, s.docs, s.tokens)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
