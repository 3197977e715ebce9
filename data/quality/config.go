// Package quality judges texts by the rules that published corpora were filtered with: Gopher's of quality and repetition
// (2112.11446, appendix A), C4's (1910.10683, section 2.2) and FineWeb's (2406.17557, section 3.6). Figures, thresholds and the
// names of the reasons are datatrove's, whose verdicts the tests compare with; bench/data compares 2,000 documents.
//
// The rules were made for English. `units: char` judges Chinese and Japanese by characters: a word is about two of them, so
// lengths count double, an n-gram has twice as many, and stop words and marks at the end of a sentence are Chinese too.
package quality

import (
	"fmt"

	"pretrain/data"
	"pretrain/internal/problem"
)

// Config is the thresholds of all rules. Start from [Default].
type Config struct {
	// Units are what counts as a word: auto, word, or char for Chinese and Japanese. Default auto: char where a third of the
	// letters are Chinese or Japanese.
	Units Units `yaml:"units"`
	// Gopher judges length, words and symbols.
	Gopher Gopher `yaml:"gopher"`
	// Repetition judges repeated lines, paragraphs and n-grams, also Gopher's.
	Repetition Repetition `yaml:"repetition"`
	// C4 drops lines, and texts with too few sentences.
	C4 C4 `yaml:"c4"`
	// FineWeb judges lines.
	FineWeb FineWeb `yaml:"fineweb"`
}

// Gopher is Gopher's rules of quality.
type Gopher struct {
	// Mode is off, filter or tag. Default filter.
	Mode data.Mode `yaml:"mode"`
	// MinWords is the least number of words, marks not counted. Default 50.
	MinWords int `yaml:"min_words"`
	// MaxWords is the largest number of words. Default 100000.
	MaxWords int `yaml:"max_words"`
	// MinMeanLength is the least mean length of a word in letters; not for char. Default 3.
	MinMeanLength float64 `yaml:"min_mean_length"`
	// MaxMeanLength is the largest mean length of a word; not for char. Default 10.
	MaxMeanLength float64 `yaml:"max_mean_length"`
	// MaxSymbols is how many "#", or ellipses, there may be for a word. Default 0.1.
	MaxSymbols float64 `yaml:"max_symbols"`
	// MaxBullets is the largest part of lines that begin with a bullet. Default 0.9.
	MaxBullets float64 `yaml:"max_bullets"`
	// MaxEllipses is the largest part of lines that end in an ellipsis. Default 0.3.
	MaxEllipses float64 `yaml:"max_ellipses"`
	// MinLetters is the least part of words that have a letter. Default 0.8, as of Gopher; char takes 0.1 off, because a Chinese
	// sentence has a mark for every seven or eight characters.
	MinLetters float64 `yaml:"min_letters"`
	// MinStopWords is how many different stop words there must be. Default 2.
	MinStopWords int `yaml:"min_stop_words"`
	// StopWords are those of English. Default the, be, to, of, and, that, have, with.
	StopWords []string `yaml:"stop_words"`
	// StopChars are those of Chinese, for char. Default the commonest function words, modern and classical.
	StopChars []string `yaml:"stop_chars"`
}

// Repetition is Gopher's rules of repetition (table A1). Each is the largest part of the text.
type Repetition struct {
	// Mode is off, filter or tag. Default filter.
	Mode data.Mode `yaml:"mode"`
	// Lines that occurred before, by number. Default 0.3.
	Lines float64 `yaml:"lines"`
	// Paragraphs that occurred before, by number. Default 0.3.
	Paragraphs float64 `yaml:"paragraphs"`
	// LineChars is the characters in repeated lines. Default 0.2.
	LineChars float64 `yaml:"line_chars"`
	// ParagraphChars is the characters in repeated paragraphs. Default 0.2.
	ParagraphChars float64 `yaml:"paragraph_chars"`
	// TopNgrams is the characters in the commonest n-gram, from n = 2 on. Default [0.2, 0.18, 0.16].
	TopNgrams []float64 `yaml:"top_ngrams"`
	// Ngrams is the characters in repeated n-grams, from n = 5 on. Default [0.15, 0.14, 0.13, 0.12, 0.11, 0.1].
	Ngrams []float64 `yaml:"ngrams"`
}

// C4 is C4's rules. They drop lines first, and texts by what is left.
type C4 struct {
	// Mode is off, filter or tag. Under tag the text stays whole. Default off: the rules are made for web pages in English, and a
	// brace drops a text.
	Mode data.Mode `yaml:"mode"`
	// TerminalPunctuation drops lines that do not end as sentences do. Default false, as in FineWeb, which lost too much by it.
	TerminalPunctuation bool `yaml:"terminal_punctuation"`
	// MinSentences is the least number of sentences. Default 5.
	MinSentences int `yaml:"min_sentences"`
	// MinWordsPerLine is the least number of words a line keeps. Default 3; twice as many for char.
	MinWordsPerLine int `yaml:"min_words_per_line"`
	// MaxWordLength drops lines with a longer word; not for char. Default 1000.
	MaxWordLength int `yaml:"max_word_length"`
}

