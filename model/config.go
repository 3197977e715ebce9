// Package model is the MiniCPM decoder: its configuration, its list of parameters, its FLOPs and its forward pass as a
// GoMLX graph. It knows nothing of training or of data.
//
// Formulas are those of the MiniCPM paper (arXiv 2404.06395, Table 7 and Appendix A.1) and of the model code ModelBest
// published; docs/model.md says where each number comes from.
package model

import (
	"maps"
	"slices"
	"strings"

	"pretrain/internal/problem"
)

// Parameterization says how initialisation, learning rates and activations scale with width and depth.
type Parameterization string

const (
	// MuP is MiniCPM's tensor-program parameterization: embeddings times ScaleEmb, residual branches times
	// ScaleDepth/√layers, logits over DModel/DimModelBase, hidden init and learning rate scaled by the same width ratio.
	MuP Parameterization = "mup"
	// Standard is plain Llama: no scalings, one init standard deviation, one learning rate.
	Standard Parameterization = "standard"
)

// Config is the shape of a decoder. Zero means "from the preset, else the default": call [Config.Resolve] before use.
type Config struct {
	// Preset names a published shape (see [Presets]); keys given beside it override it.
	Preset string `yaml:"preset,omitempty"`
	// VocabSize is the number of rows of the embedding. 0: that of the preset, where it has one, else the tokenizer's size.
	VocabSize int `yaml:"vocab_size,omitempty"`
	// DModel is the width of the residual stream.
	DModel int `yaml:"d_model,omitempty"`
	// DFF is the width inside the SwiGLU block. 0: 2.5·DModel, MiniCPM's ratio.
	DFF int `yaml:"d_ff,omitempty"`
	// NumLayers is the number of blocks (attention and feed-forward each once).
	NumLayers int `yaml:"num_layers,omitempty"`
	// NumHeads is the number of query heads. 0: DModel / HeadDim.
	NumHeads int `yaml:"num_heads,omitempty"`
	// NumKVHeads is the number of key/value heads; fewer than NumHeads is grouped-query attention. 0: NumHeads.
	NumKVHeads int `yaml:"num_kv_heads,omitempty"`
	// HeadDim is the width of a head. 0: 64, as in every MiniCPM size.
	HeadDim int `yaml:"head_dim,omitempty"`
	// MaxSeqLen is the sequence length in tokens a batch is packed to. 0: 4096.
	MaxSeqLen int `yaml:"max_seq_len,omitempty"`
	// TieEmbeddings uses the embedding as output projection, as MiniCPM does. Unset: true.
	TieEmbeddings *bool `yaml:"tie_embeddings,omitempty"`

	// Parameterization is mup (default) or standard.
	Parameterization Parameterization `yaml:"parameterization,omitempty"`
	// ScaleEmb multiplies embeddings under mup. 0: 12 (found on the 9M model, MiniCPM Table 7).
	ScaleEmb float64 `yaml:"scale_emb,omitempty"`
	// ScaleDepth over √NumLayers multiplies every residual branch under mup. 0: 1.4.
	ScaleDepth float64 `yaml:"scale_depth,omitempty"`
	// DimModelBase is the width at which mup's width ratio is one. 0: 256.
	DimModelBase int `yaml:"dim_model_base,omitempty"`
	// InitStd is the standard deviation of embeddings, and under mup of hidden matrices at the base width.
	// 0: 0.1 under mup, 0.02 under standard (Llama's).
	InitStd float64 `yaml:"init_std,omitempty"`

	// RopeTheta is the base of the rotary frequencies. 0: 10000.
	RopeTheta float64 `yaml:"rope_theta,omitempty"`
	// RopeScaling divides positions (linear position interpolation). 0: 1, no scaling.
	RopeScaling float64 `yaml:"rope_scaling,omitempty"`
	// NormEps is added to the mean square inside RMSNorm. 0: 1e-5.
	NormEps float64 `yaml:"norm_eps,omitempty"`
	// QKNorm normalises each query and key head by RMSNorm with a learned gain. MiniCPM tried and did not adopt it: off.
	QKNorm bool `yaml:"qk_norm,omitempty"`
	// LogitSoftCap bounds logits to ±cap by cap·tanh(logits/cap). 0: off.
	LogitSoftCap float64 `yaml:"logit_soft_cap,omitempty"`
	// SlidingWindow lets a position see itself and the window-1 positions before it. 0: all before it.
	SlidingWindow int `yaml:"sliding_window,omitempty"`
	// DocumentMask hides other documents packed in the same sequence and restarts positions at each document.
	DocumentMask bool `yaml:"document_mask,omitempty"`
}

// Presets are the published shapes: the two released models (MiniCPM Table 2) and the wind-tunnel ladder (Table 8).
// Names are the paper's, in lower case. Vocabulary sizes are part of a preset only where the paper states one.
var Presets = map[string]Config{
	"minicpm-2.4b": {DModel: 2304, DFF: 5760, NumLayers: 40, NumHeads: 36, VocabSize: 122753},
	"minicpm-1.2b": {DModel: 1536, DFF: 3840, NumLayers: 52, NumHeads: 24, NumKVHeads: 8, VocabSize: 73440},
	"9m":           {DModel: 320, DFF: 800, NumLayers: 8, NumHeads: 5},
	"30m":          {DModel: 512, DFF: 1280, NumLayers: 12, NumHeads: 8},
	"70m":          {DModel: 640, DFF: 1600, NumLayers: 14, NumHeads: 10},
	"0.1b":         {DModel: 768, DFF: 1920, NumLayers: 16, NumHeads: 12},
	"0.17b":        {DModel: 896, DFF: 2240, NumLayers: 18, NumHeads: 14},
	"0.2b":         {DModel: 1024, DFF: 2560, NumLayers: 20, NumHeads: 16},
	"0.5b":         {DModel: 1344, DFF: 3360, NumLayers: 24, NumHeads: 21},
}

