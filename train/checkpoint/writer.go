package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Event is what a [Writer] reports: a save that succeeded (Err is nil) or failed.
type Event struct {
	Step    int64
	Path    string        // of the checkpoint; empty if the save failed
	Took    time.Duration // the save alone
	Err     error         // why it failed
	Since   time.Time     // of a failure: when saves began to fail
	RetryIn time.Duration // of a failure: the pause until the next try; 0 = there is none
	// Removed are the checkpoints that retention deleted after the save, and PruneErr why it could not. That does
	// not make the save a failure.
	Removed  []int64
	PruneErr error
}

// ErrGaveUp is wrapped by the error of a [Writer] that could not save for Config.GiveUpAfter.
var ErrGaveUp = errors.New("giving up on saving checkpoints")

// ErrClosed is returned by Submit after Close.
var ErrClosed = errors.New("the checkpoint writer is closed")

// Writer saves checkpoints in the background, one at a time, and applies retention after each.
//
// At most one state is held, so that the host never needs memory for two: Submit returns at once
// when nothing is held, and waits for the disk while a state is being written. Call [Writer.Idle]
// before copying the state from the device, and save a step later if it is not.
//
// A save that fails is tried again, with growing pauses, until it works, a newer state is
// submitted (it takes the older one's place: the newest counts) or Config.GiveUpAfter has passed;
// then [Writer.Err] says so and the run should stop, the last good checkpoint being untouched.
type Writer struct {
	store  *Store
	config Config
	report func(Event)
	ctx    context.Context // cancelled by Close to end the save in progress
	cancel context.CancelFunc

	mu      sync.Mutex
	job     *job          // the state held; nil when idle
	pausing bool          // between two tries of job
	since   time.Time     // first failure since the last success; zero when all is well
	lastErr error         // of the last failure since the last success
	gaveUp  error         // wraps ErrGaveUp
	closed  bool          // no more Submits
	changed chan struct{} // closed and replaced when any of the above changes
	retry   chan struct{} // asks a pausing save to try now
}

type job struct {
	meta    Meta
	tensors []Tensor
}

// NewWriter returns an idle writer. It calls report, which must not be nil, from its own goroutine after each try. Close it.
func NewWriter(store *Store, config Config, report func(Event)) *Writer {
	ctx, cancel := context.WithCancel(context.Background())
	return &Writer{
		store: store, config: config, report: report, ctx: ctx, cancel: cancel,
		changed: make(chan struct{}), retry: make(chan struct{}, 1),
	}
}

// update changes the writer's state and wakes who waits for that. The caller holds mu.
func (w *Writer) update(change func()) {
	change()
	close(w.changed)
	w.changed = make(chan struct{})
}

// Submit hands over a state to be saved. The tensors must not be changed until the writer holds
// them no more: when Idle reports true, or a later Submit or Flush has returned nil. It returns at once
// when the writer is idle or pausing after a failure, and else waits for the save in progress. The
// error is the context's, ErrClosed, or that of a writer that gave up.
func (w *Writer) Submit(ctx context.Context, meta Meta, tensors []Tensor) error {
	for {
		w.mu.Lock()
		err := w.gaveUp
		if w.closed {
			err = ErrClosed
		}
		if err != nil {
			w.mu.Unlock()
			return err
		}
		if idle := w.job == nil; idle || w.pausing {
			w.update(func() { w.job = &job{meta, tensors} })
			w.mu.Unlock()
			if idle {
				go w.work()
			}
			return nil
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Idle reports whether no state is held: Submit will not wait, and the tensors submitted before are free.
func (w *Writer) Idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.job == nil
}

// Failing returns since when saves have been failing, and the last error; the zero time when the last save succeeded.
func (w *Writer) Failing() (time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.since, w.lastErr
}

// Err returns nil, or an error that wraps [ErrGaveUp] once saves have failed for Config.GiveUpAfter, or at once if a
// state was invalid. The run should then stop.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gaveUp
}

// Flush waits until what was submitted is saved. A pausing save is tried at once. The error says why it is not
// saved: the writer gave up, the state was invalid, or the context ended.
func (w *Writer) Flush(ctx context.Context) error {
	select {
	case w.retry <- struct{}{}:
	default: // one is asked for already
	}
	for {
		w.mu.Lock()
		idle, err, changed := w.job == nil, w.lastErr, w.changed
		if w.gaveUp != nil {
			err = w.gaveUp
		}
		w.mu.Unlock()
		if idle {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// Close flushes and ends the writer. When the context ends first, the save in progress is
// cut off, which leaves earlier checkpoints as they are. A second call only flushes.
func (w *Writer) Close(ctx context.Context) error {
	w.mu.Lock()
	w.update(func() { w.closed = true })
	w.mu.Unlock()
	err := w.Flush(ctx)
	w.cancel()
	if ctx.Err() != nil { // what is left ends soon now
		_ = w.Flush(context.Background())
	}
	return err
}

// work saves the state held, and what takes its place while it fails, and then ends.
func (w *Writer) work() {
	for pause := w.config.RetryAfter; ; pause = min(2*pause, MaxRetryPause) {
		select {
		case <-w.retry: // asked for before this try
		default:
		}
		w.mu.Lock()
		w.update(func() { w.pausing = false })
		held := w.job
		w.mu.Unlock()

		event := w.try(held)
		again := w.settle(&event, pause)
		w.report(event)
		if !again {
			w.mu.Lock()
			w.update(func() { w.job, w.pausing = nil, false })
			w.mu.Unlock()
			return
		}
		select {
		case <-time.After(event.RetryIn):
		case <-w.retry:
		case <-w.ctx.Done():
		}
	}
}

// try saves once and applies retention, also after a failure: it may free what the next try needs.
func (w *Writer) try(j *job) Event {
	start := time.Now()
	path, err := w.store.Save(w.ctx, j.meta, j.tensors)
	event := Event{Step: j.meta.Step, Path: path, Err: err, Took: time.Since(start)}
	event.Removed, event.PruneErr = w.store.Prune(w.ctx, w.config.retention())
	return event
}

// settle takes the outcome of a try into the writer's state and reports whether to try again.
func (w *Writer) settle(event *Event, pause time.Duration) (again bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if event.Err == nil {
		w.update(func() { w.since, w.lastErr = time.Time{}, nil })
		return false
	}
	now := time.Now()
	if w.since.IsZero() {
		w.since = now
	}
	w.lastErr, event.Since = event.Err, w.since
	left := w.config.GiveUpAfter - now.Sub(w.since)
	switch {
	case w.ctx.Err() != nil:
		again = false
	case left <= 0 || errors.Is(event.Err, ErrInvalid): // an invalid state stays invalid
		w.gaveUp = fmt.Errorf("%w: none was saved since %s (%s): %w", ErrGaveUp,
			w.since.Format("15:04:05"), now.Sub(w.since).Round(time.Second), event.Err)
	default:
		again = true
		event.RetryIn = min(pause, left)
	}
	w.update(func() { w.pausing = again })
	return again
}