// FineWeb is FineWeb's own rules.
type FineWeb struct {
	// Mode is off, filter or tag. Default filter.
	Mode data.Mode `yaml:"mode"`
	// MinPunctuatedLines is the least part of lines that end as sentences do. Default 0.12.
	MinPunctuatedLines float64 `yaml:"min_punctuated_lines"`
	// MaxShortLines is the largest part of short lines. Default 0.67.
	MaxShortLines float64 `yaml:"max_short_lines"`
	// ShortLine is the length of a short line in characters. Default 30; half of it for char.
	ShortLine int `yaml:"short_line"`
	// MaxDuplicateChars is the largest part of characters in repeated lines. Default 0.01.
	MaxDuplicateChars float64 `yaml:"max_duplicate_chars"`
	// MaxNewlines is how many line ends there may be for a word. Default 0.3; half of it for char.
	MaxNewlines float64 `yaml:"max_newlines"`
}

// Default is the published thresholds.
func Default() Config {
	return Config{
		Units: Auto,
		Gopher: Gopher{
			Mode: data.Filter, MinWords: 50, MaxWords: 100_000, MinMeanLength: 3, MaxMeanLength: 10, MaxSymbols: 0.1, MaxBullets: 0.9,
			MaxEllipses: 0.3, MinLetters: 0.8, MinStopWords: 2,
			StopWords: []string{"the", "be", "to", "of", "and", "that", "have", "with"},
			StopChars: []string{"的", "是", "在", "了", "不", "和", "有", "一", "为", "為", "与", "與", "之", "其", "而", "也", "以", "于", "於", "这", "這"},
		},
		Repetition: Repetition{
			Mode: data.Filter, Lines: 0.3, Paragraphs: 0.3, LineChars: 0.2, ParagraphChars: 0.2,
			TopNgrams: []float64{0.2, 0.18, 0.16}, Ngrams: []float64{0.15, 0.14, 0.13, 0.12, 0.11, 0.1},
		},
		C4:      C4{Mode: data.Off, MinSentences: 5, MinWordsPerLine: 3, MaxWordLength: 1000},
		FineWeb: FineWeb{Mode: data.Filter, MinPunctuatedLines: 0.12, MaxShortLines: 0.67, ShortLine: 30, MaxDuplicateChars: 0.01, MaxNewlines: 0.3},
	}
}

// Validate reports every problem at once, as joined [problem.Problem] errors.
func (c Config) Validate() error {
	var p problem.List
	p.Check(c.Units.Valid(), "units", c.Units, "%s, %s or %s", Auto, Word, Char)
	for _, m := range []struct {
		key  string
		mode data.Mode
	}{{"gopher", c.Gopher.Mode}, {"repetition", c.Repetition.Mode}, {"c4", c.C4.Mode}, {"fineweb", c.FineWeb.Mode}} {
		p.Check(m.mode.Valid(), m.key+".mode", m.mode, "%s, %s or %s", data.Off, data.Filter, data.Tag)
	}
	g := c.Gopher
	p.Check(g.MinWords >= 0 && g.MinWords <= g.MaxWords, "gopher.min_words", g.MinWords, "0 to max_words, %d", g.MaxWords)
	p.Check(g.MinMeanLength >= 0 && g.MinMeanLength <= g.MaxMeanLength, "gopher.min_mean_length", g.MinMeanLength, "0 to max_mean_length, %v", g.MaxMeanLength)
	part := func(key string, v float64) { p.Check(v >= 0 && v <= 1, key, v, "a part, 0 to 1") }
	part("gopher.max_bullets", g.MaxBullets)
	part("gopher.max_ellipses", g.MaxEllipses)
	part("gopher.min_letters", g.MinLetters)
	p.Check(g.MaxSymbols >= 0, "gopher.max_symbols", g.MaxSymbols, "0 or more")
	p.Check(g.MinStopWords >= 0, "gopher.min_stop_words", g.MinStopWords, "0 or more")
	r := c.Repetition
	for i, list := range [][]float64{{r.Lines}, {r.Paragraphs}, {r.LineChars}, {r.ParagraphChars}, r.TopNgrams, r.Ngrams} {
		key := "repetition." + []string{"lines", "paragraphs", "line_chars", "paragraph_chars", "top_ngrams", "ngrams"}[i]
		for j, v := range list {
			at := key
			if i > 3 {
				at = fmt.Sprintf("%s[%d]", key, j)
			}
			part(at, v)
		}
	}
	p.Check(c.C4.MinSentences >= 0, "c4.min_sentences", c.C4.MinSentences, "0 or more")
	p.Check(c.C4.MinWordsPerLine >= 0, "c4.min_words_per_line", c.C4.MinWordsPerLine, "0 or more")
	p.Check(c.C4.MaxWordLength > 0, "c4.max_word_length", c.C4.MaxWordLength, "more than 0")
	f := c.FineWeb
	part("fineweb.min_punctuated_lines", f.MinPunctuatedLines)
	part("fineweb.max_short_lines", f.MaxShortLines)
	part("fineweb.max_duplicate_chars", f.MaxDuplicateChars)
	p.Check(f.ShortLine >= 0, "fineweb.short_line", f.ShortLine, "0 or more")
	p.Check(f.MaxNewlines >= 0, "fineweb.max_newlines", f.MaxNewlines, "0 or more")
	return p.Err()
}
