package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"pretrain/internal/chart"
	"pretrain/internal/section"
	"pretrain/internal/vfs"
	"pretrain/train"
	"pretrain/train/eval"
	"pretrain/train/mesh"
	"pretrain/train/metrics"
	"pretrain/train/noise"

	"github.com/spf13/cobra"
)

// noiseOptions are the flags of analyze noise.
type noiseOptions struct {
	modelFlags
	steps  int64
	small  int
	asJSON bool
}

// noiseResult is what analyze noise prints.
type noiseResult struct {
	Checkpoint string `json:"checkpoint"`
	Step       int64  `json:"step"`
	Batches    int64  `json:"batches"`
	// SmallTokens and BigTokens are the two batch sizes whose gradients were compared.
	SmallTokens float64 `json:"small_tokens"`
	BigTokens   float64 `json:"big_tokens"`
	// BatchTokens is what the run trains with there.
	BatchTokens int64                 `json:"batch_tokens"`
	Groups      map[string]groupNoise `json:"groups"`
}

// groupNoise is the noise of one parameter group's gradient.
type groupNoise struct {
	Grad2 float64 `json:"grad2"` // |G|²
	Trace float64 `json:"trace"` // tr(Σ) of one token
	// Scale is Trace/Grad2 in tokens; unknown where Grad2 is not above 0.
	Scale metrics.Number `json:"noise_scale_tokens"`
	CI    *eval.Interval `json:"ci95,omitempty"` // of the scale, by bootstrap over batches
}

func newAnalyzeNoise(stdout, stderr io.Writer) *cobra.Command {
	var o noiseOptions
	cmd := &cobra.Command{
		Use: "noise --checkpoint RUN", Short: "The gradient noise scale: how large a batch is worth its tokens", Args: noArgs,
		Long: `Measure the gradient noise scale B = tr(Σ)/|G|² (1812.06162) at a checkpoint, by the norms of the gradients of small parts and of whole
batches of the run's training data: those that follow the checkpoint, or at the end of the run the last ones. Well below B, twice the
batch nearly halves the steps; well above, it nearly doubles the tokens. The critical batch by branching (docs/analysis.md) is larger.

metrics.looks=true measures the same during training.`,
		Example: `  pretrain analyze noise --checkpoint runs/quickstart
  pretrain analyze noise --checkpoint runs/quickstart@300 --steps 32 --small 2`,
		RunE: func(cmd *cobra.Command, _ []string) error { return analyzeNoise(cmd.Context(), o, stdout, stderr) },
	}
	o.add(cmd)
	cmd.Flags().Int64Var(&o.steps, "steps", 16, "batches to measure on")
	cmd.Flags().IntVar(&o.small, "small", 1, "sequences in a small part; must divide the run's micro-batch")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "as one JSON object")
	return cmd
}

func analyzeNoise(ctx context.Context, o noiseOptions, stdout, stderr io.Writer) error {
	if o.steps < 1 || o.small < 1 {
		return usagef("--steps and --small: want 1 or more")
	}
	d, err := o.open(ctx, stderr)
	if err != nil {
		return err
	}
	defer d.Close()
	r := d.Config
	if int(r.Derived.MicroBatch)%o.small != 0 {
		return usagef("--small: %d: want a divisor of the micro-batch, which has %d sequences", o.small, r.Derived.MicroBatch)
	}
	console := metrics.NewConsole(stderr)
	c, err := openCorpus(ctx, r, console)
	if err != nil {
		return fmt.Errorf("the run's training data: %w", err)
	}
	defer c.Close()
	plan, _, err := c.plan(r)
	if err != nil {
		return err
	}
	head := d.head()
	head.ZLoss = r.Run.Loss.ZLoss
	d.Decoder.Remat = r.Run.Train.Remat
	program, err := train.NewProgram(mesh.One(d.Backend), d.Decoder, head, r.Run.Optimizer)
	if err != nil {
		return err
	}
	defer program.Finalize()

	steps := min(o.steps, r.Plan.Steps())
	first := min(d.Meta.Step, r.Plan.Steps()-steps)
	result := noiseResult{Checkpoint: o.checkpoint, Step: d.Meta.Step, Batches: steps}
	result.BatchTokens = r.Plan.TokensBefore(first+1) - r.Plan.TokensBefore(first)
	assembler := c.assembler(r, plan)
	assembler.Micro = o.small
	state := train.OnlyParams(d.Backend, program.Layout(), d.Weights)
	samples := map[string][]noise.Sample{}
	bar := console.Progress("gradients", steps, "batches")
	defer bar.Close()
	for step := first; step < first+steps; step++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		parts, err := assembler.Batch(step)
		if err != nil {
			return err
		}
		if len(parts) < 2 {
			return usagef("--small: %d: want less, so that a batch of %d sequences has two parts", o.small, len(parts)*o.small)
		}
		g, err := program.Gradient(state, parts)
		if err != nil {
			return err
		}
		g.Finalize()
		for group, s := range g.Noise {
			samples[group] = append(samples[group], s)
		}
		bar.Add(1)
	}
	bar.Close()
	result.summarise(samples)
	s := noiseSection(result)
	file, err := section.Write(vfs.OS, d.Dir, "noise", s, result, section.Drawing{Name: "scale", SVG: noiseChart(result)})
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "section %s\n", file)
	if o.asJSON {
		return printJSON(stdout, result)
	}
	return printSection(stdout, s)
}

