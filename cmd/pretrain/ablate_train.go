package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"pretrain/train/ablate"
	"pretrain/train/checkpoint"
)

// train makes the runs that are this rank's and not finished. Each is a child process of its own, so that one that dies takes
// nothing with it. Under successive halving it does so rung by rung. failed counts the runs whose process ended with an error
// now.
func (a *ablation) train(ctx context.Context) (failed int, err error) {
	outcomes, err := ablate.Collect(a.dir, a.runs)
	if err != nil {
		return 0, err
	}
	mine, done := 0, 0
	for i, o := range outcomes {
		if !a.mine(i) {
			continue
		}
		mine++
		switch o.Status {
		case ablate.Failed:
			a.say("%s seed %d failed %d times and is left out; delete %s to try again: %s", o.Variant, o.Seed, o.Attempts, filepath.Join(a.dir, o.Dir()), o.Error)
		case ablate.Done, ablate.Diverged:
			done++
		}
	}
	a.say("%d runs, %d of them finished", mine, done)
	for until, left := 0.0, 0; ; {
		variants := a.Expand()
		race := a.Halving.Judge(variants, a.BaselineOf(variants), outcomes)
		var todo []ablate.Run
		for i, o := range outcomes {
			ended := o.Status == ablate.Done || o.Status == ablate.Diverged || o.Status == ablate.Failed
			if _, there := o.Reached(race.Until); a.mine(i) && !ended && !(there && race.Until < 1) && race.Dropped[o.Variant] == 0 {
				todo = append(todo, o.Run)
			}
		}
		if len(todo) == 0 || race.Until == until && len(todo) == left { // what is missing is under way elsewhere
			return failed, nil
		}
		if until, left = race.Until, len(todo); a.Halving.On() {
			a.say("%d runs to %.3g%% of their length", left, 100*until)
		}
		if failed, err = a.makeRuns(ctx, todo, race.Until); err != nil || failed > 0 || race.Until == 1 {
			return failed, err
		}
		if outcomes, err = ablate.Collect(a.dir, a.runs); err != nil {
			return 0, err
		}
	}
}

