package label

import (
	"math/bits"
	"unicode"
	"unicode/utf8"

	"pretrain/data/ngram"
)

// extractor turns texts into features. One goroutine uses it at a time.
type extractor struct {
	f        Features
	tokens   []token
	features []uint32
}

// token is a part of a text with the hash of its lower-case form.
type token struct {
	start, end int
	hash       uint64
	word       bool
}

const (
	hashSeed = 0x9e3779b97f4a7c15
	hashKey  = 0xb7e151628aed2a6b
	charSeed = 0x2545f4914f6cdd1d
	wordMark = '\x01' // stands at the beginning and end of a word, as < and > in fastText
)

// extract returns the features of a text, as buckets, in no particular order and with repetitions. The slice is used again.
func (e *extractor) extract(text string) []uint32 {
	e.tokenise(text)
	e.features = e.features[:0]
	buckets := uint64(e.f.Buckets)
	add := func(h uint64) {
		hi, _ := bits.Mul64(h, buckets) // as h mod buckets, without the division (Lemire 2019).
		e.features = append(e.features, uint32(hi))
	}
	for i, t := range e.tokens {
		h := t.hash
		add(h)
		for j := i + 1; j < min(i+e.f.WordNGrams, len(e.tokens)); j++ {
			h = ngram.Mix(h^e.tokens[j].hash, hashKey)
			add(h)
		}
	}
	if e.f.MaxChars > 0 {
		for _, t := range e.tokens {
			if t.word {
				e.charNGrams(text[t.start:t.end], add)
			}
		}
	}
	return e.features
}

// tokenise finds the first MaxTokens tokens.
func (e *extractor) tokenise(text string) {
	e.tokens = e.tokens[:0]
	for pos := 0; pos < len(text) && len(e.tokens) < e.f.MaxTokens; {
		start := pos
		h := uint64(hashSeed)
		for pos < len(text) {
			c := text[pos]
			size := 1
			r := rune(c)
			if c >= utf8.RuneSelf {
				r, size = utf8.DecodeRuneInString(text[pos:])
				if ngram.IsCJK(r) || !ngram.IsLetter(r) {
					break
				}
				r = unicode.ToLower(r)
			} else if c >= 'A' && c <= 'Z' {
				r |= 0x20
			} else if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
				break
			}
			h = ngram.Mix(h^uint64(r), hashKey)
			pos += size
		}
		if pos > start {
			e.tokens = append(e.tokens, token{start, pos, h, true})
			continue
		}
		r, size := utf8.DecodeRuneInString(text[pos:])
		pos += size
		if !unicode.IsSpace(r) {
			e.tokens = append(e.tokens, token{start, pos, ngram.Mix(h^uint64(r), hashKey), false})
		}
	}
}

// charNGrams adds the n-grams of the characters of a word with its marks.
func (e *extractor) charNGrams(word string, add func(uint64)) {
	chars := append(make([]rune, 0, 32), wordMark)
	for _, r := range word {
		chars = append(chars, unicode.ToLower(r))
	}
	chars = append(chars, wordMark)
	for i := range chars {
		h := uint64(charSeed)
		for n := 1; n <= e.f.MaxChars && i+n <= len(chars); n++ {
			h = ngram.Mix(h^uint64(chars[i+n-1]), hashKey)
			if n >= e.f.MinChars && n < len(chars) { // the whole word is a feature already
				add(h)
			}
		}
	}
}
