//go:build !cgo || nohf

package hf

import (
	"context"
	"iter"

	"pretrain/tokenizer"
)

// Tokenizer encodes text, in a program built with the library. Here there is no way to get one.
type Tokenizer struct{ *tokenizer.Vocab }

// New returns ErrMissing.
func New(json []byte, bos, eos string) (*Tokenizer, error) { return nil, ErrMissing }

// Encode returns ErrMissing.
func (t *Tokenizer) Encode(text string) ([]uint32, error) { return nil, ErrMissing }

// EncodeBatch returns ErrMissing.
func (t *Tokenizer) EncodeBatch(ctx context.Context, texts []string) ([][]uint32, error) {
	return nil, ErrMissing
}

// Train returns ErrMissing.
func Train(ctx context.Context, cfg tokenizer.Config, docs iter.Seq[string], progress func(done int64)) ([]byte, error) {
	return nil, ErrMissing
}