// PresetNames lists the presets in alphabetical order.
func PresetNames() []string { return slices.Sorted(maps.Keys(Presets)) }

// orDefault returns v unless it is the zero value.
func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Resolve returns the configuration with the preset and the defaults filled in. It does not judge: call
// [Config.Validate] on the result.
func (c Config) Resolve() Config {
	p := Presets[c.Preset]
	c.VocabSize = orDefault(c.VocabSize, p.VocabSize)
	c.DModel = orDefault(c.DModel, p.DModel)
	c.NumLayers = orDefault(c.NumLayers, p.NumLayers)
	c.HeadDim = orDefault(c.HeadDim, orDefault(p.HeadDim, 64))
	c.DFF = orDefault(orDefault(c.DFF, p.DFF), c.DModel*5/2)
	c.NumHeads = orDefault(orDefault(c.NumHeads, p.NumHeads), c.DModel/c.HeadDim)
	c.NumKVHeads = orDefault(orDefault(c.NumKVHeads, p.NumKVHeads), c.NumHeads)
	c.MaxSeqLen = orDefault(c.MaxSeqLen, 4096)
	if c.TieEmbeddings == nil {
		tied := true
		c.TieEmbeddings = &tied
	}
	c.Parameterization = orDefault(c.Parameterization, MuP)
	c.DimModelBase = orDefault(c.DimModelBase, 256)
	if c.Parameterization == MuP {
		c.ScaleEmb = orDefault(c.ScaleEmb, 12)
		c.ScaleDepth = orDefault(c.ScaleDepth, 1.4)
		c.InitStd = orDefault(c.InitStd, 0.1)
	} else {
		c.InitStd = orDefault(c.InitStd, 0.02)
	}
	c.RopeTheta = orDefault(c.RopeTheta, 10000)
	c.RopeScaling = orDefault(c.RopeScaling, 1)
	c.NormEps = orDefault(c.NormEps, 1e-5)
	return c
}

// Validate reports every problem of a resolved configuration at once, as joined problem.Problem errors.
// VocabSize may still be 0 (the tokenizer decides it).
func (c Config) Validate() error {
	var p problem.List
	_, known := Presets[c.Preset]
	p.Check(c.Preset == "" || known, "preset", c.Preset, "one of %s", strings.Join(PresetNames(), ", "))
	for _, d := range []struct {
		key   string
		value int
	}{
		{"d_model", c.DModel}, {"d_ff", c.DFF}, {"num_layers", c.NumLayers}, {"num_heads", c.NumHeads},
		{"num_kv_heads", c.NumKVHeads}, {"head_dim", c.HeadDim}, {"max_seq_len", c.MaxSeqLen}, {"dim_model_base", c.DimModelBase},
	} {
		p.Check(d.value > 0, d.key, d.value, "a positive number (give it, or a preset)")
	}
	p.Check(c.VocabSize >= 0, "vocab_size", c.VocabSize, "a positive number, or leave it out to take the tokenizer's")
	p.Check(c.NumKVHeads <= 0 || c.NumHeads%c.NumKVHeads == 0, "num_kv_heads", c.NumKVHeads, "a divisor of num_heads (%d)", c.NumHeads)
	p.Check(c.HeadDim%2 == 0, "head_dim", c.HeadDim, "an even number (rotary embeddings turn pairs)")
	p.Check(c.Parameterization == MuP || c.Parameterization == Standard, "parameterization", c.Parameterization, "mup or standard")
	for _, f := range []struct {
		key   string
		value float64
	}{{"scale_emb", c.ScaleEmb}, {"scale_depth", c.ScaleDepth}, {"logit_soft_cap", c.LogitSoftCap}} {
		p.Check(f.value >= 0, f.key, f.value, "0 or more")
	}
	for _, f := range []struct {
		key   string
		value float64
	}{{"init_std", c.InitStd}, {"rope_theta", c.RopeTheta}, {"rope_scaling", c.RopeScaling}, {"norm_eps", c.NormEps}} {
		p.Check(f.value > 0, f.key, f.value, "more than 0")
	}
	p.Check(c.SlidingWindow >= 0, "sliding_window", c.SlidingWindow, "0 (off) or a number of positions")
	return p.Err()
}

// WidthRatio is mup's d_model/dim_model_base: the divisor of logits, of hidden learning rates, and (its root) of hidden
// init. It is 1 under standard.
func (c Config) WidthRatio() float64 {
	if c.Parameterization != MuP {
		return 1
	}
	return float64(c.DModel) / float64(c.DimModelBase)
}

// Tied reports whether the embedding is also the output projection.
func (c Config) Tied() bool { return c.TieEmbeddings == nil || *c.TieEmbeddings }
