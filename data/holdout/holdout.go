// Package holdout picks the documents to hold out of training: those of the lowest hashes of their text. The choice is a
// function of the set of texts, not of their order or the files they are in, and exact duplicates are on one side.
package holdout

import (
	"container/heap"
	"math"

	"github.com/zeebo/xxh3"
)

// Hash is what decides a document's side.
func Hash(text string) uint64 { return xxh3.HashString(text) }

// Below is the hash below which the fraction f of all hashes lies.
func Below(f float64) uint64 {
	if f >= 1 {
		return math.MaxUint64
	}
	return uint64(f * math.MaxUint64)
}

// candidate is a document that may be held out.
type candidate struct {
	hash uint64
	size int64
}

// Lowest keeps the documents with the lowest hashes whose sizes sum up to at most a bound, but always one: a heap, the
// highest hash first.
type Lowest struct {
	items []candidate
	limit uint64 // only hashes below it are of interest
	least uint64 // the lowest seen below it; it always stays
	max   int64
	total int64
}

// NewLowest considers hashes below limit and holds at most max bytes out.
func NewLowest(limit uint64, max int64) *Lowest {
	return &Lowest{limit: limit, least: math.MaxUint64, max: max}
}

// Add considers one document.
func (l *Lowest) Add(hash uint64, size int64) {
	if hash >= l.limit {
		return
	}
	heap.Push((*byHash)(l), candidate{hash, size})
	l.least = min(l.least, hash)
	for l.total > l.max && l.items[0].hash > l.least {
		// Duplicates of the one that goes, go too; and nothing above it may come back, or the rest would be no prefix.
		for l.limit = l.items[0].hash; l.items[0].hash == l.limit; {
			heap.Pop((*byHash)(l))
		}
	}
}

// Highest is the hash up to which documents are held out; ok is false where none is.
func (l *Lowest) Highest() (hash uint64, ok bool) {
	if len(l.items) == 0 {
		return 0, false
	}
	return l.items[0].hash, true
}

// byHash is the heap of a Lowest.
type byHash Lowest

func (l *byHash) Len() int           { return len(l.items) }
func (l *byHash) Less(i, j int) bool { return l.items[i].hash > l.items[j].hash }
func (l *byHash) Swap(i, j int)      { l.items[i], l.items[j] = l.items[j], l.items[i] }

func (l *byHash) Push(x any) {
	l.items = append(l.items, x.(candidate))
	l.total += x.(candidate).size
}

func (l *byHash) Pop() any {
	last := l.items[len(l.items)-1]
	l.items = l.items[:len(l.items)-1]
	l.total -= last.size
	return last
}
