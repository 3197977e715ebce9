package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Retention says which checkpoints [Store.Prune] keeps. Pinned ones stay in any case.
type Retention struct {
	Keep        int     // so many of the newest; less than 1 counts as 1
	EverySteps  int64   // and the first at or after each multiple of so many steps; 0 = none
	EveryTokens int64   // and the first at or after each multiple of so many tokens; 0 = none
	At          []int64 // and those of these steps
}

// Prune deletes the checkpoints that r does not keep and returns their steps. Before it deletes
// anything it reads the newest checkpoint back and verifies it, once; damaged ones count for nothing and go
// when a newer intact one exists; one that another version wrote, or that the disk refuses to show, is left alone. With no
// intact checkpoint nothing is deleted and the error wraps [ErrNoneIntact]. A crash at any moment
// leaves each checkpoint whole or gone.
func (s *Store) Prune(ctx context.Context, r Retention) (removed []int64, err error) {
	if s.readOnly {
		return nil, ErrReadOnly
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	list, err := s.census()
	if err != nil {
		return nil, err
	}
	for {
		doomed, newest := r.choose(list)
		switch {
		case newest < 0 && len(list) > 0:
			return nil, fmt.Errorf("%s: %w: nothing was deleted", s.dir, ErrNoneIntact)
		case len(doomed) == 0 && !slices.ContainsFunc(list, func(c candidate) bool { return c.err != nil }):
			return nil, nil // the usual case costs no reading
		}
		if list[newest].err = s.verifyOnce(ctx, list[newest].step); list[newest].err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			continue // the next newest is to be verified, and what is kept changes
		}
		for _, step := range doomed {
			gone, err := s.remove(step)
			if err != nil {
				return removed, fmt.Errorf("delete checkpoint %s: %w", s.Path(step), err)
			}
			if gone {
				removed = append(removed, step)
			}
		}
		return removed, nil
	}
}

// Rewind deletes every checkpoint newer than step, newest first, for a run that goes back to step and takes
// another way from there: after a crash the abandoned future must not be what [Store.LoadLatest] finds. The
// checkpoint of step is verified before anything is deleted. A pinned newer one is an error, and then nothing is deleted, unless
// the pin came during the deletion.
func (s *Store) Rewind(ctx context.Context, step int64) (removed []int64, err error) {
	if s.readOnly {
		return nil, ErrReadOnly
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	list, err := s.census()
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		if c.step > step && c.pinned {
			return nil, fmt.Errorf("rewind to step %d: checkpoint %s is pinned; branch from step %d into a new run instead", step, s.Path(c.step), step)
		}
	}
	if err := s.verifyOnce(ctx, step); err != nil {
		return nil, fmt.Errorf("rewind to step %d: %w", step, err)
	}
	for _, c := range slices.Backward(list) {
		if c.step <= step {
			break
		}
		gone, err := s.remove(c.step)
		if err != nil {
			return removed, fmt.Errorf("delete checkpoint %s: %w", s.Path(c.step), err)
		}
		if !gone {
			return removed, fmt.Errorf("rewind to step %d: checkpoint %s has just been pinned", step, s.Path(c.step))
		}
		removed = append(removed, c.step)
	}
	return removed, nil
}

// candidate is a checkpoint as Prune sees it.
type candidate struct {
	step, tokens int64
	pinned       bool
	err          error // why it cannot be counted on
}

// damaged reports whether the checkpoint is known to be of no use to anybody.
func (c candidate) damaged() bool {
	var p *Problem
	return errors.As(c.err, &p) && p.Kind != ForeignVersion && p.Kind != Unreadable
}

// census lists all checkpoints, oldest first.
func (s *Store) census() ([]candidate, error) {
	steps, err := s.List()
	if err != nil {
		return nil, err
	}
	pins, err := s.Pins()
	if err != nil {
		return nil, err
	}
	list := make([]candidate, len(steps))
	for i, step := range steps {
		list[i] = candidate{step: step, pinned: slices.ContainsFunc(pins, func(p Pin) bool { return p.Step == step })}
		m, problem := s.manifest(step)
		if problem != nil {
			list[i].err = problem
			continue
		}
		list[i].tokens = m.Meta.Tokens
	}
	return list, nil
}

// choose returns the steps to delete, and the index of the newest checkpoint that may be intact, -1 if
// there is none. The first of an interval stays the first when others go, so the choice is stable.
func (r Retention) choose(list []candidate) (doomed []int64, newest int) {
	newest = -1
	keep := make([]bool, len(list))
	left := max(1, r.Keep)
	for i, c := range slices.Backward(list) {
		if c.err == nil && left > 0 {
			keep[i] = true
			left--
			newest = max(newest, i)
		}
	}
	var steps, tokens int64 // the last interval that has its checkpoint
	for i, c := range list {
		if c.err != nil {
			continue
		}
		keep[i] = keep[i] || slices.Contains(r.At, c.step)
		if r.EverySteps > 0 && c.step/r.EverySteps > steps {
			steps, keep[i] = c.step/r.EverySteps, true
		}
		if r.EveryTokens > 0 && c.tokens/r.EveryTokens > tokens {
			tokens, keep[i] = c.tokens/r.EveryTokens, true
		}
	}
	for i, c := range list {
		if c.pinned || keep[i] || c.err != nil && (!c.damaged() || i > newest) {
			continue
		}
		doomed = append(doomed, c.step)
	}
	return doomed, newest
}

func (s *Store) verifyOnce(ctx context.Context, step int64) error {
	if s.isVerified(step) {
		return nil
	}
	return s.Verify(ctx, step)
}

// remove takes a checkpoint's name away, makes that durable and only then removes its files, so that no step-N is
// ever incomplete. It looks for pins after the rename: a Pin made in another process either is seen
// here, or finds the checkpoint gone and says so.
func (s *Store) remove(step int64) (bool, error) {
	trash := s.hidden(trashPrefix, step)
	if err := s.fsys.RemoveAll(trash); err != nil { // left by a failed deletion of an earlier checkpoint of this step
		return false, err
	}
	if err := s.fsys.Rename(s.Path(step), trash); err != nil {
		return false, err
	}
	pins, err := s.Pins()
	if err != nil || slices.ContainsFunc(pins, func(p Pin) bool { return p.Step == step }) {
		return false, errors.Join(err, s.fsys.Rename(trash, s.Path(step)))
	}
	if err := s.fsys.SyncDir(s.dir); err != nil {
		return false, err
	}
	s.setVerified(step, false)
	return true, s.fsys.RemoveAll(trash)
}
