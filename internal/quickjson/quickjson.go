// Package quickjson takes JSON apart at several times the speed of encoding/json, for the few shapes that a corpus is made of. It is
// for callers who go on with encoding/json where ok is false: then the text is no JSON, or has something that is rare. What it
// does accept it reads as encoding/json does (a fuzz test compares them). Text must be valid UTF-8.
package quickjson

import (
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Space skips white space.
func Space(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\n' || b[0] == '\t' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// Skip takes c, with the white space around it.
func Skip(b []byte, c byte) (rest []byte, ok bool) {
	if b = Space(b); len(b) == 0 || b[0] != c {
		return b, false
	}
	return Space(b[1:]), true
}

// plain is the number of bytes before the first that is not simply copied: a control character, a quote or a backslash. It looks at
// eight at a time (Mycroft's test: a borrow can only follow a hit, so the lowest hit is right).
func plain[T string | []byte](b T) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(b); i += 8 {
		x := uint64(b[i]) | uint64(b[i+1])<<8 | uint64(b[i+2])<<16 | uint64(b[i+3])<<24 | uint64(b[i+4])<<32 | uint64(b[i+5])<<40 | uint64(b[i+6])<<48 | uint64(b[i+7])<<56
		quote, slash := x^(ones*'"'), x^(ones*'\\')
		if hits := ((x-ones*' ')&^x | (quote-ones)&^quote | (slash-ones)&^slash) & tops; hits != 0 {
			return i + bits.TrailingZeros64(hits)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' {
			return i
		}
	}
	return len(b)
}

// Append appends s as a JSON string. Only what JSON asks for is escaped; each byte that is not UTF-8 becomes U+FFFD.
func Append(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	b = append(b, '"')
	for {
		n := plain(s)
		b = append(b, s[:n]...)
		if n == len(s) {
			return append(b, '"')
		}
		if i := strings.IndexByte(meanings, s[n]); i >= 0 {
			b = append(b, '\\', escapes[i])
		} else {
			b = append(b, '\\', 'u', '0', '0', "01"[s[n]>>4], "0123456789abcdef"[s[n]&15])
		}
		s = s[n+1:]
	}
}

// String reads the string that b begins with.
func String(b []byte) (s string, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return "", b, false
	}
	b = b[1:]
	n := plain(b)
	if n < len(b) && b[n] == '"' {
		return string(b[:n]), b[n+1:], true
	}
	var out strings.Builder
	out.Grow(len(b))
	for {
		n := plain(b)
		out.Write(b[:n])
		if b = b[n:]; len(b) == 0 || b[0] < ' ' {
			return "", b, false
		}
		if b[0] == '"' {
			return out.String(), b[1:], true
		}
		r, size := escape(b)
		if size == 0 {
			return "", b, false
		}
		out.WriteRune(r)
		b = b[size:]
	}
}

// The escapes of one letter. / needs none, and is the last, so that Append does not find it first.
const escapes, meanings = `"\bfnrt/`, "\"\\\b\f\n\r\t/"

// escape reads the escape that b begins with; size 0: it is none.
func escape(b []byte) (r rune, size int) {
	if len(b) < 2 {
		return 0, 0
	}
	if b[1] == 'u' {
		r := hex4(b)
		if r < 0 {
			return 0, 0
		}
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if both := utf16.DecodeRune(r, hex4(b[6:])); both != utf8.RuneError {
			return both, 12
		}
		return utf8.RuneError, 6
	}
	if i := strings.IndexByte(escapes, b[1]); i >= 0 {
		return rune(meanings[i]), 2
	}
	return 0, 0
}

// hex4 is the number of \uXXXX; -1: b does not begin so.
func hex4(b []byte) (r rune) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// Number takes the number that b begins with.
func Number(b []byte) (number, rest []byte, ok bool) {
	i := 0
	digits := func() bool {
		from := i
		for i < len(b) && '0' <= b[i] && b[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(b) && b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if !digits() {
		return nil, b, false
	}
	if i < len(b) && b[i] == '.' {
		i++
		if !digits() {
			return nil, b, false
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return nil, b, false
		}
	}
	return b[:i], b[i:], true
}

// Value takes any value, up to depth lists and objects deep.
func Value(b []byte, depth int) (rest []byte, ok bool) {
	if len(b) == 0 {
		return b, false
	}
	switch c := b[0]; {
	case c == '"':
		return skipString(b)
	case c == '{' || c == '[':
		return container(b, depth)
	case c == '-' || '0' <= c && c <= '9':
		_, rest, ok = Number(b)
		return rest, ok
	}
	for _, word := range []string{"true", "false", "null"} {
		if len(b) >= len(word) && string(b[:len(word)]) == word {
			return b[len(word):], true
		}
	}
	return b, false
}

// container takes a list or an object.
func container(b []byte, depth int) (rest []byte, ok bool) {
	if depth == 0 {
		return b, false
	}
	object, end := b[0] == '{', b[0]+2 // { } and [ ] are two apart
	b = Space(b[1:])
	if len(b) > 0 && b[0] == end {
		return b[1:], true
	}
	for {
		if object {
			if b, ok = skipString(b); !ok {
				return b, false
			}
			if b, ok = Skip(b, ':'); !ok {
				return b, false
			}
		}
		if b, ok = Value(b, depth-1); !ok {
			return b, false
		}
		b = Space(b)
		if len(b) > 0 && b[0] == end {
			return b[1:], true
		}
		if b, ok = Skip(b, ','); !ok {
			return b, false
		}
	}
}

// skipString takes a string without making it.
func skipString(b []byte) (rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return b, false
	}
	for b = b[1:]; ; {
		if b = b[plain(b):]; len(b) == 0 || b[0] < ' ' {
			return b, false
		}
		if b[0] == '"' {
			return b[1:], true
		}
		_, size := escape(b)
		if size == 0 {
			return b, false
		}
		b = b[size:]
	}
}
