package runs

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math"
	"path/filepath"

	"pretrain/internal/vfs"
	"pretrain/train/metrics"
)

// maxDepth bounds a chain of branches, which damaged files could make a circle.
const maxDepth = 1000

// History yields a run's records from its first step on: of a branch the trunk's up to where it branched off, then its own. The
// error, which ends the sequence, names the file.
func History(fsys vfs.FS, dir string) iter.Seq2[metrics.Record, error] {
	return func(yield func(metrics.Record, error) bool) {
		history(fsys, dir, math.MaxInt64, 0, yield)
	}
}

// history yields the records of steps before until, and reports whether more are wanted.
func history(fsys vfs.FS, dir string, until int64, depth int, yield func(metrics.Record, error) bool) bool {
	fail := func(err error) bool { yield(metrics.Record{}, err); return false }
	id, err := ReadIdentity(fsys, dir)
	if err != nil {
		return fail(err)
	}
	if id != nil && id.Parent != nil {
		if depth == maxDepth {
			return fail(fmt.Errorf("%s: branches of branches, %d deep: a circle?", dir, maxDepth))
		}
		parent := ParentDir(dir, *id.Parent)
		if _, err := fsys.Stat(parent); err != nil {
			return fail(fmt.Errorf("the trunk that %s branched off from, and so its first %d steps: %w", dir, id.Parent.Step, err))
		}
		if !history(fsys, parent, min(until, id.Parent.Step), depth+1, yield) {
			return false
		}
	}
	for record, err := range Records(fsys, dir) {
		switch {
		case err != nil:
			return fail(err)
		case record.Step >= until:
			return true
		case !yield(record, nil):
			return false
		}
	}
	return true
}

// Records yields the records of a run directory alone: those of a branch begin where it branched off. A run that has made no step
// yet has none.
func Records(fsys vfs.FS, dir string) iter.Seq2[metrics.Record, error] {
	return func(yield func(metrics.Record, error) bool) {
		path := filepath.Join(dir, "metrics.jsonl")
		file, err := fsys.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			yield(metrics.Record{}, err)
			return
		}
		defer file.Close() // only read from
		for record, err := range metrics.Records(file) {
			if err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
	}
}
