// Package loss computes the cross-entropy of hidden states against targets, and its gradient, without ever holding the
// logits of all tokens at once.
//
// Axis letters: N tokens, C tokens in a chunk, D d_model, V vocabulary.
package loss

import (
	"pretrain/model"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
)

// Head is the end of the model: output projection, soft cap, cross-entropy, z-loss.
type Head struct {
	Numerics model.Numerics
	// SoftCap bounds the logits, see model.Config. 0: off.
	SoftCap float64
	// ZLoss weighs the squared log partition function, which keeps logits from drifting (PaLM 2204.02311, §5, uses
	// 1e-4). 0: off.
	ZLoss float64
	// ChunkTokens is how many tokens' logits exist at once, on each part of a batch. 0: as many as fit in [AutoChunkBytes], four times
	// that on a GPU, or on one CPU where that takes less memory, all tokens' logits of a part of the vocabulary.
	ChunkTokens int
	// Spread is nil on one device. Among several a chunk takes as many tokens of each part of the batch, so that no token has
	// to go to another device and all have work.
	Spread model.Spread
}

// AutoChunkBytes bounds a chunk's float32 logits when no chunk size is given: large enough to keep a CPU busy, small
// beside the activations of any model whose vocabulary makes chunks worth having.
const AutoChunkBytes = 256 << 20

// gpuChunkBytes is the same for a GPU: each chunk reads and writes the table's gradient, which it has to be worth.
const gpuChunkBytes = 4 * AutoChunkBytes

func (h Head) chunkBytes() int {
	if h.Numerics.GPU() {
		return gpuChunkBytes
	}
	return AutoChunkBytes
}

// Result is the loss of a batch and its gradient. All float32.
type Result struct {
	// Loss is Σ weight·cross-entropy in nats, without the z-loss. Scalar.
	Loss *g.Node
	// Z is ZLoss·Σ weight·log²Z. Scalar; nil when off.
	Z *g.Node
	// DHidden [N, D] and DTable [V, D] are the gradients of Loss + Z.
	DHidden, DTable *g.Node
}

// Loss returns the weighted loss and its gradient. hidden is [N, D] float32; table [V, D] is the output projection;
// targets [N] int32; weights [N] float32 already hold the loss mask and the normalisation (1/number of counted tokens
// of the whole batch, so that the sum over micro-batches is the mean).
//
// The gradient is formed together with the loss while a chunk's logits are at hand: nothing is kept or recomputed, but where
// the table is large beside the tokens (see inBlocks).
func (h Head) Loss(hidden, table, targets, weights *g.Node) Result {
	var r Result
	hidden = h.Numerics.Narrow(hidden)
	if tokens, vocab := hidden.Shape().Dimensions[0], table.Shape().Dimensions[0]; h.inBlocks(tokens, hidden.Shape().Dimensions[1], vocab) {
		return h.blocked(hidden, table, targets, weights, blockBytes/(4*tokens))
	}
	vocab := table.Shape().Dimensions[0]
	table = h.align(h.gather(h.Numerics.Narrow(table)))
	var dHidden []*g.Node
	var dTable *g.Node // [D, V], or each part's own [P, D, V]
	for start, size := range h.chunks(hidden.Shape().Dimensions[0]/h.parts(), vocab) {
		part := func(x *g.Node) *g.Node { return h.slice(x, start, size) }
		x, y, w := part(hidden), part(targets), part(weights)
		if r.Loss != nil {
			// One chunk after the other: the point is to share their memory. The table's gradient is in the barrier too, or
			// each chunk's would be kept to the end and added up there.
			b := g.OptimizationBarriers(x, y, w, r.Loss, dTable)
			x, y, w, r.Loss, dTable = b[0], b[1], b[2], b[3], b[4]
		}
		c := h.chunk(x, table, y, vocab)

		r.Loss = plus(r.Loss, g.ReduceAllSum(g.Mul(w, c.nats())))
		if h.ZLoss > 0 {
			r.Z = plus(r.Z, h.zLoss(c.lse, w))
		}
		dLogits := h.dLogits(c.logits, c.capBack, c.lse, c.targets, w, nil)
		dHidden = append(dHidden, h.Numerics.Dot(dLogits, 1, table, 0))
		// As (hiddenᵀ·dLogits)ᵀ: of the two ways to write it, the one that copies or transposes [D, ·] and not [C, V].
		if h.parts() == 1 {
			dTable = plus(dTable, h.Numerics.Dot(c.hidden, 0, dLogits, 0))
		} else { // summed over the devices once, after the last chunk
			dTable = plus(dTable, h.Numerics.Dot(h.byPart(c.hidden), 1, h.byPart(dLogits), 1, 0))
		}
	}
	if h.parts() == 1 {
		r.DTable = h.Numerics.Transpose(dTable)
	} else {
		r.DTable = g.Transpose(g.ReduceSum(dTable, 0), 0, 1) // not in halves, which would not fit the devices' parts
	}
	if r.DTable.Shape().Dimensions[0] > vocab {
		r.DTable = g.SliceAxis(r.DTable, 0, g.AxisRange(0, vocab))
	}
	r.DHidden = h.join(dHidden)
	return r
}

