// Package charset finds the encoding of a text that is not UTF-8 and turns it into UTF-8. It knows those of old Chinese and
// Western text: GB18030 (and so GBK and GB2312), Big5, Windows-1252 (and so Latin-1).
package charset

import (
	"bytes"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"
)

// Name is an encoding.
type Name string

// The encodings. Unknown is binary data, or a text in none of the others.
const (
	Unknown Name = ""
	UTF8    Name = "utf-8"
	UTF16LE Name = "utf-16le"
	UTF16BE Name = "utf-16be"
	GB18030 Name = "gb18030"
	Big5    Name = "big5"
	Latin1  Name = "windows-1252"
)

var decoders = map[Name]encoding.Encoding{
	UTF16LE: unicode.UTF16(unicode.LittleEndian, unicode.UseBOM),
	UTF16BE: unicode.UTF16(unicode.BigEndian, unicode.UseBOM),
	GB18030: simplifiedchinese.GB18030,
	Big5:    traditionalchinese.Big5,
	Latin1:  charmap.Windows1252,
}

// ToUTF8 returns b in UTF-8, and what it was in. UTF-8 comes back as it is. Unknown comes with nil.
func ToUTF8(b []byte) ([]byte, Name) {
	name := Detect(b)
	if name == UTF8 {
		return b, name
	}
	if name == Unknown {
		return nil, name
	}
	text, err := decoders[name].NewDecoder().Bytes(b)
	if err != nil || bytes.ContainsRune(text, utf8.RuneError) {
		return nil, Unknown
	}
	return text, name
}

// sample is how much of a text Detect looks at, beyond checking that all of it is UTF-8.
const sample = 64 << 10

// minCommon is the least part of two-byte characters that must be common ones, for a text to be in a Chinese encoding: nearly
// all are in real text, and far fewer where another encoding's bytes are read as this one.
const minCommon = 0.75

// Detect tells what b is in. Both Chinese encodings put characters into pairs of bytes in the order of how common they are, so
// the right one is that in which most pairs are common characters. What has pairs of neither is Western, if its bytes beyond
// ASCII stand alone among letters.
func Detect(b []byte) Name {
	if utf8.Valid(b) {
		return UTF8
	}
	switch {
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}):
		return UTF16LE
	case bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		return UTF16BE
	}
	b = b[:min(len(b), sample)]
	if bytes.IndexByte(b, 0) >= 0 {
		return Unknown
	}
	gb, big5 := commonGB(b), commonBig5(b)
	switch {
	case gb >= minCommon && gb >= big5:
		return GB18030
	case big5 >= minCommon:
		return Big5
	case western(b):
		return Latin1
	}
	return Unknown
}

// pairs walks over the two-byte characters of b and returns the part of them that are common. A byte beyond ASCII that begins no
// pair counts as an uncommon one.
func pairs(b []byte, trail, common func(lead, trail byte) bool) float64 {
	n, good := 0, 0
	for i := 0; i < len(b); i++ {
		if b[i] < 0x80 {
			continue
		}
		if i+1 == len(b) {
			break // the sample may end within a character
		}
		n++
		if trail(b[i], b[i+1]) {
			if common(b[i], b[i+1]) {
				good++
			}
			i++
		}
	}
	if n == 0 {
		return 0
	}
	return float64(good) / float64(n)
}

// commonGB counts the 3,755 characters of level 1 of GB 2312, ordered by sound, and its punctuation.
func commonGB(b []byte) float64 {
	return pairs(b,
		func(lead, trail byte) bool {
			return lead != 0x80 && lead != 0xff && trail >= 0x40 && trail != 0x7f && trail != 0xff
		},
		func(lead, trail byte) bool {
			return trail >= 0xa1 && (lead >= 0xb0 && lead <= 0xd7 || lead == 0xa1 || lead == 0xa3)
		})
}

// commonBig5 counts the 5,401 characters of level 1 of Big5, ordered by strokes, and its punctuation.
func commonBig5(b []byte) float64 {
	ok := func(_, trail byte) bool { return trail >= 0x40 && trail <= 0x7e || trail >= 0xa1 && trail <= 0xfe }
	return pairs(b, ok, func(lead, _ byte) bool { return lead >= 0xa4 && lead <= 0xc6 || lead == 0xa1 })
}

// western reports whether the bytes beyond ASCII are few, one or two at a time, and letters or punctuation of Windows-1252.
func western(b []byte) bool {
	letters, high := 0, 0
	for i, c := range b {
		switch {
		case c >= 0x80:
			high++
			if c == 0x81 || c == 0x8d || c == 0x8f || c == 0x90 || c == 0x9d { // undefined
				return false
			}
			if i >= 3 && b[i-1] >= 0x80 && b[i-2] >= 0x80 && b[i-3] >= 0x80 {
				return false
			}
		case 'a' <= c|0x20 && c|0x20 <= 'z':
			letters++
		case c < ' ' && c != '\n' && c != '\r' && c != '\t' && c != '\f':
			return false
		}
	}
	return high*2 <= letters
}