// makeRuns makes runs, up to --jobs at a time, each to a share of its steps.
func (a *ablation) makeRuns(ctx context.Context, todo []ablate.Run, until float64) (failed int, err error) {
	var mu sync.Mutex // of all below
	var errs []error
	next, ended, begin := 0, 0, time.Now()
	var workers sync.WaitGroup
	for range min(a.options.jobs, len(todo)) {
		workers.Go(func() {
			for {
				mu.Lock()
				if next == len(todo) || ctx.Err() != nil || len(errs) > 0 {
					mu.Unlock()
					return
				}
				run := todo[next]
				next++
				mu.Unlock()
				end, err := a.make(ctx, run, until)
				mu.Lock()
				ended++
				switch {
				case err != nil:
					errs = append(errs, err)
				case end.failure != "":
					failed++
					a.say("%s seed %d failed (%s):\n%s", run.Variant, run.Seed, filepath.Join(a.dir, run.Dir(), logName), end.failure)
				default:
					left := time.Since(begin) / time.Duration(ended) * time.Duration(len(todo)-ended)
					a.say("%d/%d  %s seed %d: %s; about %v left", ended, len(todo), run.Variant, run.Seed, end.text, left.Round(time.Second))
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	if err := errors.Join(errs...); err != nil {
		return failed, err
	}
	return failed, ctx.Err()
}

func (a *ablation) say(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", args...) }

// logName is the file in a run directory with all that the run's processes wrote.
const logName = "ablate.log"

// ending is how an attempt at a run ended.
type ending struct {
	text    string // for people
	failure string // what it wrote last, where it ended with an error
}

// make makes one run, or goes on with it. It is claimed by a lock in the run directory, which the system releases if this
// process dies; the child then still holds the run directory's own lock. A run that is held in either way is left to its
// holder. An error is one of the ablation, not of the run.
func (a *ablation) make(ctx context.Context, run ablate.Run, until float64) (ending, error) {
	elsewhere := ending{text: "under way in another process"}
	dir := filepath.Join(a.dir, run.Dir())
	claim := filepath.Join(dir, "claim")
	if err := os.MkdirAll(claim, 0o755); err != nil {
		return ending{}, fmt.Errorf("make a run directory (choose another with --out): %w", err)
	}
	lock, err := checkpoint.Lock(claim)
	if isHeld(err) {
		return elsewhere, nil
	} else if err != nil {
		return ending{}, err
	}
	defer func() { _ = lock.Unlock() }() // the system releases it otherwise, at the end of the process
	state, err := ablate.ReadState(dir)
	if err != nil {
		return ending{}, fmt.Errorf("run %s: %w", dir, err)
	}
	if state.Config == "" {
		state.Config = a.variant(run).Configuration(run.Seed)
		if err := writeState(dir, state); err != nil {
			return ending{}, err
		}
	}
	log, err := os.OpenFile(filepath.Join(dir, logName), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		return ending{}, err
	}
	defer log.Close()
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return ending{}, err
	}
	reached, stop := context.WithCancel(ctx)
	defer stop()
	if until < 1 {
		go a.watch(reached, stop, run, until)
	}
	ended := a.child(reached, run, log)
	if ctx.Err() != nil {
		return ending{text: "interrupted"}, nil // it is saved
	}
	outcomes, err := ablate.Collect(a.dir, []ablate.Run{run})
	if err != nil {
		return ending{}, err
	}
	o := outcomes[0]
	if p, ok := o.Reached(until); ok && until < 1 {
		return ending{text: fmt.Sprintf("%.4f bpb at step %d", float64(p.BPB), p.Step)}, nil
	}
	switch o.Status {
	case ablate.Done:
		return ending{text: fmt.Sprintf("%.4f bpb, %.0f s", float64(o.BPB), o.Seconds)}, nil
	case ablate.Diverged:
		return ending{text: "diverged"}, nil
	}
	if own, err := checkpoint.Lock(dir); isHeld(err) { // by the child of a process that was killed
		return elsewhere, nil
	} else if err != nil {
		return ending{}, err
	} else if err := own.Unlock(); err != nil {
		return ending{}, err
	}
	var exit *exec.ExitError
	if errors.As(ended, &exit) && exit.ExitCode() == exitInterrupted {
		return ending{text: "stopped by a signal; the same command goes on with it"}, nil
	}
	text, err := tail(log, begin)
	if err != nil {
		return ending{}, err
	}
	if text == "" {
		text = fmt.Sprint(ended)
	}
	host, _ := os.Hostname() // only shown to people
	state.Failures = append(state.Failures, ablate.Failure{At: time.Now().Round(0), Host: host, Error: text})
	return ending{failure: text}, writeState(dir, state)
}

// child trains the run. When ctx ends it is asked to save and stop, and waited for.
func (a *ablation) child(ctx context.Context, run ablate.Run, log *os.File) error {
	c, err := trainer(ctx, a.args(run)...)
	if err != nil {
		return err
	}
	c.Stdout, c.Stderr = log, log
	return c.Run()
}

// watch calls stop when the run has its validation at a share of its steps. The run may go some steps further until it is
// saved, to no effect: it is judged by that validation.
func (a *ablation) watch(ctx context.Context, stop func(), run ablate.Run, until float64) {
	for pause := 100 * time.Millisecond; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		begin := time.Now()
		outcomes, err := ablate.Collect(a.dir, []ablate.Run{run})
		if err != nil {
			return // it is reported when the run has ended
		}
		if _, ok := outcomes[0].Reached(until); ok {
			stop()
		}
		pause = max(pause, 20*time.Since(begin)) // reading a long run's metrics takes a while
	}
}

// isHeld reports whether a lock was refused because another process has it.
func isHeld(err error) bool {
	var held *checkpoint.HeldError
	return errors.As(err, &held)
}

// tail is the end of a log from an offset on: enough to see what went wrong.
func tail(log *os.File, from int64) (string, error) {
	size, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	const most = 2000
	text := make([]byte, min(most, size-from))
	_, err = log.ReadAt(text, size-int64(len(text)))
	return string(bytes.TrimSpace(text)), err
}

func writeState(dir string, s ablate.State) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, ablate.StateName), append(text, '\n'))
}