// summarise takes the ratio of the means over batches, and its bootstrap interval.
func (r *noiseResult) summarise(samples map[string][]noise.Sample) {
	r.Groups = map[string]groupNoise{}
	for group, list := range samples {
		r.SmallTokens, r.BigTokens = list[0].SmallTokens, list[0].BigTokens
		var g groupNoise
		traces, grads := make([]float64, len(list)), make([]float64, len(list))
		for i, s := range list {
			traces[i], grads[i] = s.Trace(), s.Grad2()
			g.Trace += traces[i] / float64(len(list))
			g.Grad2 += grads[i] / float64(len(list))
		}
		g.Scale = metrics.Number(noise.Average{Grad2: g.Grad2, Trace: g.Trace}.Scale())
		// Where |G|² may be 0 or less the ratio has no interval.
		if grad := eval.Mean(grads).CI; grad != nil && grad.Low > 0 {
			g.CI = eval.Ratio(traces, grads)
		}
		r.Groups[group] = g
	}
}

// order has the groups by name; "all" comes first.
func (r noiseResult) order() []string { return slices.Sorted(maps.Keys(r.Groups)) }

func noiseSection(r noiseResult) section.Section {
	s := section.Section{
		Title:   fmt.Sprintf("Gradient noise after step %d", r.Step),
		Columns: []string{"parameters", "noise scale (tokens)", "95% interval", "|G|²", "tr(Σ)"},
		Notes: []string{
			fmt.Sprintf("From %d batches of %s tokens and their parts of %s (1812.06162, App. A.1); the run trains with %s tokens a step there. The interval is by bootstrap over batches; none where |G|² is not clearly above 0.", r.Batches, si(int64(r.BigTokens)), si(int64(r.SmallTokens)), si(r.BatchTokens)),
		},
	}
	for _, name := range r.order() {
		g := r.Groups[name]
		scale, interval := "-", "-"
		if !math.IsNaN(float64(g.Scale)) {
			scale = si(int64(g.Scale))
		}
		if g.CI != nil {
			interval = fmt.Sprintf("%s … %s", si(int64(g.CI.Low)), si(int64(g.CI.High)))
		}
		s.Rows = append(s.Rows, []string{name, scale, interval, fmt.Sprintf("%.3g", g.Grad2), fmt.Sprintf("%.3g", g.Trace)})
	}
	return s
}

func noiseChart(r noiseResult) string {
	c := chart.Intervals{Title: fmt.Sprintf("gradient noise scale after step %d, 95%% bootstrap intervals", r.Step), X: "tokens"}
	for _, name := range r.order() {
		g := r.Groups[name]
		row := chart.Row{Name: name, Mid: float64(g.Scale), Low: math.NaN(), High: math.NaN()}
		if g.CI != nil {
			row.Low, row.High = g.CI.Low, g.CI.High
		}
		c.Rows = append(c.Rows, row)
	}
	c.Rows = append(c.Rows, chart.Row{Name: "the run's batch", Mid: float64(r.BatchTokens), Low: math.NaN(), High: math.NaN(), Color: 7})
	return c.SVG()
}
