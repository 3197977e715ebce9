package model

import (
	"math"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
)

// visible returns which keys each query may see, boolean [T, T] or, with document segments [B, T], [B, 1, T, T]:
// itself and what came before, within the window and within its own document.
func visible(gr *g.Graph, seqLen, window int, segments *g.Node) *g.Node {
	square := shapes.Make(dtypes.Int32, seqLen, seqLen)
	query, key := g.Iota(gr, square, 0), g.Iota(gr, square, 1)
	mask := g.GreaterOrEqual(query, key)
	if window > 0 {
		mask = g.LogicalAnd(mask, g.LessThan(g.Sub(query, key), g.Scalar(gr, dtypes.Int32, window)))
	}
	if segments != nil {
		same := g.Equal(g.ExpandAxes(segments, 1, 3), g.ExpandAxes(segments, 1, 2)) // [B, 1, T, T]
		mask = g.LogicalAnd(g.ExpandLeftToRank(mask, 4), same)
	}
	return mask
}

// attend is softmax(q·kᵀ/√E)·v over visible keys. q is [B, H, T, E], k and v are [B, K, T, E], all float32; the result
// is [B, H, T, E]. The G query heads that share a key/value head are folded into its rows, so grouped-query attention
// repeats nothing and the gradients of k and v add up by themselves.
func (n Numerics) attend(q, k, v, mask *g.Node) (o *g.Node, pullback func(do *g.Node) (dq, dk, dv *g.Node)) {
	dims := q.Shape().Dimensions
	batch, heads, seqLen, headDim := dims[0], dims[1], dims[2], dims[3]
	kvHeads := k.Shape().Dimensions[1]
	group := heads / kvHeads
	fold := func(x *g.Node) *g.Node { return g.Reshape(x, batch*kvHeads, -1, headDim) } // [B·K, G·T, E]
	unfold := func(x *g.Node) *g.Node { return g.Reshape(x, batch, -1, seqLen, headDim) }

	scale := 1 / math.Sqrt(float64(headDim))
	q, k, v = n.Narrow(fold(g.MulScalar(q, scale))), n.Narrow(fold(k)), n.Narrow(fold(v))
	scores := g.Reshape(n.Dot(q, 2, k, 2, 0), batch, kvHeads*group, seqLen, seqLen)
	hidden := g.Scalar(scores.Graph(), dtypes.Float32, -1e30) // not -∞: a row is never wholly hidden, and ∞-∞ is NaN
	scores = g.Where(g.BroadcastToDims(g.ExpandLeftToRank(mask, 4), scores.Shape().Dimensions...), scores, hidden)
	// The maximum is a constant of the softmax: it cancels.
	weights := g.Exp(g.Sub(scores, g.ExpandAxes(g.ReduceMax(scores, -1), -1)))
	probs := g.Div(weights, g.ExpandAxes(g.ReduceSum(weights, -1), -1))
	probs = n.Narrow(g.Reshape(probs, batch*kvHeads, group*seqLen, seqLen))
	out := n.Dot(probs, 2, v, 1, 0) // [B·K, G·T, E]

	return unfold(out), func(do *g.Node) (dq, dk, dv *g.Node) {
		do = fold(do)
		// rowsum(dp·p) = rowsum(do·o): the cheap side of the softmax's gradient (Dao et al. 2205.14135, §3.1).
		inner := g.ExpandAxes(g.ReduceSum(g.Mul(do, out), -1), -1)
		do = n.Narrow(do)
		dv = n.Dot(probs, 1, do, 1, 0)
		dprobs := n.Dot(do, 2, v, 2, 0)
		dscores := n.Narrow(g.Mul(g.ConvertDType(probs, dtypes.Float32), g.Sub(dprobs, inner)))
		dq = g.MulScalar(n.Dot(dscores, 2, k, 1, 0), scale)
		dk = n.Dot(dscores, 1, q, 1, 0)
		return unfold(dq), unfold(dk), unfold(dv)
	}
}

// splitHeads turns [N, heads·E] into [B, heads, T, E]; mergeHeads is its inverse. Each is the other's pullback.
func splitHeads(x *g.Node, batch, seqLen, headDim int) *g.Node {
	return g.TransposeAllAxes(g.Reshape(x, batch, seqLen, -1, headDim), 0, 2, 1, 3)
}

func mergeHeads(x *g.Node) *g.Node {
	d := x.Shape().Dimensions
	return g.Reshape(g.TransposeAllAxes(x, 0, 2, 1, 3), d[0]*d[2], d[1]*d[3])
}
