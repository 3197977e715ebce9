// Package llama is a model as other programs know it: Llama's architecture, with MiniCPM's three scalings or folded so that
// there are none. Exports are written from a [Network] and read back as one, and [Network.Forward] runs one by itself: it shares no
// code with the decoder it is compared with.
package llama

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"pretrain/model"
)

// Config is the shape of a network, in the terms of Hugging Face's config.json.
type Config struct {
	VocabSize  int
	HiddenSize int
	// IntermediateSize is the width inside the SwiGLU block.
	IntermediateSize int
	NumLayers        int
	NumHeads         int
	NumKVHeads       int
	HeadDim          int
	MaxPositions     int
	NormEps          float64
	RopeTheta        float64
	// RopeFactor divides positions (linear rotary scaling); 1 is none.
	RopeFactor float64
	// Tied: the embedding is the output projection, too, and there is no lm_head.
	Tied bool
	// InitStd is what weights were drawn with; for the record.
	InitStd float64
	// MiniCPM has the scalings below. Without it they have no say.
	MiniCPM bool
	// ScaleEmb multiplies embeddings, ScaleDepth/√NumLayers each residual branch; HiddenSize/DimModelBase divides what the
	// output projection is applied to. (Hugging Face's modeling_minicpm.py, always, tied or not.)
	ScaleEmb, ScaleDepth float64
	DimModelBase         float64
}

// Tensor is a weight matrix [out, in], as torch has it, or a vector.
type Tensor struct {
	Name  string
	Shape []int
	// Values makes or reads the values, row-major. The caller owns them.
	Values func() ([]float32, error)
}

// Size is the number of elements.
func (t Tensor) Size() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Network is a model: tensors under Hugging Face's names, in the order of the forward pass.
type Network struct {
	Config
	Tensors []Tensor
	// Interleaved says that a head's rotary pairs lie next to each other, as in GGUF's llama files; else they lie half a head
	// apart, as in Hugging Face's.
	Interleaved bool
}

// Lookup finds a tensor by name.
func (n *Network) Lookup(name string) (Tensor, error) {
	i := slices.IndexFunc(n.Tensors, func(t Tensor) bool { return t.Name == name })
	if i < 0 {
		return Tensor{}, fmt.Errorf("the model has no tensor %s", name)
	}
	return n.Tensors[i], nil
}

// The names of the tensors outside the layers.
const (
	Embedding = "model.embed_tokens.weight"
	FinalNorm = "model.norm.weight"
	Output    = "lm_head.weight"
)

// layerTensor is a tensor of every layer: its name after "model.layers.N.", our parameter, and whether MiniCPM's residual
// scale is folded into it.
type layerTensor struct {
	name, param string
	residual    bool
}

var layerTensors = []layerTensor{
	{"input_layernorm.weight", "attn_norm", false},
	{"self_attn.q_proj.weight", "wq", false},
	{"self_attn.k_proj.weight", "wk", false},
	{"self_attn.v_proj.weight", "wv", false},
	{"self_attn.o_proj.weight", "wo", true},
	{"post_attention_layernorm.weight", "ffn_norm", false},
	{"mlp.gate_proj.weight", "w_gate", false},
	{"mlp.up_proj.weight", "w_up", false},
	{"mlp.down_proj.weight", "w_down", true},
}

// LayerName is the name of a tensor of layer i.
func LayerName(i int, name string) string { return fmt.Sprintf("model.layers.%d.%s", i, name) }

// Weights returns the values of a parameter by its name in package model. The network's tensors read them when asked.
type Weights func(param string) ([]float32, error)

