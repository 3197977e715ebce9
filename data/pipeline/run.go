package pipeline

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"pretrain/data/exec"
	"pretrain/data/lang"
	"pretrain/data/lm"
	"pretrain/data/prepare"
	"pretrain/data/read"
	"pretrain/data/sensitive"
)

// version is part of every step's key: it changes whenever the same input would give other output.
const version = 2

// Options are what [Run] needs beside the configuration.
type Options struct {
	// Tokenizer makes or loads the tokenizer that the configuration names.
	Tokenizer prepare.Tokenizer
	// Workers, Rank and Ranks are as in [exec.Runner].
	Workers, Rank, Ranks int
	// CacheDir is where data sets of a hub are kept.
	CacheDir string
	// Progress is told of each finished task; one call at a time. May be nil.
	Progress func(exec.Progress)
	// Waiting is called when another process has this rank's lock. May be nil.
	Waiting func()
}

// Run prepares the sources and returns the account of it. What an earlier run has done, under the same settings and from the
// same files, is not done again; a run that was killed goes on.
func Run(ctx context.Context, c Config, o Options) (*Report, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Waiting == nil {
		o.Waiting = func() {}
	}
	p := &preparation{Config: c, opt: o, runner: exec.Runner{
		Dir: c.Output, Workers: o.Workers, Rank: o.Rank, Ranks: o.Ranks, Progress: o.Progress,
	}}
	p.detector = lang.NewDetector(c.Language)
	var err error
	if p.sensitive, err = sensitive.Load(ctx, c.Sensitive); err != nil {
		return nil, err
	}
	unlock, err := p.runner.Lock(ctx, o.Waiting)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := p.list(ctx); err != nil {
		return nil, err
	}
	return p.run(ctx)
}

// preparation is a run of the pipeline.
type preparation struct {
	Config
	opt    Options
	runner exec.Runner
	inputs []input // all files of all sources, sources by name, files by path
	judges *judges
	model  *lm.Model // of the reference set; nil where there is none

	detector  *lang.Detector
	sensitive *sensitive.Filter
}

// input is what one task works on: a large file, or some small ones that follow each other.
type input struct {
	source string
	files  *read.Source
	first  int // of files
	hashes []string
}

const (
	// loneBytes is the size from which a file is an input of its own.
	loneBytes = 4 << 20
	// groupOf is how many smaller files make an input, on average. Where one begins is decided by the path alone, so that a new
	// file changes its own group only.
	groupOf = 64
)

// task is the name of the tasks about this input: readable, and the same whatever other files there are.
func (in input) task() string {
	path := in.files.File(in.first).Path
	base := []byte(filepath.Base(path))
	for i, c := range base {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-') {
			base[i] = '_'
		}
	}
	return fmt.Sprintf("%s-%.40s-%08x", in.source, base, uint32(xxh3.HashString(path)))
}

// size is that of the files on disk.
func (in input) size() (n int64) {
	for i := range in.hashes {
		n += in.files.File(in.first + i).Size
	}
	return n
}

// inputs are the files with their hashes.
func (in input) inputs() []exec.Input {
	list := make([]exec.Input, len(in.hashes))
	for i, h := range in.hashes {
		list[i] = exec.Input{Name: in.files.File(in.first + i).Path, Hash: h}
	}
	return list
}

// list finds the raw files and hashes them.
func (p *preparation) list(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(p.Sources)) {
		spec := p.spec(name)
		spec.CacheDir = p.opt.CacheDir
		files, err := read.Open(ctx, spec)
		if err != nil {
			return fmt.Errorf("sources.%s: %w", name, err)
		}
		alone := true // the last input takes no further file
		for i := range files.Files() {
			f := files.File(i)
			large := f.Size >= loneBytes
			if alone || large || xxh3.HashString(f.Path)%groupOf == 0 {
				p.inputs = append(p.inputs, input{source: name, files: files, first: i})
			}
			alone = large
			last := &p.inputs[len(p.inputs)-1]
			last.hashes = append(last.hashes, "")
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(p.opt.Workers)
	for _, in := range p.inputs {
		for i := range in.hashes {
			group.Go(func() (err error) {
				in.hashes[i], err = in.files.HashFile(ctx, in.first+i)
				return err
			})
		}
	}
	return group.Wait()
}

// run goes through the steps.
func (p *preparation) run(ctx context.Context) (*Report, error) {
	var err error
	if p.judges, err = p.loadJudges(ctx); err != nil {
		return nil, err
	}
	reference, err := p.reference(ctx)
	if err != nil {
		return nil, err
	}
	if reference != nil {
		if p.model, err = lm.Load(filepath.Join(reference.Dir, modelName)); err != nil {
			return nil, err
		}
	}
	cleaned, err := p.clean(ctx)
	if err != nil {
		return nil, err
	}
	labelled, err := p.label(ctx, cleaned)
	if err != nil {
		return nil, err
	}
	var c corpus
	if c.verdicts, err = p.dedup(ctx, labelled); err != nil {
		return nil, err
	}
	if c.cuts, err = p.cuts(ctx, cleaned); err != nil {
		return nil, err
	}
	finished, err := p.finish(ctx, labelled, c)
	if err != nil {
		return nil, err
	}
	if err := p.empty(cleaned, finished); err != nil {
		return nil, err
	}
	tok, err := p.tokenizer(ctx, finished)
	if err != nil {
		return nil, err
	}
	tokens, err := p.tokenise(ctx, finished, tok)
	if err != nil {
		return nil, err
	}
	shards, err := p.merge(ctx, tokens, tok)
	if err != nil {
		return nil, err
	}
	report, err := p.report(ctx, c.verdicts, cleaned, finished, shards)
	if err != nil {
		return nil, err
	}
	if p.opt.Rank > 0 { // one of the ranks leaves it
		return report, nil
	}
	return report, report.sections(p.Output)
}

// guard turns a panic of f into an error: a document must not end the program, whatever a library makes of it.
func guard(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	f()
	return nil
}

// each runs f for every source, with the indices of its inputs; one call at a time, in the order of names.
func (p *preparation) each(f func(source string, inputs []int) error) error {
	for first := 0; first < len(p.inputs); {
		last := first
		var inputs []int
		for ; last < len(p.inputs) && p.inputs[last].source == p.inputs[first].source; last++ {
			inputs = append(inputs, last)
		}
		if err := f(p.inputs[first].source, inputs); err != nil {
			return err
		}
		first = last
	}
	return nil
}

// once loads something that several tasks share, when the first one needs it.
type once[T any] struct {
	sync.Once
	value T
	err   error
}

func (o *once[T]) get(load func() (T, error)) (T, error) {
	o.Do(func() { o.value, o.err = load() })
	return o.value, o.err
}
