package model

import (
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	g "github.com/gomlx/gomlx/core/graph"
)

// Precision is the dtype of the model's matrix products. Weights, norms, softmax, loss and gradients are float32 always.
type Precision string

const (
	// BF16 rounds the operands of every product, forward and backward, to bfloat16 and accumulates in float32.
	BF16 Precision = "bf16"
	// FP32 computes products in float32.
	FP32 Precision = "fp32"
)

// Numerics says how a backend runs a matrix product. It is the one place where the dtype of a dot is decided: GoMLX's
// own gradient of a bf16 product runs in float32, so the model composes its backward pass from [Numerics.Dot] too.
type Numerics struct {
	operand     dtypes.DType
	accumulator dtypes.DType // unset: the backend's default for the output dtype
	// copyTransposed has a product whose left operand is contracted over its rows read a transposed copy instead. XLA's
	// CPU plugin runs such a bf16 product in float32, after widening both operands, at a quarter of the speed
	// (docs/performance.md, "weight gradients").
	copyTransposed bool
	// settles: see [Numerics.Settle].
	settles bool
	// fusedAttention has attention without a mask other than the causal one run as the backend's own kernel.
	fusedAttention bool
	// gpu: see [Numerics.GPU].
	gpu bool
	// headsApart keeps sequences and heads as two axes in attention, where heads are divided among devices.
	headsApart bool
}

// NumericsFor returns how products of the given precision run on backend. On XLA's CPU plugin a bf16 product is fast
// (2.2x float32) only with a float32 output and no accumulator asked for; on CUDA an unset accumulator means a
// highest-precision product, so it is set there. Attention is the backend's fused kernel where it has one: on CUDA cuDNN's
// flash attention, which keeps no scores.
func NumericsFor(backend compute.Backend, precision Precision) Numerics {
	xla, ok := backend.(interface {
		IsCPU() bool
		IsCUDA() bool
	})
	cpu, cuda := ok && xla.IsCPU(), ok && xla.IsCUDA()
	n := Numerics{operand: dtypes.Float32, settles: cpu, gpu: cuda}
	if precision == FP32 {
		return n
	}
	n.operand, n.copyTransposed = dtypes.BFloat16, cpu
	if cuda {
		n.accumulator = dtypes.Float32
	}
	// A kernel without a backward pass is of no use here, and those there are take half precision only.
	ops := backend.Capabilities().Operations
	n.fusedAttention = ops[compute.OpTypeFusedScaledDotProductAttention] && ops[compute.OpTypeFusedScaledDotProductAttentionVJP]
	return n
}

// Decomposed is n without the backend's fused attention.
func (n Numerics) Decomposed() Numerics {
	n.fusedAttention = false
	return n
}

// GPU says that the program is for a GPU: sums have no order of their own, products want aligned rows, and memory is large.
func (n Numerics) GPU() bool { return n.gpu }

// Narrow rounds x to the operand dtype of products. Narrow once what several products share.
func (n Numerics) Narrow(x *g.Node) *g.Node {
	if x.DType() == n.operand {
		return x
	}
	return g.ConvertDType(x, n.operand)
}

// Dot contracts one axis of each operand, with leading batch axes, into a float32 result
// [batch…, free axes of lhs, free axes of rhs].
func (n Numerics) Dot(lhs *g.Node, lhsContract int, rhs *g.Node, rhsContract int, batchAxes ...int) *g.Node {
	lhs, rhs = n.Narrow(lhs), n.Narrow(rhs)
	if last := lhs.Rank() - 1; n.copyTransposed && lhsContract == last-1 {
		if rhsContract == lhsContract && rhs.Shape().Size() < lhs.Shape().Size() { // a copy of the smaller is cheaper
			return n.Transpose(n.Dot(rhs, rhsContract, lhs, lhsContract, batchAxes...))
		}
		lhs, lhsContract = n.Transpose(lhs), last
	}
	return g.Dot(lhs, rhs).
		WithAccumulatorDType(n.accumulator).
		WithOutputDType(dtypes.Float32).
		General([]int{lhsContract}, batchAxes, []int{rhsContract}, batchAxes)
}

// Transpose swaps the last two axes of x. Where copies are wanted it does so in two halves joined again: XLA folds a
// plain transposition into the product that reads it, which is what the copy is there to avoid.
func (n Numerics) Transpose(x *g.Node) *g.Node {
	rows := x.Rank() - 2
	half := x.Shape().Dimensions[rows] / 2
	if !n.copyTransposed || half < 1 {
		return swapLast(x)
	}
	top, bottom := swapLast(g.SliceAxis(x, rows, g.AxisRange(0, half))), swapLast(g.SliceAxis(x, rows, g.AxisRange(half)))
	return g.Concatenate([]*g.Node{top, bottom}, rows+1)
}

// swapLast swaps the last two axes of x.
func swapLast(x *g.Node) *g.Node {
	swap := make([]int, x.Rank())
	for i := range swap {
		swap[i] = i
	}
	slices.Reverse(swap[len(swap)-2:])
	return g.TransposeAllAxes(x, swap...)
}

// Settle has x computed once where it is to take the place of something that others would compute it from again. XLA's CPU plugin
// would have them read the old value, and so copy it before it is overwritten; a GPU's compiler does all in one pass.
func (n Numerics) Settle(x *g.Node) *g.Node {
	if !n.settles {
		return x
	}
	return g.OptimizationBarrier(x)
}
