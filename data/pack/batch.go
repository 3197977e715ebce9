package pack

import (
	"context"
	"fmt"
	"slices"

	"pretrain/data"
)

// BatchEncoder is an [Encoder] of many texts at once.
type BatchEncoder interface {
	// EncodeBatch returns the tokens of each text, without special tokens around them. The slices may share memory.
	EncodeBatch(ctx context.Context, texts []string) ([][]uint32, error)
	Special(name string) (id uint32, ok bool)
	EOS() uint32
}

// Encoded is a document in tokens, the end-of-text token at its end.
type Encoded struct {
	Tokens []uint32
	Loss   []bool // of a conversation: whether `loss: assistant` trains on it; nil for text
}

// EncodeDocuments encodes documents in one batch: text as it is, a conversation as t writes it (see [Template.Encode]).
func EncodeDocuments(ctx context.Context, enc BatchEncoder, t Template, documents []*data.Document) ([]Encoded, error) {
	runs := make([][]Run, len(documents))
	var texts []string
	for i, d := range documents {
		if d.Messages == nil {
			texts = append(texts, d.Text)
			continue
		}
		pieces, err := t.Pieces(d.Messages)
		if err != nil {
			return nil, fmt.Errorf("%s: document %s: %w", d.Path, d.ID, err)
		}
		runs[i] = Runs(pieces, enc.Special)
		for _, r := range runs[i] {
			if !r.Special {
				texts = append(texts, r.Text)
			}
		}
	}
	tokens, err := enc.EncodeBatch(ctx, texts)
	if err == nil && len(tokens) != len(texts) {
		err = fmt.Errorf("the encoder gave %d results for %d texts", len(tokens), len(texts))
	}
	if err != nil {
		return nil, fmt.Errorf("tokenise %s and the documents after it: %w", documents[0].ID, err)
	}
	encoded := make([]Encoded, len(documents))
	for i, d := range documents {
		if d.Messages == nil {
			encoded[i].Tokens = append(slices.Clip(tokens[0]), enc.EOS())
			tokens = tokens[1:]
			continue
		}
		of := make([][]uint32, len(runs[i]))
		for j, r := range runs[i] {
			if !r.Special {
				of[j], tokens = tokens[0], tokens[1:]
			}
		}
		encoded[i].Tokens, encoded[i].Loss = Join(runs[i], of, d.Messages, enc.EOS())
	}
	return encoded, nil
}
