package model

import (
	"math"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
)

// AttentionKind says which implementation of attention is used.
type AttentionKind string

const (
	// AttentionAuto is the backend's fused kernel where it has one for the case, see [NumericsFor], and else decomposed.
	AttentionAuto AttentionKind = "auto"
	// AttentionDecomposed is attention of elementary operations.
	AttentionDecomposed AttentionKind = "decomposed"
)

// span is a range of positions of a sequence, from…to-1.
type span struct{ from, to int }

func (s span) of(x *g.Node, axis int) *g.Node {
	if s.from == 0 && s.to == x.Shape().Dimensions[axis] {
		return x
	}
	return g.SliceAxis(x, axis, g.AxisRange(s.from, s.to))
}

// view is what a block of queries attends to: which keys, and of those which each query sees, boolean [Tq, Tk] or
// [B, 1, Tq, Tk].
type view struct {
	queries, keys span
	mask          *g.Node
}

// blockSize is how many queries attend together where attention is of elementary operations: larger blocks compute more in vain, smaller
// ones are slower to multiply and longer to compile (docs/performance.md, "Causal blocks").
func blockSize(seqLen int) int {
	if seqLen < 512 {
		return seqLen
	}
	return max(256, (seqLen+7)/8)
}

// views divides the queries of a sequence into blocks, each with the keys that any of its queries sees: the query itself and what came
// before, within the window and, with segments [B, T], within its own document. Scores of keys that no query of a block sees, up to
// half of all, are never computed.
func views(gr *g.Graph, seqLen, block, window int, segments *g.Node) []view {
	var all []view
	for from := 0; from < seqLen; from += block {
		v := view{queries: span{from, min(from+block, seqLen)}}
		v.keys = span{0, v.queries.to}
		if window > 0 {
			v.keys.from = max(0, from-window+1)
		}
		v.mask = visible(gr, v.queries, v.keys, window, segments)
		all = append(all, v)
	}
	return all
}

// visible is the mask of a [view].
func visible(gr *g.Graph, queries, keys span, window int, segments *g.Node) *g.Node {
	rectangle := shapes.Make(dtypes.Int32, queries.to-queries.from, keys.to-keys.from)
	place := func(axis, from int) *g.Node { return g.AddScalar(g.Iota(gr, rectangle, axis), from) }
	query, key := place(0, queries.from), place(1, keys.from)
	mask := g.GreaterOrEqual(query, key)
	if window > 0 {
		mask = g.LogicalAnd(mask, g.LessThan(g.Sub(query, key), g.Scalar(gr, dtypes.Int32, window)))
	}
	if segments != nil {
		same := g.Equal(g.ExpandAxes(queries.of(segments, 1), 1, 3), g.ExpandAxes(keys.of(segments, 1), 1, 2)) // [B, 1, Tq, Tk]
		mask = g.LogicalAnd(g.ExpandLeftToRank(mask, 4), same)
	}
	return mask
}

// fuses reports whether attention runs as the backend's kernel. It has to be plain causal: cuDNN takes another mask only as
// a bias [B, H, T, T], written out in memory for the kernel and once more for its gradient, which is what the kernel is there
// to save. Heads are of a multiple of 8 up to 128, what flash attention takes on every GPU it runs on.
func (n Numerics) fuses(headDim, window int, segments *g.Node) bool {
	return n.fusedAttention && window == 0 && segments == nil && headDim%8 == 0 && headDim <= 128
}

// attend is softmax(q·kᵀ/√E)·v over visible keys: those of the views, block by block, or without any, by the backend's fused kernel, all up to
// the query's own. q is [B, H, T, E], k and v are [B, K, S, E], S being T but for keys kept from earlier (see
// [Decoder.Extend]); the result is float32 [B, H, T, E].
func (n Numerics) attend(q, k, v *g.Node, seen []view) (o *g.Node, pullback func(do *g.Node) (dq, dk, dv *g.Node)) {
	switch len(seen) {
	case 0:
		return n.attendFused(q, k, v)
	case 1:
		return n.attendDecomposed(q, k, v, seen[0].mask)
	}
	k, v = n.Narrow(k), n.Narrow(v)
	outs := make([]*g.Node, len(seen))
	backs := make([]func(do *g.Node) (dq, dk, dv *g.Node), len(seen))
	for i, w := range seen {
		outs[i], backs[i] = n.attendDecomposed(w.queries.of(q, 2), w.keys.of(k, 2), w.keys.of(v, 2), w.mask)
	}
	return g.Concatenate(outs, 2), func(do *g.Node) (dq, dk, dv *g.Node) {
		dqs := make([]*g.Node, len(seen))
		for i, w := range seen {
			var fromK, fromV *g.Node
			dqs[i], fromK, fromV = backs[i](w.queries.of(do, 2))
			dk, dv = addAt(dk, fromK, w.keys, k), addAt(dv, fromV, w.keys, v)
		}
		return g.Concatenate(dqs, 2), dk, dv
	}
}

