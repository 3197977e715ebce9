package vfs

import (
	"bytes"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"
)

// memFile is an open file of a Mem.
type memFile struct {
	m        *Mem
	n        *node
	name     string
	off      int64
	boots    int
	writable bool
	closed   bool
}

// use says whether the file can still be used. The caller holds mu.
func (f *memFile) use(kind OpKind) error {
	var err error
	switch {
	case f.m.crashed || f.boots != f.m.boots:
		err = ErrCrashed
	case f.closed:
		err = fs.ErrClosed
	case f.n.dir && kind != OpClose:
		err = syscall.EISDIR
	default:
		return nil
	}
	return &fs.PathError{Op: kind.String(), Path: f.name, Err: err}
}

func (f *memFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.off)
	f.off += int64(n)
	if n > 0 {
		return n, nil
	}
	return 0, err
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.use(OpRead); err != nil {
		return 0, err
	}
	n := 0
	if off < int64(len(f.n.data)) {
		n = copy(p, f.n.data[off:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Write appends: files are written once from start to end, so there is no seek.
func (f *memFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.use(OpWrite); err != nil {
		return 0, err
	}
	if !f.writable {
		return 0, &fs.PathError{Op: OpWrite.String(), Path: f.name, Err: syscall.EBADF}
	}
	if err := f.m.begin(Op{Kind: OpWrite, Path: f.name, Bytes: len(p)}); err != nil {
		return 0, err
	}
	f.n.data = append(f.n.data, p...)
	return len(p), nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.use(OpSync); err != nil {
		return err
	}
	if err := f.m.begin(Op{Kind: OpSync, Path: f.name}); err != nil {
		return err
	}
	f.n.synced = bytes.Clone(f.n.data)
	return nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.use(OpClose); err != nil {
		return err
	}
	f.closed = true
	if !f.writable {
		return nil
	}
	return f.m.begin(Op{Kind: OpClose, Path: f.name})
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.m.crashed || f.boots != f.m.boots {
		return nil, &fs.PathError{Op: OpStat.String(), Path: f.name, Err: ErrCrashed}
	}
	return f.n.info(filepath.Base(f.name)), nil
}

// info is the fs.FileInfo of a node; Mem keeps no times, so ModTime is zero.
type info struct {
	name string
	size int64
	dir  bool
}

func (n *node) info(name string) info { return info{name, int64(len(n.data)), n.dir} }

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) IsDir() bool        { return i.dir }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) Sys() any           { return nil }

func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o755
	}
	return 0o644
}
