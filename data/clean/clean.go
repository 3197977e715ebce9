// Package clean mends texts: Unicode forms, characters that cannot be seen, white space, lines that belong to a page and not to
// its text. Private data is package pii's, what a text is worth package quality's.
package clean

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"pretrain/data"
	"pretrain/internal/problem"
)

// Form is a Unicode normalisation form.
type Form string

// The forms.
const (
	None Form = "none"
	NFC  Form = "nfc"  // composed: é is one character
	NFKC Form = "nfkc" // and compatibility characters replaced: ﬁ is fi, Ａ is A
)

// Config says what is mended. Start from [Default].
type Config struct {
	// Unicode is none, nfc or nfkc. Under nfkc the marks of Chinese stay (，。！？：；（）), which it would turn into ASCII, and so
	// do raised and lowered digits, which are meaning (m²); letters and digits of full width become plain. Default nfkc.
	Unicode Form `yaml:"unicode"`
	// Invisible removes control characters, zero-width spaces, soft hyphens, byte order marks and changes of direction, and makes
	// every line end a line feed. Default true.
	Invisible bool `yaml:"invisible"`
	// Whitespace removes white space at the end of lines, and all but two of more line feeds. Default true. Not of code.
	Whitespace bool `yaml:"whitespace"`
	// Boilerplate removes lines that belong to a page and not to its text, such as "Share on Facebook", "版权所有" and the like: short
	// ones only, and only where they are the whole line. Default true. Not of code.
	Boilerplate bool `yaml:"boilerplate"`
	// BoilerplateLines are regular expressions (RE2) of further lines to remove, matched with the whole line without the space around it.
	BoilerplateLines []string `yaml:"boilerplate_lines"`
	// Simplify writes traditional Chinese in simplified characters. Default false: a model may well know both.
	Simplify bool `yaml:"simplify"`
	// MaxReplacement is the largest part of characters that may be U+FFFD, what is left of text that was decoded wrongly. Default
	// 0.001.
	MaxReplacement float64 `yaml:"max_replacement"`
}

// Default mends all but traditional characters.
func Default() Config {
	return Config{Unicode: NFKC, Invisible: true, Whitespace: true, Boilerplate: true, MaxReplacement: 0.001}
}

// Validate reports every problem at once, as joined [problem.Problem] errors.
func (c Config) Validate() error {
	var p problem.List
	p.Check(c.Unicode == None || c.Unicode == NFC || c.Unicode == NFKC, "unicode", c.Unicode, "%s, %s or %s", None, NFC, NFKC)
	for i, line := range c.BoilerplateLines {
		_, err := regexp.Compile(line)
		p.Check(err == nil, fmt.Sprintf("boilerplate_lines[%d]", i), line, "a regular expression: %v", err)
	}
	p.Check(c.MaxReplacement >= 0 && c.MaxReplacement <= 1, "max_replacement", c.MaxReplacement, "a part, 0 to 1")
	return p.Err()
}

// The reasons of this package.
const (
	Mojibake data.Reason = "mojibake" // too much of the text is U+FFFD
	Nothing  data.Reason = "nothing_left"
)

