package model

import (
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
)

// Remat says what the backward pass recomputes instead of keeping, trading FLOPs for memory.
type Remat string

const (
	// RematNone keeps every activation.
	RematNone Remat = "none"
	// RematAttention recomputes attention scores and probabilities, the only activations that grow with T².
	RematAttention Remat = "attention"
	// RematLayer keeps each layer's input only: about a third more FLOPs.
	RematLayer Remat = "layer"
	// RematFull keeps the input of every √layers-th layer only, and of those between while their stretch is gone back through (Chen
	// et al. 1604.06174, §4, applied twice): about two thirds more FLOPs.
	RematFull Remat = "full"
)

// Remats are all of them, from the fastest to the one that keeps least.
var Remats = []Remat{RematNone, RematAttention, RematLayer, RematFull}

// RematAuto stands in a configuration for the first of [Remats] under which training fits the device. A [Decoder] has one of those.
const RematAuto Remat = "auto"

// Decoder builds the model's graph: a resolved configuration, how products run and what is recomputed.
type Decoder struct {
	Config
	Numerics Numerics
	Remat    Remat
	// Spread is nil on one device. Set it by [Decoder.Across].
	Spread Spread
}

// Weights are the parameters as graph nodes, by [Param] name. Gradients come back under the same names.
type Weights map[string]*g.Node

// NameWeights gives parameters, which come in the order of params, their names. There may be more nodes than params.
func NameWeights(params []Param, nodes []*g.Node) Weights {
	w := make(Weights, len(params))
	for i, p := range params {
		w[p.Name] = nodes[i]
	}
	return w
}

// Input is what a forward pass sees.
type Input struct {
	// Tokens are the input tokens, int32 [B, T].
	Tokens *g.Node
	// Segments number the document each position belongs to, int32 [B, T], and Positions restart at each document.
	// Both nil: one document, positions 0…T-1.
	Segments, Positions *g.Node
}

// context is what all layers share: position tables and what queries see, nil where attention is the backend's kernel.
type context struct {
	batch, seqLen int
	rotary        rotary
	views         []view
	// keep is [Extension.Keep]; nil: attend to these positions' own keys and values.
	keep func(layer int, k, v *g.Node) (keys, values *g.Node)
}

func (m Decoder) newContext(in Input) context {
	dims := in.Tokens.Shape().Dimensions
	c := context{batch: dims[0], seqLen: dims[1]}
	positions, segments := in.Positions, in.Segments
	if !m.DocumentMask {
		positions, segments = nil, nil
	}
	if positions == nil {
		positions = g.Iota(in.Tokens.Graph(), shapes.Make(dtypes.Int32, c.seqLen), 0)
	}
	c.rotary = newRotary(positions, m.HeadDim, m.RopeTheta, m.RopeScaling)
	if !m.Numerics.fuses(m.HeadDim, m.SlidingWindow, segments) {
		c.views = views(in.Tokens.Graph(), c.seqLen, blockSize(c.seqLen), m.SlidingWindow, segments)
	}
	return c
}

// residualScale multiplies the output of each residual branch: scale_depth/√layers under mup (MiniCPM Table 7).
func (m Decoder) residualScale() float64 {
	if m.Parameterization != MuP {
		return 1
	}
	return m.ScaleDepth / math.Sqrt(float64(m.NumLayers))
}

func (m Decoder) embeddingScale() float64 {
	if m.Parameterization != MuP {
		return 1
	}
	return m.ScaleEmb
}

