package tokenizer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// letters encodes a byte as a token: it stands in for a trained tokenizer.
type letters struct{ *Vocab }

func (letters) Encode(text string) ([]uint32, error) { return make([]uint32, len(text)), nil }

func (l letters) EncodeBatch(ctx context.Context, texts []string) ([][]uint32, error) {
	var encoded [][]uint32
	for _, text := range texts {
		ids, _ := l.Encode(text)
		encoded = append(encoded, ids)
	}
	return encoded, ctx.Err()
}

func TestMeasure(t *testing.T) {
	used := make([]bool, 2)
	got, err := Measure(t.Context(), letters{}, "zh", slices.Values([]string{"中文", "", "ab"}), used)
	if err != nil {
		t.Fatal(err)
	}
	want := Stats{Source: "zh", Documents: 3, Bytes: 8, Runes: 4, Words: 2, Tokens: 8}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.BytesPerToken() != 1 || got.TokensPerRune() != 2 || got.TokensPerWord() != 4 {
		t.Errorf("bytes/token %g, tokens/rune %g, tokens/word %g", got.BytesPerToken(), got.TokensPerRune(), got.TokensPerWord())
	}
	if !slices.Equal(used, []bool{true, false}) { // letters has only token 0
		t.Errorf("used %v", used)
	}
	if none := (Stats{}); none.BytesPerToken() != 0 || none.TokensPerRune() != 0 || none.TokensPerWord() != 0 {
		t.Error("no text has a rate")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Measure(ctx, letters{}, "zh", slices.Values([]string{"a"}), nil); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "zh") {
		t.Errorf("cancelled: %v", err)
	}
}

func TestBatches(t *testing.T) {
	texts := []string{"aa", "b", "", "cccc", "d"}
	for size, want := range map[int][][]string{
		1:  {{"aa"}, {"b"}, {"", "cccc"}, {"d"}},
		3:  {{"aa", "b"}, {"", "cccc"}, {"d"}},
		99: {texts},
	} {
		if diff := cmp.Diff(want, slices.Collect(Batches(slices.Values(texts), size))); diff != "" {
			t.Errorf("size %d: %s", size, diff)
		}
	}
	for first := range Batches(slices.Values(texts), 1) {
		if len(first) != 1 {
			t.Errorf("first batch %q", first)
		}
		break // the iterator must take no for an answer
	}
}
