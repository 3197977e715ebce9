package llama

import (
	"math"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
)

// Forward is the network by its definition, in float32, as Hugging Face's modeling_llama.py and modeling_minicpm.py have it:
// tokens int32 [B, T] to logits [B, T, V]. Weights go by the names of the tensors. Slow and plain, on purpose.
func (n *Network) Forward(w map[string]*g.Node, tokens *g.Node) *g.Node {
	batch, length := tokens.Shape().Dimensions[0], tokens.Shape().Dimensions[1]
	heads := func(x *g.Node) *g.Node { return g.Reshape(x, batch, length, -1, n.HeadDim) }

	x := g.MulScalar(g.Gather(w[Embedding], g.ExpandAxes(tokens, -1)), n.embeddingScale())
	for i := range n.NumLayers {
		weight := func(name string) *g.Node { return w[LayerName(i, name)] }
		h := n.norm(x, weight("input_layernorm.weight"))
		q := n.rotate(heads(matmul(h, weight("self_attn.q_proj.weight"))))
		k := n.rotate(heads(matmul(h, weight("self_attn.k_proj.weight"))))
		v := heads(matmul(h, weight("self_attn.v_proj.weight")))
		h = matmul(attention(q, n.repeat(k), n.repeat(v)), weight("self_attn.o_proj.weight"))
		x = g.Add(x, g.MulScalar(h, n.residualScale()))

		h = n.norm(x, weight("post_attention_layernorm.weight"))
		gate, up := matmul(h, weight("mlp.gate_proj.weight")), matmul(h, weight("mlp.up_proj.weight"))
		h = matmul(g.Mul(g.Mul(gate, g.Sigmoid(gate)), up), weight("mlp.down_proj.weight"))
		x = g.Add(x, g.MulScalar(h, n.residualScale()))
	}
	x = g.DivScalar(n.norm(x, w[FinalNorm]), n.logitDivisor())
	if n.Tied {
		return matmul(x, w[Embedding])
	}
	return matmul(x, w[Output])
}

// matmul is x·wᵀ for x [B, T, in] and w [out, in].
func matmul(x, w *g.Node) *g.Node { return g.Einsum("bti,oi->bto", x, w) }

func (n *Network) norm(x, gain *g.Node) *g.Node {
	variance := g.ExpandAxes(g.ReduceMean(g.Mul(x, x), -1), -1)
	return g.Mul(g.Div(x, g.Sqrt(g.AddScalar(variance, n.NormEps))), g.ExpandLeftToRank(gain, x.Rank()))
}

// rotate turns each pair of x [B, T, heads, E] by its position times theta^(-2j/E).
func (n *Network) rotate(x *g.Node) *g.Node {
	gr, dims, half := x.Graph(), x.Shape().Dimensions, n.HeadDim/2
	angles := make([]float64, dims[1]*half)
	for t := range dims[1] {
		for j := range half {
			angles[t*half+j] = float64(t) / n.RopeFactor * math.Pow(n.RopeTheta, -2*float64(j)/float64(n.HeadDim))
		}
	}
	angle := g.Reshape(g.ConvertDType(g.Const(gr, angles), dtypes.Float32), 1, dims[1], 1, half)
	cos, sin := g.Cos(angle), g.Sin(angle)
	axis, pairs := 3, []int{dims[0], dims[1], dims[2], 2, half}
	if n.Interleaved {
		axis, pairs = 4, []int{dims[0], dims[1], dims[2], half, 2}
	}
	parts := g.Reshape(x, pairs...)
	a := g.Squeeze(g.SliceAxis(parts, axis, g.AxisElem(0)), axis)
	b := g.Squeeze(g.SliceAxis(parts, axis, g.AxisElem(1)), axis)
	return g.Reshape(g.Stack([]*g.Node{g.Sub(g.Mul(a, cos), g.Mul(b, sin)), g.Add(g.Mul(a, sin), g.Mul(b, cos))}, axis), dims...)
}

// repeat gives every query head its key/value head: [B, T, K, E] to [B, T, H, E].
func (n *Network) repeat(x *g.Node) *g.Node {
	d := x.Shape().Dimensions
	group := n.NumHeads / n.NumKVHeads
	return g.Reshape(g.BroadcastToDims(g.ExpandAxes(x, 3), d[0], d[1], d[2], group, d[3]), d[0], d[1], n.NumHeads, d[3])
}

// attention is causal: q, k, v [B, T, H, E] to [B, T, H·E].
func attention(q, k, v *g.Node) *g.Node {
	gr, d := q.Graph(), q.Shape().Dimensions
	scores := g.DivScalar(g.Einsum("bqhe,bkhe->bhqk", q, k), math.Sqrt(float64(d[3])))
	square := shapes.Make(dtypes.Int32, d[1], d[1])
	future := g.ExpandLeftToRank(g.LessThan(g.Iota(gr, square, 0), g.Iota(gr, square, 1)), 4)
	future = g.BroadcastToDims(future, scores.Shape().Dimensions...)
	scores = g.Where(future, g.MulScalar(g.OnesLike(scores), -1e30), scores)
	return g.Reshape(g.Einsum("bhqk,bkhe->bqhe", g.Softmax(scores, -1), v), d[0], d[1], d[2]*d[3])
}
