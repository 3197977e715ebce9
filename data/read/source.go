package read

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"gocloud.dev/blob"

	"pretrain/data"
	"pretrain/data/hub"
)

// Source is a listed set of files. Opening reads no content; see [Source.Documents].
type Source struct {
	spec  Spec
	files []file
	bytes int64
}

// file is one file of a source.
type file struct {
	path   string // as it can be opened
	rel    string // relative to the source's folder, forward slashes: the document's Path, and the sort key
	size   int64
	format format
	bucket *blob.Bucket // that holds it; nil: the file system
	sum    []byte       // MD5 of an object, where its store says it
}

// ErrNoFiles is in the chain of [Open]'s error when a folder holds nothing that can be read.
var ErrNoFiles = errors.New("no files to read")

// Open lists the files of a source in the order they will be read. Errors name the path: a bad Spec, a path that does not
// exist or may not be read, a folder without known files ([ErrNoFiles], with the extensions seen).
func Open(ctx context.Context, spec Spec) (*Source, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if spec.Path == GoStd {
		return openGoStd(ctx, spec)
	}
	if strings.HasPrefix(spec.Path, hub.Scheme) {
		return openHub(ctx, spec)
	}
	if isBucket(spec.Path) {
		return openURL(ctx, spec)
	}
	// WalkDir does not follow a link at its root, and a data folder often is one.
	root, err := filepath.EvalSymlinks(spec.Path)
	if err != nil {
		return nil, fmt.Errorf("open source %s: %w", spec.Path, err)
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("open source %s: %w", spec.Path, err)
	}
	if !info.IsDir() {
		f := file{path: spec.Path, rel: filepath.Base(spec.Path), size: info.Size(), format: formatOf(spec.Path)}
		if f.format == unknown {
			f.format = text // named by the user, so not left out; it fails as text if it is not
		}
		return &Source{spec: spec, files: []file{f}, bytes: f.size}, nil
	}
	s := newListing(spec)
	err = walk(ctx, root, func(path, rel string, size int64) { s.consider(file{path: path, rel: rel, size: size}) }, nil)
	if err != nil {
		return nil, fmt.Errorf("open source %s: %w", spec.Path, err)
	}
	return s.source()
}

// openHub fetches a data set and opens its folder.
func openHub(ctx context.Context, spec Spec) (*Source, error) {
	d, err := hub.Parse(spec.Path)
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	if spec.CacheDir == "" {
		return nil, fmt.Errorf("open source %s: there is no folder to keep it in", spec.Path)
	}
	matched := map[string]bool{}
	spec.Path, err = hub.Client{}.Fetch(ctx, d, spec.CacheDir, func(path string) bool {
		rel := strings.TrimPrefix(strings.TrimPrefix(path, d.Folder), "/")
		return spec.names(rel, matched) || len(spec.Files) == 0 && formatOf(rel) != unknown
	}, nil)
	if err != nil {
		return nil, err
	}
	return Open(ctx, spec)
}

// listing chooses the files of a source.
type listing struct {
	*Source
	seen    map[string]int  // extensions
	matched map[string]bool // patterns of Spec.Files
}

func newListing(spec Spec) listing {
	return listing{&Source{spec: spec}, map[string]int{}, map[string]bool{}}
}

// consider takes a file, if it is one to be read.
func (l listing) consider(f file) {
	l.seen[extension(f.rel)]++
	f.format = formatOf(f.rel)
	if l.spec.names(f.rel, l.matched) {
		f.format = max(f.format, text)
		l.add(f)
	} else if len(l.spec.Files) == 0 && f.format != unknown {
		l.add(f)
	}
}

// source is what was taken, sorted.
func (l listing) source() (*Source, error) {
	for _, pattern := range l.spec.Files {
		if !l.matched[pattern] {
			return nil, fmt.Errorf("open source %s: %w: nothing matches files: %s", l.spec.Path, ErrNoFiles, pattern)
		}
	}
	if len(l.files) == 0 {
		return nil, fmt.Errorf("open source %s: %w: the folder has %s; name others with files: [\"*.ext\"]", l.spec.Path, ErrNoFiles, describe(l.seen))
	}
	l.sort()
	return l.Source, nil
}

func (s *Source) add(f file) {
	s.files = append(s.files, f)
	s.bytes += f.size
}

func (s *Source) sort() {
	slices.SortFunc(s.files, func(a, b file) int { return strings.Compare(a.rel, b.rel) })
}

// Files is the number of files.
func (s *Source) Files() int { return len(s.files) }

// File is what a source knows of one of its files.
type File struct {
	Path string // relative to the source's folder, forward slashes
	Size int64  // on disk
}

// File describes the i-th file, in the order of reading.
func (s *Source) File(i int) File { return File{s.files[i].rel, s.files[i].size} }

// Bytes is the size of all files on disk, compressed where they are.
func (s *Source) Bytes() int64 { return s.bytes }

// walk visits the regular files below root, hidden ones left out. Links to files are followed (a Hugging Face snapshot
// is made of them). Links to folders are not, because they can form a cycle: one within root leads to files that are read
// anyway, and one out of it is an error, as what is behind it would be missing in silence. skip leaves out a folder, nil none.
func walk(ctx context.Context, root string, visit func(path, rel string, size int64), skip func(rel string) bool) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if path == root {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") || skip != nil && skip(rel) {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasPrefix(d.Name(), ".") {
			return nil
		}
		info, err := os.Stat(path)
		switch link := d.Type()&fs.ModeSymlink != 0; {
		case link && errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%s is a link to nothing: mend it, or remove it", path)
		case err != nil:
			return err
		case info.Mode().IsRegular():
			visit(path, rel, info.Size())
		case link && info.IsDir():
			target, inside, err := within(root, path)
			if err != nil {
				return err
			}
			if !inside {
				return fmt.Errorf("%s is a link to the folder %s, which is not followed: name that as a source of its own, or remove the link", path, target)
			}
		}
		return nil
	})
}

