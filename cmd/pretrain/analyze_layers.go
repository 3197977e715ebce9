package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"pretrain/internal/chart"
	"pretrain/internal/section"
	"pretrain/internal/vfs"
	"pretrain/model/analyze"
	"pretrain/train/checkpoint"
	"pretrain/train/eval"
	"pretrain/train/mesh"
	"pretrain/train/metrics"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/spf13/cobra"
)

// layersOptions are the flags of analyze layers.
type layersOptions struct {
	modelFlags
	tokens       int64
	all, without bool
	asJSON       bool
}

// layersResult is what analyze layers prints.
type layersResult struct {
	Checkpoint string `json:"checkpoint"`
	Step       int64  `json:"step"`
	analyze.Report
	// Loss is that of the tokens measured, LossWithout the same with one layer passing its input on, in nats per token.
	Loss        float64   `json:"loss"`
	LossWithout []float64 `json:"loss_without,omitempty"`
	// Saturation has the mean cosine of each layer at each checkpoint of the run.
	Saturation []saturation `json:"saturation,omitempty"`
}

type saturation struct {
	Step    int64     `json:"step"`
	Tokens  int64     `json:"tokens"`
	Loss    float64   `json:"loss"`
	Cosines []float64 `json:"cosines"`
}

func newAnalyzeLayers(stdout, stderr io.Writer) *cobra.Command {
	var o layersOptions
	cmd := &cobra.Command{
		Use: "layers --checkpoint RUN", Short: "How much each layer turns the residual stream: cosine, influence, angles, rank", Args: noArgs,
		Long: `Measure, on the run's held-out text, the cosine between each layer's input and output in the residual stream, token by token, and
the same for attention and feed-forward. 1 minus its mean is the layer's influence (ShortGPT's block influence).

A cosine near 1 does not make a layer useless. The stream grows with depth, so the same output turns it less; several layers may do
the work of one together; and easy tokens leave late layers idle. Read the split by difficulty, and --without, which takes each
layer out and measures the loss.`,
		Example: `  pretrain analyze layers --checkpoint runs/quickstart
  pretrain analyze layers --checkpoint runs/quickstart --without --all     # the loss without each layer; every checkpoint of the run`,
		RunE: func(cmd *cobra.Command, _ []string) error { return analyzeLayers(cmd.Context(), o, stdout, stderr) },
	}
	o.add(cmd)
	cmd.Flags().Int64Var(&o.tokens, "tokens", 32768, "of held-out text to measure, spread over it; 0 is all")
	cmd.Flags().BoolVar(&o.all, "all", false, "measure every checkpoint of the run, too: how the layers' cosines settle")
	cmd.Flags().BoolVar(&o.without, "without", false, "measure the loss without each layer")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "as one JSON object")
	return cmd
}

// layersRun is one analysis of layers being made.
type layersRun struct {
	*onDevice
	options layersOptions
	console *metrics.Console
	set     eval.Set
	nats    *eval.Evaluator
	layers  *analyze.Layers
}

func analyzeLayers(ctx context.Context, o layersOptions, stdout, stderr io.Writer) error {
	if o.tokens < 0 {
		return usagef("--tokens: %d: want 0 or more", o.tokens)
	}
	d, err := o.open(ctx, stderr)
	if err != nil {
		return err
	}
	defer d.Close()
	console := metrics.NewConsole(stderr)
	c, err := openCorpus(ctx, d.Config, console)
	if err != nil {
		return fmt.Errorf("the run's held-out text: %w", err)
	}
	defer c.Close()
	a := &layersRun{onDevice: d, options: o, console: console}
	sets := c.validation(d.Decoder.Config)
	names := slices.Sorted(maps.Keys(sets))
	if len(names) == 0 {
		return errors.New("the run has no held-out text to measure on")
	}
	a.set = sets[names[0]]
	if len(names) > 1 {
		fmt.Fprintf(stderr, "measuring on source %s, the first of %s\n", names[0], strings.Join(names, ", "))
	}
	if a.nats, err = eval.New(mesh.One(d.Backend), d.Decoder, d.head(), int(d.Config.Derived.MicroBatch)); err != nil {
		return err
	}
	defer a.nats.Finalize()
	if a.layers, err = analyze.NewLayers(d.Backend, d.Decoder); err != nil {
		return err
	}
	defer a.layers.Finalize()

	r := layersResult{Checkpoint: o.checkpoint, Step: d.Meta.Step}
	if r.Report, r.Loss, err = a.measure(ctx, d.Weights, fmt.Sprintf("step %d", d.Meta.Step)); err != nil {
		return err
	}
	if o.without {
		if r.LossWithout, err = a.without(ctx); err != nil {
			return err
		}
	}
	if o.all {
		if r.Saturation, err = a.everyCheckpoint(ctx); err != nil {
			return err
		}
	}
	s := layersSection(r)
	file, err := section.Write(vfs.OS, d.Dir, "layers", s, r, layersDrawings(r)...)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "section %s\n", file)
	if o.asJSON {
		return printJSON(stdout, r)
	}
	return printSection(stdout, s)
}

