package checkpoint

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"pretrain/internal/vfs"
)

// ManifestName is the file that makes a checkpoint complete.
const ManifestName = manifestName

// File is a file of a checkpoint.
type File struct {
	Name string
	// Hash is XXH3, 128 bits, in hexadecimal.
	Hash string
}

// Files are those of a step's checkpoint, the manifest last: for copying it elsewhere in this order.
func (s *Store) Files(step int64) ([]File, error) {
	m, p := s.manifest(step)
	if p != nil {
		return nil, p
	}
	var files []File
	for _, f := range m.Files {
		files = append(files, File{f.Name, f.Hash})
	}
	raw, err := vfs.ReadFile(s.fsys, filepath.Join(s.Path(step), manifestName))
	if err != nil {
		return nil, err
	}
	return append(files, File{manifestName, hash128(raw)}), nil
}

// Receive makes a step's checkpoint of files from elsewhere: fetch writes the one it is asked for. Every byte is verified before
// the checkpoint gets its name; on an error nothing is left. A step that has a checkpoint is replaced.
func (s *Store) Receive(ctx context.Context, step int64, fetch func(name string, w io.Writer) error) (err error) {
	if s.readOnly {
		return ErrReadOnly
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.restore(step); err != nil {
		return err
	}
	temp := s.hidden(tempPrefix, step)
	defer func() {
		if err != nil {
			s.setVerified(step, false) // readAt had verified what is not there
			_ = s.fsys.RemoveAll(temp)
		}
	}()
	if err := s.fsys.RemoveAll(temp); err != nil {
		return err
	}
	if err := s.fsys.MkdirAll(temp); err != nil {
		return err
	}
	get := func(name string) error {
		return writeSynced(s.fsys, filepath.Join(temp, name), func(w io.Writer) error { return fetch(name, w) })
	}
	if err := get(manifestName); err != nil {
		return err
	}
	raw, err := vfs.ReadFile(s.fsys, filepath.Join(temp, manifestName))
	if err != nil {
		return err
	}
	m, p := decodeManifest(raw)
	if p == nil && m.Meta.Step != step {
		p = &Problem{Kind: Damaged, File: manifestName, Detail: fmt.Sprintf("it is of step %d", m.Meta.Step)}
	}
	if p != nil {
		p.Step, p.Path = step, s.Path(step)
		return p
	}
	for _, f := range m.Files {
		if err := get(f.Name); err != nil {
			return err
		}
	}
	if err := s.readAt(ctx, temp, step, m, func(tensorEntry) []byte { return nil }); err != nil {
		return err
	}
	if err := s.fsys.SyncDir(temp); err != nil {
		return err
	}
	exists, err := s.exists(s.Path(step))
	if err != nil {
		return err
	}
	return s.publish(step, temp, exists)
}
