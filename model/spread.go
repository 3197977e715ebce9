package model

import g "github.com/gomlx/gomlx/core/graph"

// Spread says where the values of a program lie among several devices. It changes where they are computed, not what: each
// method returns its operand. The decoder says what a value is; the mesh knows where that belongs.
type Spread interface {
	// Tokens has x [N, ...] cut so that each device has the tokens of its sequences.
	Tokens(x *g.Node) *g.Node
	// Gather has a parameter, of which each device stores a part, as products take it. Only its role and Back count.
	Gather(p Param, w *g.Node) *g.Node
	// Parts is the number of parts that the sequences of a batch are cut into.
	Parts() int
	// SplitHeads says that the heads of attention are divided among devices.
	SplitHeads() bool
}

// Across is the decoder on several devices; with nil, on one. Attention is of elementary operations there: XLA's partitioner
// cannot look into a kernel, and would run it whole on each device (docs/scale-out.md).
func (m Decoder) Across(s Spread) Decoder {
	if s != nil {
		m.Spread, m.Numerics = s, m.Numerics.Decomposed()
		m.Numerics.headsApart, m.Numerics.gpu = s.SplitHeads(), false
	}
	return m
}

// tokens is x, of which each device has its own tokens' rows.
func (m Decoder) tokens(x *g.Node) *g.Node {
	if m.Spread == nil {
		return x
	}
	return m.Spread.Tokens(x)
}

// whole is a parameter as products take it.
func (m Decoder) whole(p Param, w *g.Node) *g.Node {
	if m.Spread == nil {
		return w
	}
	return m.Spread.Gather(p, w)
}

// gather is whole for a kind of parameter, nil where there is nothing to do.
func (m Decoder) gather(p Param) func(w *g.Node) *g.Node {
	if m.Spread == nil {
		return nil
	}
	return func(w *g.Node) *g.Node { return m.Spread.Gather(p, w) }
}
