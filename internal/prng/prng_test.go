package prng

import (
	"math"
	"testing"
)

// The vectors are those of the authors' Random123 library (tests/kat_vectors, philox4x32 10).
func TestPhiloxKnownAnswers(t *testing.T) {
	for _, tt := range []struct {
		counter [4]uint32
		key     [2]uint32
		want    [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{
			[4]uint32{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, [2]uint32{0xffffffff, 0xffffffff},
			[4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
		},
		{
			[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
		},
	} {
		c, k := tt.counter, tt.key
		var got [4]uint32
		if got[0], got[1], got[2], got[3] = philox(c[0], c[1], c[2], c[3], k[0], k[1]); got != tt.want {
			t.Errorf("philox(%x, %x) = %x, want %x", tt.counter, tt.key, got, tt.want)
		}
	}
}

// Every order of data and every initial weight hangs on these.
func TestStreamsAreFrozen(t *testing.T) {
	data := New(1).Split("data")
	if got, want := data.Uint64At(0), uint64(0x56ce36765817a0e3); got != want {
		t.Errorf("New(1).Split(data).Uint64At(0) = %#x, want %#x", got, want)
	}
	if got, want := data.SplitN(3).Uint64At(5), uint64(0x47ff231519382b3e); got != want {
		t.Errorf("SplitN(3).Uint64At(5) = %#x, want %#x", got, want)
	}
	p := NewPermutation(data, 1000)
	var got [5]uint64
	for i := range got {
		got[i] = p.At(uint64(i))
	}
	if want := [5]uint64{925, 990, 206, 954, 77}; got != want {
		t.Errorf("a permutation of 1000 begins %v, want %v", got, want)
	}
}

func TestSplitsDiffer(t *testing.T) {
	k := New(7)
	seen := map[Key]string{}
	for name, key := range map[string]Key{
		"root": k, "a": k.Split("a"), "b": k.Split("b"), "ab": k.Split("ab"), "a.b": k.Split("a").Split("b"),
		"0": k.SplitN(0), "1": k.SplitN(1), "a0": k.Split("a").SplitN(0), "seed 8": New(8), "zero": {},
	} {
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s have one key", name, other)
		}
		seen[key] = name
	}
	if k.SplitN(3).philox == k.Uint64At(3) {
		t.Error("a child key is a number of its parent's stream")
	}
}

func TestMoments(t *testing.T) {
	const n = 200_000
	k := New(3).Split("moments")
	var u, u2, z, z2, z4 float64
	for i := range uint64(n) {
		x := k.Float64At(i)
		if x < 0 || x >= 1 {
			t.Fatalf("Float64At(%d) = %v", i, x)
		}
		g := k.SplitN(0).NormFloat64At(i)
		u, u2, z, z2, z4 = u+x, u2+x*x, z+g, z2+g*g, z4+g*g*g*g
	}
	for _, tt := range []struct {
		name            string
		got, want, sdev float64 // sdev of one sample of the statistic
	}{
		{"uniform mean", u / n, 0.5, math.Sqrt(1.0 / 12)},
		{"uniform second moment", u2 / n, 1.0 / 3, math.Sqrt(1.0/5 - 1.0/9)},
		{"normal mean", z / n, 0, 1},
		{"normal variance", z2 / n, 1, math.Sqrt2},
		{"normal fourth moment", z4 / n, 3, math.Sqrt(96)},
	} {
		if d := math.Abs(tt.got - tt.want); d > 4.5*tt.sdev/math.Sqrt(n) {
			t.Errorf("%s is %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}

func BenchmarkUint64At(b *testing.B) {
	k := New(1)
	var sum uint64
	for i := range b.N {
		sum += k.Uint64At(uint64(i))
	}
	_ = sum
}
