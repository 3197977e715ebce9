package loss

import (
	"pretrain/model"

	g "github.com/gomlx/gomlx/core/graph"
)

// parts is the number of parts that a batch is cut into.
func (h Head) parts() int {
	if h.Spread == nil {
		return 1
	}
	return h.Spread.Parts()
}

// gather is the table as products take it.
func (h Head) gather(table *g.Node) *g.Node {
	if h.Spread == nil {
		return table
	}
	return h.Spread.Gather(model.Param{Role: model.Output}, table)
}

// slice takes size tokens of each part, from start on: [N, ...] to [P·size, ...].
func (h Head) slice(x *g.Node, start, size int) *g.Node {
	if h.parts() == 1 {
		return g.SliceAxis(x, 0, g.AxisRange(start, start+size))
	}
	return h.flat(g.SliceAxis(h.byPart(x), 1, g.AxisRange(start, start+size)))
}

// join is the inverse of all slices: [P·size, ...] each, to [N, ...].
func (h Head) join(slices []*g.Node) *g.Node {
	if h.parts() == 1 {
		return g.Concatenate(slices, 0)
	}
	byPart := make([]*g.Node, len(slices))
	for i, x := range slices {
		byPart[i] = h.byPart(x)
	}
	return h.flat(g.Concatenate(byPart, 1))
}

// byPart is [P, n, ...] of [P·n, ...], and flat is its inverse.
func (h Head) byPart(x *g.Node) *g.Node {
	d := x.Shape().Dimensions
	return g.Reshape(x, append([]int{h.parts(), d[0] / h.parts()}, d[1:]...)...)
}

func (h Head) flat(x *g.Node) *g.Node {
	d := x.Shape().Dimensions
	return h.Spread.Tokens(g.Reshape(x, append([]int{d[0] * d[1]}, d[2:]...)...))
}
