package quality

import "math/bits"

// table is a hash table of uint64 keys that is emptied in no time, for the n-grams of one text after the other.
type table struct {
	slots []slot // as many as the largest text needed; a small one uses the first of them, which stay in the cache
	epoch uint32
	shift uint
	mask  uint64
}

type slot struct {
	key   uint64
	epoch uint32
	value int32
}

// reset empties the table and makes room for n keys.
func (t *table) reset(n int) {
	width := max(bits.Len(uint(2*n)), 1)
	t.shift, t.mask = uint(64-width), 1<<width-1
	if 1<<width > len(t.slots) {
		t.slots, t.epoch = make([]slot, 1<<max(width, 10)), 0
	}
	if t.epoch++; t.epoch == 0 {
		clear(t.slots)
		t.epoch = 1
	}
}

// at is the value of a key; one that is not there gets 0 first.
func (t *table) at(key uint64) (value *int32, found bool) {
	for i := key * 0x9e3779b97f4a7c15 >> t.shift; ; i = (i + 1) & t.mask {
		s := &t.slots[i]
		if s.epoch != t.epoch {
			*s = slot{key: key, epoch: t.epoch}
			return &s.value, false
		}
		if s.key == key {
			return &s.value, true
		}
	}
}

// seen reports whether a key is there, and puts it there.
func (t *table) seen(key uint64) bool {
	_, found := t.at(key)
	return found
}
