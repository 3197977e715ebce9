package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"

	"github.com/zeebo/xxh3"

	"pretrain/internal/vfs"
)

// Kind says what is wrong with a checkpoint.
type Kind string

// The kinds of problem.
const (
	Missing        Kind = "missing"                // a file is not there
	Truncated      Kind = "truncated"              // a file is shorter than when it was written
	Damaged        Kind = "damaged"                // bytes differ from those written
	ForeignVersion Kind = "foreign format version" // written by another version of this program, or by another program
	Unreadable     Kind = "unreadable"             // the system could not read it: disk, permission
)

// Problem is an error that names what is wrong with a checkpoint and where.
type Problem struct {
	Step   int64
	Path   string // the checkpoint's directory
	Kind   Kind
	File   string // the file within Path
	Tensor string // the first tensor that is affected; empty if it is no tensor's
	Detail string // what was found and what was expected
	Err    error  // the system's error, of Unreadable; may be nil
}

// Error implements error.
func (p *Problem) Error() string {
	where := p.File
	if p.Tensor != "" {
		where += fmt.Sprintf(", tensor %q", p.Tensor)
	}
	text := fmt.Sprintf("checkpoint %s: %s: %s", p.Path, where, p.Kind)
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	if p.Err != nil {
		text += ": " + p.Err.Error()
	}
	if p.Kind == ForeignVersion {
		text += fmt.Sprintf("; this program reads %q version %d: use the program that wrote it", manifestFormat, FormatVersion)
	}
	return text
}

// Unwrap returns the system's error.
func (p *Problem) Unwrap() error { return p.Err }

// manifest reads and checks the manifest of a step.
func (s *Store) manifest(step int64) (manifest, *Problem) {
	raw, err := vfs.ReadFile(s.fsys, filepath.Join(s.Path(step), manifestName))
	var m manifest
	var p *Problem
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p = &Problem{Kind: Missing, File: manifestName}
	case err != nil:
		p = &Problem{Kind: Unreadable, File: manifestName, Err: err}
	default:
		m, p = decodeManifest(raw)
		if p == nil && m.Meta.Step != step {
			p = &Problem{Kind: Damaged, File: manifestName, Detail: fmt.Sprintf("it is of step %d: the directory was renamed", m.Meta.Step)}
		}
	}
	if p != nil {
		p.Step, p.Path = step, s.Path(step)
	}
	return m, p
}

// Meta reads what a checkpoint says about itself, without its tensors. The error is a [*Problem].
func (s *Store) Meta(step int64) (Meta, error) {
	m, p := s.manifest(step)
	if p != nil {
		return Meta{}, p
	}
	return m.Meta, nil
}

// Load reads a checkpoint and verifies every byte of it on the way. The error is a [*Problem], or the context's.
func (s *Store) Load(ctx context.Context, step int64) (*State, error) {
	return s.LoadTensors(ctx, step, func(string) bool { return true })
}

// LoadTensors is [Store.Load], but keeps only the tensors with the wanted names: the weights, say, without the optimizer's
// state, which is twice their size. The others are verified, too.
func (s *Store) LoadTensors(ctx context.Context, step int64, want func(name string) bool) (*State, error) {
	m, p := s.manifest(step)
	if p != nil {
		return nil, p
	}
	state := &State{Meta: m.Meta, Path: s.Path(step)}
	index := map[string]int{}
	for _, t := range m.Tensors {
		if want(t.Name) {
			index[t.Name] = len(state.Tensors)
			state.Tensors = append(state.Tensors, Tensor{Name: t.Name, DType: t.DType, Shape: t.Shape})
		}
	}
	err := s.read(ctx, step, m, func(t tensorEntry) []byte {
		i, ok := index[t.Name]
		if !ok {
			return nil
		}
		data := make([]byte, t.Bytes)
		state.Tensors[i].Data = data
		return data
	})
	if err != nil {
		return nil, err
	}
	return state, nil
}

// Verify reads a checkpoint as Load does and keeps nothing.
func (s *Store) Verify(ctx context.Context, step int64) error {
	m, p := s.manifest(step)
	if p != nil {
		return p
	}
	return s.read(ctx, step, m, func(tensorEntry) []byte { return nil })
}

// LoadLatest loads the newest checkpoint that is intact. Each newer one that is not is given to
// report, newest first. The error wraps [ErrNone] if there are no checkpoints and [ErrNoneIntact] if there are, but no
// usable one.
func (s *Store) LoadLatest(ctx context.Context, report func(*Problem)) (*State, error) {
	return s.LoadUpTo(ctx, math.MaxInt64, report)
}

