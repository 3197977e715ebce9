package dedup

import "golang.org/x/sys/cpu"

// hasAVX512 tells whether the processor multiplies eight 64-bit numbers at once.
var hasAVX512 = cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ

//go:noescape
func lowerAVX512(grams *uint64, n int, add, factor, lowest *uint64, passes int)

func lower(grams, add, factor, lowest []uint64) {
	if hasAVX512 && len(grams) > 0 {
		lowerAVX512(&grams[0], len(grams), &add[0], &factor[0], &lowest[0], len(lowest)/lanes)
		return
	}
	lowerAny(grams, add, factor, lowest)
}
