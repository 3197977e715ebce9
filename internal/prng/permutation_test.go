package prng

import (
	"math"
	"math/bits"
	"testing"

	"pgregory.net/rapid"
)

func TestPermutationIsBijective(t *testing.T) {
	for n := uint64(1); n <= 600; n++ {
		p := NewPermutation(New(n), n)
		seen := make([]bool, n)
		for i := range n {
			v := p.At(i)
			if v >= n || seen[v] {
				t.Fatalf("n %d: At(%d) = %d, out of range or twice", n, i, v)
			}
			seen[v] = true
			if p.Index(v) != i {
				t.Fatalf("n %d: Index(At(%d)) = %d", n, i, p.Index(v))
			}
		}
	}
}

func TestPermutationInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(1, 1<<rapid.UintRange(0, 56).Draw(t, "bits")).Draw(t, "n")
		p := NewPermutation(New(rapid.Uint64().Draw(t, "seed")), n)
		i, j := rapid.Uint64Range(0, n-1).Draw(t, "i"), rapid.Uint64Range(0, n-1).Draw(t, "j")
		if v := p.At(i); v >= n || p.Index(v) != i {
			t.Fatalf("At(%d) = %d, whose Index is %d", i, v, p.Index(v))
		}
		if p.At(p.Index(j)) != j {
			t.Fatalf("At(Index(%d)) = %d", j, p.At(p.Index(j)))
		}
		if i != j && p.At(i) == p.At(j) {
			t.Fatalf("%d and %d both go to %d", i, j, p.At(i))
		}
	})
}

// Over many keys each number stands in each place equally often, and so does each pair of numbers in each pair of places.
func TestPermutationIsUniform(t *testing.T) {
	const keys = 40_000
	root := New(11)
	for _, n := range []uint64{2, 3, 4, 5, 7, 16, 33, 64, 100} {
		places := make([]float64, n*n) // [place, number]
		pairs := make([]float64, n*n)  // [number in place 0, number in place 1]
		for s := range uint64(keys) {
			p := NewPermutation(root.SplitN(n<<32|s), n)
			for i := range n {
				places[i*n+p.At(i)]++
			}
			pairs[p.At(0)*n+p.At(1)]++
		}
		expectChi2(t, "places", n, places, float64(keys)/float64(n), (n-1)*(n-1))
		var offDiagonal []float64
		for i, c := range pairs {
			if uint64(i)/n != uint64(i)%n {
				offDiagonal = append(offDiagonal, c)
			}
		}
		expectChi2(t, "pairs", n, offDiagonal, float64(keys)/float64(n*(n-1)), n*(n-1)-1)
	}
}

// All orders of four things are equally likely over the keys.
func TestPermutationReachesEveryOrder(t *testing.T) {
	const keys = 48_000
	counts := map[[4]uint64]float64{}
	for s := range uint64(keys) {
		p := NewPermutation(New(5).SplitN(s), 4)
		counts[[4]uint64{p.At(0), p.At(1), p.At(2), p.At(3)}]++
	}
	var c []float64
	for _, v := range counts {
		c = append(c, v)
	}
	if len(c) != 24 {
		t.Fatalf("%d of 24 orders", len(c))
	}
	expectChi2(t, "orders", 4, c, keys/24.0, 23)
}

func TestShuffleIsUniform(t *testing.T) {
	const keys = 48_000
	counts := map[[4]uint32]float64{}
	for s := range uint64(keys) {
		var order [4]uint32
		Shuffle(New(6).SplitN(s), order[:])
		counts[order]++
	}
	var c []float64
	for _, v := range counts {
		c = append(c, v)
	}
	if len(c) != 24 {
		t.Fatalf("%d of 24 orders", len(c))
	}
	expectChi2(t, "orders", 4, c, keys/24.0, 23)

	long, seen := make([]uint32, 1000), make([]bool, 1000)
	Shuffle(New(6), long)
	for _, v := range long {
		if seen[v] {
			t.Fatalf("%d twice", v)
		}
		seen[v] = true
	}
}

// expectChi2 fails where the statistic is more than 4.5 standard deviations off (Wilson and Hilferty's approximation).
func expectChi2(t *testing.T, what string, n uint64, counts []float64, want float64, freedom uint64) {
	t.Helper()
	var chi2 float64
	for _, c := range counts {
		chi2 += (c - want) * (c - want) / want
	}
	if freedom == 0 {
		return
	}
	k := float64(freedom)
	z := (math.Cbrt(chi2/k) - (1 - 2/(9*k))) / math.Sqrt(2/(9*k))
	if math.Abs(z) > 4.5 {
		t.Errorf("n %d, %s: chi² %.1f of %d degrees of freedom, %.1f standard deviations off", n, what, chi2, freedom, z)
	}
}

// One changed bit of the input changes half the bits of the output, and so does the next key.
func TestPermutationAvalanche(t *testing.T) {
	for _, width := range []uint{16, 21, 40} {
		n := uint64(1) << width
		root := New(uint64(width))
		var flips, keyFlips, total float64
		for s := range uint64(2000) {
			p, q := NewPermutation(root.SplitN(s), n), NewPermutation(root.SplitN(s+1<<20), n)
			x := root.Split("x").Uint64At(s) % n
			for b := range width {
				flips += float64(bits.OnesCount64(p.At(x) ^ p.At(x^1<<b)))
				keyFlips += float64(bits.OnesCount64(p.At(x^1<<b) ^ q.At(x^1<<b)))
				total += float64(width)
			}
		}
		if got := flips / total; math.Abs(got-0.5) > 0.005 {
			t.Errorf("%d bits: an input bit changes %.4f of the output", width, got)
		}
		if got := keyFlips / total; math.Abs(got-0.5) > 0.005 {
			t.Errorf("%d bits: the key changes %.4f of the output", width, got)
		}
	}
}

// Neighbours do not stay neighbours: the serial correlation of the order of 2^16 numbers is that of chance.
func TestPermutationSerialCorrelation(t *testing.T) {
	for n := uint64(60_000); n < 60_010; n++ {
		p := NewPermutation(New(n), n)
		mean, variance := float64(n-1)/2, (float64(n)*float64(n)-1)/12
		var r float64
		for i := range n {
			r += (float64(p.At(i)) - mean) * (float64(p.At((i+1)%n)) - mean)
		}
		if r /= float64(n) * variance; math.Abs(r) > 4.5/math.Sqrt(float64(n)) {
			t.Errorf("n %d: serial correlation %v", n, r)
		}
	}
}

func BenchmarkPermutationAt(b *testing.B) {
	p := NewPermutation(New(1), 10_000_000)
	var sum uint64
	for i := range b.N {
		sum += p.At(uint64(i) % 10_000_000)
	}
	_ = sum
}

func BenchmarkShuffle1024(b *testing.B) {
	order := make([]uint32, 1024)
	for i := range b.N {
		Shuffle(Key{philox: uint64(i)}, order)
	}
}

func BenchmarkNewPermutation(b *testing.B) {
	var p Permutation
	for i := range b.N {
		p = NewPermutation(New(1), uint64(i)+1)
	}
	_ = p
}
