package pack

import (
	"math/bits"

	"pretrain/internal/prng"
)

// Concat joins a source's documents, epoch after epoch, into one endless stream of tokens and cuts it into rows: window w
// holds tokens w·T to w·T+T of the stream, T+1 of them, the last being window w+1's first. Windows that begin in an epoch
// belong to it and come in a random order; an epoch's windows all come before those of the next. So an epoch is N/T
// rows, rounded either way, and N targets but for the row at its end.
type Concat struct {
	blocks
	t    int64
	rows prng.Key
}

// NewConcat lays a source out in rows of t targets. The order is the key's. Errors: an index without tokens, or broken.
func NewConcat(index Index, t int, key prng.Key) (*Concat, error) {
	b, err := newBlocks(index, key.Split("documents"))
	return &Concat{b, int64(t), key.Split("rows")}, err
}

// RowsBefore is ceil(epoch·N / T), the number of windows that begin in the first epochs.
func (c *Concat) RowsBefore(epoch int) int64 {
	hi, lo := bits.Mul64(uint64(epoch), uint64(c.tokens()))
	rows, rest := bits.Div64(hi, lo, uint64(c.t))
	if rest > 0 {
		rows++
	}
	return int64(rows)
}

// Epoch is floor(row·T / N).
func (c *Concat) Epoch(row int64) int { return int(row * c.t / c.tokens()) }

// Fill is 1.
func (c *Concat) Fill() float64 { return 1 }

// shuffled is the order of the windows that begin in an epoch, of which there is at least one, and the first of them.
func (c *Concat) shuffled(epoch int) (prng.Permutation, int64) {
	first := c.RowsBefore(epoch)
	return prng.NewPermutation(c.rows.SplitN(uint64(epoch)), uint64(c.RowsBefore(epoch+1)-first)), first
}

// Append appends the row's segments: O(log n) to find its block, and one pass over each block it touches.
func (c *Concat) Append(dst []Segment, row int64) []Segment {
	p, first := c.shuffled(c.Epoch(row))
	window := first + int64(p.At(uint64(row-first)))
	return c.stream(dst, window*c.t, int(c.t)+1)
}

// stream appends the n tokens of the stream from position at on.
func (c *Concat) stream(dst []Segment, at int64, n int) []Segment {
	var buf [BlockDocuments]uint32
	epoch, at := int(at/c.tokens()), at%c.tokens()
	for i := c.ofToken(at); n > 0; i++ {
		if i == c.count() {
			epoch, i, at = epoch+1, 0, 0
		}
		skip, base := int(at-c.starts[i]), c.first(i)
		for _, d := range c.order(&buf, epoch, i) {
			length := c.length(base + int(d))
			if skip >= length {
				skip -= length
				continue
			}
			take := min(n, length-skip)
			dst = append(dst, Segment{base + int(d), skip, take})
			if n -= take; n == 0 {
				break
			}
			skip = 0
		}
		at = c.starts[i+1]
	}
	return dst
}

// Rows finds the document's place in its block, hence in the stream, hence its windows, hence their rows.
func (c *Concat) Rows(doc, epoch int) []int64 {
	length := c.length(doc)
	if length == 0 {
		return nil
	}
	var buf [BlockDocuments]uint32
	i := c.ofDocument(doc)
	at, base := int64(epoch)*c.tokens()+c.starts[i], c.first(i)
	for _, d := range c.order(&buf, epoch, i) {
		if base+int(d) == doc {
			break
		}
		at += int64(c.length(base + int(d)))
	}
	from, to := max(0, at-1)/c.t, (at+int64(length)-1)/c.t // a window's last token is the first of the next one
	rows := make([]int64, 0, to-from+1)
	for w := from; w <= to; w++ {
		p, first := c.shuffled(c.Epoch(w))
		rows = append(rows, first+int64(p.Index(uint64(w-first))))
	}
	return sorted(rows)
}
