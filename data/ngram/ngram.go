// Package ngram reads a text as hashed n-grams of words, at some 500 MB/s of English text on one core. Deduplication and
// decontamination compare texts by them.
//
// A word is a run of letters, marks and digits without regard to case, or a single CJK character, which stands for a word in
// scripts that do not part them. Punctuation and white space only part words.
package ngram

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Max is the longest n-gram.
const Max = 32

const (
	// blockTokens is how many words are hashed at a time: their n-grams stay in the first-level cache while all permutations
	// pass over them.
	blockTokens = 512
	// Odd constants with about as many ones as zeros (the fractional digits of e and π); any such would do.
	wordKey  = 0xb7e151628aed2a6b
	rollBase = 0x243f6a8885a308d3
)

// Shingler turns texts into the hashes of their n-grams. One goroutine uses it at a time.
type Shingler struct {
	n      int
	expire uint64 // rollBase^n: what the oldest word of a window has been multiplied by when it leaves
	words  [Max + blockTokens]uint64
	grams  [blockTokens]uint64
}

// New makes a Shingler of n-grams of n words, 1 to [Max].
func New(n int) *Shingler {
	s := &Shingler{n: n, expire: 1}
	for range n {
		s.expire *= rollBase
	}
	return s
}

// Each calls block with the hashes of the n-grams of text, in order, some hundred at a time. A text of fewer than n words is
// one n-gram; a text without words has none. The slice is used again after block returns.
//
// The hash of an n-gram is Σ word_i·rollBase^(n-1-i) mod 2^64 over hashes of words: rolling, so its cost does not depend on n.
func (s *Shingler) Each(text string, block func(grams []uint64)) {
	// words holds Max words of the past, zeros at first, then the block's.
	clear(s.words[:Max])
	var sum uint64
	seen := 0
	for pos := 0; ; {
		var n int
		n, pos = hashWords(text, pos, s.words[Max:])
		grams := s.grams[:0]
		for j := range n {
			sum = sum*rollBase + s.words[Max+j] - s.words[Max+j-s.n]*s.expire
			if seen++; seen >= s.n {
				grams = append(grams, sum)
			}
		}
		if n < blockTokens {
			if seen > 0 && seen < s.n {
				grams = append(grams, sum)
			}
			if len(grams) > 0 {
				block(grams)
			}
			return
		}
		block(grams)
		copy(s.words[:Max], s.words[n:n+Max])
	}
}

// wordByte tells the ASCII letters and digits.
var wordByte = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	return t
}()

// hashWords hashes the words of text from pos on into out, until it is full or the text ends. It returns how many there were
// and where it stopped.
func hashWords(text string, pos int, out []uint64) (n, next int) {
	for n < len(out) {
		for pos < len(text) && text[pos] < utf8.RuneSelf && !wordByte[text[pos]] {
			pos++
		}
		if pos >= len(text) {
			break
		}
		end := pos
		for end < len(text) && wordByte[text[end]] {
			end++
		}
		if end < len(text) && text[end] >= utf8.RuneSelf {
			var ok bool
			if out[n], pos, ok = hashWide(text, pos, end); ok {
				n++
			}
			continue
		}
		out[n] = hashASCII(0, text[pos:end])
		n++
		pos = end
	}
	return n, pos
}

// hashASCII hashes a word of ASCII letters and digits, after h. Of those, setting bit 5 makes upper case lower and leaves the
// rest as it is.
func hashASCII(h uint64, word string) uint64 {
	const lower = 0x2020202020202020
	h ^= uint64(len(word))
	for ; len(word) > 8; word = word[8:] {
		h = Mix(h^(load(word)|lower), wordKey)
	}
	var last [8]byte
	copy(last[:], word)
	return Mix(h^(binary.LittleEndian.Uint64(last[:])|lower), wordKey)
}

// load reads the first eight bytes of s.
func load(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// hashWide hashes the word that begins at start and has, or is followed by, characters beyond ASCII. text[start:pos] are its
// leading ASCII ones, which may be none. next is where the word ends. It reports false where there was no word but a separator.
func hashWide(text string, start, pos int) (h uint64, next int, ok bool) {
	if pos > start {
		h = hashASCII(0, text[start:pos])
	}
	for pos < len(text) {
		r, size := utf8.DecodeRuneInString(text[pos:])
		if IsCJK(r) {
			if pos > start { // ends the word before it
				return h, pos, true
			}
			return Mix(uint64(r)^rollBase, wordKey), pos + size, true
		}
		if !IsLetter(r) {
			if pos > start {
				return h, pos, true
			}
			return 0, pos + size, false
		}
		h = Mix(h^uint64(unicode.ToLower(r)), wordKey)
		pos += size
	}
	return h, pos, true
}

// IsCJK tells the characters that stand for a word each: Han, kana and Hangul syllables.
func IsCJK(r rune) bool {
	switch {
	case r < 0x3040:
		return r >= 0x2e80 && r <= 0x2fdf || r >= 0x3005 && r <= 0x3007
	case r <= 0x30ff, r >= 0x3400 && r <= 0x4dbf, r >= 0x4e00 && r <= 0x9fff:
		return r != 0x30fb
	}
	return r >= 0xac00 && r <= 0xd7a3 || r >= 0xf900 && r <= 0xfaff || r >= 0x20000 && r <= 0x3ffff
}

// IsLetter tells letters, marks and digits of any script.
func IsLetter(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r)
}

// Mix is the 128-bit product folded to 64 bits, as in wyhash: every bit of the operands reaches every bit of the result.
func Mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// Set is the set of n-grams of a text.
func (s *Shingler) Set(text string) map[uint64]struct{} {
	set := map[uint64]struct{}{}
	s.Each(text, func(grams []uint64) {
		for _, g := range grams {
			set[g] = struct{}{}
		}
	})
	return set
}

// Count is the number of words in a text.
func Count(text string) int {
	var words [blockTokens]uint64
	count := 0
	for pos := 0; ; {
		var n int
		n, pos = hashWords(text, pos, words[:])
		if count += n; n < len(words) {
			return count
		}
	}
}

// Span is the part of a text from its word number first, counted from 0, to the last of n words.
func Span(text string, first, n int) string {
	var word [1]uint64
	pos, start := 0, 0
	for i := range first + n {
		before := pos
		var got int
		if got, pos = hashWords(text, pos, word[:]); got == 0 {
			break
		}
		if i == first {
			start = before + strings.IndexFunc(text[before:pos], func(r rune) bool { return IsCJK(r) || IsLetter(r) })
		}
	}
	return text[start:pos]
}
