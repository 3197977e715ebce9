package model

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/internal/goldenfile"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// function is an operation with its pullback: output, and from its gradient those of the inputs.
type function func(in []*g.Node) (y *g.Node, pullback func(dy *g.Node) []*g.Node)

// cotangent is an arbitrary gradient for y.
func cotangent(y *g.Node) *g.Node {
	i := g.ConvertDType(g.IotaFull(y.Graph(), shapes.Make(dtypes.Int32, y.Shape().Dimensions...)), dtypes.Float32)
	return g.Sin(g.AddScalar(g.MulScalar(i, 1.7), 0.3))
}

// checkPullback holds f's pullback against GoMLX's automatic differentiation of f.
func checkPullback(t *testing.T, f function, names []string, inputs ...*tensors.Tensor) {
	t.Helper()
	exec := g.MustNewExec(backendtest.CPU(t), func(in []*g.Node) []*g.Node {
		y, pullback := f(in)
		return append(pullback(cotangent(y)), g.Gradient(g.ReduceAllSum(g.Mul(y, cotangent(y))), in...)...)
	})
	defer exec.Finalize()
	args := make([]any, len(inputs))
	for i, x := range inputs {
		args[i] = x
	}
	out, err := exec.Call(args...)
	if err != nil {
		t.Fatal(err)
	}
	flat := func(i int) []float32 { return tensors.MustCopyFlatData[float32](out[i]) }
	for i, name := range names {
		want := flat(len(names) + i)
		if d := goldenfile.Distance(flat(i), want); !(d <= 1e-5) {
			t.Errorf("gradient of %s differs from automatic differentiation's by %.2g of its largest element", name, d)
		}
		var size float32
		for _, v := range want {
			size = max(size, v, -v)
		}
		if size < 1e-3 {
			t.Errorf("gradient of %s is at most %g: nothing was compared", name, size)
		}
	}
}

// TestMain gives GoMLX the gradient it lacks: reversing is its own inverse.
func TestMain(m *testing.M) {
	g.VJPRegistration[g.NodeTypeReverse] = func(_ *g.Node, dy []*g.Node, _ shapes.Shape) []*g.Node {
		if dy[0].Rank() != 5 {
			panic(errors.New("not the rotary embedding's reversal of a head's halves"))
		}
		return []*g.Node{g.Reverse(dy[0], 3)}
	}
	os.Exit(m.Run())
}

var fp32 = Numerics{operand: dtypes.Float32}

func normal(seed uint64, dims ...int) *tensors.Tensor { return backendtest.NormalTensor(seed, dims...) }

func constant(like *g.Node, data []int32, dims ...int) *g.Node {
	return g.ConstTensor(like.Graph(), tensors.FromFlatDataAndDimensions(data, dims...))
}

