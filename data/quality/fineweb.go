package quality

import (
	"strings"
	"unicode/utf8"

	"github.com/zeebo/xxh3"

	"pretrain/data"
)

// The reasons of FineWeb's rules.
const (
	FewPunctuated data.Reason = "line_punct_ratio"
	ShortLines    data.Reason = "short_line_ratio"
	DuplicateText data.Reason = "char_dup_ratio"
	ListLike      data.Reason = "list_ratio"
)

// fineWeb is a step.
type fineWeb struct {
	FineWeb
	units Units
	words *Words
	lines table
}

// Step judges documents, with words to cut them.
func (f FineWeb) Step(units Units, w *Words) data.Step {
	return &fineWeb{FineWeb: f, units: units, words: w}
}

// Apply judges one document.
func (f *fineWeb) Apply(d *data.Document) (data.Reason, string) {
	text := d.Text
	list := f.words.of(text, f.units)
	short, newlines := f.ShortLine, f.MaxNewlines
	if f.words.units == Char {
		short, newlines = short/charsOfWord, newlines/charsOfWord
	}
	feeds := strings.Count(text, "\n")
	f.lines.reset(feeds + 1)
	lines, punctuated, shorts, again := 0, 0, 0, 0
	for line := range strings.SplitSeq(text, "\n") {
		if trim(line) == "" {
			continue
		}
		lines++
		if f.words.units == Char { // a quotation ends with its mark inside
			line = strings.TrimRight(line, "”’」』）")
		}
		if line == "" {
			continue
		}
		if last := line[len(line)-1]; last == '.' || last == '!' || last == '?' || last >= utf8.RuneSelf && endsIn(line, terminal) && !strings.HasSuffix(line, "…") {
			punctuated++
		}
		chars := utf8.RuneCountInString(line)
		if chars <= short {
			shorts++
		}
		if f.lines.seen(xxh3.HashString(line)) {
			again += chars
		}
	}
	return verdicts{d: d, mode: f.Mode, name: "fineweb"}.of([]figure{
		{"punctuated_lines", ratio(punctuated, lines), ratio(punctuated, lines) < f.MinPunctuatedLines, FewPunctuated},
		over("short_lines", ratio(shorts, lines), f.MaxShortLines, ShortLines),
		over("duplicate_chars", ratio(again, f.words.chars-feeds), f.MaxDuplicateChars, DuplicateText),
		over("newlines", ratio(feeds, len(list)), newlines, ListLike),
	})
}
