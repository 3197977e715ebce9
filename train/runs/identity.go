// Package runs knows run directories: which run one is, which it branched from, and its records from the first step on, those of
// the trunk included.
package runs

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"pretrain/internal/atomicfile"
	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
)

// identityFile is the file of a run directory that is written first and never changes.
const identityFile = "run.json"

// Identity is what a run is, whatever becomes of it.
type Identity struct {
	// ID is the run's own, drawn at random: it stays when the directory is moved or renamed.
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	// Parent is the checkpoint that a branch began from; nil for a run of its own.
	Parent *checkpoint.Parent `json:"parent,omitempty"`
}

// Identify reads a run directory's identity, or gives it one, with this parent.
func Identify(fsys vfs.FS, dir string, parent *checkpoint.Parent) (*Identity, error) {
	if id, err := ReadIdentity(fsys, dir); id != nil || err != nil {
		return id, err
	}
	var random [8]byte
	rand.Read(random[:]) // never fails
	id := &Identity{ID: hex.EncodeToString(random[:]), Created: time.Now().UTC().Round(time.Second), Parent: parent}
	text, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := vfs.MkdirAllSync(fsys, dir); err != nil {
		return nil, err
	}
	return id, atomicfile.Write(fsys, filepath.Join(dir, identityFile), append(text, '\n'))
}

// ReadIdentity reads a run directory's identity; nil where there is none.
func ReadIdentity(fsys vfs.FS, dir string) (*Identity, error) {
	path := filepath.Join(dir, identityFile)
	text, err := vfs.ReadFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	id := new(Identity)
	if err := json.Unmarshal(text, id); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if id.Parent != nil && (id.Parent.Run == "" || id.Parent.Step < 0) {
		return nil, fmt.Errorf("%s: its parent has no run directory, or a negative step", path)
	}
	return id, nil
}

// ParentPath is how the run in dir names its parent's directory: relative to its own, with slashes, where both lie below a common
// folder, so that this can be moved as a whole; else absolute. Both are absolute paths.
func ParentPath(dir, parent string) string {
	first := func(path string) string {
		name, _, _ := strings.Cut(strings.TrimPrefix(path, string(filepath.Separator)), string(filepath.Separator))
		return name
	}
	if rel, err := filepath.Rel(dir, parent); err == nil && first(dir) == first(parent) {
		return filepath.ToSlash(rel)
	}
	return parent
}

// ParentDir is the directory that a run in dir means by its parent's path.
func ParentDir(dir string, p checkpoint.Parent) string {
	path := filepath.FromSlash(p.Run)
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
