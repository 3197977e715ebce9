package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pretrain/configs"
	"pretrain/data/mix"
	"pretrain/data/pack"
	"pretrain/data/prepare"
	"pretrain/data/read"
	"pretrain/data/shard"
	"pretrain/internal/problem"
	"pretrain/internal/vfs"
	"pretrain/model"
	"pretrain/tokenizer/hf"
	"pretrain/train/eval"
	"pretrain/train/feed"
	"pretrain/train/metrics"
)

// corpus is the prepared data of a run: token shards for training and validation, and the tokenizer that made them.
type corpus struct {
	tokenizer     *hf.Tokenizer
	tokenizerJSON []byte
	sources       map[string]*source
}

// source is one prepared source.
type source struct {
	train, validation *shard.Corpus // validation is nil where a prepared source has none
	heldOut           string        // the validation text itself; "" where there is none
	assistant         bool          // loss: assistant
	where             string        // for the user
	cached            bool
}

// cacheDir is where prepared data is kept: PRETRAIN_CACHE, or a folder of the user's cache.
func cacheDir() (string, error) {
	if dir := os.Getenv("PRETRAIN_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache folder (set PRETRAIN_CACHE to one): %w", err)
	}
	return filepath.Join(dir, "pretrain"), nil
}

// ofCache adds to an error of a file in the cache what can be done about it: another cache.
func ofCache(err error, cache string) error {
	var file *fs.PathError
	if errors.As(err, &file) && strings.HasPrefix(file.Path, cache) {
		return fmt.Errorf("%w: set PRETRAIN_CACHE to a folder that can be written and has room", err)
	}
	return err
}

