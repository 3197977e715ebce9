package model

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// CheckFusedAttention runs the backend's attention kernel, forward and back, beside attention of elementary operations. Its error says
// that the kernel does not run, or that its numbers are others. It does nothing where there is no kernel.
func CheckFusedAttention(backend compute.Backend) error {
	n := NumericsFor(backend, BF16)
	const batch, heads, kvHeads, seqLen, headDim = 2, 4, 2, 256, 64 // heads are of 64 in all presets
	if !n.fuses(headDim, 0, nil) {
		return nil
	}
	exec, err := g.NewExec(backend, func(pace *g.Node) *g.Node {
		wave := func(heads int, by float32) *g.Node { // anything; of an argument, or the compiler would compute it all
			i := g.IotaFull(pace.Graph(), shapes.Make(dtypes.Int32, batch, heads, seqLen, headDim))
			return g.Sin(g.Mul(g.ConvertDType(i, dtypes.Float32), g.MulScalar(pace, by)))
		}
		q, k, v, do := wave(heads, 1), wave(kvHeads, 1.1), wave(kvHeads, 1.3), wave(heads, 1.7)
		o, back := n.attend(q, k, v, nil)
		dq, dk, dv := back(do)
		want, back := n.attend(q, k, v, views(pace.Graph(), seqLen, seqLen, 0, nil))
		wantQ, wantK, wantV := back(do)
		var apart []*g.Node
		for _, pair := range [][2]*g.Node{{o, want}, {dq, wantQ}, {dk, wantK}, {dv, wantV}} {
			apart = append(apart, g.Div(g.ReduceAllMax(g.Abs(g.Sub(pair[0], pair[1]))), g.ReduceAllMax(g.Abs(pair[1]))))
		}
		return g.Stack(apart, 0)
	})
	if err != nil {
		return fmt.Errorf("attention kernel: %w", err)
	}
	defer exec.Finalize()
	out, err := exec.Call(float32(0.37))
	if err != nil {
		return fmt.Errorf("attention kernel: %w", err)
	}
	apart, err := tensors.CopyFlatData[float32](out[0])
	if err != nil {
		return fmt.Errorf("attention kernel: %w", err)
	}
	for i, what := range []string{"output", "gradient of queries", "gradient of keys", "gradient of values"} {
		if !(apart[i] <= 0.03) { // operands and results are rounded to 1/256
			return fmt.Errorf("attention kernel computes wrongly: its %s is off by %.2g of the largest element", what, apart[i])
		}
	}
	return nil
}
