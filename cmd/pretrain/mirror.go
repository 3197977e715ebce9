package main

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
	"pretrain/train/mirror"
)

// mirroring copies a run's checkpoints to its mirror, in the background: whatever becomes of that, the run goes on.
type mirroring struct {
	mirror *mirror.Mirror
	store  *checkpoint.Store
	say    func(format string, args ...any)
	wake   chan struct{}
	ended  chan struct{}
}

// mirrorPatience bounds how long the end of a run waits for its mirror.
const mirrorPatience = 10 * time.Minute

func startMirroring(m *mirror.Mirror, store *checkpoint.Store, say func(string, ...any)) *mirroring {
	r := &mirroring{m, store, say, make(chan struct{}, 1), make(chan struct{})}
	go func() {
		defer close(r.ended)
		for range r.wake {
			if err := r.copy(context.Background()); err != nil {
				r.say("warning: %v (tried again with the next checkpoint; the run itself is saved)", err)
			}
		}
	}()
	return r
}

// saved says that there is a new checkpoint.
func (r *mirroring) saved() {
	select {
	case r.wake <- struct{}{}:
	default: // it will be seen
	}
}

// copy brings the mirror up to date: it has what the store has.
func (r *mirroring) copy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, mirrorPatience)
	defer cancel()
	steps, err := r.store.List()
	if err != nil {
		return err
	}
	for _, step := range slices.Backward(steps) { // the newest is what counts
		err := r.mirror.Push(ctx, r.store, step)
		var p *checkpoint.Problem
		if errors.Is(err, fs.ErrNotExist) || errors.As(err, &p) && p.Kind == checkpoint.Missing {
			continue // deleted by retention meanwhile
		}
		if err != nil {
			return err
		}
	}
	if len(steps) == 0 {
		return nil
	}
	return r.mirror.Keep(ctx, steps)
}

// close waits for the last copy.
func (r *mirroring) close() error {
	r.saved()
	close(r.wake)
	<-r.ended
	return r.mirror.Close()
}

// fetch brings the newest checkpoint of the run's mirror to a store that has none.
func (j *job) fetch(ctx context.Context, store *checkpoint.Store) error {
	url := j.draft.Mirror()
	if url == "" || j.options.resume != "auto" {
		return nil
	}
	if steps, err := store.List(); err != nil || len(steps) > 0 {
		return err
	}
	m, err := mirror.Open(ctx, url, vfs.OS, j.dir)
	if err != nil {
		return err
	}
	defer m.Close() // only read from
	steps, err := m.Steps(ctx)
	if err != nil {
		return err
	}
	for _, step := range slices.Backward(steps) {
		j.say("no checkpoint in %s: fetching step %d from mirror %s", j.dir, step, url)
		err := m.Pull(ctx, store, step)
		var p *checkpoint.Problem
		if !errors.As(err, &p) {
			return err
		}
		j.say("warning: %v: falling back to the checkpoint before it", err)
	}
	return nil
}
