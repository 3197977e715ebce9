package eval

import (
	"context"
	"errors"
	"fmt"

	"pretrain/tokenizer"
)

// TextSet is the set of a task of texts. Bytes are those of the texts as they stand in the file, whatever the tokenizer makes
// of them.
func TextSet(ctx context.Context, tok tokenizer.Tokenizer, t Task) (Set, error) {
	texts := make([]string, len(t.Items))
	set := Set{EOS: tok.EOS(), IDs: make([]string, len(t.Items)), TextBytes: make([]int64, len(t.Items))}
	for i, item := range t.Items {
		texts[i], set.IDs[i], set.TextBytes[i] = item.Text, item.ID, int64(len(item.Text))
	}
	ids, err := tok.EncodeBatch(ctx, texts)
	if err != nil {
		return Set{}, fmt.Errorf("tokenise %s: %w", t.Name, err)
	}
	c := texted{tokens: make([][]uint32, len(ids)), offsets: make([]int64, len(ids)+1)}
	for i := range ids {
		c.tokens[i] = append(append([]uint32(nil), ids[i]...), set.EOS)
		c.offsets[i+1] = c.offsets[i] + int64(len(c.tokens[i]))
	}
	set.Corpus = c
	return set, nil
}

// texted is a corpus in memory.
type texted struct {
	tokens  [][]uint32
	offsets []int64
}

func (c texted) Docs() int            { return len(c.tokens) }
func (c texted) Offset(doc int) int64 { return c.offsets[doc] }

func (c texted) Read(dst []uint32, doc, offset int) error {
	if offset < 0 || offset+len(dst) > len(c.tokens[doc]) {
		return errors.New("read beyond the document")
	}
	copy(dst, c.tokens[doc][offset:])
	return nil
}
