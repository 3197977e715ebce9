package ngram

import (
	"slices"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

// The n-grams of a text are those of its words, each hashed whole; blocks, case and punctuation change nothing.
func TestShingles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(t, "n")
		pieces := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "Word", "LONGERthanEight", "x86", "日", "本語", "été", "É", "ß", "”", " ", "--", "1", "한", "naïve"}), 0, 30).Draw(t, "text")
		repeat := rapid.SampledFrom([]int{1, 1, 60}).Draw(t, "repeat") // 60: across blocks
		text := strings.Repeat(strings.Join(pieces, rapid.SampledFrom([]string{"", " ", ", "}).Draw(t, "between"))+" ", repeat)
		got := collect(n, text)
		words := wordsOf(text)
		want := len(words) - n + 1
		if len(words) > 0 {
			want = max(want, 1)
		}
		if len(got) != max(want, 0) {
			t.Fatalf("%d n-grams, want %d, of %q", len(got), want, words)
		}
		if Count(text) != len(words) {
			t.Fatalf("%d words, want %d", Count(text), len(words))
		}
		for i := range words {
			if i+n <= len(words) && i < 40 {
				if span := wordsOf(Span(text, i, n)); !slices.Equal(span, words[i:i+n]) {
					t.Fatalf("the span of words %d to %d is %q, want %q", i, i+n, span, words[i:i+n])
				}
			}
		}
		// Other separators, and lower case, give the same.
		if other := collect(n, strings.Join(words, "\t;\n")); !slices.Equal(got, other) {
			t.Fatalf("separators matter in %q", text)
		}
		// Equal n-grams have equal hashes and different ones different hashes.
		seen := map[string]uint64{}
		for i, h := range got {
			gram := strings.Join(words[i:min(i+n, len(words))], "\x00")
			if before, ok := seen[gram]; ok && before != h {
				t.Fatalf("%q has two hashes", gram)
			}
			for other, value := range seen {
				if value == h && other != gram {
					t.Fatalf("%q and %q share a hash", gram, other)
				}
			}
			seen[gram] = h
		}
	})
}

func collect(n int, text string) []uint64 {
	var all []uint64
	New(n).Each(text, func(grams []uint64) { all = append(all, grams...) })
	return all
}

// wordsOf splits a text as the definition at the top of shingle.go says, character by character.
func wordsOf(text string) []string {
	var words []string
	var word []rune
	end := func() {
		if len(word) > 0 {
			words = append(words, string(word))
		}
		word = nil
	}
	for _, r := range text {
		switch {
		case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul):
			end()
			words = append(words, string(r))
		case unicode.In(r, unicode.L, unicode.N, unicode.M):
			word = append(word, unicode.ToLower(r))
		default:
			end()
		}
	}
	end()
	return words
}
