package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pretrain/data/read"
	"pretrain/internal/backend"
	"pretrain/internal/section"
	"pretrain/internal/vfs"
	"pretrain/model"
	"pretrain/model/generate"
	"pretrain/train/eval"
	"pretrain/train/loss"
	"pretrain/train/mesh"
	"pretrain/train/metrics"

	"github.com/spf13/cobra"
)

// evalOptions are the flags of pretrain eval.
type evalOptions struct {
	modelFlags
	data, tasks    []string
	shots, limit   int
	stride, tokens int64
	maxTokens      int
	execute        bool
	out            string
	asJSON         bool
}

// modelFlags choose a trained model and where it runs.
type modelFlags struct {
	checkpoint, backend, precision string
}

func (f *modelFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.checkpoint, "checkpoint", "", "the model: a run's `directory` (its newest checkpoint), RUN@STEP, or a checkpoint's directory")
	cmd.Flags().StringVar(&f.backend, "backend", "", "as in training")
	cmd.Flags().StringVar(&f.precision, "precision", "", "of the arithmetic: bf16 or fp32 (default: that of the training)")
}

// open reads the model and puts it on a device.
func (f *modelFlags) open(ctx context.Context, stderr io.Writer) (*onDevice, error) {
	if f.checkpoint == "" {
		return nil, usagef("--checkpoint is missing: give a run's directory, such as runs/quickstart")
	}
	if p := model.Precision(f.precision); p != "" && p != model.BF16 && p != model.FP32 {
		return nil, usagef("--precision: %s: want bf16 or fp32", f.precision)
	}
	t, err := openTrained(ctx, f.checkpoint, sayTo(stderr))
	if err != nil {
		return nil, err
	}
	d, err := t.open(f.backend, model.Precision(f.precision), backend.Options{})
	if err != nil {
		return nil, err
	}
	for _, w := range d.Device.Warnings {
		fmt.Fprintf(stderr, "warning: %s: %s\n", w.What, w.Mend)
	}
	return d, nil
}

// sayTo writes lines.
func sayTo(w io.Writer) func(format string, args ...any) {
	return func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
}

// head is the end of the model, as the training had it but for the z-loss, which is no measurement.
func (d *onDevice) head() loss.Head {
	r := d.Config.Run
	return loss.Head{Numerics: d.Decoder.Numerics, SoftCap: r.Model.LogitSoftCap, ChunkTokens: r.Loss.ChunkTokens}
}

// peak is the device's FLOP/s, measured where no table has it.
func (d *onDevice) peak() (float64, error) {
	if p := d.Device.Devices[0].PeakFLOPS; p > 0 {
		return p, nil
	}
	return backend.MeasurePeak(d.Backend)
}

