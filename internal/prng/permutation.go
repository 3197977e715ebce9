package prng

import (
	"fmt"
	"math/bits"
)

// MaxPermutation is the largest n of [NewPermutation], 2^56: 72 quadrillion.
const MaxPermutation = 1 << 56

const rounds = 8

// minBits widens tiny domains. A Feistel network over 2 or 3 bits has too few states to reach every order of its
// points; over 64 points, of which cycle walking keeps n, small n come out as uniform as the tests can see.
const minBits = 6

// Permutation is a random order of the numbers 0 to n-1 that is computed, not stored: At(i) is the i-th number in the
// order and Index(v) the place of v, each in O(1) time and no memory beyond the eight round keys.
//
// It is a Feistel network (Luby and Rackoff 1988) over the smallest number of bits that holds n, hence a bijection whatever
// the round function is; values at or above n are fed back until one falls below (cycle walking, Black and Rogaway 2002),
// which keeps it a bijection. The domain is below 2n for n ≥ 64, so that takes fewer than two turns on average.
type Permutation struct {
	n           uint64
	left, right uint // bits in the two halves; left = right or right-1
	keys        [rounds]uint64
}

// NewPermutation is the order of [0, n) that the key stands for. n is 1 to [MaxPermutation]; it panics otherwise, since
// no input of a user reaches it unchecked.
func NewPermutation(k Key, n uint64) Permutation {
	if n < 1 || n > MaxPermutation {
		panic(fmt.Sprintf("prng: permutation of %d numbers; want 1 to 2^56", n))
	}
	width := max(minBits, uint(bits.Len64(n-1)))
	p := Permutation{n: n, left: width / 2, right: width - width/2}
	for i := 0; i < rounds; i += 2 {
		p.keys[i], p.keys[i+1] = k.block(uint64(i))
	}
	return p
}

// Len is n.
func (p *Permutation) Len() uint64 { return p.n }

// At is the i-th number of the order, 0 ≤ i < n.
func (p *Permutation) At(i uint64) uint64 {
	p.check(i)
	for v := p.forward(i); ; v = p.forward(v) {
		if v < p.n {
			return v
		}
	}
}

// Index is the place of v in the order: Index(At(i)) = i.
func (p *Permutation) Index(v uint64) uint64 {
	p.check(v)
	for i := p.backward(v); ; i = p.backward(i) {
		if i < p.n {
			return i
		}
	}
}

func (p *Permutation) check(i uint64) {
	if i >= p.n {
		panic(fmt.Sprintf("prng: index %d of a permutation of %d numbers", i, p.n))
	}
}

// forward is one pass of the network. The halves keep their places (an even round changes the left one, an odd round
// the right one), so halves of unequal width need no special case.
func (p *Permutation) forward(x uint64) uint64 {
	maskL, maskR := uint64(1)<<p.left-1, uint64(1)<<p.right-1
	l, r := x>>p.right, x&maskR
	for i := 0; i < rounds; i += 2 {
		l ^= mix(r^p.keys[i]) & maskL
		r ^= mix(l^p.keys[i+1]) & maskR
	}
	return l<<p.right | r
}

func (p *Permutation) backward(x uint64) uint64 {
	maskL, maskR := uint64(1)<<p.left-1, uint64(1)<<p.right-1
	l, r := x>>p.right, x&maskR
	for i := rounds - 2; i >= 0; i -= 2 {
		r ^= mix(l^p.keys[i+1]) & maskR
		l ^= mix(r^p.keys[i]) & maskL
	}
	return l<<p.right | r
}

// Shuffle fills order with the numbers 0 to len(order)-1, every order equally likely over the keys. Where all of a small
// order is wanted this is ten times faster than a [Permutation], and like it a function of the key alone. (Fisher and
// Yates's shuffle, driven by SplitMix64; Steele, Lea and Flood, OOPSLA 2014.)
func Shuffle(k Key, order []uint32) {
	state, stream := k.block(0)
	state ^= stream
	for i := range order {
		state += splitTweak
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		z ^= z >> 31
		j, _ := bits.Mul64(z, uint64(i)+1) // uniform on [0, i], to within (i+1)/2^64
		order[i] = order[j]
		order[j] = uint32(i)
	}
}

// mix is the round function: MurmurHash3's 64-bit finaliser, every bit of whose result depends on every bit of x. With one
// of its two multiplications left out the uniformity tests fail by hundreds of standard deviations.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
