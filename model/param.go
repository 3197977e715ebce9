package model

import (
	"fmt"
	"math"
)

// Role says what a parameter is, which decides its initialisation and its optimizer group.
type Role int

const (
	// Embedding is the input embedding [vocab, d_model] (and the output projection when tied).
	Embedding Role = iota
	// Output is an untied output projection [vocab, d_model].
	Output
	// Hidden is a matrix inside a block, [in, out]: the "two-dimensional tensors" of MiniCPM Table 7.
	Hidden
	// Gain is a normalisation gain, a vector.
	Gain
)

// String names the role.
func (r Role) String() string { return [...]string{"embedding", "output", "hidden", "gain"}[r] }

// Param declares one parameter: its name, shape, role and the standard deviation it starts with.
type Param struct {
	// Name is unique and stable: checkpoints and exports are keyed by it. Layers are "layer.0.wq" and so on.
	Name string
	// Shape has matrices as [in, out], so that the forward pass is x·W; embeddings are [vocab, d_model].
	Shape []int
	Role  Role
	// InitStd is the standard deviation of the normal initialisation; gains start at one.
	InitStd float64
	// Back says that a hidden matrix leads back into the residual stream (wo, w_down), so that its first axis is the inner
	// one: what a split over devices has to know.
	Back bool
}

// Size is the number of elements.
func (p Param) Size() int64 {
	n := int64(1)
	for _, d := range p.Shape {
		n *= int64(d)
	}
	return n
}

// Params lists the parameters of a resolved configuration in a fixed order: embedding, blocks, final norm, output.
func (c Config) Params() []Param {
	hidden := c.InitStd
	if c.Parameterization == MuP {
		hidden /= math.Sqrt(c.WidthRatio()) // MiniCPM Table 7: init_std/√(d_m/d_base) for two-dimensional tensors.
	}
	d, q, kv := c.DModel, c.NumHeads*c.HeadDim, c.NumKVHeads*c.HeadDim
	params := []Param{{Name: "embed", Shape: []int{c.VocabSize, d}, Role: Embedding, InitStd: c.InitStd}}
	for i := range c.NumLayers {
		add := func(name string, role Role, std float64, shape ...int) {
			back := name == "wo" || name == "w_down"
			params = append(params, Param{fmt.Sprintf("layer.%d.%s", i, name), shape, role, std, back})
		}
		add("attn_norm", Gain, 0, d)
		add("wq", Hidden, hidden, d, q)
		add("wk", Hidden, hidden, d, kv)
		add("wv", Hidden, hidden, d, kv)
		if c.QKNorm {
			add("q_norm", Gain, 0, c.HeadDim)
			add("k_norm", Gain, 0, c.HeadDim)
		}
		add("wo", Hidden, hidden, q, d)
		add("ffn_norm", Gain, 0, d)
		add("w_gate", Hidden, hidden, d, c.DFF)
		add("w_up", Hidden, hidden, d, c.DFF)
		add("w_down", Hidden, hidden, c.DFF, d)
	}
	params = append(params, Param{Name: "final_norm", Shape: []int{d}, Role: Gain})
	if !c.Tied() {
		params = append(params, Param{Name: "lm_head", Shape: []int{c.VocabSize, d}, Role: Output, InitStd: c.InitStd})
	}
	return params
}

// Counts are the parameter counts of a model under the conventions in use. Always say which one a figure uses: the
// choice changes the conclusion of a scaling law.
type Counts struct {
	// Total counts every stored parameter once (a tied embedding once).
	Total int64 `json:"total_params"`
	// NonEmbedding is Total without the embedding and an untied output projection; norm gains count. It reproduces the
	// N of MiniCPM Tables 2 and 8.
	NonEmbedding int64 `json:"non_embedding_params"`
	// Compute is NonEmbedding plus the output projection's d_model·vocab (tied or not): what a token is multiplied by.
	Compute int64 `json:"compute_params"`
}

// Count returns the parameter counts of a resolved configuration.
func (c Config) Count() Counts {
	var n Counts
	for _, p := range c.Params() {
		n.Total += p.Size()
		if p.Role != Embedding && p.Role != Output {
			n.NonEmbedding += p.Size()
		}
	}
	n.Compute = n.NonEmbedding + int64(c.VocabSize)*int64(c.DModel)
	return n
}

// FLOPs are the floating-point operations of one training token, forward and backward, a multiply-add counted as two.
type FLOPs struct {
	// Dense is 6·N with N = Counts.Compute.
	Dense float64 `json:"dense"`
	// Attention is the scores and the weighted sum over the causal half: 6·layers·seq_len·heads·head_dim.
	Attention float64 `json:"attention"`
}

// Total is the sum of both terms: the numerator of MFU per token.
func (f FLOPs) Total() float64 { return f.Dense + f.Attention }

// FLOPsPerToken returns the training FLOPs per token at the configured sequence length. Recomputation (remat) is not
// counted: it is work the model did not ask for.
func (c Config) FLOPsPerToken() FLOPs {
	return FLOPs{
		Dense:     6 * float64(c.Count().Compute),
		Attention: 6 * float64(c.NumLayers) * float64(c.MaxSeqLen) * float64(c.NumHeads*c.HeadDim),
	}
}
