package model

import (
	"math"
	"strings"
	"sync"
	"testing"

	"pretrain/internal/backendtest"

	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// TestInitialisationOracles holds the model as it starts against what the tensor-program scalings must give at any width
// and depth: the residual stream before the final norm has RMS 6.28 and cosine 0.19 with the scaled embedding (computed
// apart, in float64, with PyTorch), and as logits are N(0, (0.1·256/√d)²), the loss is ln V + (25.6/√d)²/2.
func TestInitialisationOracles(t *testing.T) {
	const vocab, batch, seqLen = 8192, 6, 128
	for i, preset := range []string{"9m", "30m", "0.1b"} {
		m := Decoder{Config: Config{Preset: preset, VocabSize: vocab, MaxSeqLen: seqLen}.Resolve(), Numerics: fp32, Remat: RematNone}
		t.Run(preset, func(t *testing.T) { checkInit(t, m, uint64(1000*(i+1)), batch, seqLen) })
	}
}

func checkInit(t *testing.T, m Decoder, seed uint64, batch, seqLen int) {
	be := backendtest.CPU(t)
	tokens := tensors.FromFlatDataAndDimensions(backendtest.Tokens(seed, batch*seqLen, m.VocabSize), batch, seqLen)
	targets := tensors.FromFlatDataAndDimensions(backendtest.Tokens(seed+1, batch*seqLen, m.VocabSize), batch*seqLen)
	params := m.Params()
	table := drawn(seed, params[:1])[0]

	start := g.MustNewExec(be, func(table, tokens *g.Node) *g.Node {
		x, _ := fp32.embed(table, g.Reshape(tokens, -1), m.embeddingScale())
		return x
	})
	defer start.Finalize()
	// One block's program, run with each layer's weights: it compiles in no time, and that Hidden strings the same blocks
	// together is held by the parity with PyTorch.
	perLayer := (len(params) - 2) / m.NumLayers
	block := g.MustNewExec(be, func(in []*g.Node) *g.Node {
		w := Weights{}
		for i, p := range params[1 : 1+perLayer] {
			w[p.Name] = in[2+i]
		}
		out, _ := m.layer(0, w, in[0], m.newContext(Input{Tokens: in[1]}))
		return out
	})
	defer block.Finalize()
	end := g.MustNewExec(be, func(x, first, table, targets *g.Node) []*g.Node {
		square := func(v *g.Node) *g.Node { return g.ReduceMean(g.Square(v), -1) }
		rms := g.Sqrt(g.ReduceAllMean(g.Square(x)))
		cosine := g.Div(g.ReduceMean(g.Mul(x, first), -1), g.Sqrt(g.Mul(square(x), square(first))))
		h := g.Div(x, g.Sqrt(g.AddScalar(g.ExpandAxes(square(x), -1), m.NormEps)))
		logits := m.Logits(Weights{"embed": table}, g.DivScalar(h, m.WidthRatio()))
		lossPerToken := g.Neg(g.ReduceSum(g.Mul(g.LogSoftmax(logits), g.OneHot(targets, m.VocabSize, logits.DType())), -1))
		return []*g.Node{rms, g.ReduceAllMean(cosine), g.ReduceAllMean(lossPerToken)}
	})
	defer end.Finalize()

	first := start.MustCall(table, tokens)[0]
	x := first
	for layer := range m.NumLayers {
		args := []any{x, tokens}
		own := params[1+layer*perLayer : 1+(layer+1)*perLayer]
		if !strings.HasSuffix(own[0].Name, "attn_norm") || !strings.HasSuffix(own[perLayer-1].Name, "w_down") {
			t.Fatalf("the parameters of layer %d are listed from %s to %s", layer, own[0].Name, own[perLayer-1].Name)
		}
		for _, w := range drawn(seed+uint64(100*layer+2), own) {
			args = append(args, w)
		}
		x = block.MustCall(args...)[0]
	}
	out := end.MustCall(x, first, table, targets)
	rms, cosine, loss := number(out[0]), number(out[1]), number(out[2])

	logitVariance := math.Pow(0.1*256, 2) / float64(m.DModel)
	wantLoss := math.Log(float64(m.VocabSize)) + logitVariance/2
	t.Logf("RMS %.3f, cosine %.3f, loss %.3f (ln V %+.3f; theory %+.3f)", rms, cosine, loss, loss-math.Log(float64(m.VocabSize)), logitVariance/2)
	if math.Abs(rms/6.28-1) > 0.02 {
		t.Errorf("the residual stream has RMS %.3f before the final norm, want 6.28 within 2%%", rms)
	}
	if math.Abs(cosine-0.19) > 0.01 {
		t.Errorf("cosine of the residual stream with the scaled embedding %.3f, want 0.19", cosine)
	}
	if math.Abs(loss/wantLoss-1) > 0.01 {
		t.Errorf("loss %.3f, want %.3f within 1%%", loss, wantLoss)
	}
}

func number(x *tensors.Tensor) float64 { return float64(tensors.ToScalar[float32](x)) }

// drawn are initial values of parameters.
func drawn(seed uint64, params []Param) []*tensors.Tensor {
	out := make([]*tensors.Tensor, len(params))
	var group sync.WaitGroup
	for i, p := range params {
		group.Go(func() {
			x := backendtest.Normal(seed<<20+uint64(i), int(p.Size()))
			for j := range x {
				x[j] *= float32(p.InitStd)
				if p.Role == Gain {
					x[j] = 1
				}
			}
			out[i] = tensors.FromFlatDataAndDimensions(x, p.Shape...)
		})
	}
	group.Wait()
	return out
}
