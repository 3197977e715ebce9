package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"pretrain/data/mix"
	"pretrain/schedule"
	"pretrain/train/checkpoint"
	"pretrain/train/eval"
	"pretrain/train/feed"
	"pretrain/train/metrics"
	"pretrain/train/spike"
)

// Run is a training run: one value with everything the loop needs. What it is made of is for others to build; what
// happens when is in loop.go.
type Run struct {
	Program   *Program
	State     *State
	Schedule  *schedule.Schedule
	Batches   *schedule.Plan
	Data      *mix.Plan
	Assembler feed.Assembler
	Saver     *Saver
	Metrics   metrics.Sink
	// Validate measures the state on each source's held-out text; last says it is the final measurement.
	Validate func(ctx context.Context, s *State, last bool) (eval.Sources, error)
	// Sample shows what the state after step updates has learnt.
	Sample func(ctx context.Context, s *State, step int64) error
	// EvalEvery and SampleEvery are in steps; 0 is never.
	EvalEvery, SampleEvery int64
	// Spikes says what becomes of updates far off the others; with its zero value only those that are not finite are left
	// out. Forensics documents them; needed unless Spikes.Policy is off.
	Spikes    spike.Config
	Forensics Forensics
	// LookEvery is how often, in steps, two successive steps are looked at: noise scale, size and curvature of the update. 0: never.
	LookEvery int64
	// PeakFLOPS of the devices together, for MFU; 0 if not known.
	PeakFLOPS float64

	// Step is the number of updates done. A resumed run starts where its checkpoint was.
	Step int64
	// Loop is what the run carries along besides the state.
	Loop checkpoint.LoopState

	trips []trip
	grown *GrowError // what the last validation asked for
}

// ErrInterrupted is returned by Train when its context ended: the state is saved and the run can be resumed.
var ErrInterrupted = errors.New("interrupted: the run is saved; the same command goes on from here")

// GrowError is returned by Train when the validation loss makes the batch grow (batch.tokens: law). Nothing is wrong: set
// Schedule, Batches, Data and Assembler to those of the larger batch from Step on, or leave them where it cannot be had, and
// call Train again.
type GrowError struct {
	Step, Sequences int64
	Loss            float64 // nats per token
}

func (e *GrowError) Error() string {
	return fmt.Sprintf("the batch grows to %d sequences at step %d: the validation loss is %.4g", e.Sequences, e.Step, e.Loss)
}

// due reports whether something done every so many steps is due after step updates.
func due(every, step int64) bool { return every > 0 && step > 0 && step%every == 0 }

// outcome is what became of a step on the device.
type outcome struct {
	step    int64
	metrics StepMetrics
	seen    glimpse
	limits  spike.Limits
	err     error
	took    time.Duration // from the end of the step before to the end of this one
	waited  time.Duration // of it: the device was idle because the batch was late
}

// device runs steps one after the other in a goroutine of its own. It takes the next while one is running, so that it
// need not wait for the host between two: the backend's execution call blocks until the step is computed.
type device struct {
	work chan func() outcome
	done chan outcome
}

func startDevice() *device {
	d := &device{work: make(chan func() outcome, 1), done: make(chan outcome, 2)}
	go func() {
		defer close(d.done)
		var failed error
		ended := time.Now()
		for step := range d.work {
			began := time.Now()
			if failed != nil { // the state went with the step that failed
				d.done <- outcome{err: failed}
				continue
			}
			o := step()
			now := time.Now()
			o.took, o.waited = now.Sub(ended), min(o.waited, began.Sub(ended))
			ended, failed = now, o.err
			d.done <- o
		}
	}()
	return d
}

// next puts the next step's batch on the devices, and says how long that took, the wait for it included. With an error the batch
// is empty.
func (r *Run) next(batches *feed.Prefetch) (*Placed, time.Duration, error) {
	began := time.Now()
	micro, err := batches.Next()
	if err != nil {
		return new(Placed), 0, err
	}
	placed, err := r.Program.Place(micro)
	if err != nil {
		return new(Placed), 0, err
	}
	return placed, time.Since(began), nil
}

