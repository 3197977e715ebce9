// Package train is the training run: its state, its compiled step and the loop.
package train

import (
	"context"
	"errors"
	"fmt"

	"pretrain/train/feed"
	"pretrain/train/metrics"
)

// Train runs the loop to the last step or until ctx ends; either way the state is saved before it returns.
//
// The host is a step ahead of the device: while step s is computed, the batch of step s+1 is put on the device and the step
// handed over, and only then is the loss of s waited for and written down. The device stands still only where something needs
// the state itself (validation, sample, save), or where a batch is late, which metrics show as data_wait_ms.
func (r *Run) Train(ctx context.Context) error {
	steps := r.Batches.Steps()
	batches := feed.NewPrefetch(ctx, r.Assembler, r.Step, steps)
	defer batches.Close()
	look := &looker{every: r.LookEvery}
	device := startDevice()
	defer func() {
		device.stop()
		look.close()
	}()

	running := false // a step is on the device, its outcome not yet read
	var record *metrics.Record
	// read waits for the step on the device and takes down what became of it.
	read := func() error {
		o := <-device.done
		if running = false; o.err != nil {
			return fmt.Errorf("step %d: %w", o.step, o.err)
		}
		record = r.record(o)
		return nil
	}
	// write files the record of the last step read.
	write := func() error {
		if record == nil {
			return nil
		}
		err := r.Metrics.Write(*record)
		record = nil
		return err
	}

	for {
		last := r.Step == steps
		stop := last || ctx.Err() != nil
		evaluate, sample, save := last || due(r.EvalEvery, r.Step), due(r.SampleEvery, r.Step) && !last, stop || r.Saver.due(r.Step)

		// Once in a while something needs the state: let the device finish.
		if running && (evaluate || sample || save || len(r.trips) > 0) {
			if err := read(); err != nil {
				return err
			}
		}
		// Once in a while: validate. Also when told to stop: an interrupted run's records are those of one that was not.
		if evaluate && record != nil {
			if err := r.validate(context.WithoutCancel(ctx), record, last); err != nil {
				return fmt.Errorf("validate after step %d: %w", r.Step, err)
			}
		}
		// Once in a while: show a sample.
		if sample && record != nil && !stop {
			if err := r.Sample(ctx, r.State, r.Step); err != nil && ctx.Err() == nil {
				return fmt.Errorf("sample after step %d: %w", r.Step, err)
			}
		}
		if !running {
			if err := write(); err != nil {
				return err
			}
		}
		// A few times, where the batch follows the loss, it grows: what is saved from here on knows of it.
		if err := r.grown; err != nil {
			r.grown = nil
			return err
		}
		// Once in a while an update was far off and left out: look into it, and do as the policy says.
		if len(r.trips) > 0 {
			if err := r.actOnSpikes(); err != nil {
				return err
			}
		}
		// Once in a while, at the end and when told to stop: save.
		if save {
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
		batch, waited, err := r.next(batches)
		if ctx.Err() != nil {
			batch.Free()
			continue // to save and return
		}
		if err != nil { // a broken shard: keep what was learnt
			if running {
				err = errors.Join(err, read())
			}
			return errors.Join(err, write(), r.save(true))
		}
		step, lr, limits := r.Step, r.lr(r.Step), r.limits(r.Step)
		device.work <- func() outcome {
			m, seen, err := look.step(r.Program, r.State, step, batch, lr, limits)
			return outcome{step: step, metrics: m, seen: seen, limits: limits, err: err, waited: waited}
		}
		if running { // the step before this one
			if err := read(); err != nil {
				return err
			}
			if err := write(); err != nil {
				return err
			}
		}
		running = true
		r.Step++
		// ------------------
	}
}
