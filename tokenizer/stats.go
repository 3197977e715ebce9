package tokenizer

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"
)

// Stats is how well a tokenizer fits the text of one source.
type Stats struct {
	Source    string `json:"source"`
	Documents int64  `json:"documents"`
	Bytes     int64  `json:"bytes"`
	Runes     int64  `json:"runes"`
	Words     int64  `json:"words"` // what stands between white space
	Tokens    int64  `json:"tokens"`
}

// BytesPerToken is the compression: bits per byte is loss / ln 2 / BytesPerToken. 0 for no text.
func (s Stats) BytesPerToken() float64 { return ratio(s.Bytes, s.Tokens) }

// TokensPerRune is the fertility by character, the measure for Chinese, which has no spaces to count words by. 0 for no
// text.
func (s Stats) TokensPerRune() float64 { return ratio(s.Tokens, s.Runes) }

// TokensPerWord is the fertility of languages that put spaces between words. 0 for no text.
func (s Stats) TokensPerWord() float64 { return ratio(s.Tokens, s.Words) }

func ratio(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// Add counts the documents of another Stats too; Source stays.
func (s *Stats) Add(o Stats) {
	s.Documents += o.Documents
	s.Bytes += o.Bytes
	s.Runes += o.Runes
	s.Words += o.Words
	s.Tokens += o.Tokens
}

// Measure encodes docs and counts. It holds a few MiB of them at a time. Where used is not nil, it has a place for each token of the
// vocabulary, and those of the tokens that occur become true.
func Measure(ctx context.Context, t Tokenizer, source string, docs iter.Seq[string], used []bool) (Stats, error) {
	s := Stats{Source: source}
	for batch := range Batches(docs, 8<<20) {
		encoded, err := t.EncodeBatch(ctx, batch)
		if err != nil {
			return s, fmt.Errorf("measure source %s after %d documents: %w", source, s.Documents, err)
		}
		for i, ids := range encoded {
			if used != nil {
				for _, id := range ids {
					used[id] = true
				}
			}
			s.Add(Stats{
				Documents: 1,
				Bytes:     int64(len(batch[i])),
				Runes:     int64(utf8.RuneCountInString(batch[i])),
				Words:     int64(len(strings.Fields(batch[i]))),
				Tokens:    int64(len(ids)),
			})
		}
	}
	return s, nil
}
