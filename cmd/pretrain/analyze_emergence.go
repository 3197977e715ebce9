package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"pretrain/internal/backend"
	"pretrain/internal/chart"
	"pretrain/internal/prng"
	"pretrain/internal/section"
	"pretrain/internal/vfs"
	"pretrain/model"
	"pretrain/model/generate"
	"pretrain/train/checkpoint"
	"pretrain/train/eval"
	"pretrain/train/metrics"

	"github.com/spf13/cobra"
)

// emergenceOptions are the flags of analyze emergence.
type emergenceOptions struct {
	checkpoints, data, tasks []string
	with                     []string
	all                      bool
	over                     string
	backend, precision       string
	limit, shots, maxTokens  int
	passes, draws            int
	temperature              float64
	seed                     uint64
	asJSON                   bool
}

// emergenceResult is what analyze emergence prints.
type emergenceResult struct {
	Over   string      `json:"over"`
	Task   string      `json:"task"`
	Items  int         `json:"items"`
	Passes int         `json:"passes"`
	Draws  int         `json:"draws"`
	Ladder []eval.Rung `json:"ladder"`
	Law    eval.Law    `json:"law"`
	// Drawn is how many answers were sampled in all.
	Drawn   int64   `json:"drawn"`
	Seconds float64 `json:"seconds"`
}

// Scales of a ladder.
const (
	overParams  = "params"
	overTokens  = "tokens"
	overCompute = "compute"
)