// openCorpus prepares what is raw, finds what is prepared, and opens it all. Close it.
func openCorpus(ctx context.Context, r *configs.Resolved, console *metrics.Console) (*corpus, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	c := &corpus{sources: map[string]*source{}}
	tok, err := tokenizerFor(ctx, r, cache, console)
	if err != nil {
		return nil, err
	}
	configured := sources(r)
	for _, name := range slices.Sorted(maps.Keys(configured)) {
		s, json, err := openSource(ctx, r, name, configured[name], cache, tok, console)
		if err != nil {
			c.Close()
			return nil, err
		}
		s.assistant = configured[name].Loss == mix.LossAssistant
		c.sources[name] = s
		if c.tokenizerJSON == nil {
			c.tokenizerJSON = json
		}
		if hash := shard.HashTokenizer(c.tokenizerJSON); s.train.CheckTokenizer(hash) != nil {
			err := s.train.CheckTokenizer(hash)
			c.Close()
			return nil, fmt.Errorf("source %s: %w", name, err)
		}
	}
	c.tokenizer, err = hf.New(c.tokenizerJSON, r.Run.Tokenizer.BOS, r.Run.Tokenizer.EOS)
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close lets go of the shards.
func (c *corpus) Close() {
	for _, s := range c.sources {
		for _, part := range []*shard.Corpus{s.train, s.validation} {
			if part != nil {
				_ = part.Close() // read only
			}
		}
	}
}

// openSource opens one source; it also returns the tokenizer.json it was made with.
func openSource(ctx context.Context, r *configs.Resolved, name string, m mix.Source, cache string, tok prepare.Tokenizer, console *metrics.Console) (*source, []byte, error) {
	if isPrepared(m.Path) {
		s, json, err := openPrepared(m.Path)
		if err == nil {
			err = r.Locate("data", s.checkFormat(name, m, r.Run.Data.Template))
		}
		return s, json, err
	}
	bars := stageBars{console: console}
	v := r.Run.Data.Validation
	p, err := prepare.Run(ctx, prepare.Options{
		Source:    sourceSpec(r, name, m),
		Config:    prepare.Config{ValidationFraction: v.Fraction, ValidationMax: v.MaxBytes, TokenizerSample: r.Run.Tokenizer.MaxTrainBytes},
		CacheDir:  cache,
		Tokenizer: tok,
		Template:  r.Run.Data.Template,
		Progress: func(p prepare.Progress) {
			bars.show(fmt.Sprintf("%s: %s", name, p.Stage), p.Done, p.Total, metrics.Bytes)
		},
	})
	bars.close()
	if err != nil {
		return nil, nil, fmt.Errorf("prepare source %s: %w", name, ofCache(r.Locate("data", err), cache))
	}
	s, json, err := openPrepared(p.Dir)
	if err != nil {
		return nil, nil, err
	}
	s.cached = p.Cached
	return s, json, nil
}

// isPrepared reports whether a path is a folder that prepare wrote.
func isPrepared(path string) bool {
	_, err := os.Stat(filepath.Join(path, prepare.TrainName+".idx"))
	return err == nil
}

// sourceSpec says how a raw source is read.
func sourceSpec(r *configs.Resolved, name string, m mix.Source) read.Spec {
	spec := read.Default(m.Path)
	spec.Name, spec.TextField, spec.IDField, spec.OnBad = name, m.Fields.Text, m.Fields.ID, r.Run.Data.OnBad
	spec.Files = m.Files
	spec.Chat, spec.MessagesField = m.Format == mix.FormatChat, m.Fields.Messages
	return spec
}

// checkFormat reports prepared shards that are not what the configuration says of them.
func (s *source) checkFormat(name string, m mix.Source, template pack.Template) error {
	var p problem.List
	manifest, _ := s.train.Manifest()
	key := "sources." + name + "."
	p.Check(m.Loss != mix.LossAssistant || s.train.HasMask(), key+"loss", m.Loss,
		"all: %s holds text and not conversations, or prepare it from raw conversations", m.Path)
	p.Check(m.Format != mix.FormatChat || manifest.Template == "" || manifest.Template == string(template), key+"format", m.Format,
		"data.template: %s, which its conversations were written with; this run has %s", manifest.Template, template)
	return p.Err()
}

// openPrepared opens a folder that prepare wrote.
func openPrepared(dir string) (*source, []byte, error) {
	s := &source{where: dir}
	json, err := os.ReadFile(filepath.Join(dir, prepare.TokenizerName))
	if err != nil {
		return nil, nil, fmt.Errorf("a folder of shards needs the tokenizer that made them: %w", err)
	}
	if s.train, err = openShard(filepath.Join(dir, prepare.TrainName)); err != nil {
		return nil, nil, err
	}
	s.validation, err = openShard(filepath.Join(dir, prepare.ValidationName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, shard.ErrNotCommitted) {
		return nil, nil, err
	}
	if text := filepath.Join(dir, prepare.HeldOutName); s.validation != nil {
		if _, err := os.Stat(text); err == nil {
			s.heldOut = text
		}
	}
	return s, json, nil
}

func openShard(prefix string) (*shard.Corpus, error) {
	r, err := shard.Open(vfs.OS, prefix)
	if err != nil {
		return nil, err
	}
	c, err := r.Corpus()
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	return c, nil
}

// plan lays out the order of the data over the run, and over its past, if it has one.
func (c *corpus) plan(r *configs.Resolved) (plan, past *mix.Plan, err error) {
	if r.Past != nil {
		if past, _, err = c.plan(r.Past.Run); err != nil {
			return nil, nil, err
		}
	}
	available := map[string]mix.Available{}
	for name, s := range c.sources {
		m, _ := s.train.Manifest()
		available[name] = mix.Available{Index: s.train, Hash: m.Tokenizer + m.Source + m.Files[".bin"].XXH3}
	}
	run := r.MixRun()
	if past != nil {
		plan, err = past.Continue(r.Past.Step, r.Run.Data.Mix(), run, available)
	} else {
		plan, err = mix.Expand(r.Run.Data.Mix(), run, available)
	}
	if err != nil {
		return nil, nil, r.Locate("data", err)
	}
	return plan, past, nil
}

// sources are the sources of a run and of its past; of one that both have the run's, which may have moved.
func sources(r *configs.Resolved) map[string]mix.Source {
	all := map[string]mix.Source{}
	if r.Past != nil {
		all = sources(r.Past.Run)
	}
	maps.Copy(all, r.Run.Data.Mix().Sources)
	return all
}

// assembler makes the batches of a plan.
func (c *corpus) assembler(r *configs.Resolved, plan *mix.Plan) feed.Assembler {
	a := feed.Assembler{Plan: plan, Micro: int(r.Derived.MicroBatch)}
	for _, name := range plan.Sources() {
		s := c.sources[name]
		o := pack.Options{Pad: c.tokenizer.EOS(), MaskBoundary: r.Run.Data.MaskBoundary}
		if s.assistant {
			o.Mask = s.train
		}
		a.Sources = append(a.Sources, feed.Source{Corpus: s.train, Options: o})
	}
	return a
}

// validation is the held-out text of each source that has some.
func (c *corpus) validation(m model.Config) map[string]eval.Set {
	bytes := tokenBytes(c.tokenizer, m.VocabSize)
	sets := map[string]eval.Set{}
	for name, s := range c.sources {
		if s.validation != nil && s.validation.Docs() > 0 {
			set := eval.Set{Corpus: s.validation, EOS: c.tokenizer.EOS(), TokenBytes: bytes}
			if s.assistant {
				set.Mask = s.validation
			}
			sets[name] = set
		}
	}
	return sets
}

// tokenBytes is the length in bytes of each token's text; 0 for special tokens and for rows of the vocabulary without a token.
func tokenBytes(t *hf.Tokenizer, vocabSize int) []int32 {
	bytes := make([]int32, vocabSize)
	for id := range t.VocabSize() {
		if !t.IsSpecial(uint32(id)) {
			bytes[id] = int32(len(t.Bytes(uint32(id))))
		}
	}
	return bytes
}
