package quality

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// lineEnd is where a line of text ends that begins at from, and where the next one begins, as Python's str.splitlines has it:
// at line feeds, carriage returns, form feeds, and a few more. from < len(text).
func lineEnd(text string, from int) (end, next int) {
	for i := from; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\r':
			if i+1 < len(text) && text[i+1] == '\n' {
				return i, i + 2
			}
			return i, i + 1
		case c >= '\n' && c <= '\f' || c >= 0x1c && c <= 0x1e:
			return i, i + 1
		case c == 0xc2 && strings.HasPrefix(text[i:], "\u0085"):
			return i, i + 2
		case c == 0xe2 && (strings.HasPrefix(text[i:], "\u2028") || strings.HasPrefix(text[i:], "\u2029")):
			return i, i + 3
		}
	}
	return len(text), len(text)
}

// eachLine calls f for each line of str.splitlines.
func eachLine(text string, f func(line string)) {
	for at := 0; at < len(text); {
		end, next := lineEnd(text, at)
		f(text[at:end])
		at = next
	}
}

// ratio is a/b, 0 for 0/0.
func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// trim is strings.TrimSpace with Python's idea of white space.
func trim(s string) string {
	for len(s) > 0 && s[0] < utf8.RuneSelf && asciiSpace[s[0]] {
		s = s[1:]
	}
	for len(s) > 0 && s[len(s)-1] < utf8.RuneSelf && asciiSpace[s[len(s)-1]] {
		s = s[:len(s)-1]
	}
	if len(s) == 0 || s[0] < utf8.RuneSelf && s[len(s)-1] < utf8.RuneSelf {
		return s
	}
	return strings.TrimFunc(s, isSpace)
}

func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

func endsIn(line string, marks map[rune]bool) bool {
	r, _ := utf8.DecodeLastRuneInString(line)
	return marks[r]
}
