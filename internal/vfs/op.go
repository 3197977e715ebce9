package vfs

import (
	"fmt"
	"io/fs"
)

// OpKind is the kind of one file operation.
type OpKind uint8

// The kinds of operation. Those from OpCreate to OpSyncDir change what is on disk or make it durable: [Mem] counts and logs them.
const (
	OpCreate OpKind = iota
	OpOpenAppend
	OpWrite
	OpSync
	OpClose
	OpRename
	OpRemove
	OpMkdir
	OpSyncDir

	OpOpen
	OpRead
	OpReadDir
	OpStat
	OpRemoveAll // seen by WithErrors only; Mem logs the removals it consists of
)

var opNames = [...]string{
	"create", "open-append", "write", "sync", "close", "rename", "remove", "mkdir", "sync-dir",
	"open", "read", "read-dir", "stat", "remove-all",
}

// String returns the operation's name as logs show it.
func (k OpKind) String() string { return opNames[k] }

// Op is one file operation.
type Op struct {
	Kind  OpKind
	Path  string
	To    string // the new name; of a rename only
	Bytes int    // of a write only
}

// String returns the operation as one line of a log, such as "rename a b".
func (op Op) String() string {
	switch op.Kind {
	case OpRename:
		return fmt.Sprintf("%s %s %s", op.Kind, op.Path, op.To)
	case OpWrite:
		return fmt.Sprintf("%s %s %d", op.Kind, op.Path, op.Bytes)
	}
	return fmt.Sprintf("%s %s", op.Kind, op.Path)
}

// WithErrors returns inner with faults: fail is asked before each operation, and an error it
// returns (syscall.ENOSPC, say) becomes the operation's, which then does nothing. fail may be
// called from several goroutines.
func WithErrors(inner FS, fail func(Op) error) FS { return &errorFS{inner, fail} }

type errorFS struct {
	inner FS
	fail  func(Op) error
}

func check(fail func(Op) error, op Op) error {
	if err := fail(op); err != nil {
		return &fs.PathError{Op: op.Kind.String(), Path: op.Path, Err: err}
	}
	return nil
}

func (e *errorFS) open(kind OpKind, name string, open func(string) (File, error)) (File, error) {
	if err := check(e.fail, Op{Kind: kind, Path: name}); err != nil {
		return nil, err
	}
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	return &errorFile{f, name, e.fail}, nil
}

func (e *errorFS) Create(name string) (File, error) { return e.open(OpCreate, name, e.inner.Create) }
func (e *errorFS) Open(name string) (File, error)   { return e.open(OpOpen, name, e.inner.Open) }
func (e *errorFS) OpenAppend(name string) (File, error) {
	return e.open(OpOpenAppend, name, e.inner.OpenAppend)
}

func (e *errorFS) Rename(oldname, newname string) error {
	if err := check(e.fail, Op{Kind: OpRename, Path: oldname, To: newname}); err != nil {
		return err
	}
	return e.inner.Rename(oldname, newname)
}

func (e *errorFS) one(kind OpKind, name string, do func(string) error) error {
	if err := check(e.fail, Op{Kind: kind, Path: name}); err != nil {
		return err
	}
	return do(name)
}

func (e *errorFS) Remove(name string) error    { return e.one(OpRemove, name, e.inner.Remove) }
func (e *errorFS) RemoveAll(name string) error { return e.one(OpRemoveAll, name, e.inner.RemoveAll) }
func (e *errorFS) MkdirAll(name string) error  { return e.one(OpMkdir, name, e.inner.MkdirAll) }
func (e *errorFS) SyncDir(name string) error   { return e.one(OpSyncDir, name, e.inner.SyncDir) }

func (e *errorFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := check(e.fail, Op{Kind: OpReadDir, Path: name}); err != nil {
		return nil, err
	}
	return e.inner.ReadDir(name)
}

func (e *errorFS) Stat(name string) (fs.FileInfo, error) {
	if err := check(e.fail, Op{Kind: OpStat, Path: name}); err != nil {
		return nil, err
	}
	return e.inner.Stat(name)
}

type errorFile struct {
	File // Stat passes through
	name string
	fail func(Op) error
}

func (f *errorFile) Read(p []byte) (int, error) {
	if err := check(f.fail, Op{Kind: OpRead, Path: f.name}); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *errorFile) ReadAt(p []byte, off int64) (int, error) {
	if err := check(f.fail, Op{Kind: OpRead, Path: f.name}); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *errorFile) Write(p []byte) (int, error) {
	if err := check(f.fail, Op{Kind: OpWrite, Path: f.name, Bytes: len(p)}); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *errorFile) Sync() error {
	if err := check(f.fail, Op{Kind: OpSync, Path: f.name}); err != nil {
		return err
	}
	return f.File.Sync()
}

// Close closes the file even where it reports an injected error, as the system's does.
func (f *errorFile) Close() error {
	err := check(f.fail, Op{Kind: OpClose, Path: f.name})
	if cerr := f.File.Close(); err == nil {
		err = cerr
	}
	return err
}
