package dedup

import (
	"encoding/binary"
	"math"

	"github.com/zeebo/xxh3"

	"pretrain/data/ngram"
	"pretrain/internal/prng"
)

// Hasher computes MinHash signatures. One goroutine uses it at a time.
type Hasher struct {
	c           MinHash
	shingler    *ngram.Shingler
	add, factor []uint64 // of each hash function, padded to a multiple of lanes
	min         []uint64
	band        []byte
}

// lanes is how many hash functions are computed together.
const lanes = 16

// NewHasher makes the bands·rows hash functions of c. The same c gives the same functions, on every machine.
//
// Function i is factor_i·x + add_i mod 2^64 with an odd factor (multiply-add-shift, Dietzfelbinger et al. 1997), of which the upper bits decide the
// minimum. x is the n-gram's hash, whose words went through a 128-bit product each ([ngram.Mix]), so it is random in all bits. (The
// customary a·x+b mod 2^61-1 needs a 128-bit product: computed in wrapping 64-bit arithmetic, as in datatrove and datasketch,
// it is not the universal family that it says.)
func NewHasher(c MinHash) *Hasher {
	k := c.Bands * c.Rows
	padded := (k + lanes - 1) / lanes * lanes
	h := &Hasher{
		c: c, shingler: ngram.New(c.NGram), band: make([]byte, 8*c.Rows),
		add: make([]uint64, padded), factor: make([]uint64, padded), min: make([]uint64, padded),
	}
	key := prng.New(c.Seed).Split("minhash")
	for i := range padded {
		h.add[i], h.factor[i] = key.Uint64At(uint64(2*i)), key.Uint64At(uint64(2*i+1))|1
	}
	return h
}

// reset makes the signature that of no n-grams.
func (h *Hasher) reset() {
	for i := range h.min {
		h.min[i] = math.MaxUint64
	}
}

// Signature returns, for each hash function, the minimum over the text's n-grams: two texts agree in one with the probability
// of their sets' Jaccard similarity. It is nil for a text without words, and valid until the next call.
func (h *Hasher) Signature(text string) []uint64 {
	h.reset()
	empty := true
	h.shingler.Each(text, func(grams []uint64) {
		empty = false
		lower(grams, h.add, h.factor, h.min)
	})
	if empty {
		return nil
	}
	return h.min[:h.size()]
}

// size is the number of hash functions.
func (h *Hasher) size() int { return h.c.Bands * h.c.Rows }

// lowerAny takes n-grams into the minima of all functions. This is where the time goes: a multiplication for every n-gram and function.
// Four functions at a time, so that none waits for another.
func lowerAny(grams, add, factor, lowest []uint64) {
	for i := 0; i+4 <= len(lowest); i += 4 {
		a, f, m := (*[4]uint64)(add[i:]), (*[4]uint64)(factor[i:]), (*[4]uint64)(lowest[i:])
		a0, a1, a2, a3 := a[0], a[1], a[2], a[3]
		f0, f1, f2, f3 := f[0], f[1], f[2], f[3]
		m0, m1, m2, m3 := m[0], m[1], m[2], m[3]
		for _, x := range grams {
			m0 = min(m0, x*f0+a0)
			m1 = min(m1, x*f1+a1)
			m2 = min(m2, x*f2+a2)
			m3 = min(m3, x*f3+a3)
		}
		m[0], m[1], m[2], m[3] = m0, m1, m2, m3
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
