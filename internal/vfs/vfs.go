// Package vfs is the seam between durable code and the file system.
//
// Code that must survive a crash takes an [FS] instead of calling package os. In production that
// is [OS]; a test passes [NewCrashableMem], stops it at every file operation in turn, takes the
// power away and looks at what is left; or [WithErrors], to make chosen operations fail with
// ENOSPC, EROFS or EIO.
//
// The rules that the callers follow, and that the in-memory file system enforces: bytes are durable after
// [File.Sync]; a name (creation, rename, removal) is durable after [FS.SyncDir] of the directory
// that holds it; nothing else is.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// FS is the set of file operations durable code needs. Names are in the syntax of path/filepath.
// Errors satisfy errors.Is with fs.ErrNotExist and the system's errno, as those of package os do.
type FS interface {
	// Create makes or truncates a file and opens it for reading and writing.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// OpenAppend opens a file for writing at its end, and makes it if it is missing.
	OpenAppend(name string) (File, error)
	// Rename gives oldname the name newname, replacing a file of that name; atomic on one file system.
	// Replacing a directory that is not empty is an error.
	Rename(oldname, newname string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// RemoveAll removes name and what it holds, one by one: a crash leaves a part. A missing name is no error.
	RemoveAll(name string) error
	// MkdirAll makes a directory and its missing parents. See [MkdirAllSync] for a durable one.
	MkdirAll(name string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Stat describes a file or directory.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
}

// File is an open file. Like *os.File it is not safe for concurrent writes.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Closer
	// Sync makes the file's bytes durable (not its name: see [FS.SyncDir]). After an error the bytes
	// written since the last good Sync may be lost even if a second Sync succeeds: write them again
	// to a new file (the kernel marks failed pages clean).
	Sync() error
	// Stat describes the open file.
	Stat() (fs.FileInfo, error)
}

// OS is the operating system's file system.
var OS FS = osFS{}

type osFS struct{}

func (osFS) Create(name string) (File, error) {
	return orNil(os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644))
}

func (osFS) Open(name string) (File, error) { return orNil(os.Open(name)) }

func (osFS) OpenAppend(name string) (File, error) {
	return orNil(os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644))
}

func (osFS) Rename(oldname, newname string) error       { return os.Rename(oldname, newname) }
func (osFS) Remove(name string) error                   { return os.Remove(name) }
func (osFS) RemoveAll(name string) error                { return os.RemoveAll(name) }
func (osFS) MkdirAll(name string) error                 { return os.MkdirAll(name, 0o755) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
func (osFS) Stat(name string) (fs.FileInfo, error)      { return os.Stat(name) }

func (osFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	// Some network and FUSE file systems have no fsync of a directory and say so; they offer nothing
	// stronger that we could call instead.
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// orNil keeps a failed open from becoming a non-nil File that holds a nil *os.File.
func orNil(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// MkdirAllSync makes a directory and its missing parents, and makes each new name durable.
func MkdirAllSync(fsys FS, name string) error {
	var made []string // the missing directories, deepest first
	for dir := filepath.Clean(name); ; dir = filepath.Dir(dir) {
		_, err := fsys.Stat(dir)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		made = append(made, dir)
	}
	if err := fsys.MkdirAll(name); err != nil { // also says so when a file is in the way
		return err
	}
	for i := len(made) - 1; i >= 0; i-- {
		if err := fsys.SyncDir(filepath.Dir(made[i])); err != nil {
			return err
		}
	}
	return nil
}

// ReadFile returns a file's whole content.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}
