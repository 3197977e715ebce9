package mix

import (
	"cmp"
	"math"
	"math/bits"
	"slices"

	"pretrain/internal/prng"
)

// share deals the rows of a stage, 0, 1, 2, …, out to sources in fixed proportions, as evenly as can be, in closed form.
//
// Two sources are dealt as a line is drawn on a raster: with share p for the left one, the left one has
//
//	L(n) = floor(p·n + φ)
//
// of the first n rows and the right one n - L(n). Row n is the left one's if L(n+1) > L(n), and it is that source's row
// number L(n). Any stretch of m rows holds p·m of the left one's to within one row (it is a Sturmian word, the most even
// there is). For more sources the two sides are groups that are dealt on in the same way: a binary tree, whose leaves
// are sources. Going down it turns a row of the stage into a source and the number of its row; going up, by solving L for n,
// turns them back. Both take as many steps as the tree is deep.
//
// A group's error is passed on to its parts in their proportion, plus less than one row: see bound. p and φ have 64 binary
// places, so all is exact in integers, on any machine and for any n.
type share struct {
	nodes []node
	// up leads from a source to the root: the node above it and whether it is on its left. A source without rows has none.
	up   map[int][]turn
	only int // the source where there is just one, and no node
}

// node splits what reaches it. left and right are nodes if ≥ 0, else source ^left or ^right.
type node struct {
	p, phi      uint64 // in units of 2^-64
	left, right int
}

type turn struct {
	node int
	left bool
}

// newShare builds the tree. weights are by source, 0 for none; at least one is above 0. Light sources are joined first
// (Huffman's tree), which keeps heavy ones near the root and every error small. φ comes from the key.
func newShare(weights []float64, key prng.Key) *share {
	type group struct {
		q  uint64 // weight in units of 2^-40, of all
		id int    // as in node
	}
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	var groups []group
	for i, w := range weights {
		if w > 0 {
			groups = append(groups, group{max(1, uint64(math.Round(w/sum*(1<<40)))), ^i})
		}
	}
	s := &share{up: map[int][]turn{}}
	if len(groups) == 1 {
		s.only = ^groups[0].id
		s.up[s.only] = nil
		return s
	}
	for len(groups) > 1 {
		slices.SortStableFunc(groups, func(a, b group) int { return cmp.Compare(b.q, a.q) })
		last := len(groups) - 1
		l, r := groups[last-1], groups[last]
		p, _ := bits.Div64(l.q, 0, l.q+r.q)
		s.nodes = append(s.nodes, node{p, key.Uint64At(uint64(len(s.nodes))), l.id, r.id})
		groups = append(groups[:last-1], group{l.q + r.q, len(s.nodes) - 1})
	}
	s.climb(len(s.nodes)-1, nil)
	return s
}

// climb notes for each source below id how it is reached; path is the way from the root, to be walked backwards.
func (s *share) climb(id int, path []turn) {
	if id < 0 {
		s.up[^id] = slices.Clone(path)
		slices.Reverse(s.up[^id])
		return
	}
	s.climb(s.nodes[id].left, append(path, turn{id, true}))
	s.climb(s.nodes[id].right, append(path, turn{id, false}))
}

// before is L(n).
func (d *node) before(n uint64) uint64 {
	hi, lo := bits.Mul64(d.p, n)
	_, carry := bits.Add64(lo, d.phi, 0)
	return hi + carry
}

// locate is the source of row n and the number of that source's rows before it.
func (s *share) locate(n int64) (source int, rank int64) {
	if len(s.nodes) == 0 {
		return s.only, n
	}
	at, id := uint64(n), len(s.nodes)-1
	for id >= 0 {
		d := &s.nodes[id]
		if l := d.before(at); d.before(at+1) > l {
			id, at = d.left, l
		} else {
			id, at = d.right, at-l
		}
	}
	return ^id, int64(at)
}

// count is how many of the first n rows are the source's.
func (s *share) count(source int, n int64) int64 {
	path, ok := s.up[source]
	if !ok {
		return 0
	}
	c := uint64(n)
	for _, t := range slices.Backward(path) {
		if l := s.nodes[t.node].before(c); t.left {
			c = l
		} else {
			c -= l
		}
	}
	return int64(c)
}

// row is the inverse of locate: the row that is number rank of a source that has a share.
func (s *share) row(source int, rank int64) int64 {
	at := uint64(rank)
	for _, t := range s.up[source] {
		d := &s.nodes[t.node]
		if t.left {
			// The first n with p·n + φ ≥ at+1, less one.
			lo, borrow := bits.Sub64(0, d.phi, 0)
			hi := at + 1 - borrow
			q, rest := bits.Div64(hi, lo, d.p)
			if at = q; rest == 0 {
				at--
			}
		} else {
			// n - floor(p·n + φ) = ceil((1-p)·n - φ), and the first n at which that is at+1 is one more than the last at
			// which (1-p)·n - φ ≤ at.
			at, _ = bits.Div64(at, d.phi, -d.p)
		}
	}
	return int64(at)
}