// within reports where a link leads and whether that is below root, however the two are named.
func within(root, link string) (target string, inside bool, err error) {
	if root, err = resolve(root); err != nil {
		return "", false, err
	}
	if target, err = resolve(link); err != nil {
		return "", false, err
	}
	rel, err := filepath.Rel(root, target)
	return target, err == nil && filepath.IsLocal(rel), nil
}

// resolve is a path from the root of the file system, without links.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// describe lists extensions with their counts, the most frequent first: "12 .csv, 3 .pdf".
func describe(seen map[string]int) string {
	if len(seen) == 0 {
		return "no files at all (hidden ones do not count)"
	}
	exts := slices.SortedFunc(maps.Keys(seen), func(a, b string) int {
		return cmp.Or(cmp.Compare(seen[b], seen[a]), cmp.Compare(a, b))
	})
	var parts []string
	for i, e := range exts {
		if i == 10 {
			parts = append(parts, fmt.Sprintf("%d other kinds", len(exts)-10))
			break
		}
		name := e
		if e == "" {
			name = "without extension"
		}
		parts = append(parts, fmt.Sprintf("%d %s", seen[e], name))
	}
	return "only " + strings.Join(parts, ", ")
}

// Documents reads every document, in the same order each time. The first error ends the iteration; under on_bad: fail
// that includes the first bad document, as a [*data.Drop]. r, if not nil, is filled while reading; it is not safe to read
// it from another goroutine meanwhile.
func (s *Source) Documents(ctx context.Context, r *Report) iter.Seq2[data.Document, error] {
	return s.documents(ctx, s.files, r)
}

// FileDocuments is [Source.Documents] of the i-th file only.
func (s *Source) FileDocuments(ctx context.Context, i int, r *Report) iter.Seq2[data.Document, error] {
	return s.documents(ctx, s.files[i:i+1], r)
}

func (s *Source) documents(ctx context.Context, files []file, r *Report) iter.Seq2[data.Document, error] {
	return func(yield func(data.Document, error) bool) {
		if r == nil {
			r = new(Report)
		}
		p := &pass{ctx: ctx, spec: s.spec, source: s.spec.name(), yield: yield, report: r}
		var done int64 // on-disk bytes of the files before this one
		for _, f := range files {
			p.raw.Store(done)
			if err := p.read(f); errors.Is(err, errStop) {
				return
			} else if err != nil {
				yield(data.Document{}, err)
				return
			}
			done += f.size
			r.Files++
			r.RawBytes = done
		}
	}
}

// errStop ends a pass whose consumer has left its loop. It never reaches a caller.
var errStop = errors.New("stopped")

// pass is one reading of a source.
type pass struct {
	ctx    context.Context
	spec   Spec
	source string
	yield  func(data.Document, error) bool
	report *Report
	raw    atomic.Int64 // on-disk bytes read; a decompressor's goroutine may add to it
}

func (p *pass) read(f file) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	switch f.format {
	case jsonl:
		return p.readJSONL(f)
	case parquetFile:
		return p.readParquet(f)
	case goSource:
		return p.readText(f, true)
	default:
		return p.readText(f, false)
	}
}

// emit passes a document on, after the checks that every format shares.
func (p *pass) emit(f file, d data.Document) error {
	if p.spec.Chat {
		d.Text = ""
		if err := conversation(d.Messages); err != nil {
			return p.drop(data.Drop{Reason: data.NoTalk, Path: f.path, Line: d.Line, Detail: err.Error()})
		}
	}
	drop, bad := check(&d, p.spec.MaxDocument)
	if bad {
		drop.Path, drop.Line = f.path, d.Line
		if drop.Reason == data.Empty {
			return p.leaveOut(drop)
		}
		return p.drop(drop)
	}
	d.Source, d.Path = p.source, f.rel
	if d.ID == "" {
		d.ID = f.rel
		if d.Line > 0 {
			d.ID = fmt.Sprintf("%s:%d", f.rel, d.Line)
		}
	}
	p.report.Documents++
	p.report.Bytes += d.Bytes()
	p.report.RawBytes = p.raw.Load()
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if !p.yield(d, nil) {
		return errStop
	}
	return nil
}

// conversation reports what keeps messages from being one.
func conversation(messages []data.Message) error {
	if len(messages) == 0 {
		return errors.New("no messages: a conversation wants at least one {role, content}")
	}
	for i, m := range messages {
		if err := m.Check(); err != nil {
			return fmt.Errorf("message %d: %w", i+1, err)
		}
	}
	return nil
}

// drop deals with a bad document as the policy says: counted, or an error.
func (p *pass) drop(d data.Drop) error {
	if p.spec.OnBad == Fail {
		return fmt.Errorf("%w; mend it, or set on_bad: skip", &d)
	}
	return p.leaveOut(d)
}

// leaveOut counts a document that is left out under any policy, because nothing is wrong with the data.
func (p *pass) leaveOut(d data.Drop) error {
	p.report.drop(d)
	return nil
}