func newEval(stdout, stderr io.Writer) *cobra.Command {
	var o evalOptions
	cmd := &cobra.Command{
		Use: "eval --checkpoint RUN", Short: "Measure a model: bits per byte by source, choice and cloze tasks", Args: noArgs,
		Long: `Measure a trained model.

Texts: the loss and bits per byte of those in --data or, where it has none, of the held-out text of each source of the run
(--tokens N: of a part of it). And the tasks in --data. The intervals are 95%, by bootstrap over documents or items.

--data takes JSON Lines (also .gz, .zst), or a folder of such files. What a line is, its fields say:
  {"text"}                            a text: nats per token, bits per byte
  {"query", "choices", "gold"}        a choice by log-likelihood: acc (its sum), acc_norm (per character)
  {"context", "target"}               a cloze: acc is 1 where greedy decoding gives the target
  {"context", "target", "solution"}   a question: exact_match is 1 where the answer in the text that the model writes, after ####
                                      or in \boxed{}, else the last number, is the target
  {"prompt", "test", "entry_point"}   code (HumanEval): pass@1 is 1 where what the model writes passes the test. Only with
                                      --allow-code-execution: it is run, in a sandbox with limits of time and memory
"id" names an item, "task" its task (default: the file's name), "subject" a part of it; items with "split": "dev" are the
examples that --shots shows before others of their subject.

The report, with a record for each document and item, is written to RUN/eval/step-….json, for pretrain eval compare; a table
of it for the run's report to RUN/analysis.`,
		Example: `  pretrain eval --checkpoint runs/quickstart
  pretrain eval --checkpoint runs/quickstart@500 --stride 128           # sliding windows: each token sees 128 or more before it
  pretrain eval --checkpoint runs/mine --data evalsets --tasks piqa,arc_easy,lambada_openai --limit 500
  pretrain eval --checkpoint runs/mine --data mmlu.jsonl --shots 5 --json
  pretrain eval --checkpoint runs/mine --data gsm8k.jsonl --max-tokens 200
  pretrain eval --checkpoint runs/mine --data humaneval.jsonl --allow-code-execution
  pretrain eval compare runs/a/eval/step-000000635.json runs/b/eval/step-000000635.json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return evaluate(cmd.Context(), o, stdout, stderr)
		},
	}
	o.add(cmd)
	cmd.Flags().StringSliceVar(&o.data, "data", nil, "`FILE` of JSON Lines, or a folder of them; may be given again")
	cmd.Flags().StringSliceVar(&o.tasks, "tasks", nil, "only these `TASK`s of the data")
	cmd.Flags().IntVar(&o.shots, "shots", 0, "examples before each item, of the task's dev split")
	cmd.Flags().IntVar(&o.limit, "limit", 0, "only the first so many items of each task (default all)")
	cmd.Flags().Int64Var(&o.stride, "stride", 0, "tokens from one window to the next (default the model's window: side by side)")
	cmd.Flags().Int64Var(&o.tokens, "tokens", 0, "of held-out text to measure in each source, spread over it (default all)")
	cmd.Flags().IntVar(&o.maxTokens, "max-tokens", 256, "the most that the model writes to answer a question or to program")
	cmd.Flags().BoolVar(&o.execute, "allow-code-execution", false, "run the programs that the model writes, in a sandbox (Linux)")
	cmd.Flags().StringVar(&o.out, "out", "", "where the report goes, a `FILE` (default RUN/eval/step-….json)")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "end with one JSON object on stdout: loss, bpb, tokens, bytes, sources, tasks, …")
	cmd.AddCommand(newEvalCompare(stdout))
	return cmd
}

// evaluation is a model being measured.
type evaluation struct {
	evalOptions
	*onDevice
	console *metrics.Console
	report  eval.Report
}

func evaluate(ctx context.Context, o evalOptions, stdout, stderr io.Writer) error {
	if o.shots < 0 || o.limit < 0 || o.stride < 0 || o.tokens < 0 || o.maxTokens < 1 {
		return usagef("--shots, --limit, --stride and --tokens: want 0 or more, and of --max-tokens 1 or more")
	}
	tasks, err := o.read() // before the model: mistakes show at once
	if err != nil {
		return err
	}
	d, err := o.open(ctx, stderr)
	if err != nil {
		return err
	}
	defer d.Close()
	if o.stride > int64(d.Decoder.MaxSeqLen) {
		return usagef("--stride: %d: want at most %d, the model's window", o.stride, d.Decoder.MaxSeqLen)
	}
	peak, err := d.peak()
	if err != nil {
		return err
	}
	e := &evaluation{evalOptions: o, onDevice: d, console: metrics.NewConsole(stderr), report: eval.Report{
		Checkpoint: o.checkpoint, Step: d.Meta.Step, TrainTokens: d.Meta.Tokens, Stride: int(o.stride), Sources: eval.Sources{},
	}}
	if e.report.Stride == 0 {
		e.report.Stride = d.Decoder.MaxSeqLen
	}
	sets, closeSets, err := e.sets(ctx, tasks)
	if err != nil {
		return err
	}
	defer closeSets()

	start := time.Now()
	if err := e.measureText(ctx, sets); err != nil {
		return err
	}
	if err := e.measureTasks(ctx, tasks); err != nil {
		return err
	}
	r := &e.report
	r.Seconds = time.Since(start).Seconds()
	r.TokensPerSecond = float64(r.Scored) / r.Seconds
	r.MFU = r.TokensPerSecond * d.Decoder.FLOPsPerToken().Total() / 3 / peak // a third of training's is forward
	return e.finish(stdout, stderr)
}

// read reads the items of the data, task by task.
func (o evalOptions) read() ([]eval.Task, error) {
	var items []eval.Item
	files, err := o.files()
	if err != nil {
		return nil, err
	}
	for _, path := range files {
		name, _, _ := strings.Cut(filepath.Base(path), ".")
		list, err := readItems(path, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(list) == 0 {
			return nil, usagef("--data: %s holds no items", path)
		}
		items = append(items, list...)
	}
	tasks, err := eval.Group(items)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, t := range tasks {
		names = append(names, t.Name)
	}
	for _, name := range o.tasks {
		if !slices.Contains(names, name) {
			if len(names) == 0 {
				return nil, usagef("--tasks: %s: want --data with it, the files that hold the tasks", name)
			}
			return nil, usagef("--tasks: %s: not in the data, which has %s", name, strings.Join(names, ", "))
		}
	}
	tasks = slices.DeleteFunc(tasks, func(t eval.Task) bool { return len(o.tasks) > 0 && !slices.Contains(o.tasks, t.Name) })
	for i := range tasks {
		if tasks[i].Kind == eval.Code && !o.execute {
			return nil, usagef("task %s runs programs that the model writes: want --allow-code-execution with it, or other tasks with --tasks", tasks[i].Name)
		}
		if o.limit > 0 && len(tasks[i].Items) > o.limit {
			tasks[i].Items = tasks[i].Items[:o.limit]
		}
	}
	return tasks, nil
}

// files are those of --data, of a folder all that hold JSON Lines.
func (o evalOptions) files() ([]string, error) {
	var files []string
	for _, path := range o.data {
		info, err := os.Stat(path)
		if err != nil {
			return nil, usagef("--data: %s: no such file or folder", path)
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		before := len(files)
		for _, e := range entries {
			if base := strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".zst"), ".gz"); strings.HasSuffix(base, ".jsonl") {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
		if len(files) == before {
			return nil, usagef("--data: %s holds no .jsonl, .jsonl.gz or .jsonl.zst", path)
		}
	}
	return files, nil
}

func readItems(path, name string) ([]eval.Item, error) {
	f, err := read.OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return eval.ReadItems(f, name)
}

// sets are the texts to measure: those of the data, else the run's own held-out text.
func (e *evaluation) sets(ctx context.Context, tasks []eval.Task) (map[string]eval.Set, func(), error) {
	sets := map[string]eval.Set{}
	for _, t := range tasks {
		if t.Kind != eval.Text {
			continue
		}
		set, err := eval.TextSet(ctx, e.Tokenizer, t)
		if err != nil {
			return nil, nil, err
		}
		set.TokenBytes = tokenBytes(e.Tokenizer, e.Decoder.VocabSize)
		sets[t.Name] = set
	}
	if len(sets) > 0 {
		return sets, func() {}, nil
	}
	c, err := openCorpus(ctx, e.Config, e.console)
	if err != nil {
		return nil, nil, fmt.Errorf("the run's own held-out text, which is measured where --data has no text: %w", err)
	}
	if c.tokenizer.Hash() != e.Tokenizer.Hash() {
		c.Close()
		return nil, nil, fmt.Errorf("the data of %s is now another than it was trained on: give text to measure with --data", e.Dir)
	}
	return c.validation(e.Decoder.Config), c.Close, nil
}

func (e *evaluation) measureText(ctx context.Context, sets map[string]eval.Set) error {
	ev, err := eval.New(mesh.One(e.Backend), e.Decoder, e.head(), int(e.Config.Derived.MicroBatch))
	if err != nil {
		return err
	}
	defer ev.Finalize()
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		set := sets[name]
		set.Stride = int(e.stride)
		total := set.Corpus.Offset(set.Corpus.Docs())
		if e.tokens > 0 {
			total = min(total, e.tokens)
		}
		bar := e.console.Progress(name, total, "tokens")
		r, err := ev.Validate(ctx, e.Weights, set, e.tokens, bar.Add)
		bar.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		e.report.Sources[name] = r
		e.report.Scored += r.Tokens * int64(e.Decoder.MaxSeqLen) / int64(e.report.Stride)
	}
	e.report.Result = e.report.Sources.Total()
	return nil
}

func (e *evaluation) measureTasks(ctx context.Context, tasks []eval.Task) error {
	scorer, err := eval.NewScorer(e.Backend, e.Decoder, e.head(), int(e.Config.Derived.MicroBatch)*e.Decoder.MaxSeqLen)
	if err != nil {
		return err
	}
	defer scorer.Finalize()
	gen, err := generate.New(e.Backend, e.Decoder)
	if err != nil {
		return err
	}
	defer gen.Finalize()
	writer := eval.Writer{Generator: gen, Params: e.Weights, Tokenizer: e.Tokenizer, MaxTokens: e.maxTokens}
	for _, t := range tasks {
		var r eval.TaskResult
		bar := stageBars{console: e.console}
		unit := metrics.Unit("tokens")
		show := func(done, total int64) { bar.show(t.Name, done, total, unit) }
		switch t.Kind {
		case eval.Choice, eval.Cloze:
			r, err = scorer.Likelihood(ctx, e.Weights, e.Tokenizer, t, e.shots, show)
			e.report.Scored += bar.done
		case eval.Generation, eval.Code:
			unit = "items"
			r, err = writer.Generate(ctx, t, e.shots, show)
		default:
			continue
		}
		bar.close()
		if err != nil {
			return err
		}
		e.report.Tasks = append(e.report.Tasks, r)
	}
	return nil
}

// finish writes the report and shows it.
func (e *evaluation) finish(stdout, stderr io.Writer) error {
	r := e.report
	path := e.out
	if path == "" {
		path = filepath.Join(e.Dir, "eval", fmt.Sprintf("step-%09d.json", r.Step))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make the folder of reports (choose another file with --out): %w", err)
		}
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := writeFile(path, append(text, '\n')); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	s := evalSection(r)
	file, err := section.Write(vfs.OS, e.Dir, fmt.Sprintf("eval-%d", r.Step), s, r.Summary(), section.Drawing{Name: "intervals", SVG: evalChart(r)})
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "report %s, section %s\n", path, file)
	if e.asJSON {
		return printJSON(stdout, r.Summary())
	}
	return printSection(stdout, s)
}