// stop waits for what is under way.
func (d *device) stop() {
	close(d.work)
	for range d.done {
	}
}

// record is what there is to say of a step.
func (r *Run) record(o outcome) *metrics.Record {
	r.watch(o)
	if o.metrics.Skipped {
		r.Loop.SkippedUpdates++
	} else {
		r.Loop.LossEMA = metrics.Smoothed(r.Loop.LossEMA, float64(o.metrics.Loss), o.step+1-r.Loop.SkippedUpdates)
	}
	r.Loop.TrainSeconds += o.took.Seconds()
	r.Loop.DataWaitSeconds += o.waited.Seconds()
	tokens := r.Batches.TokensBefore(o.step+1) - r.Batches.TokensBefore(o.step)
	perSecond := float64(tokens) / o.took.Seconds()
	mfu := math.NaN()
	if r.PeakFLOPS > 0 {
		m := r.Program.decoder.Config
		_, m.MaxSeqLen = r.Data.SequencesAt(o.step)
		mfu = perSecond * m.FLOPsPerToken().Total() / r.PeakFLOPS
	}
	return &metrics.Record{
		Step: o.step, Tokens: r.Batches.TokensBefore(o.step + 1), Loss: metrics.Number(o.metrics.Loss),
		LR: metrics.Number(r.lr(o.step)), GradNorm: metrics.Number(o.metrics.GradNorm),
		TokensPerSecond: metrics.Number(perSecond), MFU: metrics.Number(mfu), Stage: r.Data.StageAt(o.step).Name,
		Phase: string(r.Schedule.Phase(o.step)), BatchTokens: tokens, Skipped: r.Loop.SkippedUpdates, Spikes: r.Loop.Spikes.Count,
		Looks: r.looks(o),
		Epoch: r.Data.EpochBySource(o.step + 1), StepMS: metrics.Number(o.took.Seconds() * 1e3), DataWaitMS: metrics.Number(o.waited.Seconds() * 1e3),
	}
}

// validate measures the state and files the result with the record of the step it follows.
func (r *Run) validate(ctx context.Context, record *metrics.Record, last bool) error {
	sources, err := r.Validate(ctx, r.State, last)
	if err != nil {
		return err
	}
	total := sources.Total()
	r.Loop.BestValLoss = min(r.Loop.BestValLoss, total.Loss)
	if n, grows := r.Batches.Grows(r.Step, total.Loss); grows && !last {
		r.grown = &GrowError{r.Step, n, total.Loss}
	}
	record.Eval = &metrics.Eval{ValLoss: metrics.Number(total.Loss), ValBPB: metrics.Number(total.BPB), ValSources: map[string]metrics.SourceEval{}}
	for name, s := range sources {
		e := metrics.SourceEval{Loss: metrics.Number(s.Loss), BPB: metrics.Number(s.BPB), Tokens: s.Tokens, Bytes: s.Bytes}
		if s.CI != nil {
			e.BPBLow, e.BPBHigh = metrics.Number(s.CI.Low), metrics.Number(s.CI.High)
		}
		record.ValSources[name] = e
	}
	return nil
}

// save hands the state to the saver, which writes it in the background; at a stop it waits until the disk has it.
// Metrics go first, so that a resume finds them: while the disk refuses them the save is put off, at a stop until it takes
// them or their patience ends.
func (r *Run) save(stop bool) error {
	err := r.Metrics.Flush()
	for ; errors.Is(err, metrics.ErrPending); err = r.Metrics.Flush() {
		if !stop {
			return nil
		}
		time.Sleep(retryMetrics)
	}
	if err != nil {
		return err
	}
	return r.Saver.save(r.State, r.Step, r.Batches.TokensBefore(r.Step), r.Loop, stop)
}

// retryMetrics is the pause between two tries when a run that is to end cannot write its metrics.
const retryMetrics = 100 * time.Millisecond
