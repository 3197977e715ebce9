package configs

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"pretrain/internal/problem"
	"pretrain/internal/units"
	"pretrain/model"
	"pretrain/train/mesh"
)

// Loss is what the training step minimises.
type Loss struct {
	// ZLoss weighs the square of the log of the softmax's denominator, which keeps logits from drifting (PaLM, 2204.02311,
	// uses 1e-4). Default 0: MiniCPM has none.
	ZLoss float64 `yaml:"z_loss"`
	// ChunkTokens is how many tokens' logits exist at once: memory is chunk_tokens · vocab_size · 4 bytes, twice in the
	// backward pass. Default 0: 256 MiB of logits, on a GPU 1 GiB; or on a CPU, where the model is wide beside its batch,
	// logits of a part of the vocabulary.
	ChunkTokens int `yaml:"chunk_tokens"`
}

// DefaultLoss is plain cross-entropy.
func DefaultLoss() Loss { return Loss{} }

// Validate reports every problem at once.
func (c Loss) Validate() error {
	var p problem.List
	p.Check(c.ZLoss >= 0, "z_loss", c.ZLoss, "0 (off) or more")
	p.Check(c.ChunkTokens >= 0, "chunk_tokens", c.ChunkTokens, "0 (automatic) or a number of tokens")
	return p.Err()
}

// Train is how long and on what the model is trained.
type Train struct {
	// Tokens to train on, rounded up to whole batches. There is no default: it is the size of the job.
	Tokens units.Tokens `yaml:"tokens"`
	// Precision is bf16 (default: it halves memory traffic and is the fast path of every device) or fp32.
	Precision model.Precision `yaml:"precision"`
	// Remat is what the backward pass computes again rather than keeps, to fit larger batches: none (default: the fastest where it
	// fits), attention, layer, full, or auto: the first of them under which the micro-batch fits the devices (with batch.micro_batch: auto,
	// a sequence on each), asked of the compiler when the run begins, written down, and kept.
	Remat model.Remat `yaml:"remat"`
	// Attention is auto (default: the backend's fused kernel where it has one for bf16 and the plain causal mask, which on CUDA
	// is cuDNN's flash attention; else elementary operations) or decomposed (elementary operations always).
	Attention model.AttentionKind `yaml:"attention"`
	// Mesh is how many devices of the machine work on a step, and how they share it. Default one. It changes neither which
	// tokens a step sees nor, beyond rounding, what is learnt.
	Mesh mesh.Config `yaml:"mesh"`
}

// maxTokens is a thousand times the largest run there has been, and a token count that is still exact in a float64.
const maxTokens units.Tokens = 9e15

// DefaultTrain is bf16, nothing computed twice, one device.
func DefaultTrain() Train {
	return Train{Precision: model.BF16, Remat: model.RematNone, Attention: model.AttentionAuto, Mesh: mesh.Default()}
}

// Validate reports every problem at once.
func (c Train) Validate() error {
	var p problem.List
	p.Check(c.Tokens > 0, "tokens", c.Tokens, `the number of tokens to train on, such as "20Btok"`)
	p.Check(c.Tokens <= maxTokens, "tokens", c.Tokens, "at most %s", maxTokens)
	p.Check(c.Precision == model.BF16 || c.Precision == model.FP32, "precision", c.Precision, "bf16 or fp32")
	p.Check(c.Remat == model.RematAuto || slices.Contains(model.Remats, c.Remat), "remat", c.Remat, "%s or one of %v", model.RematAuto, model.Remats)
	p.Check(c.Attention == model.AttentionAuto || c.Attention == model.AttentionDecomposed, "attention", c.Attention, "%s or %s", model.AttentionAuto, model.AttentionDecomposed)
	c.Mesh.Check(&p, "mesh")
	return p.Err()
}

