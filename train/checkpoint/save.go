package checkpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/zeebo/xxh3"

	"pretrain/internal/safetensors"
	"pretrain/internal/vfs"
)

// chunkBytes is how much is hashed and written at a time: small enough to stay in cache between
// the two hashes and the write, large enough that calls cost nothing, and how soon a cancelled save ends.
const chunkBytes = 1 << 20

// Save writes a checkpoint and returns its directory once it is durable. It reads the tensors in
// place and holds no copy: memory beyond them is that of the manifest.
//
// Where the step has a checkpoint already, one with the same state is verified and left (times aside); any other, such as a damaged one
// or that of a future that was rolled back, is replaced, at no moment leaving the step without either.
// On an error what was there before is untouched and the disk is cleared of the attempt.
func (s *Store) Save(ctx context.Context, meta Meta, tensors []Tensor) (string, error) {
	if s.readOnly {
		return "", ErrReadOnly
	}
	if err := check(meta, tensors); err != nil {
		return "", err
	}
	if meta.CreatedAt.IsZero() {
		meta.CreatedAt = time.Now()
	}
	meta.CreatedAt = meta.CreatedAt.UTC().Round(0)
	meta.FormatVersion = FormatVersion
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.save(ctx, meta, tensors); err != nil {
		return "", fmt.Errorf("save checkpoint %s: %w", s.Path(meta.Step), err)
	}
	return s.Path(meta.Step), nil
}

func check(meta Meta, tensors []Tensor) error {
	if meta.Step < 0 {
		return fmt.Errorf("%w: step %d is negative", ErrInvalid, meta.Step)
	}
	if !utf8.ValidString(meta.Config) { // JSON would alter it
		return fmt.Errorf("%w: step %d: the configuration is not valid UTF-8", ErrInvalid, meta.Step)
	}
	if len(tensors) == 0 {
		return fmt.Errorf("%w: step %d has no tensors", ErrInvalid, meta.Step)
	}
	seen := map[string]bool{}
	for _, t := range tensors {
		want, err := t.info().Bytes()
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		case int64(len(t.Data)) != want:
			return fmt.Errorf("%w: tensor %q: %s %v is %d bytes, but its data has %d", ErrInvalid, t.Name, t.DType, t.Shape, want, len(t.Data))
		case t.Name == "" || t.Name == "__metadata__" || !utf8.ValidString(t.Name):
			return fmt.Errorf("%w: %q cannot be a tensor's name", ErrInvalid, t.Name)
		case seen[t.Name]:
			return fmt.Errorf("%w: two tensors are named %q", ErrInvalid, t.Name)
		}
		seen[t.Name] = true
	}
	return nil
}

func (s *Store) save(ctx context.Context, meta Meta, tensors []Tensor) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.restore(meta.Step); err != nil { // an attempt of this process may have failed half-way
		return err
	}
	exists, err := s.exists(s.Path(meta.Step))
	if err != nil {
		return err
	}
	if exists {
		same, err := s.holds(ctx, meta, tensors)
		if err != nil {
			return err
		}
		if same {
			return s.fsys.SyncDir(s.dir) // the attempt that made it may have failed at just this
		}
	}
	s.setVerified(meta.Step, false)
	temp := s.hidden(tempPrefix, meta.Step)
	err = s.build(ctx, temp, meta, tensors)
	if err == nil {
		err = s.publish(meta.Step, temp, exists)
	}
	if err != nil {
		_ = s.fsys.RemoveAll(temp) // best effort: it frees the disk for the next try
	}
	return err
}

// publish gives a finished directory its name, in exchange for the version that has it now if there is one.
func (s *Store) publish(step int64, temp string, replace bool) error {
	old := s.hidden(oldPrefix, step)
	if replace {
		if err := s.fsys.Rename(s.Path(step), old); err != nil {
			return err
		}
	}
	if err := s.fsys.Rename(temp, s.Path(step)); err != nil {
		return errors.Join(err, s.restore(step))
	}
	if err := s.fsys.SyncDir(s.dir); err != nil {
		return err
	}
	if replace { // only now that the new one is durable
		return s.fsys.RemoveAll(old)
	}
	return nil
}

// holds reports whether the step's checkpoint is intact and has this very state.
func (s *Store) holds(ctx context.Context, meta Meta, tensors []Tensor) (bool, error) {
	m, problem := s.manifest(meta.Step)
	if problem != nil || !sameMeta(m.Meta, meta) || len(m.Tensors) != len(tensors) {
		return false, nil
	}
	for i, t := range tensors {
		e := m.Tensors[i]
		if e.Name != t.Name || e.DType != t.DType || !slices.Equal(e.Shape, t.Shape) || e.Hash != hash128(t.Data) {
			return false, nil
		}
	}
	if err := s.Verify(ctx, meta.Step); err != nil {
		return false, ctx.Err()
	}
	return true, nil
}

