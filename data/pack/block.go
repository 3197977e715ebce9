package pack

import (
	"fmt"
	"sort"

	"pretrain/internal/prng"
)

// BlockDocuments is the number of documents that are shuffled together, at most. More mixes wider and costs in
// proportion (10 ns a document and row); a thousand keeps a row below 35 µs. It is part of the order: changing it changes
// every run.
const BlockDocuments = 1024

// blocks divides a source's documents into runs of nearly equal number.
type blocks struct {
	index  Index
	key    prng.Key // split by epoch, then by block
	starts []int64  // tokens before each block, and the total: 8 bytes per BlockDocuments documents
}

// newBlocks reads one offset a block. Errors: an index without a token, or one that is not ascending.
func newBlocks(index Index, key prng.Key) (blocks, error) {
	n := index.Docs()
	count := (n + BlockDocuments - 1) / BlockDocuments
	b := blocks{index, key, make([]int64, count+1)}
	for i := range b.starts {
		b.starts[i] = index.Offset(b.first(i))
		if i > 0 && b.starts[i] < b.starts[i-1] {
			return b, fmt.Errorf("document %d begins at token %d, before document %d at %d; the index is broken, prepare the source again",
				b.first(i), b.starts[i], b.first(i-1), b.starts[i-1])
		}
	}
	if b.tokens() <= 0 || b.starts[0] != 0 {
		return b, fmt.Errorf("%d documents with tokens %d to %d; want at least one token, counted from 0", n, b.starts[0], b.tokens())
	}
	return b, nil
}

func (b *blocks) count() int    { return len(b.starts) - 1 }
func (b *blocks) tokens() int64 { return b.starts[len(b.starts)-1] }

// first is the first document of block i.
func (b *blocks) first(i int) int {
	if len(b.starts) == 1 {
		return 0
	}
	return int(int64(i) * int64(b.index.Docs()) / int64(b.count()))
}

// ofDocument is the block that holds document doc.
func (b *blocks) ofDocument(doc int) int {
	return sort.Search(b.count(), func(i int) bool { return b.first(i+1) > doc })
}

// ofToken is the block that holds token t of an epoch's stream.
func (b *blocks) ofToken(t int64) int {
	return sort.Search(b.count(), func(i int) bool { return b.starts[i+1] > t })
}

// order is an epoch's order of the documents of block i, as offsets from its first. buf saves an allocation.
func (b *blocks) order(buf *[BlockDocuments]uint32, epoch, i int) []uint32 {
	order := buf[:b.first(i+1)-b.first(i)]
	prng.Shuffle(b.key.SplitN(uint64(epoch)).SplitN(uint64(i)), order)
	return order
}

// length is the number of tokens of a document.
func (b *blocks) length(doc int) int {
	return int(b.index.Offset(doc+1) - b.index.Offset(doc))
}
