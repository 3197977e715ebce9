package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"

	"pretrain/configs"
	"pretrain/data/prepare"
	"pretrain/data/read"
	"pretrain/data/shard"
	"pretrain/internal/vfs"
	"pretrain/tokenizer"
	"pretrain/tokenizer/hf"
	"pretrain/train/metrics"

	"github.com/zeebo/xxh3"
)

// tokenizerFor is the tokenizer of a run: the file it names, or one to be trained. Where there are several raw sources it
// is trained here, on all of them.
func tokenizerFor(ctx context.Context, r *configs.Resolved, cache string, console *metrics.Console) (prepare.Tokenizer, error) {
	c := r.Run.Tokenizer
	if c.Path != "" {
		json, err := os.ReadFile(c.Path)
		if err != nil {
			return nil, fmt.Errorf("tokenizer.path: %w", err)
		}
		return givenTokenizer{c, json}, nil
	}
	_, raw, err := rawSources(ctx, r)
	if err != nil {
		return nil, err
	}
	if len(raw) < 2 {
		return trainedTokenizer{c}, nil
	}
	json, err := jointTokenizer(ctx, c, raw, cache, console)
	if err != nil {
		return nil, fmt.Errorf("train a tokenizer on %d sources: %w", len(raw), err)
	}
	return givenTokenizer{c, json}, nil
}

// jointTokenizer trains one tokenizer on an equal number of bytes of each source, or finds it in the cache.
func jointTokenizer(ctx context.Context, c tokenizer.Config, sources []*read.Source, cache string, console *metrics.Console) ([]byte, error) {
	hash := xxh3.New()
	fmt.Fprintf(hash, "%+v", c)
	for _, s := range sources {
		fingerprint, err := s.Fingerprint(ctx, nil)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(hash, " %s", fingerprint)
	}
	path := filepath.Join(cache, "tokenizer", fmt.Sprintf("%016x.json", hash.Sum64()))
	if json, err := os.ReadFile(path); err == nil {
		return json, nil
	}
	each := int(c.MaxTrainBytes) / len(sources)
	var failed error
	documents := func(yield func(string) bool) {
		for _, s := range sources {
			taken := 0
			for d, err := range s.Documents(ctx, nil) {
				if err != nil {
					failed = err
					return
				}
				// The documents held out are those of the lowest hashes: the upper half has none of them.
				text := d.Plain()
				if xxh3.HashString(text) < 1<<63 {
					continue
				}
				if taken += len(text); !yield(text) {
					return
				}
				if taken >= each {
					break
				}
			}
		}
	}
	bar := console.Progress("train tokenizer", int64(each*len(sources)), metrics.Bytes)
	defer bar.Close()
	shown := int64(0)
	json, err := hf.Train(ctx, c, documents, func(done int64) { bar.Add(done - shown); shown = done })
	if err := errors.Join(failed, err); err != nil {
		return nil, err
	}
	if err := vfs.MkdirAllSync(vfs.OS, filepath.Dir(path)); err != nil {
		return nil, ofCache(err, cache)
	}
	return json, ofCache(writeFile(path, json), cache)
}

// trainedTokenizer trains a tokenizer on the documents it is given.
type trainedTokenizer struct{ tokenizer.Config }

func (t trainedTokenizer) Key() string { return fmt.Sprintf("train %+v", t.Config) }

func (t trainedTokenizer) Build(ctx context.Context, documents iter.Seq[string], progress func(int64)) ([]byte, error) {
	return hf.Train(ctx, t.Config, documents, progress)
}

func (t trainedTokenizer) Open(json []byte) (prepare.Encoder, error) {
	return hf.New(json, t.BOS, t.EOS)
}

// givenTokenizer is a tokenizer.json.
type givenTokenizer struct {
	tokenizer.Config
	json []byte
}

func (t givenTokenizer) Key() string { return "file " + shard.HashTokenizer(t.json) }

func (t givenTokenizer) Build(context.Context, iter.Seq[string], func(int64)) ([]byte, error) {
	return t.json, nil
}

func (t givenTokenizer) Open(json []byte) (prepare.Encoder, error) { return hf.New(json, t.BOS, t.EOS) }
