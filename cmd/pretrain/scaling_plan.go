package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"pretrain/configs"
	"pretrain/internal/gpu"
	"pretrain/train/scaling"

	"github.com/spf13/cobra"
)

// scalingPlanOptions are what the command line says about a plan of a large run.
type scalingPlanOptions struct {
	scaling.Request
	gpu, tokens, params, inference, batch string
	law, fit, mfuFrom                     string
	out, data                             string
	asJSON                                bool
}

func newScalingPlan(stdout io.Writer) *cobra.Command {
	var o scalingPlanOptions
	cmd := &cobra.Command{
		Use: "plan --gpus N --gpu NAME --days N {--mfu F | --mfu-from RUN} [--tokens N | --params N]", Short: "Say which model to train with some GPUs in some days, and write its configuration", Args: noArgs,
		Long: `Plan a run for GPUs × days × MFU: from the tokens to the size or from the size to the tokens; with neither, the size and tokens of the
least loss by a scaling law. It gives the decoder's shape, batch, steps, phases, memory and mesh, disk, hours, price, energy, and how
much the answer hangs on what nobody knows yet.

The law is a published one, or your own: the file that pretrain scaling fit --out wrote. --inference-tokens pays for the model's
use from the same compute, which makes it smaller and trains it longer.

--mfu is the part of the GPUs' bf16 peak that the model's own FLOPs use. Measure it with a short run of the planned shape on one host,
and give that run by --mfu-from.`,
		Example: `  pretrain scaling plan --gpus 300 --gpu h100 --days 60 --tokens 1T --mfu 0.4
  pretrain scaling plan --gpus 8 --gpu 4090 --days 14 --mfu 0.35 --params 0.5B --out run.yaml
  pretrain scaling plan --gpus 64 --gpu a100 --days 30 --mfu 0.45 --fit ladder.json --inference-tokens 2T --json`,
		RunE: func(*cobra.Command, []string) error { return planScaling(o, stdout) },
	}
	f := cmd.Flags()
	f.IntVar(&o.GPUs, "gpus", 0, "number of GPUs")
	f.StringVar(&o.gpu, "gpu", "", "which: "+strings.Join(gpu.Keys(), ", "))
	f.Float64Var(&o.Days, "days", 0, "days that all of them run")
	f.Float64Var(&o.MFU, "mfu", 0, "part of the bf16 peak that is used, such as 0.4")
	f.StringVar(&o.mfuFrom, "mfu-from", "", "take the MFU that a finished run measured, from its run `directory`, instead of --mfu")
	f.StringVar(&o.tokens, "tokens", "", "tokens to train on, as 300B or 1T")
	f.StringVar(&o.params, "params", "", "parameters besides the embedding, as 0.5B")
	f.StringVar(&o.inference, "inference-tokens", "", "tokens that the model is expected to read and write in its life, paid from the same compute")
	f.StringVar(&o.batch, "batch-tokens", "", "tokens per step, as 4M (default: MiniCPM's law)")
	f.StringVar(&o.law, "law", scaling.Published[0].Name, "epoch, chinchilla or minicpm: the published law to go by")
	f.StringVar(&o.fit, "fit", "", "go by the law in a `file` that pretrain scaling fit --out wrote")
	f.IntVar(&o.Vocab, "vocab-size", 122_880, "tokens of the vocabulary (default MiniCPM's 122,753, up to a multiple of 128)")
	f.IntVar(&o.SeqLen, "seq-len", 4096, "tokens of a sequence")
	f.Float64Var(&o.Dollars, "dollars-per-hour", 0, "price of a GPU for an hour (default: about what clouds asked in 2025)")
	f.StringVar(&o.out, "out", "", "write the run's configuration to a `file`")
	f.StringVar(&o.data, "data", "data", "the text or token shards that the configuration names")
	f.BoolVar(&o.asJSON, "json", false, "as one JSON object")
	return cmd
}

