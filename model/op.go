package model

import (
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
)

// Every operation of the decoder returns its output and its pullback: a function from the gradient of the loss with
// respect to the output to the gradients with respect to its inputs. The backward pass is their composition, so the
// dtype of each product, what is kept and what is recomputed are plain to read. Tests hold every pullback against
// GoMLX's automatic differentiation, and the whole against PyTorch.
//
// Axis letters in this package:
//
//	B  sequences in the batch        T  positions in a sequence      N  tokens, B·T
//	D  d_model                       F  d_ff                         V  vocabulary
//	H  query heads                   K  key/value heads              G  query heads per key/value head, H/K
//	E  head_dim

// linear returns x·w for x [N, in] and w [in, out], float32 [N, out]. gather, if not nil, makes of a weight as it is stored
// one as the product takes it, anew for the backward pass: what is gathered is not kept.
func (n Numerics) linear(x, w *g.Node, gather func(w *g.Node) *g.Node) (y *g.Node, pullback func(dy *g.Node) (dx, dw *g.Node)) {
	x, w = n.Narrow(x), n.Narrow(w)
	if gather == nil {
		return n.Dot(x, 1, w, 0), func(dy *g.Node) (dx, dw *g.Node) {
			dy = n.Narrow(dy)
			return n.Dot(dy, 1, w, 1), n.Dot(x, 0, dy, 0)
		}
	}
	return n.Dot(x, 1, gather(w), 0), func(dy *g.Node) (dx, dw *g.Node) {
		barred := g.OptimizationBarriers(w, n.Narrow(dy))
		return n.Dot(barred[1], 1, gather(barred[0]), 1), n.Dot(x, 0, barred[1], 0)
	}
}

// rmsNorm returns x/√(mean(x²)+eps)·gain over the last axis. x is [..., D] float32, gain [D].
func rmsNorm(x, gain *g.Node, eps float64) (y *g.Node, pullback func(dy *g.Node) (dx, dgain *g.Node)) {
	last := x.Rank() - 1
	mean := func(v *g.Node) *g.Node { return g.ExpandAxes(g.ReduceMean(v, last), -1) }
	inv := g.Div(g.ScalarOne(x.Graph(), x.DType()), g.Sqrt(g.AddScalar(mean(g.Square(x)), eps)))
	gain = g.ExpandLeftToRank(gain, x.Rank())
	return g.Mul(g.Mul(x, inv), gain), func(dy *g.Node) (dx, dgain *g.Node) {
		barred := g.OptimizationBarriers(x, inv, gain, dy) // x/√… and the gain in each row are not kept
		x, inv, gain, dy := barred[0], barred[1], barred[2], barred[3]
		unit := g.Mul(x, inv)
		leading := make([]int, last)
		for i := range leading {
			leading[i] = i
		}
		dunit := g.Mul(dy, gain)
		dx = g.Mul(inv, g.Sub(dunit, g.Mul(unit, mean(g.Mul(dunit, unit)))))
		return dx, g.ReduceSum(g.Mul(dy, unit), leading...)
	}
}

// swiGLU returns silu(gate)·up.
func swiGLU(gate, up *g.Node) (y *g.Node, pullback func(dy *g.Node) (dgate, dup *g.Node)) {
	return g.Mul(g.Mul(gate, g.Logistic(gate)), up), func(dy *g.Node) (dgate, dup *g.Node) {
		// The sigmoid is computed again: kept, it and silu(gate) would be two more arrays written and read.
		barred := g.OptimizationBarriers(gate, up, dy)
		gate, up, dy := barred[0], barred[1], barred[2]
		sigmoid := g.Logistic(gate)
		silu := g.Mul(gate, sigmoid)
		// silu'(z) = σ(z)·(1 + z·(1-σ(z)))
		slope := g.Mul(sigmoid, g.OnePlus(g.Mul(gate, g.OneMinus(sigmoid))))
		return g.Mul(g.Mul(dy, up), slope), g.Mul(dy, silu)
	}
}

// embed returns table[tokens]·scale: tokens [N] int32, table [V, D], result [N, D] float32.
func (n Numerics) embed(table, tokens *g.Node, scale float64) (y *g.Node, pullback func(dy *g.Node) (dtable *g.Node)) {
	rows := g.ExpandAxes(tokens, -1)
	return g.MulScalar(g.Gather(table, rows), scale), func(dy *g.Node) *g.Node {
		return n.sumRows(rows, g.MulScalar(dy, scale), table.Shape())
	}
}