func TestOperationPullbacks(t *testing.T) {
	t.Run("linear", func(t *testing.T) {
		for _, n := range []Numerics{fp32, {operand: dtypes.Float32, copyTransposed: true}} {
			checkPullback(t, func(in []*g.Node) (*g.Node, func(*g.Node) []*g.Node) {
				y, back := n.linear(in[0], in[1], nil)
				return y, func(dy *g.Node) []*g.Node { dx, dw := back(dy); return []*g.Node{dx, dw} }
			}, []string{"x", "w"}, normal(1, 7, 5), normal(2, 5, 9))
		}
	})
	t.Run("rmsNorm", func(t *testing.T) {
		for _, shape := range [][]int{{7, 16}, {2, 3, 5, 8}} {
			checkPullback(t, func(in []*g.Node) (*g.Node, func(*g.Node) []*g.Node) {
				y, back := rmsNorm(in[0], in[1], 1e-2)
				return y, func(dy *g.Node) []*g.Node { dx, dgain := back(dy); return []*g.Node{dx, dgain} }
			}, []string{"x", "gain"}, normal(3, shape...), normal(4, shape[len(shape)-1]))
		}
	})
	t.Run("swiGLU", func(t *testing.T) {
		checkPullback(t, func(in []*g.Node) (*g.Node, func(*g.Node) []*g.Node) {
			y, back := swiGLU(in[0], in[1])
			return y, func(dy *g.Node) []*g.Node { dgate, dup := back(dy); return []*g.Node{dgate, dup} }
		}, []string{"gate", "up"}, normal(5, 6, 11), normal(6, 6, 11))
	})
	t.Run("embed", func(t *testing.T) {
		tokens := []int32{3, 0, 3, 7, 3, 1} // a row taken three times adds up, one never taken has none
		for _, n := range []Numerics{fp32, {operand: dtypes.Float32, gpu: true}} {
			checkPullback(t, func(in []*g.Node) (*g.Node, func(*g.Node) []*g.Node) {
				y, back := n.embed(in[0], constant(in[0], tokens, len(tokens)), 12)
				return y, func(dy *g.Node) []*g.Node { return []*g.Node{back(dy)} }
			}, []string{"table"}, normal(7, 8, 5))
		}
	})
	t.Run("SoftCap", func(t *testing.T) {
		for _, bound := range []float64{0, 1.5} {
			checkPullback(t, func(in []*g.Node) (*g.Node, func(*g.Node) []*g.Node) {
				y, back := SoftCap(g.MulScalar(in[0], 2), bound)
				return y, func(dy *g.Node) []*g.Node { return []*g.Node{g.MulScalar(back(dy), 2)} }
			}, []string{"x"}, normal(8, 6, 7))
		}
	})
	t.Run("rotary", func(t *testing.T) {
		for _, shape := range [][]int{{6}, {2, 6}} {
			positions := []int32{0, 1, 2, 0, 1, 9, 4, 5, 0, 1, 2, 3}
			checkPullback(t, func(in []*g.Node) (*g.Node, func(*g.Node) []*g.Node) {
				r := newRotary(constant(in[0], positions[:product(shape)], shape...), 8, 100, 2)
				return r.turn(in[0]), func(dy *g.Node) []*g.Node { return []*g.Node{r.inverse().turn(dy)} }
			}, []string{"x"}, normal(9, 2, 3, 6, 8))
		}
	})
	t.Run("splitHeads", func(t *testing.T) {
		checkPullback(t, func(in []*g.Node) (*g.Node, func(*g.Node) []*g.Node) {
			return splitHeads(in[0], 2, 5, 4), func(dy *g.Node) []*g.Node { return []*g.Node{mergeHeads(dy)} }
		}, []string{"x"}, normal(10, 2*5, 3*4))
	})
}

