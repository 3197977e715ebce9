package configs

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"

	"pretrain/internal/units"
	"pretrain/model"
	"pretrain/schedule"
)

// Past is the part of a run that another configuration decided: the trunk of a branch, or a run before it was resumed with
// changes. Batches, learning rates and mixtures before Step are those of Run, which may have a past of its own; from Step on
// they are the configuration's, laid out as if the run had been its own from the start.
type Past struct {
	Run  *Resolved
	Step int64
	// Sequences is the batch from Step on where it was the validation loss that changed it (batch.tokens: law), and not the
	// configuration; 0 otherwise.
	Sequences int64
}

// plan lays out the batch sizes.
func (r *Resolved) plan() (*schedule.Plan, error) {
	length := units.OfTokens(r.Run.Train.Tokens)
	if r.Past != nil {
		plan, err := r.Past.Run.Plan.Continue(r.Past.Step, r.Run.Batch, length)
		if err == nil && r.Past.Sequences > 0 {
			plan, err = plan.Grow(r.Past.Sequences)
		}
		return plan, err
	}
	return schedule.NewPlan(r.Run.Batch, int64(r.Run.Model.MaxSeqLen), length)
}

// curve lays out the learning rate over the plan.
func (r *Resolved) curve() (*schedule.Schedule, error) {
	if r.Past != nil {
		return r.Past.Run.Schedule.Continue(r.Past.Step, r.Run.Schedule, r.Plan)
	}
	return schedule.New(r.Run.Schedule, r.Plan)
}

// Grow is the configuration from a step on, where the validation loss made the batch grow: see [schedule.Plan.Grows].
func (r *Resolved) Grow(step, sequences int64) (*Resolved, error) {
	return r.changed(r.Run, &Past{r, step, sequences})
}

// changed lays the configuration out anew.
func (r *Resolved) changed(run Run, past *Past) (*Resolved, error) {
	d := *r.decoder
	other := &Resolved{Run: run, Past: past, name: r.name, decoder: &d}
	other.derive(&d)
	if err := d.err(r.name); err != nil {
		return nil, err
	}
	return other, nil
}

// MicroBatches are the numbers of sequences that batch.micro_batch: auto may become, ascending: those powers of two and
// divisors of the smallest batch that divide evenly into parts, and of which each batch of the run is a multiple.
func (r *Resolved) MicroBatches(parts int64) (sizes []int64) {
	most := r.Derived.MicroBatch // what stands for auto: the smallest batch
	for n := parts; n <= most; n += parts {
		if n&(n-1) != 0 && most%n != 0 {
			continue
		}
		try := *r
		try.Run.Batch.MicroBatch = schedule.MicroBatch(n)
		if _, err := try.plan(); err == nil {
			sizes = append(sizes, n)
		}
	}
	return sizes
}

// WithMicroBatch is the configuration with a number in the place of batch.micro_batch: auto.
func (r *Resolved) WithMicroBatch(n int64) (*Resolved, error) {
	run := r.Run
	run.Batch.MicroBatch = schedule.MicroBatch(n)
	return r.changed(run, r.Past)
}

// WithRemat is the configuration with a way to recompute in the place of train.remat: auto.
func (r *Resolved) WithRemat(remat model.Remat) (*Resolved, error) {
	run := r.Run
	run.Train.Remat = remat
	return r.changed(run, r.Past)
}

// KeepFit is the configuration with batch.micro_batch: auto and train.remat: auto replaced by what they were when old was
// trained; the micro-batch only if it still divides the batches.
func (r *Resolved) KeepFit(old *Resolved) *Resolved {
	if kept := old.Run.Train.Remat; r.Run.Train.Remat == model.RematAuto && kept != model.RematAuto {
		if same, err := r.WithRemat(kept); err == nil {
			r = same
		}
	}
	if kept := old.Run.Batch.MicroBatch; r.Run.Batch.MicroBatch == schedule.Auto && kept > 0 {
		if same, err := r.WithMicroBatch(int64(kept)); err == nil {
			r = same
		}
	}
	return r
}

// Segment is a configuration as YAML, that decided a run's steps before Until (and from the segment before).
type Segment struct {
	Until int64
	YAML  string
	// Sequences is the batch from Until on where the loss made it grow, as in [Past].
	Sequences int64
}

// ModelOf is the model of a run's configuration, with the vocabulary of its tokenizer, and a text that is the same for runs of the
// same tokenizer settings. Its files need not be there.
func ModelOf(t Text) (m model.Config, tokenizer string, err error) {
	c, err := readDraft(&t, "", nil, false)
	if err != nil {
		return m, "", err
	}
	m = c.run.Model
	m.VocabSize = cmp.Or(m.VocabSize, c.run.Tokenizer.VocabSize)
	return m, fmt.Sprintf("%+v", c.run.Tokenizer), nil
}

// LoadPast reads a configuration that a checkpoint has, last of segments, with the segments before it as its past. Its files
// need not be there.
func LoadPast(name string, segments []Segment) (*Resolved, error) {
	var r *Resolved
	for i, s := range segments {
		c, err := readDraft(&Text{Name: name, YAML: s.YAML}, "", nil, false)
		if err != nil {
			return nil, err
		}
		var past *Past
		if i > 0 {
			past = &Past{r, segments[i-1].Until, segments[i-1].Sequences}
		}
		if r, err = c.Resolve(past); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// SameCourse reports whether two configurations of one run would give its steps the same batches and learning rates, as far
// as their texts tell. A moved folder is no difference.
func (c *Draft) SameCourse(old *Resolved) bool {
	course := func(r Run) []any {
		if c.run.Batch.MicroBatch == schedule.Auto && r.Batch.MicroBatch > 0 {
			r.Batch.MicroBatch = schedule.Auto // which becomes what it was
		}
		return []any{r.Model.MaxSeqLen, r.Batch, r.Schedule, r.Train.Tokens, r.withoutPaths()}
	}
	return reflect.DeepEqual(course(c.run), course(old.Run))
}

// withoutPaths is the data section without where it lies.
func (r Run) withoutPaths() Data {
	data := r.Data
	data.Sources = maps.Clone(data.Sources)
	for name, s := range data.Sources {
		s.Path = ""
		data.Sources[name] = s
	}
	if data.Path != "" {
		data.Path = "moved"
	}
	return data
}