// FromModel makes the network of a trained model. With fold, MiniCPM's scalings are folded into the weights, which is exact
// but for rounding: the embedding times scale_emb; the output projection, then a matrix of its own, over d_model/dim_model_base;
// the output of each residual branch times scale_depth/√layers. A part that Llama does not have is refused.
func FromModel(c model.Config, w Weights, fold bool) (*Network, error) {
	if err := representable(c); err != nil {
		return nil, err
	}
	n := &Network{Config: Config{
		VocabSize: c.VocabSize, HiddenSize: c.DModel, IntermediateSize: c.DFF, NumLayers: c.NumLayers, NumHeads: c.NumHeads,
		NumKVHeads: c.NumKVHeads, HeadDim: c.HeadDim, MaxPositions: c.MaxSeqLen, NormEps: c.NormEps, RopeTheta: c.RopeTheta,
		RopeFactor: c.RopeScaling, Tied: c.Tied(), InitStd: c.InitStd,
		MiniCPM: true, ScaleEmb: 1, ScaleDepth: math.Sqrt(float64(c.NumLayers)), DimModelBase: float64(c.DModel),
	}}
	if c.Parameterization == model.MuP {
		n.ScaleEmb, n.ScaleDepth, n.DimModelBase = c.ScaleEmb, c.ScaleDepth, float64(c.DimModelBase)
	}
	embedding, residual, output := 1.0, 1.0, 1.0
	if fold {
		embedding, residual, output = n.ScaleEmb, n.residualScale(), 1/n.logitDivisor()
		n.Tied = n.Tied && embedding == 1 && output == 1
		n.MiniCPM, n.ScaleEmb, n.ScaleDepth, n.DimModelBase = false, 0, 0, 0
	}
	shapes := map[string][]int{}
	for _, p := range c.Params() {
		shapes[p.Name] = p.Shape
	}
	add := func(name, param string, scale float64, transpose bool) {
		shape := slices.Clone(shapes[param])
		if transpose {
			slices.Reverse(shape)
		}
		n.Tensors = append(n.Tensors, Tensor{name, shape, func() ([]float32, error) {
			values, err := w(param)
			if err != nil {
				return nil, err
			}
			return arranged(values, shapes[param], scale, transpose), nil
		}})
	}
	add(Embedding, "embed", embedding, false)
	for i := range c.NumLayers {
		for _, t := range layerTensors {
			param, scale := fmt.Sprintf("layer.%d.%s", i, t.param), 1.0
			if t.residual {
				scale = residual
			}
			add(LayerName(i, t.name), param, scale, len(shapes[param]) == 2)
		}
	}
	add(FinalNorm, "final_norm", 1, false)
	if !n.Tied {
		add(Output, c.OutputName(), output, false)
	}
	return n, nil
}

func (c Config) residualScale() float64 {
	if !c.MiniCPM {
		return 1
	}
	return c.ScaleDepth / math.Sqrt(float64(c.NumLayers))
}

func (c Config) embeddingScale() float64 {
	if !c.MiniCPM {
		return 1
	}
	return c.ScaleEmb
}

func (c Config) logitDivisor() float64 {
	if !c.MiniCPM {
		return 1
	}
	return float64(c.HiddenSize) / c.DimModelBase
}

// representable refuses what neither LlamaForCausalLM, MiniCPMForCausalLM nor llama.cpp's llama has.
func representable(c model.Config) error {
	var err error
	refuse := func(bad bool, key string, value any, why string) {
		if bad {
			err = errors.Join(err, fmt.Errorf("model.%s: %v cannot be exported: %s", key, value, why))
		}
	}
	refuse(c.QKNorm, "qk_norm", c.QKNorm, "neither Llama nor MiniCPM normalises query and key heads")
	refuse(c.LogitSoftCap != 0, "logit_soft_cap", c.LogitSoftCap, "neither Llama nor MiniCPM bounds its logits")
	refuse(c.SlidingWindow != 0 && c.SlidingWindow < c.MaxSeqLen, "sliding_window", c.SlidingWindow,
		"Llama and MiniCPM attend to all that came before")
	return err
}

// arranged is a scaled copy of a matrix, transposed or not.
func arranged(values []float32, shape []int, scale float64, transpose bool) []float32 {
	out := make([]float32, len(values))
	if !transpose {
		for i, v := range values {
			out[i] = scaled(v, scale)
		}
		return out
	}
	rows, columns := shape[0], shape[1]
	for r := range rows {
		for c := range columns {
			out[c*rows+r] = scaled(values[r*columns+c], scale)
		}
	}
	return out
}

func scaled(v float32, scale float64) float32 {
	if scale == 1 {
		return v
	}
	return float32(float64(v) * scale)
}