// Eval is the validation during a run.
type Eval struct {
	// Every says how often the validation loss is measured. Default 5%: twenty points make a curve, and with the bound
	// below they cost little.
	Every units.Interval `yaml:"every"`
	// Tokens bounds one measurement; the same tokens each time. 0: the whole validation set. Default 1Mtok: the standard
	// error of the mean loss is then about 0.002 nats (1.5–2.5 nats of spread per token, over √1e6).
	Tokens units.Tokens `yaml:"tokens"`
	// AtEnd measures the whole validation set after the last step. Default true.
	AtEnd bool `yaml:"at_end"`
}

// DefaultEval measures twenty times.
func DefaultEval() Eval { return Eval{Every: units.EveryFraction(0.05), Tokens: 1e6, AtEnd: true} }

// Validate reports every problem at once.
func (c Eval) Validate() error {
	var p problem.List
	p.Check(!c.Every.IsZero(), "every", "not given", `an interval, or "never"`)
	p.Check(c.Tokens >= 0, "tokens", c.Tokens, "0 (all) or more")
	return p.Err()
}

// Checkpoint is when the state of a run is saved and what is kept.
type Checkpoint struct {
	// Every saves by progress. Default "1000 steps". A save costs the step loop one copy from the device.
	Every units.Interval `yaml:"every"`
	// EveryTime saves as well when so much time has passed since the last save: the most work a crash can cost.
	// Default 30m. 0: off.
	EveryTime units.Duration `yaml:"every_time"`
	// Keep is how many of the newest checkpoints stay. Default 3: the newest may be broken, and the one before may
	// already lie in a loss spike.
	Keep int `yaml:"keep"`
	// KeepEvery marks checkpoints that stay for good, to branch decays from. Default never.
	KeepEvery units.Interval `yaml:"keep_every"`
	// At lists points of the run, such as [20Btok, 40Btok], to save at exactly and to keep for good: the loop waits for a save
	// under way, which others are put off for. Tokens give the first step that reaches them. Default none.
	At []units.Length `yaml:"at"`
	// GiveUpAfter is how long a run goes on without being able to save (disk full) before it stops. Default 30m: time
	// to free space, without computing for days what cannot be kept.
	GiveUpAfter units.Duration `yaml:"give_up_after"`
	// Mirror is where a second copy of the checkpoints is kept, below the name of the run directory: s3://BUCKET?region=REGION
	// (and endpoint=https://HOST for a store other than Amazon's), or file:///FOLDER. A run directory without checkpoints
	// starts from the mirror's newest. Default "": none.
	Mirror string `yaml:"mirror"`
}

// DefaultCheckpoint saves every 1000 steps or 30 minutes, whichever comes first, and keeps three.
func DefaultCheckpoint() Checkpoint {
	return Checkpoint{
		Every: units.EverySteps(1000), EveryTime: 30 * minute, Keep: 3, KeepEvery: units.Never, GiveUpAfter: 30 * minute,
	}
}

const minute = units.Duration(time.Minute)

// Validate reports every problem at once.
func (c Checkpoint) Validate() error {
	var p problem.List
	p.Check(!c.Every.IsZero(), "every", "not given", `an interval, or "never" (the end of the run is always saved)`)
	p.Check(c.EveryTime >= 0, "every_time", c.EveryTime, "0 (off) or more")
	p.Check(c.Keep >= 1, "keep", c.Keep, "1 or more; 2 survive a checkpoint that went bad on disk")
	_, inTime := c.KeepEvery.Time()
	p.Check(!inTime, "keep_every", c.KeepEvery, "steps, tokens or a fraction: what is kept must not depend on the machine's speed")
	for i, at := range c.At {
		p.Check(!at.IsZero(), fmt.Sprintf("at[%d]", i), "not given", `a length such as "20Btok"`)
	}
	u, err := url.Parse(c.Mirror)
	p.Check(c.Mirror == "" || err == nil && slices.Contains([]string{"s3", "file"}, u.Scheme), "mirror", c.Mirror, "s3://BUCKET?region=REGION or file:///FOLDER")
	p.Check(c.GiveUpAfter >= 0, "give_up_after", c.GiveUpAfter, "0 (stop at the first failure) or more")
	return p.Err()
}

