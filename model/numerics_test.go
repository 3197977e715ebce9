package model

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pretrain/internal/backendtest"

	"github.com/gomlx/compute/dtypes/bfloat16"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// rounded is x with bf16's eight bits of mantissa.
func rounded(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(bfloat16.FromFloat32(v).Float32())
	}
	return out
}

// TestDot holds every contraction that the model uses against float64 sums of the operands as the precision rounds them:
// rounding happens there and nowhere else.
func TestDot(t *testing.T) {
	be := backendtest.CPU(t)
	type size struct{ batch, m, k, n int } // batch 0: rank 2
	sizes := []size{{0, 1, 1, 1}, {0, 1, 33, 5}, {0, 7, 1, 3}, {0, 3, 17, 1}, {0, 65, 129, 31}, {0, 64, 256, 128}, {1, 5, 9, 7}, {3, 1, 6, 11}, {4, 17, 32, 15}}
	for _, precision := range []Precision{FP32, BF16} {
		for _, n := range []Numerics{NumericsFor(be, precision), {operand: NumericsFor(be, precision).operand}} {
			for _, s := range sizes {
				for form := range 4 {
					lhsLast, rhsLast := form&1, form>>1 // contract the last axis, or the one before
					t.Run(fmt.Sprintf("%s/copy=%v/%v/%d%d", precision, n.copyTransposed, s, lhsLast, rhsLast), func(t *testing.T) {
						lhsDims, rhsDims := []int{s.m, s.k}, []int{s.k, s.n}
						if lhsLast == 0 {
							slices.Reverse(lhsDims)
						}
						if rhsLast == 1 {
							slices.Reverse(rhsDims)
						}
						lead, batchAxes := 0, []int(nil)
						if s.batch > 0 {
							lhsDims, rhsDims = append([]int{s.batch}, lhsDims...), append([]int{s.batch}, rhsDims...)
							lead, batchAxes = 1, []int{0}
						}
						lhs, rhs := normal(21, lhsDims...), normal(22, rhsDims...)
						exec := g.MustNewExec(be, func(l, r *g.Node) *g.Node { return n.Dot(l, lead+lhsLast, r, lead+rhsLast, batchAxes...) })
						defer exec.Finalize()
						got := tensors.MustCopyFlatData[float32](exec.MustExec(lhs, rhs)[0])

						l, r := rounded(tensors.MustCopyFlatData[float32](lhs)), rounded(tensors.MustCopyFlatData[float32](rhs))
						if precision == FP32 {
							l, r = widen(lhs), widen(rhs)
						}
						i, worst := 0, 0.0
						for b := range max(s.batch, 1) {
							for row := range s.m {
								for col := range s.n {
									sum, scale := 0.0, 0.0
									for k := range s.k {
										li, ri := row*s.k+k, k*s.n+col
										if lhsLast == 0 {
											li = k*s.m + row
										}
										if rhsLast == 1 {
											ri = col*s.k + k
										}
										p := l[b*s.m*s.k+li] * r[b*s.k*s.n+ri]
										sum, scale = sum+p, scale+math.Abs(p)
									}
									worst = max(worst, math.Abs(float64(got[i])-sum)/scale)
									i++
								}
							}
						}
						if i != len(got) {
							t.Fatalf("%d results, want %d", len(got), i)
						}
						if worst > 1e-6 {
							t.Errorf("off by %.2g of the sum of magnitudes", worst)
						}
					})
				}
			}
		}
	}
}

func widen(x *tensors.Tensor) []float64 {
	var out []float64
	for _, v := range tensors.MustCopyFlatData[float32](x) {
		out = append(out, float64(v))
	}
	return out
}

// TestTransposeCopies: the two-halves copy is the transpose, whatever the number of rows.
func TestTransposeCopies(t *testing.T) {
	copying := Numerics{operand: fp32.operand, copyTransposed: true}
	for _, dims := range [][]int{{1, 4}, {2, 3}, {7, 1}, {7, 5}, {3, 1, 4}, {2, 9, 3}, {2, 3, 5, 4}} {
		exec := g.MustNewExec(backendtest.CPU(t), func(x *g.Node) []*g.Node { return []*g.Node{copying.Transpose(x), fp32.Transpose(x)} })
		out := exec.MustExec(normal(23, dims...))
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
