package mix

import (
	"fmt"
	"slices"
	"sort"

	"pretrain/data/pack"
)

// Sequence is one sequence of a batch: where its T+1 tokens lie.
type Sequence struct {
	// Source is a place in [Plan.Sources].
	Source int
	// Epoch counts the source's passes from 0. A sequence at the end of one can run on into the next.
	Epoch int
	// Segments in order; fewer than T+1 tokens only where the source is packed best_fit.
	Segments []pack.Segment
}

// SequencesAt is the number of sequences at a step, and the number of tokens in each, T. They differ from the batch schedule's
// only in a stage of shorter sequences.
func (plan *Plan) SequencesAt(step int64) (n, t int) {
	return plan.run.Batches.SequencesAt(step) * plan.PerRow(step), plan.stageAt(step).SeqLen
}

// PerRow is how many sequences a row of the run's length makes at a step: 1, or more in a stage of shorter sequences. So
// many more of them fit on the devices at once, and a batch is as many micro-batches as ever.
func (plan *Plan) PerRow(step int64) int { return plan.run.SeqLen / plan.stageAt(step).SeqLen }

// At is the batch of a step, 0 ≤ step < Steps: all its sequences in order. A device or worker that wants some of them
// asks Sequence for each.
func (plan *Plan) At(step int64) ([]Sequence, error) {
	if err := plan.check(step); err != nil {
		return nil, err
	}
	n, _ := plan.SequencesAt(step)
	out := make([]Sequence, n)
	for i := range out {
		out[i] = plan.sequence(step, i)
	}
	return out, nil
}

// Sequence is sequence i of the batch of a step. It takes 10 to 35 µs (best_fit: 100), whatever the step, the run's length
// and the sources' sizes.
func (plan *Plan) Sequence(step int64, i int) (Sequence, error) {
	if err := plan.check(step); err != nil {
		return Sequence{}, err
	}
	if n, _ := plan.SequencesAt(step); i < 0 || i >= n {
		return Sequence{}, fmt.Errorf("sequence %d of step %d; want 0 to %d", i, step, n-1)
	}
	return plan.sequence(step, i), nil
}

func (plan *Plan) check(step int64) error {
	if step < 0 || step >= plan.run.Steps {
		return fmt.Errorf("step %d; want 0 to %d, the last of the plan", step, plan.run.Steps-1)
	}
	return nil
}

func (plan *Plan) sequence(step int64, i int) Sequence {
	st := plan.stageAt(step)
	parts := plan.run.SeqLen / st.SeqLen
	src, rank := st.share.locate(plan.run.Batches.SequencesBefore(step) + int64(i/parts) - st.row)
	row := st.before[src] + rank
	layout := plan.sources[src].layout
	segments := layout.Append(nil, row)
	if parts > 1 {
		segments = pack.Slice(nil, segments, i%parts*st.SeqLen, st.SeqLen+1)
	}
	return Sequence{src, layout.Epoch(row), segments}
}

func (plan *Plan) stageAt(step int64) *stage {
	k := sort.Search(len(plan.stages)-1, func(k int) bool { return plan.stages[k].To > step })
	return &plan.stages[k]
}

// StageAt is the stage that a step belongs to.
func (plan *Plan) StageAt(step int64) StagePlan { return plan.stageAt(step).StagePlan }

// Sources are the names of the sources, sorted: Sequence.Source is a place in it.
func (plan *Plan) Sources() []string {
	names := make([]string, len(plan.sources))
	for i, s := range plan.sources {
		names[i] = s.name
	}
	return names
}

// EpochBySource is how many epochs of each source the steps before step have taken: 1.5 is halfway through the second.
func (plan *Plan) EpochBySource(step int64) map[string]float64 {
	st := plan.stageAt(step)
	rows := plan.run.Batches.SequencesBefore(min(step, plan.run.Steps)) - st.row
	out := make(map[string]float64, len(plan.sources))
	for i := range plan.sources {
		s := &plan.sources[i]
		out[s.name] = s.epochs(st.before[i] + st.share.count(i, rows))
	}
	return out
}

// Usage is what the whole plan asks of each source, sorted by name.
func (plan *Plan) Usage() []SourcePlan {
	out := make([]SourcePlan, len(plan.sources))
	for i := range plan.sources {
		s := &plan.sources[i]
		u := SourcePlan{
			Name: s.name, Docs: s.docs, Tokens: s.tokens, Asked: s.rows * int64(plan.run.SeqLen),
			Epochs: s.epochs(s.rows), MaxEpochs: s.limit, Fill: s.layout.Fill(),
		}
		for e := 0; ; e++ {
			row := s.layout.RowsBefore(e)
			if row >= s.rows {
				break
			}
			step, _, _ := plan.where(i, row)
			u.EpochStart = append(u.EpochStart, step)
		}
		out[i] = u
	}
	return out
}

// where is the step at which a source's row comes, the row's place in the batch, and the stage.
func (plan *Plan) where(src int, row int64) (step int64, place int, st *stage) {
	k := sort.Search(len(plan.stages)-1, func(k int) bool { return plan.stages[k+1].before[src] > row })
	st = &plan.stages[k]
	global := st.row + st.share.row(src, row-st.before[src])
	b := plan.run.Batches
	step = int64(sort.Search(int(plan.run.Steps), func(s int) bool { return b.SequencesBefore(int64(s)+1) > global }))
	return step, int(global - b.SequencesBefore(step)), st
}

// Occurrence is a sequence that holds a piece of a document.
type Occurrence struct {
	Step    int64        `json:"step"`
	Index   int          `json:"index"` // of the sequence in its batch
	Epoch   int          `json:"epoch"` // the source's, in which the sequence begins
	Segment pack.Segment `json:"segment"`
}

// StepsOf says where in the plan a document of a source was or will be seen, in order: the inverse of At. A document
// without tokens is nowhere, and one is nowhere in the epochs the plan does not reach.
func (plan *Plan) StepsOf(sourceName string, doc int) ([]Occurrence, error) {
	src := slices.IndexFunc(plan.sources, func(s source) bool { return s.name == sourceName })
	if src < 0 {
		return nil, fmt.Errorf("source %q; want one of %v", sourceName, plan.Sources())
	}
	s := &plan.sources[src]
	if doc < 0 || doc >= s.docs {
		return nil, fmt.Errorf("document %d of source %s; want 0 to %d", doc, sourceName, s.docs-1)
	}
	var rows []int64
	// A row can run over into the next epoch, and where the source is shorter than a row into several.
	for e := 0; ; e++ {
		found := s.layout.Rows(doc, e)
		if s.layout.RowsBefore(e) >= s.rows && (len(found) == 0 || found[0] >= s.rows) {
			break
		}
		rows = append(rows, found...)
	}
	slices.Sort(rows)
	var out []Occurrence
	for _, row := range slices.Compact(rows) {
		if row >= s.rows {
			break
		}
		step, place, st := plan.where(src, row)
		segments := s.layout.Append(nil, row)
		parts := plan.run.SeqLen / st.SeqLen
		for i := range parts {
			for _, seg := range pack.Slice(nil, segments, i*st.SeqLen, st.SeqLen+1) {
				if seg.Doc == doc {
					out = append(out, Occurrence{step, place*parts + i, s.layout.Epoch(row), seg})
				}
			}
		}
	}
	return out, nil
}