func product(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

var twoDocuments = []int32{1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1, 1, 2, 3} // segments [2, 7]

func TestAttendPullback(t *testing.T) {
	for _, c := range attentionCases {
		if c.window == 1 {
			continue // the softmax of one score is constant: no gradient to compare
		}
		for _, block := range []int{7, 3} {
			t.Run(fmt.Sprintf("%s, blocks of %d", c.name, block), func(t *testing.T) {
				checkPullback(t, func(in []*g.Node) (*g.Node, func(*g.Node) []*g.Node) {
					o, back := fp32.attend(in[0], in[1], in[2], c.views(in[0], block))
					return o, func(do *g.Node) []*g.Node { dq, dk, dv := back(do); return []*g.Node{dq, dk, dv} }
				}, []string{"q", "k", "v"}, normal(11, 2, 4, 7, 6), normal(12, 2, c.kvHeads, 7, 6), normal(13, 2, c.kvHeads, 7, 6))
			})
		}
	}
}

// TestDecoderPullback holds the composition, every parameter's gradient, for each way of recomputing against automatic
// differentiation of the forward pass that recomputes nothing.
func TestDecoderPullback(t *testing.T) {
	base := Config{VocabSize: 19, DModel: 24, DFF: 40, NumLayers: 3, NumHeads: 4, NumKVHeads: 2, HeadDim: 6, MaxSeqLen: 7, DimModelBase: 8, NormEps: 1e-3}
	all := base
	all.NumLayers = 1
	all.QKNorm, all.SlidingWindow, all.DocumentMask, all.Parameterization, all.RopeScaling = true, 3, true, Standard, 2
	for name, config := range map[string]Config{"mup": base, "standard with everything on": all} {
		t.Run(name, func(t *testing.T) { checkDecoderPullback(t, config.Resolve()) })
	}
}

func checkDecoderPullback(t *testing.T, config Config) {
	params := config.Params()
	hidden := func(remat Remat, w []*g.Node) (*g.Node, func(*g.Node) []*g.Node) {
		m := Decoder{Config: config, Numerics: fp32, Remat: remat}
		weights := Weights{}
		for i, p := range params {
			weights[p.Name] = w[i]
		}
		h, back := m.Hidden(weights, Input{
			Tokens:    constant(w[0], backendtest.Tokens(1, 14, 19), 2, 7),
			Segments:  constant(w[0], twoDocuments, 2, 7),
			Positions: constant(w[0], []int32{0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 0}, 2, 7),
		})
		return h, func(dh *g.Node) []*g.Node {
			var grads []*g.Node
			byName := back(dh)
			for _, p := range params {
				grads = append(grads, byName[p.Name])
			}
			return grads
		}
	}
	// All ways in one program: it is compiling that takes time.
	exec := g.MustNewExec(backendtest.CPU(t), func(w []*g.Node) []*g.Node {
		h, _ := hidden(RematNone, w)
		out := g.Gradient(g.ReduceAllSum(g.Mul(h, cotangent(h))), w...)
		for _, remat := range Remats {
			h, back := hidden(remat, w)
			out = append(out, back(cotangent(h))...)
		}
		return out
	})
	defer exec.Finalize()
	var args []any
	for i, p := range params {
		x := backendtest.Normal(uint64(100+i), int(p.Size()))
		for j := range x {
			x[j] *= 0.2 // gains near one and matrices that keep the scale, as in a model
			if p.Role == Gain {
				x[j]++
			}
		}
		args = append(args, tensors.FromFlatDataAndDimensions(x, p.Shape...))
	}
	out, err := exec.Call(args...)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range params {
		want := tensors.MustCopyFlatData[float32](out[i])
		for k, remat := range Remats {
			if d := goldenfile.Distance(tensors.MustCopyFlatData[float32](out[(1+k)*len(params)+i]), want); !(d <= 1e-5) {
				t.Errorf("remat %s: gradient of %s differs from automatic differentiation's by %.2g of its largest element", remat, p.Name, d)
			}
		}
	}
}

// TestSumRowsInAnyOrder: the gradient of an embedding for a GPU has the same bits in whatever order its rows come, is nothing where
// nothing comes, and not finite where something is not.
func TestSumRowsInAnyOrder(t *testing.T) {
	const rows, dim, vocab = 4096, 3, 7
	n := Numerics{operand: dtypes.Float32, gpu: true}
	exec := g.MustNewExec(backendtest.CPU(t), func(tokens, dy *g.Node) *g.Node {
		return n.sumRows(tokens, dy, shapes.Make(dtypes.Float32, vocab, dim))
	})
	defer exec.Finalize()
	sums := func(tokens []int32, dy []float32) []float32 {
		out, err := exec.Call(tensors.FromFlatDataAndDimensions(tokens, rows, 1), tensors.FromFlatDataAndDimensions(dy, rows, dim))
		if err != nil {
			t.Fatal(err)
		}
		return tensors.MustCopyFlatData[float32](out[0])
	}
	tokens, dy := backendtest.Tokens(1, rows, vocab), backendtest.Normal(2, rows*dim)
	for i := range dy {
		dy[i] *= float32(math.Exp2(float64(i%40 - 30))) // as uneven as gradients are
	}
	exact := make([]float64, vocab*dim)
	for i, x := range dy {
		exact[int(tokens[i/dim])*dim+i%dim] += float64(x)
	}
	want := sums(tokens, dy)
	for i, x := range want {
		if float32(exact[i]) != x {
			t.Errorf("sum %d is %g, want %g", i, x, exact[i])
		}
	}
	for i := range rows / 2 {
		j := rows - 1 - i
		tokens[i], tokens[j] = tokens[j], tokens[i]
		for d := range dim {
			dy[i*dim+d], dy[j*dim+d] = dy[j*dim+d], dy[i*dim+d]
		}
	}
	if got := sums(tokens, dy); !slices.Equal(got, want) {
		t.Errorf("in reverse %v, want %v", got, want)
	}
	if got := sums(tokens, make([]float32, rows*dim)); slices.Max(got) != 0 || slices.Min(got) != 0 {
		t.Errorf("nothing adds up to %v", got)
	}
	for _, bad := range []float64{math.Inf(1), math.NaN()} {
		dy[5] = float32(bad)
		sum := 0.0
		for _, x := range sums(tokens, dy) {
			sum += float64(x)
		}
		if !math.IsNaN(sum) && !math.IsInf(sum, 0) {
			t.Errorf("with %g in it the sum is %g", bad, sum)
		}
	}
}