// sameMeta compares all but the clock.
func sameMeta(a, b Meta) bool {
	encode := func(m Meta) []byte {
		m.CreatedAt, m.Loop.TrainSeconds, m.Loop.DataWaitSeconds = time.Time{}, 0, 0
		data, err := json.Marshal(m)
		if err != nil {
			return nil
		}
		return data
	}
	return bytes.Equal(encode(a), encode(b))
}

// build makes a whole, durable checkpoint directory at path.
func (s *Store) build(ctx context.Context, path string, meta Meta, tensors []Tensor) error {
	if err := s.fsys.RemoveAll(path); err != nil {
		return err
	}
	if err := s.fsys.MkdirAll(path); err != nil {
		return err
	}
	m := manifest{Format: manifestFormat, FormatVersion: FormatVersion, Meta: meta, Tensors: make([]tensorEntry, len(tensors))}
	shards := split(tensors, s.maxShardBytes)
	first := 0
	for i, shard := range shards {
		name := fmt.Sprintf("state-%05d-of-%05d.safetensors", i+1, len(shards))
		entry, err := s.writeShard(ctx, path, name, shard, m.Tensors[first:first+len(shard)])
		if err != nil {
			return err
		}
		m.Files = append(m.Files, entry)
		first += len(shard)
	}
	encoded, err := m.encode()
	if err != nil {
		return err
	}
	err = writeSynced(s.fsys, filepath.Join(path, manifestName), func(w io.Writer) error {
		_, err := w.Write(encoded)
		return err
	})
	if err != nil {
		return err
	}
	return s.fsys.SyncDir(path)
}

// split cuts the list into runs of at most max bytes of data; a larger tensor is a run of its own.
func split(tensors []Tensor, max int64) [][]Tensor {
	var shards [][]Tensor
	start, size := 0, int64(0)
	for i, t := range tensors {
		n := int64(len(t.Data))
		if i > start && size+n > max {
			shards = append(shards, tensors[start:i])
			start, size = i, 0
		}
		size += n
	}
	return append(shards, tensors[start:])
}

// writeShard writes one file and fills in the entries of its tensors.
func (s *Store) writeShard(ctx context.Context, dir, name string, tensors []Tensor, entries []tensorEntry) (fileEntry, error) {
	hash := xxh3.New()
	var size int64
	err := writeSynced(s.fsys, filepath.Join(dir, name), func(file io.Writer) error {
		out := &hashedWriter{w: file, hash: hash, n: &size}
		list := make([]safetensors.Tensor, len(tensors))
		for i, t := range tensors {
			entries[i] = tensorEntry{Name: t.Name, DType: t.DType, Shape: append([]int{}, t.Shape...), File: name, Bytes: int64(len(t.Data))}
			list[i] = safetensors.Tensor{Info: t.info(), Data: &source{ctx, t.Data, &size, &entries[i]}}
		}
		return safetensors.Write(out, nil, list)
	})
	return fileEntry{Name: name, Bytes: size, Hash: sum128(hash)}, err
}

// writeSynced writes a new file and makes its bytes durable, not its name.
func writeSynced(fsys vfs.FS, path string, write func(io.Writer) error) error {
	f, err := fsys.Create(path)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// hashedWriter hashes and counts what it passes on.
type hashedWriter struct {
	w    io.Writer
	hash *xxh3.Hasher
	n    *int64
}

func (h *hashedWriter) Write(p []byte) (int, error) {
	n, err := h.w.Write(p)
	_, _ = h.hash.Write(p[:n]) // cannot fail
	*h.n += int64(n)
	return n, err
}

// source writes a tensor's data chunk by chunk and notes its place and hash.
type source struct {
	ctx   context.Context // lives for one call of Save, through an io.WriterTo
	data  []byte
	at    *int64 // bytes in the file so far
	entry *tensorEntry
}

func (s *source) WriteTo(w io.Writer) (int64, error) {
	s.entry.Offset = *s.at
	hash := xxh3.New()
	for chunk := range slices.Chunk(s.data, chunkBytes) {
		if err := s.ctx.Err(); err != nil {
			return *s.at - s.entry.Offset, err
		}
		_, _ = hash.Write(chunk) // cannot fail
		if _, err := w.Write(chunk); err != nil {
			return *s.at - s.entry.Offset, err
		}
	}
	s.entry.Hash = sum128(hash)
	return int64(len(s.data)), nil
}
