package dedup

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pretrain/internal/prng"
)

// overlapping makes two texts of n random words each, of which the first share are common; with 1-grams their Jaccard similarity
// is share/(2n-share).
func overlapping(n, share int, seed uint64) (a, b string) {
	key := prng.New(seed)
	word := func(i int) string { return fmt.Sprintf("w%d ", key.Uint64At(uint64(i))) }
	var x, y strings.Builder
	for i := range n {
		x.WriteString(word(i))
		if i < share {
			y.WriteString(word(i))
		} else {
			y.WriteString(word(n + i))
		}
	}
	return x.String(), y.String()
}

// Pairs of similarity s become candidates as often as the S-curve 1-(1-s^r)^b says, and signatures agree as often as s with the
// variance of independent hashes.
func TestSCurve(t *testing.T) {
	const n, trials = 120, 600
	c := Default().MinHash
	c.NGram = 1
	for _, s := range []float64{0.5, 0.6, 0.7, 0.75, 0.8, 0.9} {
		share := int(math.Round(2 * n * s / (1 + s)))
		exact := float64(share) / float64(2*n-share)
		candidates, sum, squares := 0, 0.0, 0.0
		for trial := range trials {
			c.Seed = uint64(trial)
			h := NewHasher(c)
			a, b := overlapping(n, share, uint64(trial))
			if got := c.Jaccard(a, b); math.Abs(got-exact) > 1e-12 {
				t.Fatalf("Jaccard %v, want %v", got, exact)
			}
			x := slices.Clone(h.Signature(a))
			y := h.Signature(b)
			for band := range c.Bands {
				from, to := band*c.Rows, (band+1)*c.Rows
				if slices.Equal(x[from:to], y[from:to]) {
					candidates++
					break
				}
			}
			e := similarity(short(x), short(y)) - exact
			sum, squares = sum+e, squares+e*e
		}
		// Four standard errors of a proportion: one such test in 16,000 fails by chance, and the seeds are fixed.
		p, rate := c.Candidate(exact), float64(candidates)/trials
		if limit := 4*math.Sqrt(p*(1-p)/trials) + 1e-3; math.Abs(rate-p) > limit {
			t.Errorf("s %.2f: %.3f are candidates, the S-curve says %.3f ± %.3f", s, rate, p, limit)
		}
		variance := exact * (1 - exact) / float64(c.Bands*c.Rows)
		if mean := sum / trials; math.Abs(mean) > 4*math.Sqrt(variance/trials) {
			t.Errorf("s %.2f: the estimate is off by %.4f on average", s, mean)
		}
		if ratio := squares / trials / variance; ratio < 0.75 || ratio > 1.25 {
			t.Errorf("s %.2f: the estimate's variance is %.2f of that of independent hashes", s, ratio)
		}
	}
}

// The figures that FineWeb gives for its setting (14 bands of 8): 56, 77, 92 and 98.8% at 0.70, 0.75, 0.80 and 0.85.
func TestCandidate(t *testing.T) {
	for s, want := range map[float64]float64{0.70: 0.56, 0.75: 0.77, 0.80: 0.92, 0.85: 0.988} {
		if got := Default().MinHash.Candidate(s); math.Abs(got-want) > 0.006 {
			t.Errorf("at %v: %.3f, want %v", s, got, want)
		}
	}
}

// The vector code of this machine, where it has some, gives what the plain code gives.
func TestLower(t *testing.T) {
	key := prng.New(3)
	numbers := func(n int, part uint64) []uint64 {
		out := make([]uint64, n)
		for i := range out {
			out[i] = key.SplitN(part).Uint64At(uint64(i))
		}
		return out
	}
	for _, k := range []int{lanes, 7 * lanes, 16 * lanes} {
		for _, n := range []int{0, 1, 2, 17, 512} {
			want, got := numbers(k, 1), numbers(k, 1)
			lowerAny(numbers(n, 2), numbers(k, 3), numbers(k, 4), want)
			lower(numbers(n, 2), numbers(k, 3), numbers(k, 4), got)
			if !slices.Equal(got, want) {
				t.Errorf("%d functions of %d n-grams differ", k, n)
			}
		}
	}
}

// Invalid UTF-8 is read as separators; nothing panics and nothing depends on where a block ends.
func FuzzSignature(f *testing.F) {
	f.Add("some words, 中文 and \xff\xfe bytes")
	f.Add(strings.Repeat("a ", 600))
	h := NewHasher(Default().MinHash)
	f.Fuzz(func(t *testing.T, text string) {
		first := slices.Clone(h.Signature(text))
		if !slices.Equal(first, h.Signature(text)) {
			t.Error("two signatures of one text")
		}
		if padded := h.Signature("\n" + text + "\n"); !slices.Equal(first, padded) {
			t.Error("white space around the text changes its signature")
		}
	})
}
