// Package optim builds the update rule of a training step as a graph: gradients in, new weights and optimizer state out.
package optim

import (
	"fmt"
	"slices"

	"pretrain/internal/problem"
)

// Kind names an update rule.
type Kind string

// The update rules. Muon runs on hidden matrices and AdamW on everything else.
const (
	SGD     Kind = "sgd"
	Adagrad Kind = "adagrad"
	Adam    Kind = "adam"
	AdamW   Kind = "adamw"
	LAMB    Kind = "lamb"
	Lion    Kind = "lion"
	Muon    Kind = "muon"
)

// Kinds lists the update rules.
var Kinds = []Kind{SGD, Adagrad, Adam, AdamW, LAMB, Lion, Muon}

// Config is the optimizer section of a run. The MiniCPM paper names Adam and a peak learning rate and nothing else
// (§6.2); betas, weight decay and clipping are the field's usual choice (Hägele et al. 2405.18392, Llama).
type Config struct {
	// Kind of update rule: sgd, adagrad, adam, adamw, lamb, lion or muon. Default adamw.
	Kind Kind `yaml:"kind"`
	// Betas are the decay rates of the first and second moment (Adam, AdamW, LAMB, Lion). Default 0.9, 0.95.
	Betas [2]float64 `yaml:"betas"`
	// Eps is added to the root of the second moment. Default 1e-8.
	Eps float64 `yaml:"eps"`
	// WeightDecay is decoupled for adamw, lamb, lion, muon (w -= lr·wd·w) and an L2 term of the gradient for sgd, adagrad, adam. Default 0.1.
	WeightDecay float64 `yaml:"weight_decay"`
	// DecayEmbeddings also decays embeddings, gains and biases. Default false: decay is for hidden matrices and an untied output.
	DecayEmbeddings bool `yaml:"decay_embeddings"`
	// Momentum of sgd (0: none). Default 0.9.
	Momentum float64 `yaml:"momentum"`
	// Nesterov looks ahead with sgd's momentum. Default false.
	Nesterov bool `yaml:"nesterov"`
	// ClipNorm bounds the global L2 norm of all gradients together. 0: no clipping. Default 1.
	ClipNorm float64 `yaml:"clip_norm"`
	// LAMBClamp bounds ‖w‖ in LAMB's trust ratio. 0: no bound. Default 10, as common implementations do.
	LAMBClamp float64 `yaml:"lamb_clamp"`
	// LAMBDebias corrects LAMB's moments for their zero start, as the paper writes it. Default true.
	LAMBDebias bool `yaml:"lamb_debias"`
	// MuonMomentum is the momentum of muon's matrices (Nesterov). Default 0.95.
	MuonMomentum float64 `yaml:"muon_momentum"`
	// MuonSteps is the number of Newton–Schulz iterations. Default 5.
	MuonSteps int `yaml:"muon_steps"`
	// MuonLRScale multiplies the learning rate of muon's matrices, whose updates have an RMS of 0.2 before it
	// (the scale 0.2·√max(rows, cols) of Liu et al. 2502.16982 makes AdamW's learning rate fit). Default 1.
	MuonLRScale float64 `yaml:"muon_lr_scale"`
	// EmbeddingLRScale multiplies the learning rate of embeddings and of an untied output projection. Default 1.
	EmbeddingLRScale float64 `yaml:"embedding_lr_scale"`
	// MuPEmbeddingLR says whether mup divides the embedding's learning rate by the width ratio too: "full" (default; the
	// consistent reading of MiniCPM Table 7 with its published init) or "scaled" (its words "every two-dimensional tensor" taken literally).
	MuPEmbeddingLR string `yaml:"mup_embedding_lr"`
}

// Default is AdamW as small language models are commonly trained with it.
func Default() Config {
	return Config{
		Kind: AdamW, Betas: [2]float64{0.9, 0.95}, Eps: 1e-8, WeightDecay: 0.1, Momentum: 0.9, ClipNorm: 1,
		LAMBClamp: 10, LAMBDebias: true, MuonMomentum: 0.95, MuonSteps: 5, MuonLRScale: 1, EmbeddingLRScale: 1, MuPEmbeddingLR: "full",
	}
}

// Validate reports every problem at once, as joined problem.Problem errors.
func (c Config) Validate() error {
	var p problem.List
	p.Check(slices.Contains(Kinds, c.Kind), "kind", c.Kind, "one of %v", Kinds)
	for i, b := range c.Betas {
		p.Check(b >= 0 && b < 1, fmt.Sprintf("betas[%d]", i), b, "0 or more and less than 1")
	}
	p.Check(c.Eps > 0, "eps", c.Eps, "more than 0")
	p.Check(c.WeightDecay >= 0, "weight_decay", c.WeightDecay, "0 or more")
	p.Check(c.Momentum >= 0 && c.Momentum < 1, "momentum", c.Momentum, "0 or more and less than 1")
	p.Check(!c.Nesterov || c.Momentum > 0, "nesterov", c.Nesterov, "momentum above 0 with it")
	p.Check(c.ClipNorm >= 0, "clip_norm", c.ClipNorm, "0 (off) or more")
	p.Check(c.LAMBClamp >= 0, "lamb_clamp", c.LAMBClamp, "0 (off) or more")
	p.Check(c.MuonMomentum >= 0 && c.MuonMomentum < 1, "muon_momentum", c.MuonMomentum, "0 or more and less than 1")
	p.Check(c.MuonSteps >= 1, "muon_steps", c.MuonSteps, "1 or more")
	p.Check(c.MuonLRScale > 0, "muon_lr_scale", c.MuonLRScale, "more than 0")
	p.Check(c.EmbeddingLRScale > 0, "embedding_lr_scale", c.EmbeddingLRScale, "more than 0")
	p.Check(c.MuPEmbeddingLR == "full" || c.MuPEmbeddingLR == "scaled", "mup_embedding_lr", c.MuPEmbeddingLR, "full or scaled")
	return p.Err()
}