// Metrics says where the numbers of a run go. metrics.jsonl in the run directory always has every step.
type Metrics struct {
	// LogEvery is how often a line is printed where there is no terminal for a progress bar. Default "10 steps".
	LogEvery units.Interval `yaml:"log_every"`
	// TensorBoard writes an event file into the run directory. Default false.
	TensorBoard bool `yaml:"tensorboard"`
	// Prometheus is the address to serve metrics at, such as "localhost:9464". Default "": none.
	Prometheus string `yaml:"prometheus"`
	// Looks adds to metrics.jsonl, now and then: gradient noise scale, update-to-weight ratio, largest update, cosine of successive
	// gradients, curvature along the update. For two steps at a time it takes the memory of the state and the gradients again.
	// Default false.
	Looks bool `yaml:"looks"`
	// LooksEvery is how often. Default "50 steps". A look's two steps are made in halves of the batch.
	LooksEvery units.Interval `yaml:"looks_every"`
}

// DefaultMetrics writes metrics.jsonl only.
func DefaultMetrics() Metrics {
	return Metrics{LogEvery: units.EverySteps(10), LooksEvery: units.EverySteps(50)}
}

// Validate reports every problem at once.
func (c Metrics) Validate() error {
	var p problem.List
	p.Check(!c.LogEvery.IsZero(), "log_every", "not given", `an interval, or "never"`)
	_, inTime := c.LooksEvery.Time()
	p.Check(!c.LooksEvery.IsZero() && !inTime, "looks_every", c.LooksEvery, "steps, tokens or a fraction: what a run does must not depend on the machine's speed")
	if c.Prometheus != "" {
		p.Check(isAddress(c.Prometheus), "prometheus", c.Prometheus, `host:port, such as "localhost:9464"`)
	}
	return p.Err()
}

// Sample is the text a run generates to show what it has learnt.
type Sample struct {
	// Prompts to continue. Default: one empty prompt, which begins a document.
	Prompts []string `yaml:"prompts"`
	// Tokens generated for each prompt. Default 64tok.
	Tokens units.Tokens `yaml:"tokens"`
	// Temperature divides the logits before drawing; 0 takes the most likely token. Default 0.8: a small model at 1
	// mostly shows its tail.
	Temperature float64 `yaml:"temperature"`
	// Every says how often. Default never: once, at the end of the run.
	Every units.Interval `yaml:"every"`
}

// DefaultSample shows one text at the end.
func DefaultSample() Sample {
	return Sample{Prompts: []string{""}, Tokens: 64, Temperature: 0.8, Every: units.Never}
}

// Validate reports every problem at once.
func (c Sample) Validate() error {
	var p problem.List
	p.Check(c.Tokens >= 0, "tokens", c.Tokens, "0 (no sample) or more")
	p.Check(c.Temperature >= 0, "temperature", c.Temperature, "0 (the most likely token) or more")
	p.Check(!c.Every.IsZero(), "every", "not given", `an interval, or "never" for the end of the run only`)
	return p.Err()
}

// Validation is the part of a raw source's documents that is never trained on.
type Validation struct {
	// Fraction of the documents, chosen by a hash of their content: the same document is on the same side in every run.
	// Default 1%.
	Fraction units.Fraction `yaml:"fraction"`
	// MaxBytes bounds the text that is kept for validation: of more, the documents with the lowest hashes; the others are
	// trained on. Default 64MiB, some 16M tokens: far below any measurable error.
	MaxBytes units.Bytes `yaml:"max_bytes"`
}

// DefaultValidation keeps one document in a hundred.
func DefaultValidation() Validation { return Validation{Fraction: 0.01, MaxBytes: 64 << 20} }

func (c Validation) check(p *problem.List) {
	p.Check(c.Fraction > 0 && c.Fraction <= 0.5, "validation.fraction", c.Fraction, "more than 0 and at most 50%%")
	p.Check(c.MaxBytes > 0, "validation.max_bytes", c.MaxBytes, "more than 0")
}

func isAddress(s string) bool {
	_, port, err := net.SplitHostPort(s)
	n, numErr := strconv.ParseUint(port, 10, 16)
	return err == nil && numErr == nil && n > 0
}
