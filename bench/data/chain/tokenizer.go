package main

import (
	"context"
	"fmt"
	"iter"

	"pretrain/data/prepare"
	"pretrain/tokenizer"
	"pretrain/tokenizer/hf"
)

// trained trains a tokenizer on the sample.
type trained struct{ tokenizer.Config }

func (t trained) Key() string { return fmt.Sprintf("%+v", t.Config) }

func (t trained) Build(ctx context.Context, documents iter.Seq[string], progress func(int64)) ([]byte, error) {
	return hf.Train(ctx, t.Config, documents, progress)
}

func (t trained) Open(json []byte) (prepare.Encoder, error) { return hf.New(json, t.BOS, t.EOS) }
