package quality

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/zeebo/xxh3"
)

// Units are what a rule counts as words.
type Units string

// The units.
const (
	// Auto is Char for a text a third or more of whose letters are Chinese or Japanese, Word for any other.
	Auto Units = "auto"
	// Word cuts as spaCy's English tokenizer does, which datatrove uses: punctuation is cut off, "don't" is two words.
	Word Units = "word"
	// Char takes each Chinese or Japanese character for a word, and cuts what stands between them as Word does.
	Char Units = "char"
)

// Valid reports whether u is one of the units.
func (u Units) Valid() bool { return u == Auto || u == Word || u == Char }

// word is a word or a punctuation mark of a text.
type word struct {
	start, end int // bytes
	chars      int
	hash       uint64
	letter     bool // it has one
	symbol     bool // it has nothing but punctuation
}

// Words cuts texts into words. It remembers the last text, so that rules that judge the same one share the work. One goroutine
// uses it at a time.
type Words struct {
	text  string
	units Units // of text: Word or Char
	asked Units
	list  []word
	chars int      // of text
	tail  [][2]int // suffixes of a chunk, the last one first
	set   table
}

// of is the words of a text, valid until the next call.
func (w *Words) of(text string, units Units) []word {
	if text == w.text && units == w.asked && text != "" {
		return w.list
	}
	w.text, w.asked, w.units, w.list = text, units, units, w.list[:0]
	if units == Auto {
		w.units = unitsOf(text)
	}
	w.chars = utf8.RuneCountInString(text)
	if w.units == Char {
		w.cutChars()
	} else {
		w.cutWords()
	}
	return w.list
}

// autoSample is how much of a text Auto looks at.
const autoSample = 4 << 10

// unitsOf decides between Word and Char.
func unitsOf(text string) Units {
	letters, cjk := 0, 0
	for i, r := range text {
		if i >= autoSample {
			break
		}
		switch {
		case isCJK(r):
			cjk++
			letters++
		case r < utf8.RuneSelf && isASCIILetter(byte(r)) || r >= utf8.RuneSelf && unicode.IsLetter(r):
			letters++
		}
	}
	if cjk*3 >= letters && cjk > 0 {
		return Char
	}
	return Word
}

// isCJK reports whether r is a character of a script that writes no spaces between words: Han, Hiragana or Katakana.
func isCJK(r rune) bool {
	return r >= 0x3041 && (r <= 0x30ff || r >= 0x3400 && r <= 0x4dbf || r >= 0x4e00 && r <= 0x9fff || r >= 0xf900 && r <= 0xfaff || r >= 0x20000 && r <= 0x3ffff) ||
		r == 0x3005
}

func isASCIILetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// add appends the word text[start:end].
func (w *Words) add(start, end int) {
	s := w.text[start:end]
	x := word{start: start, end: end, hash: xxh3.HashString(s), symbol: true}
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			i++
			x.chars++
			if isASCIILetter(c) {
				x.letter, x.symbol = true, false
			} else if c >= '0' && c <= '9' || !asciiPunctuation[c] {
				x.symbol = false
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		x.chars++
		if isCJK(r) || unicode.IsLetter(r) {
			x.letter, x.symbol = true, false
		} else if !isPunctuation(r) {
			x.symbol = false
		}
	}
	w.list = append(w.list, x)
}

// cutChars cuts Chinese and Japanese into characters, and what stands between them as cutWords does.
func (w *Words) cutChars() {
	start := -1 // of a piece of something else
	flush := func(end int) {
		if start >= 0 {
			w.cutChunk(start, end)
			start = -1
		}
	}
	var r rune
	var n int
	for i := 0; i < len(w.text); i += n {
		r, n = utf8.DecodeRuneInString(w.text[i:])
		switch {
		case unicode.IsSpace(r):
			flush(i)
		case isCJK(r) || r >= utf8.RuneSelf && lone[r]:
			flush(i)
			w.add(i, i+n)
		case start < 0:
			start = i
		}
	}
	flush(len(w.text))
}

// cutWords cuts at white space, and then takes each piece apart.
func (w *Words) cutWords() {
	text := w.text
	for i := 0; i < len(text); {
		if c := text[i]; c < utf8.RuneSelf {
			if asciiSpace[c] {
				i++
				continue
			}
		} else if r, n := utf8.DecodeRuneInString(text[i:]); unicode.IsSpace(r) {
			i += n
			continue
		}
		start, plain, digits := i, true, 0
		for i < len(text) {
			c := text[i]
			if c < utf8.RuneSelf {
				if asciiSpace[c] {
					break
				}
				if '0' <= c && c <= '9' {
					digits++
				} else {
					plain = plain && isASCIILetter(c)
				}
				i++
				continue
			}
			r, n := utf8.DecodeRuneInString(text[i:])
			if unicode.IsSpace(r) {
				break
			}
			plain = plain && unicode.IsLetter(r)
			i += n
		}
		if plain && (digits == 0 || digits == i-start) && w.text[start:i] != "cannot" {
			w.add(start, i)
		} else {
			w.cutChunk(start, i)
		}
	}
}

// cutChunk takes a piece without white space apart as spaCy does: prefixes and suffixes one by one, then what is inside.
func (w *Words) cutChunk(start, end int) {
	w.tail = w.tail[:0]
	for start < end {
		chunk := w.text[start:end]
		if split := exception(chunk); split >= 0 {
			if split > 0 {
				w.add(start, start+split)
			}
			w.add(start+split, end)
			break
		}
		if n := prefix(chunk); n > 0 {
			w.add(start, start+n)
			start += n
			continue
		}
		if n := suffix(chunk); n > 0 {
			w.tail = append(w.tail, [2]int{end - n, end})
			end -= n
			continue
		}
		w.cutInfixes(start, end)
		break
	}
	for i := len(w.tail) - 1; i >= 0; i-- {
		w.add(w.tail[i][0], w.tail[i][1])
	}
}

// cutInfixes cuts at hyphens, slashes, ellipses and the like between letters.
func (w *Words) cutInfixes(start, end int) {
	chunk := w.text[start:end]
	if isURL(chunk) || w.units == Char && strings.Contains(chunk, "://") {
		w.add(start, end)
		return
	}
	from := 0
	for i := 0; i < len(chunk); {
		n := infix(chunk, i)
		if n == 0 {
			_, size := utf8.DecodeRuneInString(chunk[i:])
			i += size
			continue
		}
		if i > from {
			w.add(start+from, start+i)
		}
		w.add(start+i, start+i+n)
		i += n
		from = i
	}
	if from < len(chunk) {
		w.add(start+from, end)
	}
}

// isURL reports whether a piece is one, and so stays whole.
func isURL(chunk string) bool {
	for _, scheme := range []string{"http://", "https://", "ftp://", "www."} {
		if len(chunk) > len(scheme) && strings.EqualFold(chunk[:len(scheme)], scheme) {
			return true
		}
	}
	return false
}
