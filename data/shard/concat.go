package shard

import (
	"context"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"

	"pretrain/internal/vfs"
)

// Concat writes the documents of shards, one shard after the other, as a new one at prefix. They must have one tokenizer and
// manifests. Its Source is made of theirs.
func Concat(ctx context.Context, fsys vfs.FS, from []string, prefix string) (m Manifest, err error) {
	if len(from) == 0 {
		return m, fmt.Errorf("concatenate shards into %s: there are none", prefix)
	}
	var w *Writer
	sources := xxh3.New()
	var o Options
	for i, name := range from {
		r, err := Open(fsys, name)
		if err != nil {
			return m, err
		}
		part, ok := r.Manifest()
		if err := r.Close(); err != nil { // there may be more shards than one may have files open
			return m, err
		}
		switch {
		case !ok:
			return m, fmt.Errorf("concatenate shards: %s has no manifest", name)
		case i == 0:
			o = Options{VocabSize: part.VocabSize, Tokenizer: part.Tokenizer, Template: part.Template}
		case part.VocabSize != o.VocabSize || part.Tokenizer != o.Tokenizer || part.Template != o.Template:
			return m, fmt.Errorf("concatenate shards: %s and %s have different tokenizers or templates", from[0], name)
		}
		fmt.Fprintln(sources, part.Source)
	}
	o.Source = hexSum(sources)
	if w, err = Create(fsys, prefix, o); err != nil {
		return m, err
	}
	defer w.Abort()
	for _, name := range from {
		if err := w.copy(ctx, name); err != nil {
			return m, err
		}
	}
	return w.Commit()
}

// copy adds the documents of another shard.
func (w *Writer) copy(ctx context.Context, name string) (err error) {
	r, err := Open(w.fsys, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var tokens []uint32
	var mask []bool
	for i := range r.Documents() {
		if err := ctx.Err(); err != nil {
			return err
		}
		start, length, err := r.Span(i)
		if err != nil {
			return err
		}
		doc, err := r.Doc(i)
		if err != nil {
			return err
		}
		if int64(cap(tokens)) < length {
			tokens, mask = make([]uint32, length), make([]bool, length)
		}
		tokens = tokens[:length]
		if err := r.Read(tokens, start); err != nil {
			return err
		}
		var loss []bool
		if r.HasMask() {
			loss = mask[:length]
			if err := r.ReadMask(loss, start); err != nil {
				return err
			}
		}
		if err := w.Add(doc, tokens, loss); err != nil {
			return err
		}
	}
	return nil
}
