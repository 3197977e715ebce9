//go:build !amd64

package dedup

func lower(grams, add, factor, lowest []uint64) { lowerAny(grams, add, factor, lowest) }
