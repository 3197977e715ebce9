package lm

// table is a hash table of 64-bit keys, which are hashes themselves, with open addressing: 16 bytes a slot, one cache miss a lookup.
// Key 0 means an empty slot.
type table struct {
	slots []slot
	n     int
}

type slot struct{ key, value uint64 }

func newTable(n int) *table {
	size := 1024
	for size*3 < n*4 {
		size *= 2
	}
	return &table{slots: make([]slot, size)}
}

// at returns the slot of a key, or the empty one where it would be.
func (t *table) at(key uint64) *slot {
	mask := uint64(len(t.slots) - 1)
	for i := key & mask; ; i = (i + 1) & mask {
		if s := &t.slots[i]; s.key == key || s.key == 0 {
			return s
		}
	}
}

// put adds a key that is not there.
func (t *table) put(key, value uint64) {
	if 4*(t.n+1) > 3*len(t.slots) {
		old := t.slots
		t.slots = make([]slot, 2*len(old))
		for _, s := range old {
			if s.key != 0 {
				*t.at(s.key) = s
			}
		}
	}
	*t.at(key) = slot{key, value}
	t.n++
}
