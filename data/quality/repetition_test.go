package quality

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pretrain/data"
)

// The figures of n-grams are those of counting strings in a map, whatever the text and however many lengths are asked for.
func TestNgramsAgainstMaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "bb", "ccc", "d", "eeee"}), 0, 60).Draw(t, "words")
		if n := rapid.IntRange(0, len(words)).Draw(t, "again"); n > 0 {
			words = append(words, words[:n]...)
		}
		c := Default().Repetition
		c.Mode = data.Tag
		for range rapid.IntRange(0, 4).Draw(t, "more") {
			c.TopNgrams = append(c.TopNgrams, 0.1)
		}
		d := data.Document{Text: strings.Join(words, " ")}
		c.Step(Word, new(Words)).Apply(&d)
		chars := len(d.Text)
		for i := range c.TopNgrams {
			n := firstTop + i
			want := 0.0
			if chars > 0 {
				want = float64(commonest(words, n)) / float64(chars)
			}
			if got, _ := d.Number(reason("repetition.top_%d_gram", n)); got != want {
				t.Fatalf("%q: top %d-gram %v, want %v", d.Text, n, got, want)
			}
		}
		for i := range c.Ngrams {
			n := firstNgram + i
			want := 0.0
			if chars > 0 {
				want = float64(repeats(words, n)) / float64(chars)
			}
			if got, _ := d.Number(reason("repetition.duplicated_%d_n_grams", n)); got != want {
				t.Fatalf("%q: repeated %d-grams %v, want %v", d.Text, n, got, want)
			}
		}
	})
}

func reason(format string, n int) string { return fmt.Sprintf(format, n) }

// commonest is datatrove's find_top_duplicate: the length of the first of the commonest n-grams, times how often it occurs.
func commonest(words []string, n int) int {
	count, most, best := map[string]int{}, 0, ""
	var grams []string
	for i := 0; i+n <= len(words); i++ {
		gram := strings.Join(words[i:i+n], " ")
		grams = append(grams, gram)
		count[gram]++
		most = max(most, count[gram])
	}
	for _, gram := range grams {
		if count[gram] == most {
			best = gram
			break
		}
	}
	return len(best) * most
}

// repeats is datatrove's find_all_duplicate.
func repeats(words []string, n int) (chars int) {
	seen := map[string]bool{}
	for i := 0; i+n <= len(words); {
		if gram := strings.Join(words[i:i+n], ""); seen[gram] {
			chars += len(gram)
			i += n
		} else {
			seen[gram] = true
			i++
		}
	}
	return chars
}