// LoadUpTo is [Store.LoadLatest] among the checkpoints of step last and before.
func (s *Store) LoadUpTo(ctx context.Context, last int64, report func(*Problem)) (*State, error) {
	steps, err := s.List()
	if err != nil {
		return nil, err
	}
	if steps = slices.DeleteFunc(steps, func(step int64) bool { return step > last }); len(steps) == 0 {
		return nil, fmt.Errorf("%s: %w", s.dir, ErrNone)
	}
	for _, step := range slices.Backward(steps) {
		state, err := s.Load(ctx, step)
		var p *Problem
		if !errors.As(err, &p) {
			return state, err
		}
		report(p)
	}
	return nil, fmt.Errorf("%s: %w: all %d are damaged or cannot be read", s.dir, ErrNoneIntact, len(steps))
}

// read reads all files of a checkpoint in the order of their bytes and compares every hash. keep
// returns the slice that is to receive a tensor, or nil.
func (s *Store) read(ctx context.Context, step int64, m manifest, keep func(tensorEntry) []byte) error {
	return s.readAt(ctx, s.Path(step), step, m, keep)
}

// readAt is read for a checkpoint that has not got its name yet.
func (s *Store) readAt(ctx context.Context, dir string, step int64, m manifest, keep func(tensorEntry) []byte) error {
	byFile := map[string][]tensorEntry{}
	for _, t := range m.byOffset() {
		byFile[t.File] = append(byFile[t.File], t)
	}
	scratch := make([]byte, chunkBytes)
	for _, entry := range m.Files {
		if p := s.readFile(ctx, dir, entry, byFile[entry.Name], keep, scratch); p != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			p.Step, p.Path, p.File = step, dir, entry.Name
			return p
		}
	}
	s.setVerified(step, true)
	return nil
}

// byOffset returns the tensors in the order of their bytes, those of a file being next to each other.
func (m manifest) byOffset() []tensorEntry {
	return slices.SortedStableFunc(slices.Values(m.Tensors), func(a, b tensorEntry) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Bytes, b.Bytes))
	})
}

// readFile reads one file, whose tensors come in the order of their bytes; scratch is chunkBytes long.
func (s *Store) readFile(
	ctx context.Context, dir string, entry fileEntry, tensors []tensorEntry, keep func(tensorEntry) []byte, scratch []byte,
) *Problem {
	f, err := s.fsys.Open(filepath.Join(dir, entry.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return &Problem{Kind: Missing}
	}
	if err != nil {
		return &Problem{Kind: Unreadable, Err: err}
	}
	defer f.Close() // only read from
	stat, err := f.Stat()
	if err != nil {
		return &Problem{Kind: Unreadable, Err: err}
	}
	if stat.Size() < entry.Bytes {
		p := &Problem{Kind: Truncated, Detail: fmt.Sprintf("%d bytes, %d were written", stat.Size(), entry.Bytes)}
		for _, t := range tensors {
			if t.Offset+t.Bytes > stat.Size() {
				p.Tensor = t.Name
				break
			}
		}
		return p
	}
	if stat.Size() > entry.Bytes {
		return &Problem{Kind: Damaged, Detail: fmt.Sprintf("%d bytes, only %d were written", stat.Size(), entry.Bytes)}
	}
	r := &hashedReader{ctx: ctx, f: f, hash: xxh3.New(), scratch: scratch}
	for _, t := range tensors {
		if err := r.read(t.Offset-r.at, nil, nil); err != nil { // the header
			return &Problem{Kind: Unreadable, Err: err}
		}
		hash := xxh3.New()
		if err := r.read(t.Bytes, keep(t), hash); err != nil {
			return &Problem{Kind: Unreadable, Tensor: t.Name, Err: err}
		}
		if got := sum128(hash); got != t.Hash {
			return &Problem{Kind: Damaged, Tensor: t.Name, Detail: fmt.Sprintf("its hash is %s, that of what was written %s", got, t.Hash)}
		}
	}
	if err := r.read(entry.Bytes-r.at, nil, nil); err != nil {
		return &Problem{Kind: Unreadable, Err: err}
	}
	if got := sum128(r.hash); got != entry.Hash { // all tensors are right, so it is what is around them
		return &Problem{Kind: Damaged, Detail: fmt.Sprintf("its header is not what was written (file hash %s, want %s)", got, entry.Hash)}
	}
	return nil
}

// hashedReader reads a file from start to end and hashes all of it.
type hashedReader struct {
	ctx     context.Context // lives for one call of read
	f       io.Reader
	hash    *xxh3.Hasher
	at      int64
	scratch []byte
}

// read reads n bytes into keep, or over scratch if keep is nil, and hashes them also with extra if that is not nil.
func (r *hashedReader) read(n int64, keep []byte, extra *xxh3.Hasher) error {
	for done := int64(0); done < n; {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		size := min(n-done, chunkBytes)
		chunk := r.scratch[:size]
		if keep != nil {
			chunk = keep[done : done+size]
		}
		if _, err := io.ReadFull(r.f, chunk); err != nil {
			return err
		}
		_, _ = r.hash.Write(chunk) // cannot fail
		if extra != nil {
			_, _ = extra.Write(chunk)
		}
		done += size
		r.at += size
	}
	return nil
}