// Hidden runs the decoder up to the final norm: float32 [N, D], already divided by the width ratio, so that logits are
// its product with the output projection. The pullback takes the gradient with respect to that and returns the
// gradient of every parameter except what the output projection adds (which is the loss's to know).
func (m Decoder) Hidden(w Weights, in Input) (h *g.Node, pullback func(dh *g.Node) Weights) {
	ctx := m.newContext(in)
	x, embedBack := m.Numerics.embed(m.whole(Param{Role: Embedding}, w["embed"]), g.Reshape(in.Tokens, -1), m.embeddingScale())
	x = m.tokens(x)

	stretch := int(math.Ceil(math.Sqrt(float64(m.NumLayers)))) // what RematFull goes back through at a time
	var backs []back
	for from := 0; from < m.NumLayers; from += stretch {
		var back back
		x, back = m.layers(from, min(from+stretch, m.NumLayers), w, x, ctx)
		backs = append(backs, back)
	}
	h, normBack := rmsNorm(x, w["final_norm"], m.NormEps)
	ratio := m.WidthRatio()
	return g.DivScalar(h, ratio), func(dh *g.Node) Weights {
		grads := make(Weights, len(w))
		var dx *g.Node
		dx, grads["final_norm"] = normBack(g.DivScalar(dh, ratio))
		for _, back := range slices.Backward(backs) {
			dx = back(dx, grads)
		}
		grads["embed"] = embedBack(m.tokens(dx))
		return grads
	}
}

// back is the pullback of a part of the residual stream, which files parameter gradients in grads.
type back func(dx *g.Node, grads Weights) *g.Node

// again is forward(x), and if so wished with a pullback that runs it again from x, so that nothing else is kept; the barrier keeps the
// compiler from finding out that it already knows the answer.
func again(recompute bool, x *g.Node, forward func(x *g.Node) (*g.Node, back)) (*g.Node, back) {
	y, back := forward(x)
	if !recompute {
		return y, back
	}
	return y, func(dx *g.Node, grads Weights) *g.Node {
		barred := g.OptimizationBarriers(x, dx)
		_, back := forward(barred[0])
		return back(barred[1], grads)
	}
}

// layers are the layers from…to-1.
func (m Decoder) layers(from, to int, w Weights, x *g.Node, ctx context) (*g.Node, back) {
	return again(m.Remat == RematFull, x, func(x *g.Node) (*g.Node, back) {
		var backs []back
		for i := from; i < to; i++ {
			var back back
			x, back = m.layer(i, w, x, ctx)
			backs = append(backs, back)
		}
		return x, func(dx *g.Node, grads Weights) *g.Node {
			for _, back := range slices.Backward(backs) {
				dx = back(dx, grads)
			}
			return dx
		}
	})
}

// layer is one block, x + s·attention(norm(x)) and then x + s·ffn(norm(x)).
func (m Decoder) layer(i int, w Weights, x *g.Node, ctx context) (*g.Node, back) {
	return again(m.Remat == RematLayer || m.Remat == RematFull, x, func(x *g.Node) (*g.Node, back) {
		mid, attentionBack := m.attention(i, w, x, ctx)
		out, ffnBack := m.feedForward(i, w, m.tokens(mid))
		return m.tokens(out), func(dx *g.Node, grads Weights) *g.Node {
			return attentionBack(m.tokens(ffnBack(m.tokens(dx), grads)), grads)
		}
	})
}