// Step mends documents. prose is false for code, whose white space and lines have a meaning. It can be shared.
func (c Config) Step(prose bool) (data.Step, error) {
	s := &step{Config: c, prose: prose}
	if len(c.BoilerplateLines) > 0 {
		var err error
		if s.lines, err = regexp.Compile("^(?:" + strings.Join(c.BoilerplateLines, "|") + ")$"); err != nil {
			return nil, err
		}
	}
	if c.Simplify && prose {
		var err error
		if s.simplify, err = simplifier(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

type step struct {
	Config
	prose    bool
	lines    *regexp.Regexp
	simplify func(string) (string, error)
}

// Apply mends one document, all turns of a conversation.
func (s *step) Apply(d *data.Document) (data.Reason, string) {
	if n := strings.Count(d.Text, "\ufffd"); n > 0 {
		if part := float64(n) / float64(utf8.RuneCountInString(d.Text)); part > s.MaxReplacement {
			return Mojibake, fmt.Sprintf("%d characters are U+FFFD", n)
		}
	}
	text, err := s.text(d.Text)
	if err != nil {
		return Mojibake, err.Error()
	}
	if d.Text = text; d.Messages == nil && strings.TrimSpace(text) == "" {
		return Nothing, "nothing but boilerplate and white space"
	}
	for i := range d.Messages {
		if d.Messages[i].Content, err = s.text(d.Messages[i].Content); err != nil {
			return Mojibake, err.Error()
		}
	}
	return "", ""
}

func (s *step) text(text string) (string, error) {
	if s.Invisible {
		text = visible(text)
	}
	switch {
	case s.Unicode == NFC || s.Unicode == NFKC && !s.prose:
		text = norm.NFC.String(text)
	case s.Unicode == NFKC:
		text = compatible(text)
	}
	if s.prose && (s.Whitespace || s.Boilerplate || s.lines != nil) {
		text = s.tidy(text)
	}
	if s.simplify != nil && hasHan(text) {
		return s.simplify(text)
	}
	return text, nil
}

func hasHan(text string) bool {
	for _, r := range text {
		if r >= 0x4e00 && r <= 0x9fff {
			return true
		}
	}
	return false
}

// kept are the characters that NFKC does not touch here: marks of Chinese, and raised and lowered signs, fractions, and signs of
// units that are read as a whole.
func kept(r rune) bool {
	switch {
	case r < 0xb2:
		return false
	case r == 0xb2 || r == 0xb3 || r == 0xb9 || r >= 0xbc && r <= 0xbe: // ² ³ ¹ ¼ ½ ¾
		return true
	case r >= 0x2070 && r <= 0x209f: // ⁰ … ₎
		return true
	case r == 0x2026 || r == 0x2025: // … ‥
		return true
	case r >= 0x2150 && r <= 0x215f || r >= 0x2460 && r <= 0x24ff: // ⅓, ①
		return true
	case r >= 0xff01 && r <= 0xff0f || r >= 0xff1a && r <= 0xff20 || r >= 0xff3b && r <= 0xff40 || r >= 0xff5b && r <= 0xff65: // ！（，：？～
		return true
	}
	return false
}

// compatible is NFKC but for what is kept.
func compatible(text string) string {
	if stable(text) || norm.NFKC.QuickSpanString(text) == len(text) {
		return text
	}
	var b strings.Builder
	b.Grow(len(text))
	start := 0
	for i, r := range text {
		if !kept(r) {
			continue
		}
		b.WriteString(norm.NFKC.String(text[start:i]))
		n := utf8.RuneLen(r)
		b.WriteString(text[i : i+n])
		start = i + n
	}
	b.WriteString(norm.NFKC.String(text[start:]))
	return b.String()
}

// stable reports whether a text has nothing but ASCII, Latin letters with accents, Chinese characters, the commonest marks and what is
// kept, none of which changes: it is the way past x/text for most texts.
func stable(text string) bool {
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= 0xe5 && c <= 0xe9 { // U+5000 to U+9FFF
			i += 3
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r >= 0x4e00 && r <= 0x9fff, r >= 0xc0 && r <= 0x17e && r != 0x132 && r != 0x133 && r != 0x13f && r != 0x140 && r != 0x149,
			r == '。' || r == '、' || r >= 0x3008 && r <= 0x3011, r >= 0x2012 && r <= 0x2022 && r != 0x2017, kept(r):
		default:
			return false
		}
		i += n
	}
	return true
}

// visible removes what cannot be seen.
func visible(text string) string {
	first := -1 // the first byte that goes
	for i := 0; i < len(text) && first < 0; {
		c := text[i]
		if c < utf8.RuneSelf {
			if c < ' ' && c != '\n' && c != '\t' || c == 0x7f {
				first = i
			}
			i++
			continue
		}
		if c != 0xc2 && c != 0xe2 && c != 0xef && c != 0xf3 {
			i++ // none of ours begins so
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		if hidden(r) || r == 0x85 || r == 0x2028 || r == 0x2029 {
			first = i
		}
		i += n
	}
	if first < 0 {
		return text
	}
	var b strings.Builder
	b.Grow(len(text))
	b.WriteString(text[:first])
	for i := first; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == '\r':
			if !strings.HasPrefix(text[i+1:], "\n") {
				b.WriteByte('\n')
			}
		case r == '\v' || r == '\f' || r == 0x85 || r == 0x2028 || r == 0x2029:
			b.WriteByte('\n')
		case r == 0x200c || r == 0x200d: // joiners have a meaning in Persian, Indic scripts and emoji
			last, _ := utf8.DecodeLastRuneInString(text[:i])
			if next, _ := utf8.DecodeRuneInString(text[i+n:]); last > 0x5ff && next > 0x5ff && !(last >= 0x2e80 && last <= 0x9fff) {
				b.WriteString(text[i : i+n])
			}
		case hidden(r):
		default:
			b.WriteString(text[i : i+n])
		}
		i += n
	}
	return b.String()
}

// hidden are control and format characters without a shape.
func hidden(r rune) bool {
	switch {
	case r < ' ':
		return r != '\n' && r != '\t'
	case r >= 0x7f && r <= 0x9f:
		return r != 0x85
	case r == 0xad || r == 0x180e || r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2060 && r <= 0x206f || r == 0xfeff:
		return true
	}
	return r >= 0xfff9 && r <= 0xfffb || r >= 0xe0000 && r <= 0xe007f
}
