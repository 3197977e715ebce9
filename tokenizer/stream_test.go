package tokenizer

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// byteTokensOf spells text with the single-byte tokens of v: every border inside a character is a token border.
func byteTokensOf(v *Vocab, text string) []uint32 {
	byByte := map[string]uint32{}
	for id := range uint32(v.VocabSize()) {
		if piece := v.Bytes(id); len(piece) == 1 {
			byByte[piece] = id
		}
	}
	ids := make([]uint32, len(text))
	for i := range len(text) {
		ids[i] = byByte[text[i:i+1]]
	}
	return ids
}

func TestStreamNeverCutsACharacter(t *testing.T) {
	v := byteLevelVocab(t)
	const text = "héllo 中文🙂\x00 e\u0301 \U0010FFFF"
	s := v.Stream()
	var got strings.Builder
	for _, id := range byteTokensOf(v, text) {
		part := s.Next(id)
		if !utf8.ValidString(part) {
			t.Errorf("Next returned %q", part)
		}
		got.WriteString(part)
	}
	if rest := s.Flush(); rest != "" || got.String() != text {
		t.Errorf("streamed %q and left %q, want %q", got.String(), rest, text)
	}
}

func TestStreamIsDecode(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	sp, _ := sentencePieceVocab(t)
	for _, v := range []*Vocab{byteLevelVocab(t), sp} {
		for range 500 {
			ids := make([]uint32, rng.IntN(40))
			for i := range ids {
				// Half of them single bytes, to meet many broken characters; a few beyond the vocabulary.
				ids[i] = uint32(rng.IntN([]int{270, v.VocabSize() + 1}[rng.IntN(2)]))
			}
			s := v.Stream()
			var got strings.Builder
			for _, id := range ids {
				got.WriteString(s.Next(id))
				if len(s.pending) >= utf8.UTFMax {
					t.Fatalf("holds back %d bytes", len(s.pending))
				}
			}
			got.WriteString(s.Flush())
			if want := v.Decode(ids); got.String() != want {
				t.Fatalf("ids %v: streamed %q, decoded %q", ids, got.String(), want)
			}
		}
	}
}
