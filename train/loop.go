// Package train is the training run: its state, its compiled step and the loop.
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
)

// Run is a training run: one value with everything the loop needs. What it is made of is for others to build; what
// happens when, is here.
type Run struct {
	Program   *Program
	State     *State
	Schedule  *schedule.Schedule
	Batches   *schedule.Plan
	Data      *mix.Plan
	Assembler feed.Assembler
	Saver     *Saver
	Metrics   metrics.Sink
	// Validate measures the state; last says it is the final, full measurement.
	Validate func(ctx context.Context, s *State, last bool) (eval.Result, error)
	// Sample shows what the state has learnt, between steps.
	Sample func(ctx context.Context, s *State, step int64) error
	// EvalEvery and SampleEvery are in steps; 0 is never.
	EvalEvery, SampleEvery int64
	// PeakFLOPS of the devices together, for MFU; 0 if not known.
	PeakFLOPS float64

	// Step is the number of updates done. A resumed run starts where its checkpoint was.
	Step int64
	// Loop is what the run carries along besides the state.
	Loop checkpoint.LoopState
}

// ErrInterrupted is returned by Train when its context ended: the state is saved and the run can be resumed.
var ErrInterrupted = errors.New("interrupted: the run is saved and can be resumed")

// pending is a step under way on the device.
type pending struct {
	metrics StepMetrics
	err     error
	ended   time.Time
}

// Train runs the loop to the last step or until ctx ends; either way the state is saved before it returns. The device
// computes a step while the host writes down the one before and assembles the next: the host waits for the device
// only to learn a loss, and the device for the host only if a batch is late, which metrics show as data_wait_ms.
func (r *Run) Train(ctx context.Context) error {
	steps := r.Batches.Steps()
	batches := feed.NewPrefetch(ctx, r.Assembler, r.Step, steps)
	defer batches.Close()

	var record *metrics.Record // of the step before, not yet written: its validation may still join it
	write := func() error {
		if record == nil {
			return nil
		}
		err := r.Metrics.Write(*record)
		record = nil
		return err
	}
	ended := time.Now()

	for ; ; r.Step++ {
		last := r.Step == steps

		// Once in a while: validate. The last time on the whole set.
		if r.Step > 0 && record != nil && (last || due(r.EvalEvery, r.Step)) {
			if err := r.validate(ctx, record, last); err != nil && ctx.Err() == nil {
				return fmt.Errorf("validate after step %d: %w", r.Step, err)
			}
		}
		// Once in a while: show a sample.
		if due(r.SampleEvery, r.Step) && !last && record != nil && ctx.Err() == nil {
			if err := r.Sample(ctx, r.State, r.Step); err != nil && ctx.Err() == nil {
				return fmt.Errorf("sample after step %d: %w", r.Step, err)
			}
		}
		// Once in a while, at the end and when told to stop: save. Metrics go first, so that a resume finds them.
		stop := last || ctx.Err() != nil
		if stop || r.Saver.due(r.Step) {
			if err := write(); err != nil {
				return err
			}
			if err := r.save(stop); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
		if stop {
			return ErrInterrupted
		}

		// ---- the step ----
		micro, waited, err := batches.Next()
		if err != nil {
			if ctx.Err() != nil {
				r.Step-- // the top of the loop saves and returns
				continue
			}
			return errors.Join(err, write(), r.save(true)) // a broken shard: keep what was learnt
		}
		done := make(chan pending, 1)
		go func() {
			m, err := r.Program.Step(r.State, micro, r.Schedule.LR(r.Step))
			done <- pending{m, err, time.Now()}
		}()
		if err := write(); err != nil { // the step before, while the device computes this one
			<-done
			return err
		}
		p := <-done
		if p.err != nil {
			return fmt.Errorf("step %d: %w", r.Step, p.err)
		}
		// ------------------

		took := p.ended.Sub(ended)
		ended = p.ended
		record = r.record(p.metrics, took, waited)
	}
}

// due reports whether something done every so many steps is due after step updates.
func due(every, step int64) bool { return every > 0 && step > 0 && step%every == 0 }

// record is what there is to say of the step just done, r.Step.
func (r *Run) record(m StepMetrics, took, waited time.Duration) *metrics.Record {
	if m.Skipped {
		r.Loop.SkippedUpdates++
	} else {
		const keep = 0.98 // of the smoothed loss per step: a memory of about 50 steps
		if r.Step == 0 {
			r.Loop.LossEMA = float64(m.Loss)
		}
		r.Loop.LossEMA = keep*r.Loop.LossEMA + (1-keep)*float64(m.Loss)
	}
	r.Loop.TrainSeconds += took.Seconds()
	done := r.Step + 1
	tokens := r.Batches.TokensBefore(done) - r.Batches.TokensBefore(r.Step)
	perSecond := float64(tokens) / took.Seconds()
	mfu := math.NaN()
	if r.PeakFLOPS > 0 {
		mfu = perSecond * r.Program.decoder.FLOPsPerToken().Total() / r.PeakFLOPS
	}
	return &metrics.Record{
		Step: r.Step, Tokens: r.Batches.TokensBefore(done), Loss: metrics.Number(m.Loss), LR: metrics.Number(r.Schedule.LR(r.Step)),
		GradNorm: metrics.Number(m.GradNorm), TokensPerSecond: metrics.Number(perSecond), MFU: metrics.Number(mfu),
		Stage: r.Data.StageAt(r.Step).Name, Phase: string(r.Schedule.Phase(r.Step)), BatchTokens: tokens,
		Skipped: r.Loop.SkippedUpdates, Epoch: r.Data.EpochBySource(done),
		StepMS: metrics.Number(took.Seconds() * 1e3), DataWaitMS: metrics.Number(waited.Seconds() * 1e3),
	}
}

func (r *Run) validate(ctx context.Context, record *metrics.Record, last bool) error {
	result, err := r.Validate(ctx, r.State, last)
	if err != nil {
		return err
	}
	r.Loop.BestValLoss = min(r.Loop.BestValLoss, result.Loss)
	record.Eval = &metrics.Eval{ValLoss: metrics.Number(result.Loss), ValBPB: metrics.Number(result.BPB)}
	return nil
}

// save hands the state to the saver, which writes it in the background; at a stop it waits until the disk has it.
func (r *Run) save(stop bool) error {
	if err := r.Metrics.Flush(); err != nil {
		return err
	}
	return r.Saver.save(r.State, r.Step, r.Batches.TokensBefore(r.Step), r.Loop, stop)
}