func newAnalyzeEmergence(stdout, stderr io.Writer) *cobra.Command {
	var o emergenceOptions
	cmd := &cobra.Command{
		Use: "emergence --checkpoint RUN… --data FILE", Short: "PassUntil: success rates down to 1e-5, and whether a jump is in the metric or in the model", Args: noArgs,
		Long: `Sample each model of a ladder on each item until it has passed --passes times or --draws were made (PassUntil, 2310.03262). The rate
is (r−1)/(K−1), which is unbiased; r/K, the paper's, is shown beside it. So success shows long before accuracy does.

The rates are fitted by log(−log rate) = log c − α·log N. Where they follow it while the accuracy jumps from 0, the jump is in the
metric; where they leave it upwards, in the model. It holds for abilities whose chance level is 0: items of the kinds cloze and
question (pretrain eval --help).`,
		Example: `  pretrain analyze emergence --checkpoint runs/9m --checkpoint runs/30m --checkpoint runs/70m --data gsm8k.jsonl
  pretrain analyze emergence --checkpoint runs/quickstart --all --data items.jsonl --passes 20 --draws 100000
  pretrain analyze emergence --checkpoint runs/30m --data items.jsonl --over params --with 9m.json   # sampled before, by --json`,
		RunE: func(cmd *cobra.Command, _ []string) error { return analyzeEmergence(cmd.Context(), o, stdout, stderr) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.checkpoints, "checkpoint", nil, "a model, as in pretrain eval: a `RUN`, RUN@STEP or a checkpoint's directory; may be given again")
	f.BoolVar(&o.all, "all", false, "every checkpoint that the run has kept")
	f.StringArrayVar(&o.with, "with", nil, "the JSON `FILE` of an analysis of the same items, whose models join the ladder: sampled before, or on another machine; may be given again")
	f.StringVar(&o.over, "over", "", "what the ladder climbs: params (without embeddings), tokens or compute (default params where they differ, else tokens)")
	f.StringSliceVar(&o.data, "data", nil, "`FILE` of JSON Lines, or a folder of them; may be given again")
	f.StringSliceVar(&o.tasks, "tasks", nil, "only these `TASK`s of the data")
	f.IntVar(&o.limit, "limit", 0, "only the first so many items (default all)")
	f.IntVar(&o.shots, "shots", 0, "examples before each item, of the task's dev split")
	f.IntVar(&o.maxTokens, "max-tokens", 64, "the most that the model writes to answer a question")
	f.IntVar(&o.passes, "passes", 10, "where sampling an item stops; the relative error of a rate is about one over its root")
	f.IntVar(&o.draws, "draws", 100_000, "the most draws of an item: lower rates than one over it show as 0")
	f.Float64Var(&o.temperature, "temperature", 1, "of the sampling; 1 is the model's own distribution")
	f.Uint64Var(&o.seed, "seed", 1, "of the sampling")
	f.StringVar(&o.backend, "backend", "", "as in training")
	f.StringVar(&o.precision, "precision", "", "of the arithmetic: bf16 or fp32 (default: that of the training)")
	f.BoolVar(&o.asJSON, "json", false, "as one JSON object")
	return cmd
}

// check refuses what cannot be sampled and finds the one task.
func (o *emergenceOptions) check() (eval.Task, error) {
	if len(o.checkpoints) == 0 || len(o.data) == 0 {
		return eval.Task{}, usagef("want --checkpoint, once for each model, and --data, the file of items")
	}
	if o.all && len(o.checkpoints) > 1 {
		return eval.Task{}, usagef("--all takes the checkpoints of one run: want one --checkpoint")
	}
	if o.passes < 2 || o.draws < o.passes || o.temperature <= 0 || o.maxTokens < 1 || o.limit < 0 || o.shots < 0 {
		return eval.Task{}, usagef("want --passes of 2 or more, --draws of at least as many, --temperature above 0, --max-tokens of 1 or more")
	}
	if o.over != "" && !slices.Contains([]string{overParams, overTokens, overCompute}, o.over) {
		return eval.Task{}, usagef("--over: %s: want params, tokens or compute", o.over)
	}
	tasks, err := evalOptions{data: o.data, tasks: o.tasks, limit: o.limit, execute: true}.read()
	if err != nil {
		return eval.Task{}, err
	}
	tasks = slices.DeleteFunc(tasks, func(t eval.Task) bool { return t.Kind != eval.Cloze && t.Kind != eval.Generation })
	if len(tasks) != 1 {
		return eval.Task{}, usagef("--data: %d tasks of cloze or question items: want one (choose it with --tasks)", len(tasks))
	}
	return tasks[0], nil
}

// models are the checkpoints to sample.
func (o *emergenceOptions) models(ctx context.Context, stderr io.Writer) ([]*trained, error) {
	var list []*trained
	paths := o.checkpoints
	if o.all {
		t, err := openTrained(ctx, paths[0], sayTo(stderr))
		if err != nil {
			return nil, err
		}
		store, err := checkpoint.Open(vfs.OS, filepath.Join(t.Dir, "checkpoints"), checkpoint.Options{ReadOnly: true})
		if err != nil {
			return nil, err
		}
		steps, err := store.List()
		if err != nil {
			return nil, err
		}
		paths = nil
		for _, step := range steps {
			paths = append(paths, fmt.Sprintf("%s@%d", t.Dir, step))
		}
	}
	for _, path := range paths {
		t, err := openTrained(ctx, path, sayTo(stderr))
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	if o.over == "" {
		o.over = overTokens
		for _, t := range list {
			if t.Config.Run.Model.Count().NonEmbedding != list[0].Config.Run.Model.Count().NonEmbedding {
				o.over = overParams
			}
		}
	}
	slices.SortStableFunc(list, func(a, b *trained) int { return cmp.Compare(o.scale(a), o.scale(b)) })
	return list, nil
}

// scale is a model's place on the ladder. Compute is the FLOPs of its training.
func (o *emergenceOptions) scale(t *trained) float64 {
	switch o.over {
	case overTokens:
		return float64(t.Meta.Tokens)
	case overCompute:
		return float64(t.Meta.Tokens) * t.Config.Run.Model.FLOPsPerToken().Total()
	}
	return float64(t.Config.Run.Model.Count().NonEmbedding)
}

// before are the models of earlier analyses, which must have sampled the same items and climbed the same scale. How far they sampled is
// theirs: the intervals say what it was worth.
func (o *emergenceOptions) before(task eval.Task) ([]eval.Rung, error) {
	var ladder []eval.Rung
	for _, file := range o.with {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var r emergenceResult
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("%s: %w: want what analyze emergence --json printed", file, err)
		}
		if r.Over != o.over {
			return nil, usagef("--with: %s is over %s, this one over %s", file, r.Over, o.over)
		}
		for _, rung := range r.Ladder {
			if !slices.EqualFunc(rung.Trials, task.Items, func(t eval.Trial, i eval.Item) bool { return t.ID == i.ID }) {
				return nil, usagef("--with: %s: %s was sampled on other items than those of --data", file, rung.Name)
			}
		}
		ladder = append(ladder, r.Ladder...)
	}
	return ladder, nil
}

func analyzeEmergence(ctx context.Context, o emergenceOptions, stdout, stderr io.Writer) error {
	task, err := o.check()
	if err != nil {
		return err
	}
	models, err := o.models(ctx, stderr)
	if err != nil {
		return err
	}
	r := emergenceResult{Over: o.over, Task: task.Name, Items: len(task.Items), Passes: o.passes, Draws: o.draws}
	before, err := o.before(task)
	if err != nil {
		return err
	}
	console := metrics.NewConsole(stderr)
	start := time.Now()
	var on *sampler
	defer func() { on.close() }()
	for _, t := range models {
		if on, err = o.sampler(on, t); err != nil {
			return err
		}
		name := fmt.Sprintf("%s@%d", filepath.Base(t.Dir), t.Meta.Step)
		rung, err := o.climb(ctx, on, t, task, console, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, trial := range rung.Trials {
			r.Drawn += int64(trial.Draws)
		}
		r.Ladder = append(r.Ladder, rung)
	}
	r.Ladder = append(r.Ladder, before...)
	slices.SortStableFunc(r.Ladder, func(a, b eval.Rung) int { return cmp.Compare(a.Scale, b.Scale) })
	r.Law, r.Seconds = eval.FitLaw(r.Ladder), time.Since(start).Seconds()
	s := emergenceSection(r)
	file, err := section.Write(vfs.OS, models[len(models)-1].Dir, "emergence", s, r, emergenceDrawings(r)...)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "section %s\n", file)
	if o.asJSON {
		return printJSON(stdout, r)
	}
	return printSection(stdout, s)
}

// sampler is a device with the programs of one model configuration, which all checkpoints of a run share.
type sampler struct {
	*onDevice
	gen *generate.Generator
}

func (s *sampler) close() {
	if s != nil {
		s.gen.Finalize()
		s.Close()
	}
}

// sampler opens one for a model, or keeps the one there is.
func (o *emergenceOptions) sampler(s *sampler, t *trained) (*sampler, error) {
	if s != nil && reflect.DeepEqual(s.Config.Run.Model, t.Config.Run.Model) {
		return s, nil
	}
	s.close()
	d, err := t.open(o.backend, model.Precision(o.precision), backend.Options{})
	if err != nil {
		return nil, err
	}
	gen, err := generate.New(d.Backend, d.Decoder)
	if err != nil {
		d.Close()
		return nil, err
	}
	return &sampler{d, gen}, nil
}

// climb samples one model.
func (o *emergenceOptions) climb(ctx context.Context, s *sampler, t *trained, task eval.Task, console *metrics.Console, name string) (eval.Rung, error) {
	rung := eval.Rung{Name: name, Scale: o.scale(t)}
	weights, err := t.weights(s.Backend)
	if err != nil {
		return rung, err
	}
	defer func() {
		for _, w := range weights {
			w.MustFinalizeAll()
		}
	}()
	w := eval.Writer{Generator: s.gen, Params: weights, Tokenizer: t.Tokenizer, MaxTokens: o.maxTokens}
	until := eval.PassUntil{Passes: o.passes, Draws: o.draws, Batch: s.gen.MaxBatch()}
	bar := console.Progress(name, 0, "answers")
	defer bar.Close()
	for _, item := range task.Items {
		// The key is the item's, not the model's: neighbours on the ladder share their luck.
		draw, err := w.Draws(task, item, o.shots, o.temperature, prng.New(o.seed).Split("emergence").Split(item.ID))
		if err != nil {
			return rung, err
		}
		trial, err := until.Run(ctx, item.ID, func(ctx context.Context, first, n int) ([]bool, error) {
			passed, err := draw(ctx, first, n)
			bar.Add(int64(len(passed)))
			return passed, err
		})
		if err != nil {
			return rung, err
		}
		rung.Trials = append(rung.Trials, trial)
		rung.RatioRK += trial.RatioRK() / float64(len(task.Items))
	}
	greedy, err := w.Generate(ctx, task, o.shots, nil)
	if err != nil {
		return rung, err
	}
	rung.Rate, rung.Accuracy = eval.MeanRate(rung.Trials), greedy.Metrics[eval.ExactMatch]
	return rung, nil
}

func emergenceSection(r emergenceResult) section.Section {
	s := section.Section{
		Title:   fmt.Sprintf("Emergence: %s, %d items", r.Task, r.Items),
		Columns: []string{"model", r.Over, "pass rate (r−1)/(K−1)", "95% interval", "r/K (biased)", "accuracy (greedy)", "the law's rate"},
		Notes: []string{
			"Verdict: " + r.Law.Verdict + ".",
			fmt.Sprintf("Each item was sampled until %d passes or %d draws; %s answers in %.0f s. The interval is of the sampling, for these items.", r.Passes, r.Draws, si(r.Drawn), r.Seconds),
		},
	}
	if l := r.Law; l.C > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("log(−log rate) = log %.3g − %.3g·log %s, over %d models; χ² %.3g, bend %.3g.", l.C, l.Alpha, r.Over, l.Points, l.Misfit, l.Bend))
	}
	for _, rung := range r.Ladder {
		law := "-"
		if r.Law.C > 0 {
			law = fmt.Sprintf("%.3g", r.Law.Predict(rung.Scale))
		}
		s.Rows = append(s.Rows, []string{
			rung.Name, si(int64(rung.Scale)), fmt.Sprintf("%.3g", rung.Rate.Value), fmt.Sprintf("%.2g … %.2g", rung.Rate.CI.Low, rung.Rate.CI.High),
			fmt.Sprintf("%.3g", rung.RatioRK), fmt.Sprintf("%.3g", rung.Accuracy.Value), law,
		})
	}
	return s
}