// ToModel is the way back: the model's configuration and its parameters, in the order of [model.Config.Params], for training
// on. A folded MiniCPM comes back as the standard parameterization that it is now.
func (n *Network) ToModel() (model.Config, [][]float32, error) {
	tied := n.Tied
	c := model.Config{
		VocabSize: n.VocabSize, DModel: n.HiddenSize, DFF: n.IntermediateSize, NumLayers: n.NumLayers, NumHeads: n.NumHeads,
		NumKVHeads: n.NumKVHeads, HeadDim: n.HeadDim, MaxSeqLen: n.MaxPositions, NormEps: n.NormEps, RopeTheta: n.RopeTheta,
		RopeScaling: n.RopeFactor, TieEmbeddings: &tied, InitStd: n.InitStd, Parameterization: model.Standard,
	}
	if n.MiniCPM {
		if n.DimModelBase != math.Trunc(n.DimModelBase) {
			return c, nil, fmt.Errorf("dim_model_base is %g, a whole number is wanted", n.DimModelBase)
		}
		c.Parameterization, c.ScaleEmb, c.ScaleDepth, c.DimModelBase = model.MuP, n.ScaleEmb, n.ScaleDepth, int(n.DimModelBase)
	}
	c = c.Resolve()
	names := map[string]string{"embed": Embedding, "final_norm": FinalNorm, "lm_head": Output}
	for i := range n.NumLayers {
		for _, t := range layerTensors {
			names[fmt.Sprintf("layer.%d.%s", i, t.param)] = LayerName(i, t.name)
		}
	}
	var params [][]float32
	for _, p := range c.Params() {
		t, err := n.Lookup(names[p.Name])
		if err != nil {
			return c, nil, err
		}
		values, err := t.Values()
		if err != nil {
			return c, nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		if n.Interleaved && Turned(t.Name) {
			values = Halved(values, t.Shape, n.HeadDim)
		}
		if p.Role == model.Hidden {
			values = arranged(values, t.Shape, 1, true)
		}
		params = append(params, values)
	}
	return c, params, nil
}

// Turned reports whether a tensor makes what rotary embeddings turn: queries or keys.
func Turned(name string) bool {
	return strings.HasSuffix(name, "q_proj.weight") || strings.HasSuffix(name, "k_proj.weight")
}

// Interleave reorders the rows of a query or key projection [heads·E, D], so that the rotary pairs of a head, which lie half a
// head apart, come to lie next to each other. [Halved] is its inverse.
func Interleave(values []float32, shape []int, headDim int) []float32 {
	return reordered(values, shape, func(row int) int {
		head, i := row/headDim*headDim, row%headDim
		return head + i%2*(headDim/2) + i/2
	})
}

// Halved is the inverse of [Interleave].
func Halved(values []float32, shape []int, headDim int) []float32 {
	return reordered(values, shape, func(row int) int {
		head, i := row/headDim*headDim, row%headDim
		return head + i%(headDim/2)*2 + i/(headDim/2)
	})
}

// reordered has in each row what from says.
func reordered(values []float32, shape []int, from func(row int) int) []float32 {
	out := make([]float32, 0, len(values))
	for row := range shape[0] {
		at := from(row) * shape[1]
		out = append(out, values[at:at+shape[1]]...)
	}
	return out
}

// Check has exactly the tensors of the configuration there, each in its shape.
func (n *Network) Check() error {
	q, kv := n.NumHeads*n.HeadDim, n.NumKVHeads*n.HeadDim
	d, ff := n.HiddenSize, n.IntermediateSize
	want := map[string][]int{Embedding: {n.VocabSize, d}, FinalNorm: {d}}
	if !n.Tied {
		want[Output] = []int{n.VocabSize, d}
	}
	shapes := map[string][]int{
		"attn_norm": {d}, "wq": {q, d}, "wk": {kv, d}, "wv": {kv, d}, "wo": {d, q},
		"ffn_norm": {d}, "w_gate": {ff, d}, "w_up": {ff, d}, "w_down": {d, ff},
	}
	for i := range n.NumLayers {
		for _, t := range layerTensors {
			want[LayerName(i, t.name)] = shapes[t.param]
		}
	}
	for _, t := range n.Tensors {
		shape, ok := want[t.Name]
		if !ok {
			return fmt.Errorf("tensor %q is none of this architecture, or there twice", t.Name)
		}
		if !slices.Equal(shape, t.Shape) {
			return fmt.Errorf("tensor %q is %v, the configuration says %v", t.Name, t.Shape, shape)
		}
		delete(want, t.Name)
	}
	if len(want) > 0 {
		return fmt.Errorf("tensor %q is missing", slices.Min(slices.Collect(maps.Keys(want))))
	}
	return nil
}
