package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"pretrain/internal/vfs"
	"pretrain/schedule"
	"pretrain/train"
	"pretrain/train/checkpoint"
	"pretrain/train/metrics"
	"pretrain/train/spike"
)

// spikesDir is the run's folder of spikes: a folder for each, and the windows of steps that are left out.
func (j *job) spikesDir() string { return filepath.Join(j.dir, "spikes") }

// forensics is how the run documents its spikes.
func (j *job) forensics() train.Forensics {
	return train.Forensics{
		FS: vfs.OS, Dir: j.spikesDir(), Config: string(j.config.YAML(false)), Seed: j.config.Run.Seed, Say: j.say,
		Decode: j.corpus.tokenizer.Decode,
		Document: func(source string, document int) string {
			d, err := j.corpus.sources[source].train.Doc(int64(document))
			if err != nil { // another tool's shard has no names
				return ""
			}
			if d.Line > 0 {
				return fmt.Sprintf("%s, %s line %d", d.ID, d.Path, d.Line)
			}
			return d.ID
		},
		Recent: func(step int64, n int) ([]metrics.Record, error) {
			return metrics.Tail(vfs.OS, filepath.Join(j.dir, "metrics.jsonl"), step, n)
		},
	}
}

// goBack puts the run before a spike, with the steps around it to be left out. Where that cannot be done it says so and
// leaves the run where it is.
func (j *job) goBack(ctx context.Context, store *checkpoint.Store, at int64) error {
	ctx = context.WithoutCancel(ctx) // an interrupted run is, when it goes on, one that was not: it goes back first
	err := j.run.Saver.Writer.Flush(ctx)
	var window spike.Window
	if err == nil {
		window, err = j.windowAround(ctx, store, at)
	}
	if err == nil {
		err = spike.WriteWindows(vfs.OS, j.spikesDir(), j.run.Loop.Spikes.Windows.With(window))
	}
	if err != nil {
		j.say("warning: cannot go back to before the spike of step %d, so the run goes on without its update: %v", at, err)
		return nil
	}
	j.say("going back: steps %d to %d are left out", window.From, window.To-1)
	if err := j.rewind(ctx, store); err != nil {
		return err
	}
	saved, err := store.LoadLatest(ctx, func(p *checkpoint.Problem) { j.say("warning: %v: falling back to the checkpoint before it", p) })
	if err != nil {
		return err
	}
	if j.config.Run.Batch.Tokens == schedule.Law { // it may have grown since
		if err := j.layOut(saved); err != nil {
			return err
		}
		plan, err := j.dataPlan(saved)
		if err != nil {
			return err
		}
		j.follow(plan)
	}
	seconds, waited := j.run.Loop.TrainSeconds, j.run.Loop.DataWaitSeconds // what was undone took its time, too
	j.run.State.Finalize()
	if err := j.closeTo(j.started); err != nil {
		return err
	}
	if err := j.start(store, saved); err != nil {
		return err
	}
	j.run.Loop.TrainSeconds, j.run.Loop.DataWaitSeconds = seconds, waited
	j.say("going on after step %d", j.run.Step)
	return nil
}

// windowAround is the window of a spike, as far before it as there is an intact checkpoint to go back to.
func (j *job) windowAround(ctx context.Context, store *checkpoint.Store, at int64) (spike.Window, error) {
	window := j.run.Spikes.Around(at, 0)
	steps, err := store.List()
	if err != nil {
		return window, err
	}
	// First the newest that is old enough, then the oldest of those that are not.
	older, newer := []int64{}, []int64{}
	for _, step := range steps {
		if step <= window.From {
			older = append(older, step)
		} else if step <= at {
			newer = append(newer, step)
		}
	}
	slices.Reverse(older)
	for _, step := range append(older, newer...) {
		if err = store.Verify(ctx, step); err == nil {
			return j.run.Spikes.Around(at, step), checkPins(store, step)
		}
	}
	return window, errors.Join(errors.New("there is no intact checkpoint from before it"), err)
}

// checkPins refuses to delete checkpoints newer than a step that a branch descends from.
func checkPins(store *checkpoint.Store, step int64) error {
	pins, err := store.Pins()
	if i := slices.IndexFunc(pins, func(p checkpoint.Pin) bool { return p.Step > step }); i >= 0 {
		return fmt.Errorf("a branch (%s) descends from step %d, which would be undone", pins[i].Name, pins[i].Step)
	}
	return err
}

// rewind deletes the checkpoints that have in them what is to be left out: a run that was killed while it went back does
// so now.
func (j *job) rewind(ctx context.Context, store *checkpoint.Store) error {
	windows, err := spike.ReadWindows(vfs.OS, j.spikesDir())
	if err != nil || len(windows) == 0 {
		return err
	}
	steps, err := store.List()
	if err != nil {
		return err
	}
	undo := false
	var good []int64
	for _, step := range steps {
		meta, err := store.Meta(step)
		switch {
		case err != nil: // damaged, or of another version: for the load to report
		case windows.Holds(meta.Loop.Spikes.Windows, step):
			good = append(good, step)
		default:
			undo = true
		}
	}
	if !undo {
		return nil
	}
	err = errors.New("every checkpoint has steps in it that are to be left out")
	for _, step := range slices.Backward(good) {
		if _, err = store.Rewind(ctx, step); err == nil {
			return nil
		}
	}
	return fmt.Errorf("go back to before a spike, as %s wants: %w", j.spikesDir(), err)
}

// addWindows tells the run which steps to leave out: those its checkpoint knows of, and those found after it.
func (j *job) addWindows() error {
	windows, err := spike.ReadWindows(vfs.OS, j.spikesDir())
	for _, w := range windows {
		j.run.Loop.Spikes.Windows = j.run.Loop.Spikes.Windows.With(w)
	}
	return err
}
