package checkpoint_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
)

// disk is a file system whose writes can be made to take time and to fail. The clock is synctest's.
type disk struct {
	mem   *vfs.Mem
	fsys  vfs.FS
	full  atomic.Bool
	pause atomic.Int64 // nanoseconds each manifest takes
}

func newDisk() *disk {
	d := &disk{mem: vfs.NewCrashableMem()}
	d.fsys = vfs.WithErrors(d.mem, func(op vfs.Op) error {
		if op.Kind == vfs.OpCreate && strings.HasSuffix(op.Path, "MANIFEST.json") {
			time.Sleep(time.Duration(d.pause.Load()))
		}
		if op.Kind == vfs.OpWrite && d.full.Load() {
			return syscall.ENOSPC
		}
		return nil
	})
	return d
}

func writer(t *testing.T, d *disk, report func(checkpoint.Event)) *checkpoint.Writer {
	t.Helper()
	config := checkpoint.Default()
	config.Keep = 2
	w := checkpoint.NewWriter(open(t, d.fsys), config, report)
	t.Cleanup(func() { _ = w.Close(context.Background()) })
	return w
}

func submit(t *testing.T, w *checkpoint.Writer, step int64) {
	t.Helper()
	meta, tensors := stateAt(step)
	if err := w.Submit(ctx, meta, tensors); err != nil {
		t.Fatal(err)
	}
}

func TestWriterSavesInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.pause.Store(int64(time.Minute))
		var events []checkpoint.Event
		w := writer(t, d, func(e checkpoint.Event) { events = append(events, e) })
		start := time.Now()
		if !w.Idle() {
			t.Error("a new writer is not idle")
		}
		submit(t, w, 100)
		if took := time.Since(start); took != 0 || w.Idle() {
			t.Errorf("Submit to an idle writer took %v; idle after it: %v", took, w.Idle())
		}
		submit(t, w, 200) // waits for the first
		if took := time.Since(start); took != time.Minute {
			t.Errorf("Submit to a busy writer waited %v, the save takes 1m", took)
		}
		submit(t, w, 300)
		if err := w.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 3*time.Minute || !w.Idle() {
			t.Errorf("three saves took %v; idle after Flush: %v", took, w.Idle())
		}
		if len(events) != 3 {
			t.Fatalf("events: %v", events)
		}
		for i, e := range events {
			if e.Err != nil || e.PruneErr != nil || e.Step != int64(i+1)*100 || e.Took != time.Minute || !strings.HasSuffix(e.Path, "00") {
				t.Errorf("event %d: %+v", i, e)
			}
		}
		if diff := cmp.Diff([]int64{100}, events[2].Removed); diff != "" {
			t.Errorf("retention (-want +got):\n%s", diff)
		}
		if err := w.Close(ctx); err != nil {
			t.Error(err)
		}
		meta, tensors := stateAt(400)
		if err := w.Submit(ctx, meta, tensors); !errors.Is(err, checkpoint.ErrClosed) {
			t.Errorf("Submit after Close: %v", err)
		}
		if err := w.Close(ctx); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
}

func TestWriterRetriesUntilThereIsSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		var tries []time.Duration
		var events []checkpoint.Event
		start := time.Now()
		w := writer(t, d, func(e checkpoint.Event) {
			events = append(events, e)
			tries = append(tries, time.Since(start))
		})
		submit(t, w, 100)
		if err := w.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		d.full.Store(true)
		submit(t, w, 200)
		time.Sleep(6 * time.Minute)
		since, err := w.Failing()
		if !since.Equal(start) || !errors.Is(err, syscall.ENOSPC) || w.Err() != nil {
			t.Errorf("failing since %v (%v), giving up: %v", since, err, w.Err())
		}
		d.full.Store(false)
		time.Sleep(checkpoint.MaxRetryPause)
		if since, err := w.Failing(); !since.IsZero() || err != nil || !w.Idle() {
			t.Errorf("after the disk was freed: failing since %v, %v", since, err)
		}
		s := time.Second
		want := []time.Duration{0, 0, 5 * s, 15 * s, 35 * s, 75 * s, 155 * s, 275 * s, 395 * s}
		if diff := cmp.Diff(want, tries); diff != "" {
			t.Errorf("tries (-want +got):\n%s", diff)
		}
		if e := events[1]; e.Step != 200 || !errors.Is(e.Err, syscall.ENOSPC) || e.RetryIn != 5*s || !e.Since.Equal(start) || e.Path != "" {
			t.Errorf("first failure: %+v", e)
		}
		if state, err := open(t, d.mem).LoadLatest(ctx, noProblem(t)); err != nil || differs(state, 200) != "" {
			t.Errorf("in the end: %v", err)
		}
	})
}

