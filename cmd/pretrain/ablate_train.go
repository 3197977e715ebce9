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
	"syscall"
	"time"

	"pretrain/train/ablate"
	"pretrain/train/checkpoint"
)

// train makes the runs that are this rank's and not finished. Each is a child process of its own, so that one that dies takes
// nothing with it. failed counts the runs whose process ended with an error now.
func (a *ablation) train(ctx context.Context) (failed int, err error) {
	var todo []ablate.Run
	done := 0
	outcomes, err := ablate.Collect(a.dir, a.runs)
	if err != nil {
		return 0, err
	}
	for i, o := range outcomes {
		switch {
		case !a.mine(i):
		case o.Status == ablate.Missing || o.Status == ablate.Partial:
			todo = append(todo, o.Run)
		case o.Status == ablate.Failed:
			a.say("%s seed %d failed %d times and is left out; delete %s to try again: %s", o.Variant, o.Seed, o.Attempts, filepath.Join(a.dir, o.Dir()), o.Error)
		default:
			done++
		}
	}
	a.say("%d runs, %d of them finished", done+len(todo), done)
	return a.makeRuns(ctx, todo)
}

// makeRuns makes runs, up to --jobs at a time.
func (a *ablation) makeRuns(ctx context.Context, todo []ablate.Run) (failed int, err error) {
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
				end, err := a.make(ctx, run)
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
func (a *ablation) make(ctx context.Context, run ablate.Run) (ending, error) {
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
	defer lock.Unlock()
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
	ended := a.child(ctx, run, log)
	if ctx.Err() != nil {
		return ending{text: "interrupted"}, nil // it is saved
	}
	outcomes, err := ablate.Collect(a.dir, []ablate.Run{run})
	if err != nil {
		return ending{}, err
	}
	switch o := outcomes[0]; o.Status {
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
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, self, a.args(run)...)
	c.Args[0] = os.Args[0] // as this one was called
	c.Stdout, c.Stderr = log, log
	// A group of its own: Ctrl-C at the terminal would reach it besides our signal, and two of them mean "at once".
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	return c.Run()
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
