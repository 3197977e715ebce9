package model

import g "github.com/gomlx/gomlx/core/graph"

// Residuals are the residual stream after the embedding and after each layer, each float32 [N, D]: for looking into a
// model, forward only.
func (m Decoder) Residuals(w Weights, in Input) []*g.Node {
	var stream []*g.Node
	for i, x := range m.Sublayers(w, in) {
		if i%2 == 0 {
			stream = append(stream, x)
		}
	}
	return stream
}

// Sublayers are the residual stream after the embedding and after each sublayer, attention and feed-forward in turn: 2·layers+1
// of float32 [N, D]. Entry 2i is the input of layer i, 2i+1 what its attention made of it.
func (m Decoder) Sublayers(w Weights, in Input) []*g.Node {
	ctx := m.newContext(in)
	x, _ := m.Numerics.embed(m.whole(Param{Role: Embedding}, w["embed"]), g.Reshape(in.Tokens, -1), m.embeddingScale())
	stream := []*g.Node{x}
	for i := range m.NumLayers {
		x, _ = m.attention(i, w, x, ctx)
		stream = append(stream, x)
		x, _ = m.feedForward(i, w, x)
		stream = append(stream, x)
	}
	return stream
}