// measure runs the text through the model with the given weights.
func (a *layersRun) measure(ctx context.Context, weights []*tensors.Tensor, what string) (report analyze.Report, loss float64, err error) {
	a.layers.Reset()
	bar := a.console.Progress("layers, "+what, a.total(), "tokens")
	defer bar.Close()
	nats, n := 0.0, 0
	for b, err := range a.set.Batches(ctx, int(a.Config.Derived.MicroBatch), a.Decoder.MaxSeqLen, a.options.tokens) {
		if err != nil {
			return report, 0, err
		}
		in := analyze.Batch{Sequences: b.Sequences, SeqLen: b.SeqLen, Segments: b.Segments, Positions: b.Positions}
		if in.Nats, err = a.nats.Nats(weights, b.Batch); err != nil {
			return report, 0, err
		}
		done := 0
		for i, w := range b.Weights {
			in.Tokens = append(in.Tokens, b.Tokens[i+i/b.SeqLen])
			in.Counted = append(in.Counted, w > 0)
			if w > 0 {
				nats, done = nats+float64(in.Nats[i]), done+1
			}
		}
		if err := a.layers.Add(weights, in); err != nil {
			return report, 0, err
		}
		n += done
		bar.Add(int64(done))
	}
	return a.layers.Report(), nats / float64(n), nil
}

func (a *layersRun) total() int64 {
	total := a.set.Corpus.Offset(a.set.Corpus.Docs())
	if a.options.tokens > 0 {
		total = min(total, a.options.tokens)
	}
	return total
}

// without is the loss with each layer passing its input on: the matrices that write to the stream are zero.
func (a *layersRun) without(ctx context.Context) ([]float64, error) {
	var losses []float64
	for layer := range a.Decoder.NumLayers {
		weights := slices.Clone(a.Weights)
		for i, p := range a.Decoder.Params() {
			if p.Name == fmt.Sprintf("layer.%d.wo", layer) || p.Name == fmt.Sprintf("layer.%d.w_down", layer) {
				weights[i] = tensors.FromShape(weights[i].Shape())
			}
		}
		bar := a.console.Progress(fmt.Sprintf("loss without layer %d", layer), a.total(), "tokens")
		r, err := a.nats.Validate(ctx, weights, a.set, a.options.tokens, bar.Add)
		bar.Close()
		if err != nil {
			return nil, err
		}
		losses = append(losses, r.Loss)
	}
	return losses, nil
}

