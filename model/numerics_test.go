package model

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pretrain/internal/backendtest"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// contraction is one product: lhs [m, k] by rhs [k, n], or its transpose where the contracted axis is not the usual one.
type contraction struct {
	batch, m, k, n   int // batch 0: rank 2
	lhsLast, rhsLast int // 1 where the last axis is contracted, 0 where the one before
}

func (c contraction) operands() (lhs, rhs *tensors.Tensor) {
	lhsDims, rhsDims := []int{c.m, c.k}, []int{c.k, c.n}
	if c.lhsLast == 0 {
		slices.Reverse(lhsDims)
	}
	if c.rhsLast == 1 {
		slices.Reverse(rhsDims)
	}
	if c.batch > 0 {
		lhsDims, rhsDims = append([]int{c.batch}, lhsDims...), append([]int{c.batch}, rhsDims...)
	}
	return normal(21, lhsDims...), normal(22, rhsDims...)
}

func (c contraction) dot(n Numerics, lhs, rhs *g.Node) *g.Node {
	if c.batch > 0 {
		return n.Dot(lhs, 1+c.lhsLast, rhs, 1+c.rhsLast, 0)
	}
	return n.Dot(lhs, c.lhsLast, rhs, c.rhsLast)
}

// error is the largest difference of got from a sum in float64, as a share of the sum of magnitudes.
func (c contraction) error(got []float32, l, r []float64) float64 {
	i, worst := 0, 0.0
	for b := range max(c.batch, 1) {
		for row := range c.m {
			for col := range c.n {
				sum, scale := 0.0, 0.0
				for k := range c.k {
					li, ri := row*c.k+k, k*c.n+col
					if c.lhsLast == 0 {
						li = k*c.m + row
					}
					if c.rhsLast == 1 {
						ri = col*c.k + k
					}
					p := l[b*c.m*c.k+li] * r[b*c.k*c.n+ri]
					sum, scale = sum+p, scale+math.Abs(p)
				}
				worst = max(worst, math.Abs(float64(got[i])-sum)/scale)
				i++
			}
		}
	}
	return worst
}

// TestDot holds every contraction that the model uses against float64 sums of the operands as the precision rounds them:
// rounding happens there and nowhere else.
func TestDot(t *testing.T) {
	be := backendtest.CPU(t)
	var all []contraction
	for _, c := range []contraction{
		{m: 1, k: 1, n: 1}, {m: 1, k: 33, n: 5}, {m: 7, k: 1, n: 3}, {m: 3, k: 17, n: 1}, {m: 65, k: 129, n: 31}, {m: 64, k: 256, n: 128},
		{batch: 1, m: 5, k: 9, n: 7}, {batch: 3, m: 1, k: 6, n: 11}, {batch: 4, m: 17, k: 32, n: 15},
	} {
		for form := range 4 {
			c.lhsLast, c.rhsLast = form&1, form>>1
			all = append(all, c)
		}
	}
	for _, n := range []Numerics{NumericsFor(be, FP32), NumericsFor(be, BF16), {operand: dtypes.BFloat16}} {
		t.Run(fmt.Sprintf("%s/copy transposed %v", n.operand, n.copyTransposed), func(t *testing.T) {
			exec := g.MustNewExec(be, func(in []*g.Node) []*g.Node {
				var out []*g.Node
				for i, c := range all {
					out = append(out, c.dot(n, in[2*i], in[2*i+1]))
				}
				return out
			})
			defer exec.Finalize()
			var args []any
			for _, c := range all {
				lhs, rhs := c.operands()
				args = append(args, lhs, rhs)
			}
			out, err := exec.Call(args...)
			if err != nil {
				t.Fatal(err)
			}
			for i, c := range all {
				as := widen
				if n.operand == dtypes.BFloat16 {
					as = rounded
				}
				lhs, rhs := c.operands()
				got := tensors.MustCopyFlatData[float32](out[i])
				if len(got) != max(c.batch, 1)*c.m*c.n {
					t.Errorf("%+v: shape %v", c, out[i].Shape())
				} else if e := c.error(got, as(lhs), as(rhs)); !(e <= 1e-6) {
					t.Errorf("%+v: off by %.2g of the sum of magnitudes", c, e)
				}
			}
		})
	}
}

// widen and rounded are the operands of a product as float32 and bfloat16 have them.
func widen(x *tensors.Tensor) []float64 {
	var out []float64
	for _, v := range tensors.MustCopyFlatData[float32](x) {
		out = append(out, float64(v))
	}
	return out
}

func rounded(x *tensors.Tensor) []float64 {
	var out []float64
	for _, v := range tensors.MustCopyFlatData[float32](x) {
		out = append(out, float64(bfloat16.FromFloat32(v).Float32()))
	}
	return out
}

// TestTransposeCopies: the two-halves copy is the transpose, whatever the number of rows.
func TestTransposeCopies(t *testing.T) {
	copying := Numerics{operand: fp32.operand, copyTransposed: true}
	for _, dims := range [][]int{{1, 4}, {2, 3}, {7, 1}, {7, 5}, {3, 1, 4}, {2, 9, 3}, {2, 3, 5, 4}} {
		exec := g.MustNewExec(backendtest.CPU(t), func(x *g.Node) []*g.Node { return []*g.Node{copying.Transpose(x), fp32.Transpose(x)} })
		out := exec.MustCall(normal(23, dims...))
		if !out[0].Equal(out[1]) {
			t.Errorf("%v: %v, want %v", dims, out[0], out[1])
		}
		last := len(dims) - 1
		if got := out[1].Shape().Dimensions; got[last] != dims[last-1] || got[last-1] != dims[last] {
			t.Errorf("%v transposed is %v", dims, got)
		}
		exec.Finalize()
	}
}
