package model

import (
	"strings"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/internal/goldenfile"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// fusing is a backend with a fused attention and its gradient as cuDNN's are: bfloat16 in and out, [B, H, T, E], causal, with
// grouped queries, and states of its own passed from the one to the other. There is no GPU where tests run; what the kernel is
// given and what becomes of its results is what they can hold. The formulas here are those of Dao et al. (2205.14135, App. B).
type fusing struct{ compute.Backend }

func (b fusing) Capabilities() compute.Capabilities {
	c := b.Backend.Capabilities().Clone()
	c.Operations[compute.OpTypeFusedScaledDotProductAttention] = true
	c.Operations[compute.OpTypeFusedScaledDotProductAttentionVJP] = true
	return c
}

func (b fusing) Builder(name string) compute.Builder { return fusingBuilder{b.Backend.Builder(name)} }

type fusingBuilder struct{ compute.Builder }

func (b fusingBuilder) Main() compute.Function { return fusingFunction{b.Builder.Main()} }

type fusingFunction struct{ compute.Function }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (f fusingFunction) dims(x compute.Value) []int { return must(f.Shape(x)).Dimensions }

func (f fusingFunction) wide(x compute.Value) compute.Value {
	if must(f.Shape(x)).DType != dtypes.BFloat16 {
		panic("cuDNN takes half precision")
	}
	return must(f.ConvertDType(x, dtypes.Float32))
}

// dot contracts one axis of two [B, K, ·, ·].
func (f fusingFunction) dot(a compute.Value, i int, b compute.Value, j int) compute.Value {
	return must(f.DotGeneral(a, []int{i}, []int{0, 1}, b, []int{j}, []int{0, 1}, compute.DotGeneralConfig{}))
}

// spread repeats x [B, K, R] along a last axis.
func (f fusingFunction) spread(x compute.Value, last int) compute.Value {
	d := f.dims(x)
	return must(f.BroadcastInDim(x, shapes.Make(dtypes.Float32, d[0], d[1], d[2], last), []int{0, 1, 2}))
}

// scores are the exponents of the softmax, [B, K, G·T, T]: scaled products of visible pairs, and elsewhere too little to count.
func (f fusingFunction) scores(q, k compute.Value, o *compute.ScaledDotProductAttentionConfig) compute.Value {
	if !o.Causal || o.Bias != nil || o.Mask != nil {
		panic("only the causal kernel is there")
	}
	s := f.dot(q, 3, k, 3)
	shape := must(f.Shape(s))
	fill := func(v float32) compute.Value {
		return must(f.BroadcastInDim(must(f.Constant([]float32{v})), shape, nil))
	}
	index := shapes.Make(dtypes.Int32, shape.Dimensions...)
	seqLen := must(f.BroadcastInDim(must(f.Constant([]int32{int32(shape.Dimensions[3])})), index, nil))
	query := must(f.Rem(must(f.Iota(index, 2)), seqLen))
	visible := must(f.GreaterOrEqual(query, must(f.Iota(index, 3))))
	return must(f.Where(visible, must(f.Mul(s, fill(float32(o.Scale)))), fill(-1e30)))
}

// fold makes query heads rows of the key/value head that they read.
func (f fusingFunction) fold(x, k compute.Value) compute.Value {
	d, kv := f.dims(x), f.dims(k)[1]
	return must(f.Reshape(x, d[0], kv, d[1]/kv*d[2], d[3]))
}

func (f fusingFunction) narrow(x, like compute.Value) compute.Value {
	return must(f.ConvertDType(must(f.Reshape(x, f.dims(like)...)), dtypes.BFloat16))
}

func (f fusingFunction) FusedScaledDotProductAttention(query, key, value compute.Value, layout compute.AttentionAxesLayout, o *compute.ScaledDotProductAttentionConfig) (compute.Value, []compute.Value, error) {
	if layout != compute.AttentionAxesLayoutBHSD {
		panic("another layout")
	}
	s := f.scores(f.fold(f.wide(query), key), f.wide(key), o)
	keys := f.dims(s)[3]
	top := must(f.ReduceMax(s, 3))
	weights := must(f.Exp(must(f.Sub(s, f.spread(top, keys)))))
	sum := must(f.ReduceSum(weights, 3))
	out := f.dot(must(f.Div(weights, f.spread(sum, keys))), 3, f.wide(value), 2)
	logSum := must(f.Add(top, must(f.Log(sum))))
	return f.narrow(out, query), []compute.Value{logSum}, nil
}

func (f fusingFunction) FusedScaledDotProductAttentionVJP(query, key, value compute.Value, _ compute.AttentionAxesLayout, o *compute.ScaledDotProductAttentionConfig, output compute.Value, states []compute.Value, dOutput compute.Value) (dq, dk, dv compute.Value, err error) {
	q, k, v := f.fold(f.wide(query), key), f.wide(key), f.wide(value)
	out, do := f.fold(f.wide(output), key), f.fold(f.wide(dOutput), key)
	s := f.scores(q, k, o)
	keys := f.dims(s)[3]
	probs := must(f.Exp(must(f.Sub(s, f.spread(states[0], keys)))))
	inner := must(f.ReduceSum(must(f.Mul(do, out)), 3))
	ds := must(f.Mul(probs, must(f.Sub(f.dot(do, 3, v, 3), f.spread(inner, keys)))))
	ds = must(f.Mul(ds, must(f.BroadcastInDim(must(f.Constant([]float32{float32(o.Scale)})), must(f.Shape(ds)), nil))))
	return f.narrow(f.dot(ds, 3, k, 2), query), f.narrow(f.dot(ds, 2, q, 2), key), f.narrow(f.dot(probs, 2, do, 2), value), nil
}

// TestFusedAttentionIsTheDecomposed holds output and gradients of the two against each other in bfloat16, with and without
// grouped queries.
func TestFusedAttentionIsTheDecomposed(t *testing.T) {
	be := fusing{backendtest.CPU(t)}
	n := NumericsFor(be, BF16)
	const batch, heads, seqLen, dim = 2, 4, 24, 8
	for _, kvHeads := range []int{4, 2, 1} {
		exec := g.MustNewExec(be, func(in []*g.Node) []*g.Node {
			var out []*g.Node
			for _, seen := range [][]view{nil, views(in[0].Graph(), seqLen, seqLen, 0, nil)} {
				o, back := n.attend(in[0], in[1], in[2], seen)
				dq, dk, dv := back(in[3])
				out = append(out, o, dq, dk, dv)
			}
			return out
		})
		out, err := exec.Call(normal(1, batch, heads, seqLen, dim), normal(2, batch, kvHeads, seqLen, dim), normal(3, batch, kvHeads, seqLen, dim), normal(4, batch, heads, seqLen, dim))
		if err != nil {
			t.Fatal(err)
		}
		for i, what := range []string{"output", "dq", "dk", "dv"} {
			if out[i].DType() != dtypes.Float32 {
				t.Errorf("%d key/value heads: %s is %s", kvHeads, what, out[i].DType())
			}
			got, want := tensors.MustCopyFlatData[float32](out[i]), tensors.MustCopyFlatData[float32](out[4+i])
			if d := goldenfile.Distance(got, want); !(d <= 0.02) { // roundings of 1/256; the kernel's gradient starts from a rounded output
				t.Errorf("%d key/value heads: %s differs by %.2g of its largest element", kvHeads, what, d)
			}
		}
		exec.Finalize()
	}
}

// TestFusedAttentionIsChosen: where the backend has the kernel and its gradient, for what they can do, and nowhere else.
func TestFusedAttentionIsChosen(t *testing.T) {
	cpu := backendtest.CPU(t)
	fused := fusing{cpu}
	segments := []int32{1, 1, 2, 2}
	for _, c := range []struct {
		name              string
		n                 Numerics
		headDim, window   int
		documents, chosen bool
	}{
		{"bf16 on a backend that has it", NumericsFor(fused, BF16), 64, 0, false, true},
		{"fp32", NumericsFor(fused, FP32), 64, 0, false, false},
		{"not wanted", NumericsFor(fused, BF16).Decomposed(), 64, 0, false, false},
		{"the CPU has none", NumericsFor(cpu, BF16), 64, 0, false, false},
		{"documents", NumericsFor(fused, BF16), 64, 0, true, false},
		{"a window", NumericsFor(fused, BF16), 64, 2, false, false},
		{"heads of 12", NumericsFor(fused, BF16), 12, 0, false, false},
		{"heads of 256", NumericsFor(fused, BF16), 256, 0, false, false},
	} {
		gr := g.NewGraph(fused, c.name)
		tokens := g.Const(gr, [][]int32{{0, 1, 2, 3}})
		m := Decoder{Config: Config{HeadDim: c.headDim, SlidingWindow: c.window, DocumentMask: c.documents}.Resolve(), Numerics: c.n}
		ctx := m.newContext(Input{Tokens: tokens, Segments: constant(tokens, segments, 1, 4), Positions: constant(tokens, segments, 1, 4)})
		if chosen := ctx.views == nil; chosen != c.chosen {
			t.Errorf("%s: chosen %v, want %v", c.name, chosen, c.chosen)
		}
		gr.Finalize()
	}
}

// TestDecoderWithFusedAttention: whatever is recomputed, the decoder's gradients are near those of the decomposed attention.
func TestDecoderWithFusedAttention(t *testing.T) {
	be := fusing{backendtest.CPU(t)}
	config := Config{VocabSize: 19, DModel: 32, DFF: 40, NumLayers: 1, NumHeads: 4, NumKVHeads: 2, HeadDim: 8, MaxSeqLen: 16, DimModelBase: 8}.Resolve()
	params := config.Params()
	n := NumericsFor(be, BF16)
	variants := []Decoder{
		{Config: config, Numerics: n.Decomposed(), Remat: RematNone}, {Config: config, Numerics: n, Remat: RematNone},
		{Config: config, Numerics: n, Remat: RematAttention}, {Config: config, Numerics: n, Remat: RematLayer}, {Config: config, Numerics: n, Remat: RematFull},
	}
	exec := g.MustNewExec(be, func(in []*g.Node) (out []*g.Node) {
		w := Weights{}
		for i, p := range params {
			w[p.Name] = in[i]
		}
		for _, m := range variants {
			h, back := m.Hidden(w, Input{Tokens: constant(in[0], backendtest.Tokens(1, 32, 19), 2, 16)})
			grads := back(cotangent(h))
			for _, p := range params {
				out = append(out, grads[p.Name])
			}
		}
		return out
	})
	defer exec.Finalize()
	var args []any
	for _, x := range drawn(3, params) {
		args = append(args, x)
	}
	out, err := exec.Call(args...)
	if err != nil {
		t.Fatal(err)
	}
	for v, m := range variants[1:] {
		for i, p := range params {
			got, want := tensors.MustCopyFlatData[float32](out[(1+v)*len(params)+i]), tensors.MustCopyFlatData[float32](out[i])
			if d := goldenfile.Distance(got, want); !(d <= 0.02) {
				t.Errorf("remat %s: gradient of %s differs by %.2g of its largest element", m.Remat, p.Name, d)
			}
		}
	}
}

// wrong is a kernel whose gradient of keys is that of values.
type wrong struct{ fusing }

func (b wrong) Builder(name string) compute.Builder { return wrongBuilder{b.Backend.Builder(name)} }

type wrongBuilder struct{ compute.Builder }

func (b wrongBuilder) Main() compute.Function { return wrongFunction{fusingFunction{b.Builder.Main()}} }

type wrongFunction struct{ fusingFunction }

func (f wrongFunction) FusedScaledDotProductAttentionVJP(query, key, value compute.Value, layout compute.AttentionAxesLayout, o *compute.ScaledDotProductAttentionConfig, output compute.Value, states []compute.Value, dOutput compute.Value) (dq, dk, dv compute.Value, err error) {
	dq, _, dv, err = f.fusingFunction.FusedScaledDotProductAttentionVJP(query, key, value, layout, o, output, states, dOutput)
	return dq, dv, dv, err
}

// TestCheckFusedAttention passes a right kernel and names what is wrong with another, or with one that the backend refuses.
func TestCheckFusedAttention(t *testing.T) {
	cpu := backendtest.CPU(t)
	for _, be := range []compute.Backend{cpu, fusing{cpu}} {
		if err := CheckFusedAttention(be); err != nil {
			t.Error(err)
		}
	}
	for want, be := range map[string]compute.Backend{"gradient of keys is off": wrong{fusing{cpu}}, "not implemented": claiming{cpu}} {
		if err := CheckFusedAttention(be); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// claiming is a backend that has no such kernel but says that it has.
type claiming struct{ compute.Backend }

func (b claiming) Capabilities() compute.Capabilities { return fusing(b).Capabilities() }