// align adds rows of zeros to a table [V, D] for a GPU, up to a multiple of 128, so that rows of logits, as operands and as results,
// begin at multiples of 16 bytes, also where a product is split over V: tensor cores are fed by loads of that size. XLA itself only
// copies, in each chunk, what it sums over V.
func (h Head) align(table *g.Node) *g.Node {
	missing := -table.Shape().Dimensions[0] & 127
	if !h.Numerics.GPU() || h.Spread != nil || missing == 0 { // several devices have parts of the table
		return table
	}
	return g.Pad(table, g.ScalarZero(table.Graph(), table.DType()), compute.PadAxis{End: missing})
}

// PerToken returns the cross-entropy of every token in nats, float32 [N], for evaluation.
func (h Head) PerToken(hidden, table, targets *g.Node) *g.Node {
	nats, _ := h.perToken(hidden, table, targets, false)
	return nats
}

// Greedy is PerToken and, int32 [N], the token that is likeliest at each place.
func (h Head) Greedy(hidden, table, targets *g.Node) (nats, best *g.Node) {
	return h.perToken(hidden, table, targets, true)
}

func (h Head) perToken(hidden, table, targets *g.Node, greedy bool) (nats, best *g.Node) {
	vocab := table.Shape().Dimensions[0]
	table, hidden = h.align(h.gather(h.Numerics.Narrow(table))), h.Numerics.Narrow(hidden)
	var nodes, tops []*g.Node
	for start, size := range h.chunks(hidden.Shape().Dimensions[0]/h.parts(), vocab) {
		c := h.chunk(h.slice(hidden, start, size), table, h.slice(targets, start, size), vocab)
		nodes = append(nodes, c.nats())
		if greedy {
			tops = append(tops, g.ArgMax(c.logits, -1, dtypes.Int32))
		}
	}
	if greedy {
		best = h.join(tops)
	}
	return h.join(nodes), best
}

// chunk is the forward pass of some tokens: capped logits [C, V], log partition function [C] and target logit [C].
type chunk struct {
	hidden, targets, logits, lse, target *g.Node
	capBack                              func(*g.Node) *g.Node
}

func (c chunk) nats() *g.Node { return g.Sub(c.lse, c.target) }