// scalingPlan is a plan and what the planned run's configuration says of it.
type scalingPlan struct {
	*scaling.Plan
	GPU             string `json:"gpu"`
	CheckpointBytes int64  `json:"checkpoint_bytes"` // one
	DiskBytes       int64  `json:"disk_bytes"`       // of all that are kept at once
	Config          string `json:"config"`           // the run's configuration, as YAML
}

func planScaling(o scalingPlanOptions, stdout io.Writer) error {
	if err := o.read(); err != nil {
		return err
	}
	made, err := scaling.Make(o.Request)
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	p := scalingPlan{Plan: made, GPU: o.gpu, Config: runConfig(made, o)}
	if err := p.configure(); err != nil {
		return err
	}
	if o.out != "" {
		if err := writeFile(o.out, []byte(p.Config)); err != nil {
			return err
		}
	}
	if o.asJSON {
		return printJSON(stdout, p)
	}
	return p.print(stdout, o.out)
}

// read checks the options and reads what they name.
func (o *scalingPlanOptions) read() (err error) {
	for _, q := range []struct {
		flag, text string
		value      *float64
	}{{"tokens", o.tokens, &o.Tokens}, {"params", o.params, &o.Params}, {"inference-tokens", o.inference, &o.Inference}, {"batch-tokens", o.batch, &o.Batch}} {
		if q.text != "" {
			if *q.value, err = parseQuantity(q.text); err != nil {
				return usagef("--%s %s: want a number such as 0.5B, 300B or 1T", q.flag, q.text)
			}
		}
	}
	if o.mfuFrom != "" {
		if o.MFU != 0 {
			return usagef("--mfu and --mfu-from: want one of them")
		}
		done, err := readResult(o.mfuFrom)
		if err != nil {
			return err
		}
		if done == nil || !(done.MFU > 0) {
			return usagef("--mfu-from %s: want a finished run that knows its MFU (on a device without a data sheet, PRETRAIN_PEAK_FLOPS says the peak)", o.mfuFrom)
		}
		o.MFU, o.Measured = float64(done.MFU), o.mfuFrom
	}
	switch {
	case o.GPUs < 1:
		return usagef("--gpus %d: want how many there are", o.GPUs)
	case !(o.Days > 0):
		return usagef("--days %v: want for how long, above 0", o.Days)
	case !(o.MFU > 0 && o.MFU <= 1):
		return usagef("--mfu %v: want the part of the peak that is used, above 0 and at most 1, such as 0.4", o.MFU)
	case o.Vocab < 256 || o.SeqLen < 16:
		return usagef("--vocab-size %d, --seq-len %d: want 256 and 16 or more", o.Vocab, o.SeqLen)
	case o.Dollars < 0:
		return usagef("--dollars-per-hour %v: want 0 or more", o.Dollars)
	}
	if o.Request.GPU, err = gpu.ByKey(o.gpu); err != nil {
		return usagef("--gpu: %w", err)
	}
	if o.fit == "" {
		if o.Law, err = scaling.ByName(o.law); err != nil {
			return usagef("--law: %w", err)
		}
		return nil
	}
	text, err := os.ReadFile(o.fit)
	if err != nil {
		return err
	}
	if o.Law, err = scaling.ParseFit(text); err != nil {
		return usagef("--fit %s: %w", o.fit, err)
	}
	return nil
}

// parseQuantity reads 7e9, 0.5B, 300B, 1T, 1Ttok.
func parseQuantity(text string) (float64, error) {
	number, scale := strings.TrimSuffix(text, "tok"), 1.0
	for suffix, factor := range map[string]float64{"k": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, scale = rest, factor
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v > 0) || v*scale > 1e18 {
		return 0, fmt.Errorf("no number above 0: %q", text)
	}
	return v * scale, nil
}

