package mix

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"pretrain/internal/prng"
)

func drawWeights(t *rapid.T) []float64 {
	w := make([]float64, rapid.IntRange(1, 12).Draw(t, "sources"))
	for i := range w {
		// From a thousandth to one, evenly on a logarithmic scale, and a fifth of them 0.
		if w[i] = math.Pow(10, rapid.Float64Range(-3, 0).Draw(t, "log weight")); rapid.IntRange(0, 4).Draw(t, "zero") == 0 {
			w[i] = 0
		}
	}
	w[0] = max(w[0], 1e-3)
	return w
}

// Dealt out one by one, rows come in the order that locate says, count counts them and row finds them again.
func TestShareClosedForms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWeights(t)
		s := newShare(w, prng.New(rapid.Uint64().Draw(t, "seed")))
		dealt := make([]int64, len(w))
		for n := range int64(500) {
			src, rank := s.locate(n)
			if w[src] == 0 || rank != dealt[src] {
				t.Fatalf("row %d is number %d of source %d (weight %v), of which %d came before", n, rank, src, w[src], dealt[src])
			}
			if back := s.row(src, rank); back != n {
				t.Fatalf("number %d of source %d is row %d, found at %d", rank, src, n, back)
			}
			dealt[src]++
			for i := range w {
				if got := s.count(i, n+1); got != dealt[i] {
					t.Fatalf("source %d has %d of the first %d rows, count says %d", i, dealt[i], n+1, got)
				}
			}
		}
		far := rapid.Int64Range(0, 1<<50).Draw(t, "far")
		src, rank := s.locate(far)
		if s.row(src, rank) != far || s.count(src, far) != rank || s.count(src, far+1) != rank+1 {
			t.Fatalf("row %d is number %d of source %d; found at %d, %d before it", far, rank, src, s.row(src, rank), s.count(src, far))
		}
	})
}

// Any stretch of rows has each source's share of it, to within the bound, and the bound is below 4 rows.
func TestShareIsEven(t *testing.T) {
	worst := 0.0
	rapid.Check(t, func(t *rapid.T) {
		w, sum := drawWeights(t), 0.0
		for _, x := range w {
			sum += x
		}
		s := newShare(w, prng.New(rapid.Uint64().Draw(t, "seed")))
		from, n := rapid.Int64Range(0, 1<<40).Draw(t, "from"), rapid.Int64Range(1, 100_000).Draw(t, "rows")
		for i := range w {
			off := math.Abs(float64(s.count(i, from+n)-s.count(i, from)) - w[i]/sum*float64(n))
			if off > s.bound(i)+1e-3 || s.bound(i) > 4 {
				t.Fatalf("source %d, weight %v of %v: %v rows off in %d, bound %v", i, w[i], sum, off, n, s.bound(i))
			}
			worst = max(worst, off)
		}
	})
	t.Logf("the worst stretch was %.2f rows off", worst)
	if worst < 0.5 {
		t.Error("no stretch was half a row off: the test sees nothing")
	}
}

// Where p·n + φ is a whole number the closed forms are at their edges; a random φ never is there.
func TestShareAtWholeNumbers(t *testing.T) {
	for _, phi := range []uint64{0, 1, 1 << 62, 1 << 63, math.MaxUint64} {
		for _, p := range []uint64{1, 1 << 62, 1 << 63, 3 << 62, math.MaxUint64} {
			s := &share{nodes: []node{{p, phi, ^0, ^1}}, up: map[int][]turn{}}
			s.climb(0, nil)
			for n := range int64(100) {
				if src, rank := s.locate(n); s.row(src, rank) != n || s.count(src, n) != rank {
					t.Fatalf("p %#x, φ %#x: row %d is number %d of source %d, found at %d", p, phi, n, rank, src, s.row(src, rank))
				}
			}
		}
	}
}

// bound is how far the count of a source in any stretch of rows can be from its share of it, in rows.
func (s *share) bound(source int) float64 {
	e := 0.0
	for _, t := range slices.Backward(s.up[source]) {
		p := float64(s.nodes[t.node].p) * 0x1p-64
		if !t.left {
			p = 1 - p
		}
		e = 1 + p*e
	}
	return e
}
