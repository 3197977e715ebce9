package main

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pretrain/internal/vfs"
	"pretrain/train/metrics"
)

// moment is what a run is doing, as it can be told from outside.
type moment string

// The moments. A kill anywhere falls where the time goes; the others are aimed at.
const (
	anywhere   moment = "anywhere"
	starting   moment = "while starting" // no step was made yet: opening data, loading the state, compiling
	saving     moment = "while saving"
	validating moment = "while validating"
	stepping   moment = "in a step"
)

// aims are taken in turn.
var aims = []moment{anywhere, saving, stepping, validating, starting}

// pace is how long a run takes for what.
type pace struct {
	start, step, eval time.Duration // to the first record; between two records; for a validation
}

// progress is what a run's files say of it.
type progress struct {
	last    int64 // step of its last record, -1 if there is none
	since   time.Time
	touched bool // the records have changed since the watch began
}

// watch follows a run's metrics.jsonl from now on.
func (v *verifier) watch(name string) func() progress {
	path := filepath.Join(v.run(name), "metrics.jsonl")
	var size int64
	var modified time.Time
	if info, err := os.Stat(path); err == nil {
		size, modified = info.Size(), info.ModTime()
	}
	p := progress{last: -1, since: time.Now()}
	return func() progress {
		info, err := os.Stat(path)
		if err != nil || info.Size() == size && info.ModTime().Equal(modified) {
			return p
		}
		size, modified = info.Size(), info.ModTime()
		last := int64(-1)
		// A line that is being written is left out; a file that cannot be read is looked at again.
		if records, err := metrics.Tail(vfs.OS, path, math.MaxInt64, 1); err == nil && len(records) > 0 {
			last = records[0].Step
		}
		if !p.touched || last != p.last {
			p = progress{last, time.Now(), true}
		}
		return p
	}
}

// poll is the pause between two looks: short against a step of any model.
const poll = time.Millisecond

// observe takes the time of a run until the function it returns is called.
func (v *verifier) observe(name string) func() pace {
	begin, look := time.Now(), v.watch(name)
	done, result := make(chan struct{}), make(chan pace)
	go func() {
		var pc pace
		var gaps []time.Duration
		for before := look(); ; {
			select {
			case <-done:
				if len(gaps) > 0 {
					slices.Sort(gaps)
					pc.step = gaps[len(gaps)/2]
					pc.eval = max(pc.eval-pc.step, 0)
				}
				result <- pc
				return
			case <-time.After(poll):
			}
			now := look()
			switch gap := now.since.Sub(before.since); {
			case now.last == before.last:
				continue
			case before.last < 0:
				pc.start = now.since.Sub(begin)
			case v.validates(now.last):
				pc.eval = max(pc.eval, gap)
			default:
				gaps = append(gaps, gap/time.Duration(max(now.last-before.last, 1)))
			}
			before = now
		}
	}()
	return func() pace { close(done); return <-result }
}

// validates reports whether the record of a step comes after a validation.
func (v *verifier) validates(step int64) bool {
	return step+1 == v.steps || v.evalEvery > 0 && (step+1)%v.evalEvery == 0
}

// killOnce starts the run and kills it at a moment; u, from 0 to 1, says when in it. It returns what the run was doing, ""
// if it ended first.
func (v *verifier) killOnce(ctx context.Context, aim moment, u float64) (moment, error) {
	part := func(d time.Duration) time.Duration { return time.Duration(u * float64(d)) }
	saved, _ := v.latest("killed") // 0 before the first checkpoint
	look := v.watch("killed")
	c, err := v.start(ctx, "killed")
	if err != nil {
		return "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()

	begin := time.Now()
	// made reports whether a step was made since; before that, records that the last kill left are cut off.
	made := func(p progress) bool { return p.touched && p.last >= saved }
	reached := func(p progress) bool {
		switch aim {
		case starting:
			return time.Since(begin) >= part(v.pace.start)
		case saving:
			return time.Since(begin) >= part(v.whole/2) && v.isSaving() || time.Since(begin) >= v.whole
		case stepping:
			return made(p) && p.last >= saved+int64(u*float64(v.steps-saved)/2)
		case validating: // the record before is there, the step after it has been made
			return made(p) && v.validates(p.last+1) && time.Since(p.since) >= v.pace.step+part(v.pace.eval)
		}
		return time.Since(begin) >= part(v.whole/2)
	}
	for !reached(look()) {
		select {
		case err := <-ended:
			return "", err
		case <-time.After(poll):
		}
	}
	p := look()
	when := stepping
	switch {
	case v.isSaving():
		when = saving
	case !made(p):
		when = starting
	case v.validates(p.last+1) && time.Since(p.since) >= v.pace.step:
		when = validating
	}
	if err := c.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return "", err
	}
	if err := <-ended; err == nil { // not "signal: killed": it got to its end first
		return "", ctx.Err()
	}
	return when, ctx.Err()
}

// isSaving reports whether the run is writing a checkpoint.
func (v *verifier) isSaving() bool {
	temps, err := filepath.Glob(filepath.Join(v.run("killed"), "checkpoints", ".tmp-*"))
	return err == nil && len(temps) > 0
}
