package dedup

import (
	"encoding/binary"
	"math/bits"
	"unicode"
	"unicode/utf8"
)

// A text is read as a sequence of words: runs of letters and digits without regard to case, or single CJK characters, which
// stand for words in scripts that do not part them. Punctuation and white space only part words.

const (
	// blockTokens is how many words are hashed at a time: their n-grams stay in the first-level cache while all permutations
	// pass over them.
	blockTokens = 512
	maxNGram    = 32
	// Odd constants with about as many ones as zeros (the fractional digits of e and π); any such would do.
	wordKey  = 0xb7e151628aed2a6b
	rollBase = 0x243f6a8885a308d3
)

// shingler turns a text into the hashes of its n-grams, block by block.
type shingler struct {
	n      int
	expire uint64 // rollBase^n: what the oldest word of a window has been multiplied by when it leaves
	words  [maxNGram + blockTokens]uint64
	grams  [blockTokens]uint64
}

func newShingler(n int) *shingler {
	s := &shingler{n: n, expire: 1}
	for range n {
		s.expire *= rollBase
	}
	return s
}

// shingles calls block with the hashes of the n-grams of text, in order, some hundred at a time. A text of fewer than n words is
// one n-gram; a text without words has none. The slice is used again after block returns.
//
// The hash of an n-gram is Σ word_i·rollBase^(n-1-i) mod 2^64 over hashes of words: rolling, so its cost does not depend on n.
func (s *shingler) shingles(text string, block func(grams []uint64)) {
	// words holds maxNGram words of the past, zeros at first, then the block's.
	clear(s.words[:maxNGram])
	var sum uint64
	seen := 0
	for pos := 0; ; {
		var n int
		n, pos = hashWords(text, pos, s.words[maxNGram:])
		grams := s.grams[:0]
		for j := range n {
			sum = sum*rollBase + s.words[maxNGram+j] - s.words[maxNGram+j-s.n]*s.expire
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
		copy(s.words[:maxNGram], s.words[n:n+maxNGram])
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
		h = mix(h^(load(word)|lower), wordKey)
	}
	var last [8]byte
	copy(last[:], word)
	return mix(h^(binary.LittleEndian.Uint64(last[:])|lower), wordKey)
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
		if isCJK(r) {
			if pos > start { // ends the word before it
				return h, pos, true
			}
			return mix(uint64(r)^rollBase, wordKey), pos + size, true
		}
		if !isLetter(r) {
			if pos > start {
				return h, pos, true
			}
			return 0, pos + size, false
		}
		h = mix(h^uint64(unicode.ToLower(r)), wordKey)
		pos += size
	}
	return h, pos, true
}

// isCJK tells the characters that stand for a word each: Han, kana and Hangul syllables.
func isCJK(r rune) bool {
	switch {
	case r < 0x3040:
		return r >= 0x2e80 && r <= 0x2fdf || r >= 0x3005 && r <= 0x3007
	case r <= 0x30ff, r >= 0x3400 && r <= 0x4dbf, r >= 0x4e00 && r <= 0x9fff:
		return r != 0x30fb
	}
	return r >= 0xac00 && r <= 0xd7a3 || r >= 0xf900 && r <= 0xfaff || r >= 0x20000 && r <= 0x3ffff
}

func isLetter(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r)
}

// mix is the 128-bit product folded to 64 bits, as in wyhash: every bit of the operands reaches every bit of the result.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