// emergenceDrawings are both curves as a usual evaluation shows them, and in the coordinates in which the law is a line.
func emergenceDrawings(r emergenceResult) []section.Drawing {
	curves := chart.Lines{Title: r.Task + ": what accuracy shows and what sampling shows", X: r.Over, Y: "share", LogX: true}
	law := chart.Lines{Title: r.Task + ": the law is a line", X: r.Over, Y: "log(−log rate)", LogX: true}
	accuracy, rate := chart.Series{Name: "accuracy (greedy)", Color: 1, Dots: true}, chart.Series{Name: "pass rate", Color: 0, Dots: true}
	logs := chart.Series{Name: "pass rate", Color: 0, Dots: true}
	points, line := chart.Series{Name: "measured", Color: 0, NoLine: true}, chart.Series{Name: "fitted", Color: 7}
	for _, rung := range r.Ladder {
		accuracy.Points = append(accuracy.Points, chart.Point{X: rung.Scale, Y: rung.Accuracy.Value})
		rate.Points = append(rate.Points, chart.Point{X: rung.Scale, Y: rung.Rate.Value, Low: rung.Rate.CI.Low, High: rung.Rate.CI.High})
		if rung.Rate.Value > 0 {
			logs.Points = append(logs.Points, chart.Point{X: rung.Scale, Y: rung.Rate.Value})
		}
		points.Points = append(points.Points, chart.Point{X: rung.Scale, Y: eval.F(rung.Rate.Value), Low: eval.F(rung.Rate.CI.High), High: eval.F(rung.Rate.CI.Low)})
		if r.Law.C > 0 {
			line.Points = append(line.Points, chart.Point{X: rung.Scale, Y: math.Log(r.Law.C) - r.Law.Alpha*math.Log(rung.Scale)})
		}
	}
	curves.Series, law.Series = []chart.Series{accuracy, rate}, []chart.Series{points, line}
	small := chart.Lines{Title: r.Task + ": the pass rate on a logarithmic scale", X: r.Over, Y: "share", LogX: true, LogY: true, Series: []chart.Series{logs}}
	return []section.Drawing{{Name: "curves", SVG: curves.SVG()}, {Name: "log", SVG: small.SVG()}, {Name: "law", SVG: law.SVG()}}
}
