package model

import g "github.com/gomlx/gomlx/core/graph"

// Extension is new tokens after others whose keys and values were kept: the forward pass of generation. It has no
// pullback.
type Extension struct {
	// Tokens are the new tokens, int32 [B, T], and Positions where each stands in its text, int32 [B, T].
	Tokens, Positions *g.Node
	// Visible says which kept keys each new token may see, boolean [B, 1, T, S].
	Visible *g.Node
	// Keep takes the new tokens' keys (already turned by their positions) and values in one layer, float32 [B, K, T, E],
	// and returns all that is kept, [B, K, S, E] or [B·K, S, E], in float32 or in the operand dtype of products.
	Keep func(layer int, k, v *g.Node) (keys, values *g.Node)
}

// Extend runs the decoder on new tokens: as [Decoder.Hidden], float32 [B·T, D].
func (m Decoder) Extend(w Weights, e Extension) *g.Node {
	dims := e.Tokens.Shape().Dimensions
	ctx := context{
		batch: dims[0], seqLen: dims[1], views: []view{{mask: e.Visible}}, keep: e.Keep,
		rotary: newRotary(e.Positions, m.HeadDim, m.RopeTheta, m.RopeScaling),
	}
	x, _ := m.Numerics.embed(w["embed"], g.Reshape(e.Tokens, -1), m.embeddingScale())
	for i := range m.NumLayers {
		x, _ = m.layer(i, w, x, ctx)
	}
	h, _ := rmsNorm(x, w["final_norm"], m.NormEps)
	return g.DivScalar(h, m.WidthRatio())
}
