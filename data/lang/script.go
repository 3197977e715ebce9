package lang

import (
	"unicode"
	"unicode/utf8"
)

// script is a writing system that this package counts.
type script int

const (
	latin script = iota
	han
	kana
	hangul
	cyrillic
	arabic
	greek
	hebrew
	thai
	devanagari
	bengali
	tamil
	telugu
	georgian
	armenian
	other
	scripts
)

// languages are those that have a script for themselves, or nearly: what else is written in it is rare.
var languages = [scripts]string{hangul: "ko", greek: "el", hebrew: "he", thai: "th", bengali: "bn", tamil: "ta", telugu: "te", georgian: "ka", armenian: "hy"}

var tables = [scripts]*unicode.RangeTable{
	latin: unicode.Latin, hangul: unicode.Hangul, cyrillic: unicode.Cyrillic, arabic: unicode.Arabic, greek: unicode.Greek, hebrew: unicode.Hebrew,
	thai: unicode.Thai, devanagari: unicode.Devanagari, bengali: unicode.Bengali, tamil: unicode.Tamil, telugu: unicode.Telugu, georgian: unicode.Georgian, armenian: unicode.Armenian,
}

// sampleBytes is how much of a text is counted.
const sampleBytes = 4 << 10

// counts are letters by script.
type counts struct {
	by      [scripts]int
	letters int
}

// shares counts the letters at the beginning of a text.
func shares(text string) (c counts) {
	for i, r := range text {
		if i >= sampleBytes {
			break
		}
		if s, ok := scriptOf(r); ok {
			c.by[s]++
			c.letters++
		}
	}
	return c
}

// scriptOf is the script of a letter; ok is false for what is none.
func scriptOf(r rune) (script, bool) {
	switch {
	case r < utf8.RuneSelf:
		return latin, 'a' <= r|0x20 && r|0x20 <= 'z'
	case r >= 0x4e00 && r <= 0x9fff || r >= 0x3400 && r <= 0x4dbf || r >= 0x20000 && r <= 0x3ffff || r >= 0xf900 && r <= 0xfaff:
		return han, true
	case r >= 0x3041 && r <= 0x30ff:
		return kana, true
	case !unicode.IsLetter(r) && !unicode.IsMark(r):
		return other, false
	}
	for s, table := range tables {
		if table != nil && unicode.Is(table, r) {
			return script(s), true
		}
	}
	return other, true
}

func (c counts) of(s script) float64 {
	if c.letters == 0 {
		return 0
	}
	return float64(c.by[s]) / float64(c.letters)
}

func (c counts) dominant() (best script) {
	for s, n := range c.by {
		if n > c.by[best] {
			best = script(s)
		}
	}
	return best
}

// decide is the language where the scripts tell it. A Chinese text may well be full of Latin names and code: each character is
// a word in five letters or so, hence a fifth of them is enough. Japanese is what has kana among its characters.
func (c counts) decide() (string, float64) {
	cjk := c.by[han] + c.by[kana]
	if cjk*5 >= c.letters && cjk > 0 && c.by[hangul] < cjk {
		if c.by[kana]*20 >= cjk {
			return "ja", 1 - c.of(hangul) - c.of(cyrillic) - c.of(other)
		}
		return "zh", 1 - c.of(hangul) - c.of(cyrillic) - c.of(other)
	}
	s := c.dominant()
	if languages[s] != "" {
		return languages[s], c.of(s)
	}
	return "", 0
}

// functionWords are words of English that no other large language spells so.
var functionWords = map[string]bool{"the": true, "and": true, "that": true, "with": true, "this": true, "from": true, "which": true, "have": true,
	"for": true, "are": true, "it": true, "be": true, "by": true, "to": true, "of": true, "you": true, "is": true, "not": true}

// english reports whether a text in Latin letters is plainly English: a tenth of its first words are function words, and four
// different ones of them.
func english(text string) bool {
	text = beginning(text, linguaBytes)
	words, hits := 0, 0
	seen := map[string]bool{}
	for i := 0; i < len(text); {
		start := i
		var word [8]byte
		n := 0
		for i < len(text) && (text[i] >= utf8.RuneSelf || 'a' <= text[i]|0x20 && text[i]|0x20 <= 'z') {
			if n < len(word) {
				word[n] = text[i] | 0x20
			}
			n++
			i++
		}
		if i == start {
			i++
			continue
		}
		words++
		if n <= 5 && functionWords[string(word[:n])] {
			hits++
			if len(seen) < 4 {
				seen[string(word[:n])] = true
			}
		}
	}
	return words >= 8 && hits*10 >= words && len(seen) >= 4
}
