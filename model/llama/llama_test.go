package llama_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/model"
	"pretrain/model/llama"

	"github.com/gomlx/gomlx/core/tensors"
)

var configs = map[string]model.Config{
	"mup, tied":              {DModel: 16, NumLayers: 2, NumHeads: 2, HeadDim: 8, DimModelBase: 8},
	"mup, gqa, untied":       {DModel: 16, NumLayers: 3, NumHeads: 4, NumKVHeads: 2, HeadDim: 8, DimModelBase: 4, TieEmbeddings: new(bool)},
	"standard, rope scaling": {DModel: 12, NumLayers: 2, NumHeads: 2, HeadDim: 6, Parameterization: model.Standard, RopeScaling: 2, NormEps: 1e-2},
}

// random is a resolved configuration and random weights for it.
func random(c model.Config) (model.Config, [][]float32) {
	c.VocabSize, c.MaxSeqLen = 41, 24
	c = c.Resolve()
	var params [][]float32
	for i, p := range c.Params() {
		params = append(params, backendtest.Normal(uint64(i), int(p.Size())))
	}
	return c, params
}

func weights(c model.Config, params [][]float32) llama.Weights {
	return func(name string) ([]float32, error) {
		i := slices.IndexFunc(c.Params(), func(p model.Param) bool { return p.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no %s", name)
		}
		return params[i], nil
	}
}

func onDevice(c model.Config, params [][]float32) []*tensors.Tensor {
	var out []*tensors.Tensor
	for i, p := range c.Params() {
		out = append(out, tensors.FromFlatDataAndDimensions(params[i], p.Shape...))
	}
	return out
}

func sequences(n int) [][]uint32 {
	var out [][]uint32
	for i := range n {
		var s []uint32
		for _, token := range backendtest.Tokens(uint64(i), 24, 41) {
			s = append(s, uint32(token))
		}
		out = append(out, s)
	}
	return out
}

// TestForward: the plain network computes what the training graph does, with MiniCPM's scalings as they are and folded, and
// with interleaved rotary pairs.
func TestForward(t *testing.T) {
	be := backendtest.CPU(t)
	for name, c := range configs {
		for _, fold := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, fold %v", name, fold), func(t *testing.T) {
				c, params := random(c)
				n, err := llama.FromModel(c, weights(c, params), fold)
				if err != nil {
					t.Fatal(err)
				}
				if fold { // as GGUF has it
					n.Interleaved = true
					for i, tensor := range n.Tensors {
						if llama.Turned(tensor.Name) {
							n.Tensors[i].Values = func() ([]float32, error) {
								values, err := tensor.Values()
								return llama.Interleave(values, tensor.Shape, n.HeadDim), err
							}
						}
					}
				}
				decoder := model.Decoder{Config: c}
				r, err := n.Compare(context.Background(), be, decoder, onDevice(c, params), sequences(3))
				if err != nil {
					t.Fatal(err)
				}
				// Random weights of deviation 1 make large logits: the bound is relative to them.
				r.Bound = llama.Bound{MaxError: 1e-4 * r.LogitStd, MeanError: 1e-5 * r.LogitStd, Top1: 1}
				if err := r.Check(); err != nil || r.Tokens != 72 || r.LogitStd < 0.1 {
					t.Errorf("%v: %+v", err, r)
				}
				if fold || name != "mup, tied" {
					return
				}
				damaged := slices.Clone(params)
				damaged[3] = slices.Clone(damaged[3])
				damaged[3][5]++
				if r, err = n.Compare(context.Background(), be, decoder, onDevice(c, damaged), sequences(3)); err != nil {
					t.Fatal(err)
				}
				r.Bound = llama.Bound{MaxError: 1e-4 * r.LogitStd, MeanError: 1e-5 * r.LogitStd, Top1: 1}
				if r.Check() == nil {
					t.Errorf("one wrong weight passes: %+v", r)
				}
			})
		}
	}
}

// TestToModel: an unfolded network gives back the very parameters and scalings; a folded one another model that computes the
// same.
func TestToModel(t *testing.T) {
	be := backendtest.CPU(t)
	for name, c := range configs {
		c, params := random(c)
		n, err := llama.FromModel(c, weights(c, params), false)
		if err != nil {
			t.Fatal(err)
		}
		back, got, err := n.ToModel()
		if err != nil {
			t.Fatal(err)
		}
		if back.Tied() != c.Tied() || back.WidthRatio() != max(c.WidthRatio(), back.WidthRatio()) || len(got) != len(params) {
			t.Errorf("%s: came back as %+v", name, back)
		}
		for i := range got {
			if !slices.Equal(got[i], params[i]) {
				t.Errorf("%s: %s is not what it was", name, c.Params()[i].Name)
			}
		}
		folded, err := llama.FromModel(c, weights(c, params), true)
		if err != nil {
			t.Fatal(err)
		}
		plain, got, err := folded.ToModel()
		if err != nil || plain.Parameterization != model.Standard {
			t.Fatalf("%s: %v, %+v", name, err, plain)
		}
		r, err := n.Compare(context.Background(), be, model.Decoder{Config: plain}, onDevice(plain, got), sequences(2))
		if err != nil {
			t.Fatal(err)
		}
		if r.MaxError > 1e-4*r.LogitStd {
			t.Errorf("%s: folded and back: %+v", name, r)
		}
	}
}

// TestRefused: what the format does not have is named, all of it at once.
func TestRefused(t *testing.T) {
	c := model.Config{Preset: "9m", VocabSize: 10, QKNorm: true, LogitSoftCap: 30, SlidingWindow: 100}.Resolve()
	_, err := llama.FromModel(c, nil, true)
	for _, key := range []string{"qk_norm", "logit_soft_cap", "sliding_window"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not named: %v", key, err)
		}
	}
	c.QKNorm, c.LogitSoftCap, c.SlidingWindow = false, 0, c.MaxSeqLen
	if _, err := llama.FromModel(c, nil, true); err != nil {
		t.Errorf("a window that hides nothing: %v", err)
	}
}
