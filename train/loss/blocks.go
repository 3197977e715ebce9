package loss

import (
	"math"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
)

// inBlocks reports whether the gradient is formed in blocks of the vocabulary rather than in chunks of tokens. A chunk of tokens
// touches the whole table, so its gradient [V, D] is there twice, as the sum so far and as what the chunk adds: that alone is a
// quarter of the logits [N, V] where D is an eighth of N. A block of the vocabulary writes its rows of the gradient once, at the
// price of computing the logits twice, a third more arithmetic for the output projection. One CPU only: of several devices each has
// few of the tokens, and a GPU has the memory.
func (h Head) inBlocks(tokens, dim, vocab int) bool {
	return h.Spread == nil && !h.Numerics.GPU() && h.ChunkTokens <= 0 && 8*dim > tokens && 4*tokens*vocab > AutoChunkBytes
}

// blockBytes bounds a block's float32 logits. Up to three arrays of the size exist at once: logits, probabilities, gradient.
const blockBytes = AutoChunkBytes / 4

// blocked is [Head.Loss] in blocks of the vocabulary of at most the given size: once over them for the softmax's denominator
// (its largest exponent and the sum relative to it, kept up to date), and once more for the gradient.
func (h Head) blocked(hidden, table, targets, weights *g.Node, size int) Result {
	gr, vocab := hidden.Graph(), table.Shape().Dimensions[0]
	tokens, dim := hidden.Shape().Dimensions[0], hidden.Shape().Dimensions[1]
	wide := func(x *g.Node) *g.Node { return g.ExpandAxes(x, -1) } // [N] → [N, 1]
	origin := g.Scalar(gr, dtypes.Int32, 0)
	// rows are those of the block that begins at start, a scalar from behind the barrier after the block before: cut off at a
	// known place, all blocks would be cut off at once, and kept.
	rows := func(start *g.Node, size int) *g.Node {
		return h.Numerics.Narrow(g.DynamicSlice(table, []*g.Node{start, origin}, []int{size, dim}))
	}

	top := g.BroadcastToDims(g.Scalar(gr, dtypes.Float32, -math.MaxFloat32), tokens)
	sum := g.Zeros(gr, shapes.Make(dtypes.Float32, tokens))
	for start := 0; start < vocab; start += size {
		b := g.OptimizationBarriers(hidden, top, sum, g.Scalar(gr, dtypes.Int32, start)) // one block after the other, in the same memory
		logits, _ := h.logits(b[0], rows(b[3], min(size, vocab-start)))
		top = g.Max(b[1], g.ReduceMax(logits, -1))
		sum = g.Add(g.Mul(b[2], g.Exp(g.Sub(b[1], top))), g.ReduceSum(g.Exp(g.Sub(logits, wide(top))), -1))
	}
	lse := g.Add(top, g.Log(sum))

	r := Result{Loss: g.ReduceAllSum(g.Mul(weights, g.Sub(lse, h.target(hidden, table, targets))))}
	if h.ZLoss > 0 {
		r.Z = h.zLoss(lse, weights)
	}
	r.DHidden = g.Zeros(gr, shapes.Make(dtypes.Float32, tokens, dim))
	r.DTable = g.Zeros(gr, shapes.Make(dtypes.Float32, vocab, dim))
	for start := 0; start < vocab; start += size {
		written := g.Slice(r.DTable, g.AxisElem(0), g.AxisElem(0)) // not all of it: that would be copied
		b := g.OptimizationBarriers(hidden, lse, r.DHidden, g.Scalar(gr, dtypes.Int32, start), written)
		part := rows(b[3], min(size, vocab-start))
		logits, capBack := h.logits(b[0], part)
		dLogits := h.dLogits(logits, capBack, b[1], targets, weights, b[3])
		r.DHidden = g.Add(b[2], h.Numerics.Dot(dLogits, 1, part, 0))
		r.DTable = g.DynamicUpdateSlice(r.DTable, h.Numerics.Transpose(h.Numerics.Dot(b[0], 0, dLogits, 0)), []*g.Node{b[3], origin})
	}
	return r
}
