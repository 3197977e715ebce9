// Package prng gives random numbers without a generator that runs along: number i of a stream is a function of the
// stream's [Key] and of i. So nothing has to be saved for a resume, any number can be had without those before it, and
// two goroutines never share a state. Streams are split off one seed by name:
//
//	root := prng.New(seed)
//	init, order := root.Split("init"), root.Split("data")
//	x := init.Split("layers.0.wq").NormFloat64At(17)
//
// The function is Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011), the generator
// that XLA, cuRAND and NumPy have too. [Permutation] is a random order of n things with the same property.
//
// None of this is for secrets. What a key yields is frozen by tests: changing it changes every run's data order.
package prng

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
)

// Key names one stream of 2^64 numbers. Split yields keys that are independent for every purpose but cryptography:
// they are 128 bits wide, so two streams of one run do not meet by chance. The zero Key is a valid stream of its own.
type Key struct {
	philox uint64 // Philox's key
	stream uint64 // the upper half of its counter; the lower half is the number's index
}

// New is the root key of a seed. Use it through Split only, so that no two uses of one seed can meet.
func New(seed uint64) Key {
	return Key{philox: seed}.Split("root")
}

// Split is the key of a named part, such as "init", "data", "dropout", "eval", "sample". The same name gives the same
// key; a chain of splits differs from one split by the joined names.
func (k Key) Split(name string) Key {
	b := make([]byte, 16, 16+len(name))
	binary.LittleEndian.PutUint64(b, k.philox)
	binary.LittleEndian.PutUint64(b[8:], k.stream)
	sum := sha256.Sum256(append(b, name...))
	return Key{binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:])}
}

// splitTweak keeps the numbers that become child keys apart from the numbers a caller draws.
const splitTweak = 0x9e3779b97f4a7c15

// SplitN is the key of a numbered part: an epoch, a block, a row. It costs one Philox call, where Split hashes.
func (k Key) SplitN(n uint64) Key {
	a, b := Key{k.philox ^ splitTweak, k.stream}.block(n)
	return Key{a, b}
}

// Uint64At is number i of the stream, uniform over all 64-bit values.
func (k Key) Uint64At(i uint64) uint64 {
	a, _ := k.block(i)
	return a
}

// Float64At is number i of the stream, uniform on [0, 1) in steps of 2^-53. It shares its bits with Uint64At(i): use
// one kind of number per key.
func (k Key) Float64At(i uint64) float64 {
	return unit(k.Uint64At(i))
}

// NormFloat64At is number i of the stream, from the standard normal distribution (Box and Muller 1958). Its bits are
// those of Uint64At(i).
func (k Key) NormFloat64At(i uint64) float64 {
	a, b := k.block(i)
	// 1-u is in (0, 1], so the logarithm is finite; the largest value is sqrt(2·53·ln 2) = 8.6.
	return math.Sqrt(-2*math.Log(1-unit(a))) * math.Cos(2*math.Pi*unit(b))
}

func unit(x uint64) float64 { return float64(x>>11) * 0x1p-53 }

// block is Philox at counter (i, stream): 128 bits.
func (k Key) block(i uint64) (uint64, uint64) {
	a, b, c, d := philox(uint32(i), uint32(i>>32), uint32(k.stream), uint32(k.stream>>32), uint32(k.philox), uint32(k.philox>>32))
	return uint64(b)<<32 | uint64(a), uint64(d)<<32 | uint64(c)
}

// philox is Philox4x32-10: ten rounds of two multiplications on a counter of 128 bits, c0 lowest, under a key of 64.
func philox(c0, c1, c2, c3, k0, k1 uint32) (uint32, uint32, uint32, uint32) {
	for range 10 {
		hi0, lo0 := bits.Mul32(0xD2511F53, c0)
		hi1, lo1 := bits.Mul32(0xCD9E8D57, c2)
		c0, c1, c2, c3 = hi1^c1^k0, lo1, hi0^c3^k1, lo0
		k0 += 0x9E3779B9
		k1 += 0xBB67AE85
	}
	return c0, c1, c2, c3
}