// While a save fails, the run goes on and its newest state takes the failed one's place.
func TestWriterNewestStateWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.full.Store(true)
		var saved []int64
		w := writer(t, d, func(e checkpoint.Event) {
			if e.Err == nil {
				saved = append(saved, e.Step)
			}
		})
		start := time.Now()
		for step := int64(100); step <= 300; step += 100 {
			submit(t, w, step)
			synctest.Wait()
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("Submit blocked for %v on a failing disk", took)
		}
		d.full.Store(false)
		if err := w.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(saved, []int64{300}) {
			t.Errorf("saved %v, want the newest only", saved)
		}
	})
}

func TestWriterGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		save(t, open(t, d.mem), 100)
		before := tree(t, d.mem, dir)
		d.full.Store(true)
		var last checkpoint.Event
		w := writer(t, d, func(e checkpoint.Event) { last = e })
		start := time.Now()
		submit(t, w, 200)
		err := w.Flush(ctx) // ends although the disk never recovers
		if took := time.Since(start); took != checkpoint.Default().GiveUpAfter {
			t.Errorf("gave up after %v", took)
		}
		for _, err := range []error{err, w.Err(), w.Flush(ctx), w.Close(ctx)} {
			if !errors.Is(err, checkpoint.ErrGaveUp) || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("error = %v", err)
			}
		}
		if last.RetryIn != 0 || last.Err == nil {
			t.Errorf("last event: %+v", last)
		}
		if diff := cmp.Diff(before, tree(t, d.mem, dir)); diff != "" {
			t.Errorf("the last good checkpoint was touched:\n%s", diff)
		}
	})
}

func TestWriterFlushRetriesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.full.Store(true)
		w := writer(t, d, func(checkpoint.Event) {})
		submit(t, w, 100)
		time.Sleep(4 * time.Minute) // into a pause of two minutes
		d.full.Store(false)
		start := time.Now()
		if err := w.Flush(ctx); err != nil || time.Since(start) != 0 {
			t.Errorf("Flush = %v after %v", err, time.Since(start))
		}
	})
}

func TestWriterContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.full.Store(true)
		w := writer(t, d, func(checkpoint.Event) {})
		submit(t, w, 100)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := w.Flush(short); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Flush = %v", err)
		}
		if err := w.Close(short); !errors.Is(err, context.DeadlineExceeded) || !w.Idle() {
			t.Errorf("Close = %v, idle: %v", err, w.Idle())
		}

		slow := newDisk()
		slow.pause.Store(int64(time.Hour))
		w = writer(t, slow, func(checkpoint.Event) {})
		submit(t, w, 100)
		short, cancel = context.WithTimeout(ctx, time.Second)
		defer cancel()
		meta, tensors := stateAt(200)
		if err := w.Submit(short, meta, tensors); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Submit to a busy writer = %v", err)
		}
	})
}

func TestWriterInvalidStateIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := 0
		w := writer(t, newDisk(), func(checkpoint.Event) { events++ })
		if err := w.Submit(ctx, checkpoint.Meta{Step: 1}, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(ctx); !errors.Is(err, checkpoint.ErrInvalid) || events != 1 {
			t.Errorf("Flush = %v after %d tries", err, events)
		}
	})
}
