package dedup

import (
	"strings"
	"testing"
)

// BenchmarkSignature signs text made of English-like and Chinese words; MB/s of one core.
func BenchmarkSignature(b *testing.B) {
	for name, text := range map[string]string{"words": prose(4096, 1), "cjk": hanzi(4096, 1)} {
		b.Run(name, func(b *testing.B) {
			h := NewHasher(Default().MinHash)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				h.Signature(text)
			}
		})
	}
}

var letters = "etaoinshrdlucmfwypvbgkjqxz"

func prose(n int, seed uint64) string {
	var b strings.Builder
	x := seed
	for b.Len() < n {
		x = x*6364136223846793005 + 1442695040888963407
		l := 2 + int(x>>60)*7/16
		for i := range l {
			b.WriteByte(letters[(x>>(8+5*uint(i)))%26])
		}
		b.WriteByte(' ')
	}
	return b.String()
}
func hanzi(n int, seed uint64) string {
	var b strings.Builder
	x := seed
	for b.Len() < n {
		x = x*6364136223846793005 + 1442695040888963407
		b.WriteRune(0x4e00 + rune(x>>52))
	}
	return b.String()
}
