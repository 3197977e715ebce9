package dedup

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/zeebo/xxh3"

	"pretrain/data/ngram"
	"pretrain/internal/prng"
)

// Hasher computes MinHash signatures. One goroutine uses it at a time.
type Hasher struct {
	c            MinHash
	shingler     *ngram.Shingler
	flip, factor []uint64 // of each hash function
	min          []uint64
	band         []byte
}

// NewHasher makes the bands·rows hash functions of c. The same c gives the same functions, on every machine.
//
// Function i maps an n-gram's 64-bit hash x to the 128-bit product of x XOR flip_i and the odd factor_i, its halves XORed.
// (The customary a·x+b mod 2^61-1 needs that product, too: computed in wrapping 64-bit arithmetic, as in datatrove and
// datasketch, it is not the universal family that it says.)
func NewHasher(c MinHash) *Hasher {
	k := c.Bands * c.Rows
	h := &Hasher{
		c: c, shingler: ngram.New(c.NGram), band: make([]byte, 8*c.Rows),
		flip: make([]uint64, k), factor: make([]uint64, k), min: make([]uint64, k),
	}
	key := prng.New(c.Seed).Split("minhash")
	for i := range k {
		h.flip[i], h.factor[i] = key.Uint64At(uint64(2*i)), key.Uint64At(uint64(2*i+1))|1
	}
	return h
}

// Signature returns, for each hash function, the minimum over the text's n-grams: two texts agree in one with the probability
// of their sets' Jaccard similarity. It is nil for a text without words, and valid until the next call.
func (h *Hasher) Signature(text string) []uint64 {
	for i := range h.min {
		h.min[i] = math.MaxUint64
	}
	empty := true
	h.shingler.Each(text, func(grams []uint64) {
		empty = false
		h.lower(grams)
	})
	if empty {
		return nil
	}
	return h.min
}

// lower takes the n-grams into the minima. This is where the time goes: one multiplication for every n-gram and function. Two
// functions at a time, so that the products of one wait for nothing of the other.
func (h *Hasher) lower(grams []uint64) {
	i := 0
	for ; i+1 < len(h.min); i += 2 {
		flip0, factor0, min0 := h.flip[i], h.factor[i], h.min[i]
		flip1, factor1, min1 := h.flip[i+1], h.factor[i+1], h.min[i+1]
		for _, x := range grams {
			hi, lo := bits.Mul64(x^flip0, factor0)
			if v := hi ^ lo; v < min0 {
				min0 = v
			}
			hi, lo = bits.Mul64(x^flip1, factor1)
			if v := hi ^ lo; v < min1 {
				min1 = v
			}
		}
		h.min[i], h.min[i+1] = min0, min1
	}
	if i < len(h.min) {
		for _, x := range grams {
			h.min[i] = min(h.min[i], ngram.Mix(x^h.flip[i], h.factor[i]))
		}
	}
}

// bandKey is the key of a band of a signature: equal for two documents if all hashes of the band are.
func (h *Hasher) bandKey(signature []uint64, band int) xxh3.Uint128 {
	for j, v := range signature[band*h.c.Rows : (band+1)*h.c.Rows] {
		binary.LittleEndian.PutUint64(h.band[8*j:], v)
	}
	return xxh3.Hash128Seed(h.band, uint64(band))
}

// Candidate is the probability that documents of Jaccard similarity s share a band: the S-curve 1-(1-s^rows)^bands
// (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, §3.4.2).
func (c MinHash) Candidate(s float64) float64 {
	return 1 - math.Pow(1-math.Pow(s, float64(c.Rows)), float64(c.Bands))
}

// Jaccard is the exact similarity that signatures estimate: of the sets of n-grams of two texts, the size of the intersection over
// that of the union. 0 where neither text has words.
func (c MinHash) Jaccard(a, b string) float64 {
	shingler := ngram.New(c.NGram)
	x, y := shingler.Set(a), shingler.Set(b)
	common := 0
	for g := range x {
		if _, ok := y[g]; ok {
			common++
		}
	}
	if len(x)+len(y) == 0 {
		return 0
	}
	return float64(common) / float64(len(x)+len(y)-common)
}

// short keeps the upper 16 bits of each minimum: enough to tell the similarity of two documents, since unequal minima look
// equal once in 65,536 (b-bit minwise hashing: Li and König 2010).
func short(signature []uint64) []byte {
	b := make([]byte, 0, 2*len(signature))
	for _, v := range signature {
		b = binary.LittleEndian.AppendUint16(b, uint16(v>>48))
	}
	return b
}

// similarity is the part of two short signatures that is equal, an estimate of the Jaccard similarity with a standard error of
// sqrt(s(1-s)/k).
func similarity(a, b []byte) float64 {
	if len(a) != len(b) || len(a) == 0 {
		return 0
	}
	equal := 0
	for i := 0; i+1 < len(a); i += 2 {
		if a[i] == b[i] && a[i+1] == b[i+1] {
			equal++
		}
	}
	return float64(equal) / float64(len(a)/2)
}
