package metrics

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"pretrain/internal/atomicfile"
	"pretrain/internal/vfs"
)

// Patience says how long a file of metrics puts up with a disk that refuses, such as a full one. Until then what is to be
// written is held in memory and tried again with each record. The zero value has none: the first failure ends the run.
type Patience struct {
	// GiveUpAfter is how long writes may fail in a row.
	GiveUpAfter time.Duration
	// Report, if not nil, is told of the first failure in a row, and of the success that ends it with a nil error.
	Report func(err error)
}

// ErrPending is wrapped by the error of a Flush that could not make everything durable, but may do so later.
var ErrPending = errors.New("not written yet")

// syncEvery bounds what is held in memory between two calls of Flush while all is well.
const syncEvery = 1 << 20

// appendFile is a file that grows at its end and outlives a full disk. It holds all that was written since the last good
// sync, so that after a failed one, when the system may have dropped what it had, the file can be made anew.
type appendFile struct {
	Patience
	fsys vfs.FS
	path string
	file vfs.File

	synced  int64  // length of what is durable
	tail    []byte // what was written since
	handed  int    // so much of it was handed to the system
	rebuild bool   // a sync failed
	since   time.Time
	gaveUp  error
}

// openAppend opens a file, which need not exist.
func openAppend(fsys vfs.FS, path string, p Patience) (*appendFile, error) {
	a := &appendFile{Patience: p, fsys: fsys, path: path}
	file, err := fsys.OpenAppend(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil {
		a.synced = info.Size()
		err = fsys.SyncDir(filepath.Dir(path)) // the name, where the file is new
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	a.file = file
	return a, nil
}

// write adds to the file. An error is final: patience is at its end.
func (a *appendFile) write(p []byte) error {
	a.tail = append(a.tail, p...)
	err := a.hand()
	if err == nil && len(a.tail) >= syncEvery {
		err = a.sync()
	}
	if err = a.settle(err); errors.Is(err, ErrPending) {
		return nil
	}
	return err
}

// flush makes durable what was written; see [ErrPending].
func (a *appendFile) flush() error {
	err := a.hand()
	if err == nil {
		err = a.sync()
	}
	return a.settle(err)
}

// hand gives the system what it does not have yet.
func (a *appendFile) hand() error {
	if a.gaveUp != nil {
		return a.gaveUp
	}
	if a.rebuild {
		if err := a.again(); err != nil {
			return err
		}
	}
	n, err := a.file.Write(a.tail[a.handed:])
	a.handed += n // also of a write that failed: the next one goes on behind it
	return err
}

func (a *appendFile) sync() error {
	if len(a.tail) == 0 {
		return nil
	}
	if err := a.file.Sync(); err != nil {
		a.rebuild = true
		return err
	}
	a.synced += int64(len(a.tail))
	a.tail, a.handed = a.tail[:0], 0
	return nil
}

// again replaces the file by what is durable of it and the tail.
func (a *appendFile) again() error {
	old, err := a.fsys.Open(a.path)
	if err != nil {
		return err
	}
	defer old.Close()
	err = atomicfile.WriteFile(a.fsys, a.path, func(w io.Writer) error {
		if _, err := io.Copy(w, io.NewSectionReader(old, 0, a.synced)); err != nil {
			return err
		}
		_, err := w.Write(a.tail)
		return err
	})
	if err != nil {
		return err
	}
	file, err := a.fsys.OpenAppend(a.path)
	if err != nil {
		return err
	}
	_ = a.file.Close() // the old one, which nobody can find any more
	a.file, a.rebuild = file, false
	a.synced += int64(len(a.tail))
	a.tail, a.handed = a.tail[:0], 0
	return nil
}

// settle counts failures in a row.
func (a *appendFile) settle(err error) error {
	if a.gaveUp != nil {
		return a.gaveUp
	}
	if err == nil {
		if !a.since.IsZero() && a.Report != nil {
			a.Report(nil)
		}
		a.since = time.Time{}
		return nil
	}
	if a.since.IsZero() {
		a.since = time.Now()
		if a.Report != nil && a.GiveUpAfter > 0 {
			a.Report(err)
		}
	}
	if time.Since(a.since) >= a.GiveUpAfter {
		a.gaveUp = err
		return err
	}
	return fmt.Errorf("%w: %w", ErrPending, err)
}

// close flushes, once, and lets go.
func (a *appendFile) close() error { return errors.Join(a.flush(), a.file.Close()) }
