package pack

import (
	"math/bits"
	"runtime"
	"slices"
	"sort"
	"sync"

	"pretrain/internal/prng"
)

// BestFit puts whole documents into rows of T+1 tokens by best-fit decreasing (Ding et al., "Fewer Truncations Improve
// Language Modeling", ICML 2024): longest first, each into the row with the least room that takes it, or a new row. A
// document longer than a row is cut into full rows that overlap by one token, and its rest is packed like a document.
//
// It packs block by block ([BlockDocuments]), so a row is a function of its block. The lengths in a block decide how
// many rows it makes, and they do not change; an epoch's shuffle decides among documents of equal length, so rows
// have other documents in each epoch. All rows of the epoch are then shuffled, as Concat's are.
type BestFit struct {
	blocks
	t       int
	rows    prng.Key
	ends    []int64 // rows up to and including each block
	waste   Waste
	scratch sync.Pool // of *fitting
}

// Waste is what best-fit packing costs and saves, over one epoch.
type Waste struct {
	Rows    int64
	Tokens  int64 // in the rows, one more per cut
	Padding int64 // Rows·(T+1) - Tokens
	Cut     int64 // documents cut because they are longer than a row
}

// NewBestFit packs every block once to count rows: about 0.1 ms per thousand documents (2.7 s for 30 million on
// two busy cores). Errors as [NewConcat]'s.
func NewBestFit(index Index, t int, key prng.Key) (*BestFit, error) {
	b, err := newBlocks(index, key.Split("documents"))
	if err != nil {
		return nil, err
	}
	f := &BestFit{blocks: b, t: t, rows: key.Split("rows"), ends: make([]int64, b.count())}
	f.scratch.New = func() any { return newFitting(t) }
	parts := make([]Waste, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for worker := range parts {
		wg.Go(func() {
			for i := worker; i < f.count(); i += len(parts) {
				fit := f.pack(0, i)
				f.ends[i] = int64(fit.rows)
				for _, d := range fit.docs {
					parts[worker].Tokens += int64(d.length + d.cuts)
					if d.cuts > 0 {
						parts[worker].Cut++
					}
				}
				f.scratch.Put(fit)
			}
		})
	}
	wg.Wait()
	for i := range f.ends {
		f.waste.Rows += f.ends[i]
		f.ends[i] = f.waste.Rows
	}
	for _, p := range parts {
		f.waste.Tokens += p.Tokens
		f.waste.Cut += p.Cut
	}
	f.waste.Padding = f.waste.Rows*int64(t+1) - f.waste.Tokens
	return f, nil
}

// Waste reports padding and cuts of one epoch.
func (f *BestFit) Waste() Waste { return f.waste }

// Fill is the part of the rows that is not padding.
func (f *BestFit) Fill() float64 {
	return float64(f.waste.Tokens) / float64(f.waste.Tokens+f.waste.Padding)
}

// RowsBefore is the same number for each epoch.
func (f *BestFit) RowsBefore(epoch int) int64 { return int64(epoch) * f.waste.Rows }

// Epoch is row / rows per epoch.
func (f *BestFit) Epoch(row int64) int { return int(row / f.waste.Rows) }

func (f *BestFit) shuffled(epoch int) prng.Permutation {
	return prng.NewPermutation(f.rows.SplitN(uint64(epoch)), uint64(f.waste.Rows))
}

// Append packs the row's block again and appends the row's documents: O(BlockDocuments).
func (f *BestFit) Append(dst []Segment, row int64) []Segment {
	epoch := f.Epoch(row)
	p := f.shuffled(epoch)
	place := int64(p.At(uint64(row % f.waste.Rows)))
	i := sort.Search(f.count(), func(i int) bool { return f.ends[i] > place })
	fit, want := f.pack(epoch, i), int(place-f.before(i))
	defer f.scratch.Put(fit)
	for _, d := range fit.docs {
		if d.row == want && d.length > 0 {
			dst = append(dst, Segment{d.doc, d.cuts * f.t, d.length - d.cuts*f.t})
		} else if d.first <= want && want < d.first+d.cuts {
			return append(dst, Segment{d.doc, (want - d.first) * f.t, f.t + 1})
		}
	}
	return dst
}

// Rows packs the document's block and looks for it.
func (f *BestFit) Rows(doc, epoch int) []int64 {
	i := f.ofDocument(doc)
	p := f.shuffled(epoch)
	var rows []int64
	fit := f.pack(epoch, i)
	defer f.scratch.Put(fit)
	add := func(row int) {
		rows = append(rows, f.RowsBefore(epoch)+int64(p.Index(uint64(f.before(i)+int64(row)))))
	}
	for _, d := range fit.docs {
		if d.doc == doc && d.length > 0 {
			for cut := range d.cuts {
				add(d.first + cut)
			}
			add(d.row)
		}
	}
	return sorted(rows)
}

func (f *BestFit) before(i int) int64 {
	if i == 0 {
		return 0
	}
	return f.ends[i-1]
}

// fitted is where a document of a block lies: cuts full rows from row first on, then the rest, which is never empty, in row.
type fitted struct {
	doc, length, cuts, first, row int
}

// fitting is a block packed, and the memory that takes.
type fitting struct {
	rows  int
	docs  []fitted
	order [BlockDocuments]uint32
	// Rests, longest first, by a counting sort: those of n tokens begin in sorted at ends[n+1].
	ends   []int32
	sorted [BlockDocuments]int32
	// Rows with space left: for each space a list of rows, as the head (row+1, 0 for none) and each row's next, and a bit
	// set of the spaces that have any. Rows count from base, after the full ones.
	head []int32
	next [BlockDocuments]int32
	has  []uint64
}

func newFitting(t int) *fitting {
	return &fitting{ends: make([]int32, t+3), head: make([]int32, t+2), has: make([]uint64, (t+1)/64+1)}
}

// pack assigns every token of block i to a row. The caller puts the result back into f.scratch.
func (f *BestFit) pack(epoch, i int) *fitting {
	fit := f.scratch.Get().(*fitting)
	fit.rows, fit.docs = 0, fit.docs[:0]
	clear(fit.ends)
	base := f.first(i)
	for _, d := range f.order(&fit.order, epoch, i) {
		doc := base + int(d)
		length := f.length(doc)
		// As few cuts as leave a rest of at most T+1 tokens; each takes T on, its last token being the next piece's first.
		cuts := max(0, (length-2)/f.t)
		fit.docs = append(fit.docs, fitted{doc, length, cuts, fit.rows, -1})
		fit.rows += cuts
		fit.ends[length-cuts*f.t]++
	}
	for n := f.t + 1; n >= 0; n-- { // from counts to starts, longest first; filling turns them into ends
		fit.ends[n] += fit.ends[n+1]
	}
	for j, d := range fit.docs {
		at := &fit.ends[d.length-d.cuts*f.t+1]
		fit.sorted[*at] = int32(j)
		*at++
	}
	fit.place(f.t)
	return fit
}

// place puts the rests into rows.
func (fit *fitting) place(t int) {
	clear(fit.head)
	clear(fit.has)
	base := fit.rows
	for _, j := range fit.sorted[:len(fit.docs)] {
		d := &fit.docs[j]
		n := d.length - d.cuts*t
		if n == 0 {
			break // only documents without tokens are left
		}
		space, row := fit.take(n)
		if space == 0 {
			space, row = t+1, fit.rows-base
			fit.rows++
		}
		d.row = base + row
		if left := space - n; left > 0 {
			fit.next[row], fit.head[left] = fit.head[left], int32(row)+1
			fit.has[left/64] |= 1 << (left % 64)
		}
	}
}

// take removes the row with the least space that holds n ≥ 1 tokens; the space is 0 if there is none.
func (fit *fitting) take(n int) (space, row int) {
	word, rest := n/64, ^uint64(0)<<(n%64)
	for ; word < len(fit.has); word, rest = word+1, ^uint64(0) {
		if found := fit.has[word] & rest; found != 0 {
			space = word*64 + bits.TrailingZeros64(found)
			row = int(fit.head[space]) - 1
			if fit.head[space] = fit.next[row]; fit.head[space] == 0 {
				fit.has[word] &^= 1 << (space % 64)
			}
			return space, row
		}
	}
	return 0, 0
}

func sorted(rows []int64) []int64 {
	slices.Sort(rows)
	return slices.Compact(rows)
}
