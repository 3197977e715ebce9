package model

import g "github.com/gomlx/gomlx/core/graph"

// Residuals are the residual stream after the embedding and after each layer, each float32 [N, D]: for looking into a
// model, forward only.
func (m Decoder) Residuals(w Weights, in Input) []*g.Node {
	ctx := m.newContext(in)
	x, _ := embed(w["embed"], g.Reshape(in.Tokens, -1), m.embeddingScale())
	stream := []*g.Node{x}
	for i := range m.NumLayers {
		x, _ = m.layer(i, w, x, ctx)
		stream = append(stream, x)
	}
	return stream
}