// chunk computes those of hidden states [C, D]; rows of the table from vocab on are none.
func (h Head) chunk(hidden, table, targets *g.Node, vocab int) chunk {
	c := chunk{hidden: hidden, targets: targets}
	c.logits, c.capBack = h.logits(hidden, table)
	if shape := c.logits.Shape(); shape.Dimensions[1] > vocab {
		real := g.LessThan(g.Iota(hidden.Graph(), shapes.Make(dtypes.Int32, shape.Dimensions...), 1), g.Scalar(hidden.Graph(), dtypes.Int32, vocab))
		c.logits = g.Where(real, c.logits, g.Infinity(hidden.Graph(), shape.DType, -1))
	}
	top := g.ReduceMax(c.logits, -1)
	c.lse = g.Add(top, g.Log(g.ReduceSum(g.Exp(g.Sub(c.logits, g.ExpandAxes(top, -1))), -1)))
	c.target = h.target(hidden, table, targets)
	return c
}

// logits are those of rows of the table, capped: [N, D], [V, D] → [N, V].
func (h Head) logits(hidden, table *g.Node) (capped *g.Node, capBack func(*g.Node) *g.Node) {
	return model.SoftCap(h.Numerics.Dot(hidden, 1, table, 1), h.SoftCap)
}

// zLoss is the part of the loss that keeps the softmax's denominator near one.
func (h Head) zLoss(lse, weights *g.Node) *g.Node {
	return g.MulScalar(g.ReduceAllSum(g.Mul(weights, g.Square(lse))), h.ZLoss)
}

// dLogits is the gradient of the loss with respect to logits [N, V], or to those from row first of the vocabulary on, before the
// cap: d(lse - target)/dlogits = softmax - onehot, d(lse²)/dlogits = 2·lse·softmax.
func (h Head) dLogits(logits *g.Node, capBack func(*g.Node) *g.Node, lse, targets, weights, first *g.Node) *g.Node {
	wide := func(x *g.Node) *g.Node { return g.ExpandAxes(x, -1) }
	slope := weights
	if h.ZLoss > 0 {
		slope = g.Mul(weights, g.OnePlus(g.MulScalar(lse, 2*h.ZLoss)))
	}
	softmax := g.Exp(g.Sub(logits, wide(lse)))
	vocab := g.Iota(logits.Graph(), shapes.Make(dtypes.Int32, logits.Shape().Dimensions...), logits.Rank()-1)
	if first != nil {
		vocab = g.Add(vocab, first)
	}
	onTarget := g.Where(g.Equal(vocab, wide(targets)), g.BroadcastToDims(wide(weights), logits.Shape().Dimensions...), g.ScalarZero(weights.Graph(), weights.DType()))
	return h.Numerics.Narrow(capBack(g.Sub(g.Mul(softmax, wide(slope)), onTarget)))
}

// target is each target's logit [N], from its own row: a pass over [N, V] to pick it out would cost as much as the softmax.
func (h Head) target(hidden, table, targets *g.Node) *g.Node {
	rows := g.ConvertDType(h.Numerics.Narrow(g.Gather(table, g.ExpandAxes(targets, -1))), dtypes.Float32)
	capped, _ := model.SoftCap(g.ReduceSum(g.Mul(g.ConvertDType(hidden, dtypes.Float32), rows), -1), h.SoftCap)
	return capped
}

// chunks yields the start and size of each chunk: as few as are allowed, of equal sizes where up to twice as many make
// that possible, else with a smaller last one.
func (h Head) chunks(tokens, vocab int) func(yield func(start, size int) bool) {
	most := h.ChunkTokens
	if most <= 0 {
		most = max(1, h.chunkBytes()/(4*vocab))
	}
	fewest := (tokens + most - 1) / most
	size := (tokens + fewest - 1) / fewest
	for count := fewest; count <= min(2*fewest, tokens); count++ {
		if tokens%count == 0 {
			size = tokens / count
			break
		}
	}
	return func(yield func(start, size int) bool) {
		for start := 0; start < tokens; start += size {
			if !yield(start, min(size, tokens-start)) {
				return
			}
		}
	}
}

// plus is a + b where a may be absent.
func plus(a, b *g.Node) *g.Node {
	if a == nil {
		return b
	}
	return g.Add(a, b)
}
