package lm

import (
	"unicode"
	"unicode/utf8"

	"pretrain/data/ngram"
)

// A unit is known by a hash. These are no hash of any.
const (
	begin   uint64 = 1 // before a text
	end     uint64 = 2 // after it
	unknown uint64 = 3 // a unit that the reference set has too seldom
)

const hashKey = 0xb7e151628aed2a6b

func unit(h uint64) uint64 { return max(h, unknown+1) }

// tokens appends the units of text to out until it has limit of them.
func (c Config) tokens(out []uint64, text string, limit int) []uint64 {
	if c.Units == Char {
		for _, r := range text {
			if len(out) >= limit {
				break
			}
			out = append(out, unit(ngram.Mix(uint64(r)+hashKey, hashKey)))
		}
		return out
	}
	for pos := 0; pos < len(text) && len(out) < limit; {
		h, next := word(text, pos)
		if next > pos {
			out, pos = append(out, unit(h)), next
			continue
		}
		r, size := utf8.DecodeRuneInString(text[pos:])
		pos += size
		if !unicode.IsSpace(r) {
			out = append(out, unit(ngram.Mix(uint64(r)+hashKey, hashKey)))
		}
	}
	return out
}

// word hashes the word that begins at pos; next is pos where none does.
func word(text string, pos int) (h uint64, next int) {
	h = ^uint64(hashKey)
	for pos < len(text) {
		r, size := rune(text[pos]), 1
		switch {
		case r >= utf8.RuneSelf:
			r, size = utf8.DecodeRuneInString(text[pos:])
			if ngram.IsCJK(r) || !ngram.IsLetter(r) {
				return h, pos
			}
			r = unicode.ToLower(r)
		case r >= '0' && r <= '9':
			r = '0'
		case r >= 'A' && r <= 'Z':
			r |= 0x20
		case r < 'a' || r > 'z':
			return h, pos
		}
		h = ngram.Mix(h^uint64(r), hashKey)
		pos += size
	}
	return h, pos
}

// extend is the hash of an n-gram with one more unit before it.
func extend(gram, before uint64) uint64 { return max(ngram.Mix(gram^rotate(before), hashKey), 1) }

func rotate(x uint64) uint64 { return x<<29 | x>>35 }