// everyCheckpoint measures all checkpoints that the run has kept.
func (a *layersRun) everyCheckpoint(ctx context.Context) ([]saturation, error) {
	store, err := checkpoint.Open(vfs.OS, filepath.Join(a.Dir, "checkpoints"), checkpoint.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	steps, err := store.List()
	if err != nil {
		return nil, err
	}
	var list []saturation
	for _, step := range steps {
		t, err := openTrained(ctx, fmt.Sprintf("%s@%d", a.Dir, step), sayTo(io.Discard))
		if err != nil {
			return nil, err
		}
		weights, err := t.weights(a.Backend)
		if err != nil {
			return nil, err
		}
		report, loss, err := a.measure(ctx, weights, fmt.Sprintf("step %d", step))
		for _, w := range weights {
			w.MustFinalizeAll()
		}
		if err != nil {
			return nil, err
		}
		s := saturation{Step: step, Tokens: t.Meta.Tokens, Loss: loss}
		for _, l := range report.Layers {
			s.Cosines = append(s.Cosines, l.Cosine.Mean)
		}
		list = append(list, s)
	}
	return list, nil
}

func layersSection(r layersResult) section.Section {
	s := section.Section{
		Title:   fmt.Sprintf("Layers after step %d", r.Step),
		Columns: []string{"layer", "influence", "cos", "1%", "10%", "50%", "90%", "attention", "feed-forward", "easy → hard", "rms in", "rank in"},
		Notes: []string{
			fmt.Sprintf("cos: between a layer's input and output in the residual stream, token by token, over %d tokens of held-out text (loss %.4f); influence: 1 − its mean. Easy → hard: mean cos on quarters of the tokens by the loss of their prediction. Rank: effective rank of the layer's input.", r.Tokens, r.Loss),
			"A cosine near 1 does not make a layer useless: the stream grows with depth, layers can share one job, and easy tokens leave late layers idle. The split by difficulty and the loss without a layer say more.",
		},
	}
	if r.LossWithout != nil {
		s.Columns = append(s.Columns, "loss without")
	}
	for i, l := range r.Layers {
		row := []string{fmt.Sprint(i)}
		for _, v := range []float64{l.Influence, l.Cosine.Mean, l.Cosine.Q01, l.Cosine.Q10, l.Cosine.Q50, l.Cosine.Q90, l.Attention.Mean, l.FeedForward.Mean} {
			row = append(row, fmt.Sprintf("%.3f", v))
		}
		var hard []string
		for _, v := range l.ByDifficulty {
			hard = append(hard, fmt.Sprintf("%.3f", v))
		}
		row = append(row, strings.Join(hard, " "), fmt.Sprintf("%.3g", r.Points[i].RMS), fmt.Sprintf("%.1f", r.Points[i].EffectiveRank))
		if r.LossWithout != nil {
			row = append(row, fmt.Sprintf("%.4f", r.LossWithout[i]))
		}
		s.Rows = append(s.Rows, row)
	}
	return s
}

func layersDrawings(r layersResult) []section.Drawing {
	title := fmt.Sprintf(" after step %d", r.Step)
	cosine := chart.Lines{Title: "cosine between a layer's input and output" + title, X: "layer", Y: "cosine"}
	for i, q := range []struct {
		name string
		of   func(analyze.Stats) float64
	}{
		{"mean", func(s analyze.Stats) float64 { return s.Mean }}, {"1%", func(s analyze.Stats) float64 { return s.Q01 }},
		{"5%", func(s analyze.Stats) float64 { return s.Q05 }}, {"10%", func(s analyze.Stats) float64 { return s.Q10 }},
		{"50%", func(s analyze.Stats) float64 { return s.Q50 }}, {"90%", func(s analyze.Stats) float64 { return s.Q90 }},
	} {
		series := chart.Series{Name: q.name, Color: i, Dots: i == 0}
		for l, layer := range r.Layers {
			series.Points = append(series.Points, chart.Point{X: float64(l), Y: q.of(layer.Cosine)})
		}
		cosine.Series = append(cosine.Series, series)
	}
	difficulty := chart.Lines{Title: "the same by difficulty" + title, X: "layer", Y: "mean cosine"}
	for part, bound := range r.Bins.Difficulty {
		series := chart.Series{Name: fmt.Sprintf("loss up to %.2f nats", bound), Color: part, Dots: true}
		for l, layer := range r.Layers {
			series.Points = append(series.Points, chart.Point{X: float64(l), Y: layer.ByDifficulty[part]})
		}
		difficulty.Series = append(difficulty.Series, series)
	}
	angular := chart.Lines{Title: "angular distance between layers l and l+n" + title, X: "layer l", Y: "arccos(cos)/π"}
	for n := 1; n < len(r.Points); n++ {
		series := chart.Series{Name: fmt.Sprintf("n = %d", n), Color: n - 1, Dots: true}
		for l := 0; l+n < len(r.Points); l++ {
			series.Points = append(series.Points, chart.Point{X: float64(l), Y: r.Angular[l][l+n]})
		}
		angular.Series = append(angular.Series, series)
	}
	list := []section.Drawing{{Name: "cosine", SVG: cosine.SVG()}, {Name: "difficulty", SVG: difficulty.SVG()}, {Name: "angular", SVG: angular.SVG()}}
	if len(r.Saturation) > 1 {
		c := chart.Lines{Title: "mean cosine of each layer over the run", X: "tokens", Y: "mean cosine"}
		for l := range r.Layers {
			series := chart.Series{Name: fmt.Sprintf("layer %d", l), Color: l, Dots: true}
			for _, s := range r.Saturation {
				series.Points = append(series.Points, chart.Point{X: float64(s.Tokens), Y: s.Cosines[l]})
			}
			c.Series = append(c.Series, series)
		}
		list = append(list, section.Drawing{Name: "saturation", SVG: c.SVG()})
	}
	return list
}