// attention is the block's first half: x + s·Wo·attend(norm(x)).
func (m Decoder) attention(i int, w Weights, x *g.Node, ctx context) (*g.Node, func(dy *g.Node, grads Weights) *g.Node) {
	name := func(s string) string { return fmt.Sprintf("layer.%d.%s", i, s) }
	n, scale := m.Numerics, m.residualScale()
	split := func(x *g.Node) *g.Node { return splitHeads(x, ctx.batch, ctx.seqLen, m.HeadDim) }

	normed, normBack := rmsNorm(x, w[name("attn_norm")], m.NormEps)
	narrow := n.Narrow(normed)
	q, qBack := n.linear(narrow, w[name("wq")], m.gather(Param{Role: Hidden}))
	k, kBack := n.linear(narrow, w[name("wk")], m.gather(Param{Role: Hidden}))
	v, vBack := n.linear(narrow, w[name("wv")], m.gather(Param{Role: Hidden}))
	q, k, v = split(q), split(k), split(v)
	qNormBack, kNormBack := noNorm, noNorm
	if m.QKNorm {
		q, qNormBack = rmsNorm(q, w[name("q_norm")], m.NormEps)
		k, kNormBack = rmsNorm(k, w[name("k_norm")], m.NormEps)
	}
	q, k = ctx.rotary.turn(q), ctx.rotary.turn(k)
	if ctx.keep != nil {
		k, v = ctx.keep(i, k, v)
	}
	heads, attendBack := n.attend(q, k, v, ctx.views)
	if m.Remat == RematAttention && ctx.views != nil { // a fused kernel keeps nothing worth computing again
		attendBack = func(do *g.Node) (dq, dk, dv *g.Node) {
			barred := g.OptimizationBarriers(q, k, v, do)
			_, back := n.attend(barred[0], barred[1], barred[2], ctx.views)
			return back(barred[3])
		}
	}
	out, outBack := n.linear(mergeHeads(heads), w[name("wo")], m.gather(Param{Role: Hidden, Back: true}))

	return g.Add(x, g.MulScalar(out, scale)), func(dy *g.Node, grads Weights) *g.Node {
		var dheads, dgain *g.Node
		dheads, grads[name("wo")] = outBack(g.MulScalar(dy, scale))
		dq, dk, dv := attendBack(split(dheads))
		inverse := ctx.rotary.inverse()
		dq, dk = inverse.turn(dq), inverse.turn(dk)
		if dq, dgain = qNormBack(dq); dgain != nil {
			grads[name("q_norm")] = dgain
		}
		if dk, dgain = kNormBack(dk); dgain != nil {
			grads[name("k_norm")] = dgain
		}
		var fromQ, fromK, fromV, dx *g.Node
		fromQ, grads[name("wq")] = qBack(mergeHeads(dq))
		fromK, grads[name("wk")] = kBack(mergeHeads(dk))
		fromV, grads[name("wv")] = vBack(mergeHeads(dv))
		dx, grads[name("attn_norm")] = normBack(g.Add(g.Add(fromQ, fromK), fromV))
		return g.Add(dy, dx)
	}
}

// noNorm is the pullback of no normalisation.
func noNorm(dy *g.Node) (dx, dgain *g.Node) { return dy, nil }

// feedForward is the block's second half: x + s·Wdown·swiGLU(norm(x)).
func (m Decoder) feedForward(i int, w Weights, x *g.Node) (*g.Node, func(dy *g.Node, grads Weights) *g.Node) {
	name := func(s string) string { return fmt.Sprintf("layer.%d.%s", i, s) }
	n, scale := m.Numerics, m.residualScale()

	normed, normBack := rmsNorm(x, w[name("ffn_norm")], m.NormEps)
	narrow := n.Narrow(normed)
	gate, gateBack := n.linear(narrow, w[name("w_gate")], m.gather(Param{Role: Hidden}))
	up, upBack := n.linear(narrow, w[name("w_up")], m.gather(Param{Role: Hidden}))
	inner, gluBack := swiGLU(gate, up)
	out, downBack := n.linear(inner, w[name("w_down")], m.gather(Param{Role: Hidden, Back: true}))

	return g.Add(x, g.MulScalar(out, scale)), func(dy *g.Node, grads Weights) *g.Node {
		var dinner, fromGate, fromUp, dx *g.Node
		dinner, grads[name("w_down")] = downBack(g.MulScalar(dy, scale))
		dgate, dup := gluBack(dinner)
		fromGate, grads[name("w_gate")] = gateBack(dgate)
		fromUp, grads[name("w_up")] = upBack(dup)
		dx, grads[name("ffn_norm")] = normBack(g.Add(fromGate, fromUp))
		return g.Add(dy, dx)
	}
}

// OutputName is the parameter that projects to the vocabulary: the embedding itself when tied.
func (c Config) OutputName() string {
	if c.Tied() {
		return "embed"
	}
	return "lm_head"
}

// Logits projects hidden states [N, D] (see [Decoder.Hidden]) to the vocabulary: float32 [N, V], soft-capped.
func (m Decoder) Logits(w Weights, h *g.Node) *g.Node {
	logits, _ := SoftCap(m.Numerics.Dot(h, 1, m.whole(Param{Role: Output}, w[m.OutputName()]), 1), m.LogitSoftCap)
	return logits
}
