package quality

import (
	"fmt"
	"regexp"
	"strings"

	"pretrain/data"
)

// The reasons of C4's rules.
const (
	LoremIpsum   data.Reason = "lorem_ipsum"
	CurlyBracket data.Reason = "curly_bracket"
	FewSentences data.Reason = "too_few_sentences"
)

var (
	citation = regexp.MustCompile(`\[\d*\]|\[edit\]|\[citation needed\]`)
	policies = []string{"terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"}
	// c4Marks end a sentence, or stand after the mark that does.
	c4Marks = runes(`.?!"'。？！”’」』…`)
)

// c4 is a step.
type c4 struct {
	C4
	units    Units
	words    *Words // of whole documents; only its choice of units is used
	sentence Words
	line     Words
}

// Step judges documents and drops lines, with words to choose the units.
func (c C4) Step(units Units, w *Words) data.Step { return &c4{C4: c, units: units, words: w} }

// Apply judges one document.
func (c *c4) Apply(d *data.Document) (data.Reason, string) {
	c.words.of(d.Text, c.units)
	units, least := c.words.units, c.MinWordsPerLine
	if units == Char {
		least *= charsOfWord
	}
	var kept strings.Builder
	sentences, changed, bad := 0, false, data.Reason("")
	for at := 0; at < len(d.Text) && bad == ""; {
		end, next := lineEnd(d.Text, at)
		line := trim(d.Text[at:end])
		at = next
		line, keep, reason := c.judge(line, units, least)
		bad = reason
		if !keep {
			changed = true
			continue
		}
		if sentences < c.MinSentences {
			sentences += c.sentences(line, units)
		}
		if kept.Len() > 0 {
			kept.WriteByte('\n')
		}
		kept.WriteString(line)
	}
	if bad == "" && sentences < c.MinSentences {
		bad = FewSentences
	}
	if c.Mode == data.Tag {
		d.SetNumber("c4.kept", ratio(kept.Len(), len(d.Text)))
		d.SetText("c4", string(bad))
		return "", ""
	}
	if bad != "" {
		return bad, fmt.Sprintf("%d sentences counted", sentences)
	}
	if text := trim(kept.String()); changed || text != d.Text {
		d.Text = text
	}
	return "", ""
}

// judge says what becomes of a line: how it stands in the text, whether it is kept, and whether it condemns the whole text.
func (c *c4) judge(line string, units Units, least int) (string, bool, data.Reason) {
	words, longest := c.lineWords(line, units)
	if units == Word && longest > c.MaxWordLength {
		return "", false, ""
	}
	if strings.IndexByte(line, '[') >= 0 {
		line = citation.ReplaceAllString(line, "")
	}
	if c.TerminalPunctuation && (!endsIn(line, c4Marks) || strings.HasSuffix(line, "...") || units == Word && strings.HasSuffix(line, "…")) {
		return "", false, ""
	}
	if words < least {
		return "", false, ""
	}
	lower := strings.ToLower(line)
	switch {
	case strings.Contains(lower, "lorem ipsum"):
		return "", false, LoremIpsum
	case strings.Contains(lower, "javascript"):
		return "", false, ""
	case strings.IndexByte(line, '{') >= 0:
		return "", false, CurlyBracket
	}
	for _, p := range policies {
		if strings.Contains(lower, p) {
			return "", false, ""
		}
	}
	return line, true, ""
}

// lineWords is the number of words of a line by white space, and the length of the longest; of a Chinese line, its characters.
func (c *c4) lineWords(line string, units Units) (n, longest int) {
	if units == Char {
		return len(c.line.of(line, Char)), 0
	}
	for w := range strings.FieldsFuncSeq(line, isSpace) {
		n++
		if len(w) > longest {
			longest = max(longest, len([]rune(w)))
		}
	}
	return n, longest
}

// sentences counts as spaCy's sentencizer does: the next sentence begins with the first word after a mark that ends one.
func (c *c4) sentences(line string, units Units) int {
	n, ended := 0, true
	for _, w := range c.sentence.of(line, units) {
		s := line[w.start:w.end]
		mark := s == "." || s == "!" || s == "?" || w.chars == 1 && endsIn(s, terminal) && s != "…"
		if ended && (n == 0 || !w.symbol) {
			n++
			ended = false
		}
		ended = ended || mark
	}
	return n
}