// sumRows adds up the rows of dy [N, D] that belong to the same row of a table [V, D]. A GPU adds them in an order that differs
// from run to run, and floating-point sums with it. So there they are added as 64-bit integers, which come to the same in any
// order: in units of largest·N/2^61, so that no sum overflows, which for 65,536 tokens are 45 bits below the largest element.
func (n Numerics) sumRows(rows, dy *g.Node, table shapes.Shape) *g.Node {
	if !n.gpu {
		return g.Scatter(rows, dy, table, false, false)
	}
	// What is not finite makes the unit infinite and the gradient not a number, which refuses the update as it should.
	size := g.Where(g.IsFinite(dy), g.Abs(dy), g.Infinity(dy.Graph(), dy.DType(), 1))
	largest := g.ConvertDType(g.MaxScalar(g.ReduceAllMax(size), 1e-30), dtypes.Float64)
	unit := g.MulScalar(largest, float64(dy.Shape().Dimensions[0])/(1<<61))
	whole := g.ConvertDType(g.Div(g.ConvertDType(dy, dtypes.Float64), unit), dtypes.Int64)
	sum := g.Scatter(rows, whole, shapes.Make(dtypes.Int64, table.Dimensions...), false, false)
	return g.ConvertDType(g.Mul(g.ConvertDType(sum, dtypes.Float64), unit), dtypes.Float32)
}

// SoftCap returns cap·tanh(x/cap), and x itself where cap is 0.
func SoftCap(x *g.Node, cap float64) (y *g.Node, pullback func(dy *g.Node) *g.Node) {
	if cap == 0 {
		return x, func(dy *g.Node) *g.Node { return dy }
	}
	tanh := g.Tanh(g.DivScalar(x, cap))
	return g.MulScalar(tanh, cap), func(dy *g.Node) *g.Node { return g.Mul(dy, g.OneMinus(g.Square(tanh))) }
}

// rotary holds the tables of rotary position embeddings: cos is [cos, cos] and sin is [-sin, sin] over the two halves
// of a head, so that turning a head is x·cos + swap(x)·sin (Su et al. 2104.09864, in the half-split layout of Llama).
type rotary struct{ cos, sin *g.Node } // [T, 2, E/2], or [B, 1, T, 2, E/2] with per-document positions

// newRotary builds the tables for positions, int32 [T] or [B, T].
func newRotary(positions *g.Node, headDim int, theta, scaling float64) rotary {
	gr, half := positions.Graph(), headDim/2
	exponent := g.MulScalar(g.Iota(gr, shapes.Make(dtypes.Float32, half), 0), -2/float64(headDim))
	freq := g.Pow(g.Scalar(gr, dtypes.Float32, theta), exponent) // [E/2]
	pos := g.DivScalar(g.ConvertDType(positions, dtypes.Float32), scaling)
	angle := g.Mul(g.ExpandAxes(pos, -1), g.ExpandLeftToRank(freq, pos.Rank()+1))
	cos, sin := g.Cos(angle), g.Sin(angle)
	r := rotary{g.Stack([]*g.Node{cos, cos}, -2), g.Stack([]*g.Node{g.Neg(sin), sin}, -2)}
	if positions.Rank() == 2 {
		r.cos, r.sin = g.ExpandAxes(r.cos, 1), g.ExpandAxes(r.sin, 1)
	}
	return r
}

// turn rotates heads x [B, heads, T, E]. Its pullback is the rotation by the opposite angle.
func (r rotary) turn(x *g.Node) *g.Node {
	shape := x.Shape().Dimensions
	halves := g.Reshape(x, shape[0], shape[1], shape[2], 2, shape[3]/2)
	cos, sin := g.ExpandLeftToRank(r.cos, 5), g.ExpandLeftToRank(r.sin, 5)
	return g.Reshape(g.Add(g.Mul(halves, cos), g.Mul(g.Reverse(halves, 3), sin)), shape...)
}

// inverse is the rotation by the opposite angle.
func (r rotary) inverse() rotary { return rotary{r.cos, g.Neg(r.sin)} }
