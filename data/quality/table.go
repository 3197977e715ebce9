package quality

import "math/bits"

// table is a hash table of uint64 keys that is emptied in no time, for the n-grams of one text after the other.
type table struct {
	slots []slot
	epoch uint32
	shift uint
}

type slot struct {
	key   uint64
	epoch uint32
	count int32
}

// reset empties the table and makes room for n keys.
func (t *table) reset(n int) {
	if size := 1 << bits.Len(uint(2*n)); size > len(t.slots) {
		t.slots, t.epoch = make([]slot, max(size, 1<<10)), 0
		t.shift = uint(64 - bits.Len(uint(len(t.slots)-1)))
	}
	if t.epoch++; t.epoch == 0 {
		clear(t.slots)
		t.epoch = 1
	}
}

// count adds one to a key and returns how often it has been counted.
func (t *table) count(key uint64) int32 {
	mask := uint64(len(t.slots) - 1)
	for i := key * 0x9e3779b97f4a7c15 >> t.shift; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.epoch != t.epoch {
			*s = slot{key, t.epoch, 1}
			return 1
		}
		if s.key == key {
			s.count++
			return s.count
		}
	}
}

// get returns how often a key that is in the table has been counted.
func (t *table) get(key uint64) int32 {
	mask := uint64(len(t.slots) - 1)
	i := key * 0x9e3779b97f4a7c15 >> t.shift
	for t.slots[i].key != key || t.slots[i].epoch != t.epoch {
		i = (i + 1) & mask
	}
	return t.slots[i].count
}