// configure reads the configuration back, as pretrain plan would: what is written is what runs.
func (p *scalingPlan) configure() error {
	dir, err := os.MkdirTemp("", "pretrain-plan-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "run.yaml")
	if err := os.WriteFile(path, []byte(p.Config), 0o600); err != nil {
		return err
	}
	r, err := configs.LoadWithoutFiles(path, nil)
	if err != nil {
		return fmt.Errorf("the plan's configuration does not load: %w", err)
	}
	run := makePlan(r, 0)
	p.CheckpointBytes, p.DiskBytes = run.StateBytes, run.CheckpointBytes
	return nil
}

func (p scalingPlan) print(stdout io.Writer, out string) error {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	row := func(key, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", key, fmt.Sprintf(format, args...)) }
	size := func(bytes float64) string { return bytesText(int64(bytes)) }
	m := p.Model
	name := "of its own"
	if p.Preset != "" {
		name = "preset " + p.Preset
	}
	row("compute", "%d %s × %.4g days × MFU %.3g = %.3g FLOPs", p.GPUs, p.GPU, p.Days, p.MFU, p.Available)
	row("model", "%s parameters besides the embedding, %s in all", si(p.NonEmbedding), si(p.Counts.Total))
	row("  shape", "%s: %d layers, %d wide, SwiGLU %d, %d heads of %d, %d key/value heads, vocabulary %d, %d tokens a sequence",
		name, m.NumLayers, m.DModel, m.DFF, m.NumHeads, m.HeadDim, m.NumKVHeads, m.VocabSize, m.MaxSeqLen)
	row("tokens", "%s, %.3g for each parameter", si(int64(p.D)), p.D/p.N)
	row("FLOPs", "%.4g a token, %.3g in all", p.FLOPsPerToken, p.Training)
	row("loss", "%.4f %s by %s (N counts %s)", p.Loss, p.Law.Unit, p.Law.Name, string(p.Law.Counts))
	row("batch", "%s tokens, %d sequences (the law: %s), %d steps", si(p.BatchSize), p.Sequences, si(int64(p.BatchLaw)), p.Steps)
	row("phases", "warmup %s, stable %s, decay %s tokens", si(int64(p.Warmup)), si(int64(p.Stable)), si(int64(p.Decay)))
	row("mesh", "data %d × fsdp %d × tensor %d, %d sequences at once on each", p.Mesh.Data, p.Mesh.FSDP, p.Mesh.Tensor, p.MicroBatch)
	e := p.Memory
	row("memory", "%s of %s on each: weights %s, optimizer %s, gradients %s, gathered %s, activations %s, logits %s, reserved %s", size(e.Total), size(p.Request.GPU.Bytes()),
		size(e.Weights), size(e.Optimizer), size(e.Gradients), size(e.Gathered), size(e.Activations), size(e.Logits), size(e.Reserved))
	row("checkpoints", "%s each, %s on disk at most", bytesText(p.CheckpointBytes), bytesText(p.DiskBytes))
	row("time", "%.4g hours (%.3g days), %s GPU-hours", p.Hours, p.Hours/24, si(int64(math.Ceil(p.GPUHours))))
	if p.Dollars > 0 {
		row("price", "$%s at $%.2f for a GPU and hour", si(int64(p.Cost)), p.Dollars)
	} else {
		row("price", "not known for this GPU: give --dollars-per-hour")
	}
	row("energy", "%.3g MWh by the boards at %.0f W; hosts, network and cooling come on top", p.Energy, p.Request.GPU.Watts)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(stdout)
	w = tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "if\tparameters\ttokens\ttokens per parameter\tloss")
	for _, v := range p.Sensitivity {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.3g\t%.4f\n", v.What, si(int64(v.N)), si(int64(v.D)), v.Ratio, v.Loss)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(stdout)
	for _, n := range p.Notes {
		fmt.Fprintf(stdout, "note: %s.\n", n)
	}
	if out != "" {
		fmt.Fprintf(stdout, "\n%s: see pretrain plan --config %s\n", out, out)
	}
	return nil
}