// addAt adds x, which belongs to the positions at of like [B, K, T, E], to sum.
func addAt(sum, x *g.Node, at span, like *g.Node) *g.Node {
	if seqLen := like.Shape().Dimensions[2]; at.to-at.from < seqLen {
		x = g.Pad(x, g.ScalarZero(x.Graph(), x.DType()), compute.PadAxis{}, compute.PadAxis{}, compute.PadAxis{Start: at.from, End: seqLen - at.to}, compute.PadAxis{})
	}
	if sum == nil {
		return x
	}
	return g.Add(sum, x)
}

// attendFused is one kernel forward and one back. Between them it keeps the output and, of each row of scores, the logarithm
// of the softmax's denominator [B, H, T].
func (n Numerics) attendFused(q, k, v *g.Node) (o *g.Node, pullback func(do *g.Node) (dq, dk, dv *g.Node)) {
	options := &compute.ScaledDotProductAttentionConfig{Causal: true, Scale: 1 / math.Sqrt(float64(q.Shape().Dimensions[3]))}
	out, _ := g.BackendFusedScaledDotProductAttention(n.Narrow(q), n.Narrow(k), n.Narrow(v), compute.AttentionAxesLayoutBHSD, options)
	return g.ConvertDType(out, dtypes.Float32), func(do *g.Node) (dq, dk, dv *g.Node) {
		// GoMLX exports the kernel's gradient only as the rule that its automatic differentiation would apply.
		kernel := out.Inputs()[0]
		grads := g.VJPRegistration[kernel.Type()](kernel, []*g.Node{n.Narrow(do)}, out.Shape())
		wide := func(x *g.Node) *g.Node { return g.ConvertDType(x, dtypes.Float32) }
		return wide(grads[0]), wide(grads[1]), wide(grads[2])
	}
}

// attendDecomposed is attention of the backend's elementary operations. The G query heads that share a key/value head are
// folded into its rows, so grouped-query attention repeats nothing and the gradients of k and v add up by themselves.
func (n Numerics) attendDecomposed(q, k, v, mask *g.Node) (o *g.Node, pullback func(do *g.Node) (dq, dk, dv *g.Node)) {
	dims := q.Shape().Dimensions
	batch, heads, seqLen, headDim := dims[0], dims[1], dims[2], dims[3]
	numKeys := k.Shape().Dimensions[k.Rank()-2]
	kvHeads := k.Shape().Size() / (batch * numKeys * headDim) // kept ones may come folded
	group := heads / kvHeads
	lead, axes := []int{batch * kvHeads}, []int{0} // [B·K, G·T, E]: faster on a CPU than with two leading axes
	if n.headsApart {
		lead, axes = []int{batch, kvHeads}, []int{0, 1}
	}
	rows, cols := len(lead), len(lead)+1
	fold := func(x *g.Node) *g.Node { return g.Reshape(x, append(slices.Clone(lead), -1, headDim)...) }
	unfold := func(x *g.Node, length int) *g.Node { return g.Reshape(x, batch, -1, length, headDim) }

	scale := 1 / math.Sqrt(float64(headDim))
	q, k, v = n.Narrow(fold(g.MulScalar(q, scale))), n.Narrow(fold(k)), n.Narrow(fold(v))
	scores := g.Reshape(n.Dot(q, cols, k, cols, axes...), batch, kvHeads*group, seqLen, numKeys)
	hidden := g.Scalar(scores.Graph(), dtypes.Float32, -1e30) // not -∞: a row is never wholly hidden, and ∞-∞ is NaN
	scores = g.Where(g.BroadcastToDims(g.ExpandLeftToRank(mask, 4), scores.Shape().Dimensions...), scores, hidden)
	// The maximum is a constant of the softmax: it cancels.
	weights := g.Exp(g.Sub(scores, g.ExpandAxes(g.ReduceMax(scores, -1), -1)))
	probs := g.Div(weights, g.ExpandAxes(g.ReduceSum(weights, -1), -1))
	probs = n.Narrow(g.Reshape(probs, append(slices.Clone(lead), group*seqLen, numKeys)...))
	out := n.Dot(probs, cols, v, rows, axes...) // [B·K, G·T, E]

	return unfold(out, seqLen), func(do *g.Node) (dq, dk, dv *g.Node) {
		do = fold(do)
		// rowsum(dp·p) = rowsum(do·o): the cheap side of the softmax's gradient (Dao et al. 2205.14135, §3.1).
		inner := g.ExpandAxes(g.ReduceSum(g.Mul(do, out), -1), -1)
		do = n.Narrow(do)
		dv = n.Dot(probs, rows, do, rows, axes...)
		dprobs := n.Dot(do, cols, v, cols, axes...)
		dscores := n.Narrow(g.Mul(g.ConvertDType(probs, dtypes.Float32), g.Sub(dprobs, inner)))
		dq = g.MulScalar(n.Dot(dscores, cols, k, rows, axes...), scale)
		dk = n.Dot(dscores, rows, q, rows, axes...)
		return unfold(dq, seqLen), unfold(dk, numKeys), unfold(dv, numKeys)
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
