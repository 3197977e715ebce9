package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"pretrain/configs"
	"pretrain/data/trace"
	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
	"pretrain/train/metrics"
	"pretrain/train/runs"
	"pretrain/train/spike"

	"github.com/spf13/cobra"
)

// inspectOptions say what of the data order to show.
type inspectOptions struct {
	configFlags
	run      string
	step     int64
	batch    int
	document string
	source   string
	asJSON   bool
}

func newDataInspect(stdout, stderr io.Writer) *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect (--run DIR | --config NAME_OR_FILE) (--step N | --document ID)",
		Short: "Show the text of a step's batch and where it came from, or the steps that see a document", Args: noArgs,
		Long: `Show what is in the batch of a step: each sequence's text with its source, file, document, attributes and epoch. Or, of a
document, all the steps of the run that it was or will be seen at.

The order of the data is computed, so nothing need have been trained: with --config it is that of a run to come, whose raw data
is prepared first where it is not yet. With --run it is the run's own, through all the configurations it has had. Steps count
from 0: step N is the update that makes checkpoint step-(N+1) of checkpoint step-N.`,
		Example: `  pretrain data inspect --run runs/quickstart --step 237
  pretrain data inspect --run runs/2b --step 41000 --device-batch 1           # its second micro-batch only
  pretrain data inspect --run runs/quickstart --document archive/tar/common.go
  pretrain data inspect --config my.yaml --set seed=2 --step 0 --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given := cmd.Flags().Changed
			switch {
			case given("run") == given("config"):
				return usagef("give --run or --config, one of them: a run's directory, or a configuration")
			case given("step") == given("document"):
				return usagef("give --step or --document, one of them")
			case given("run") && given("set"):
				return usagef("--set goes with --config: a run has its own configuration")
			case given("device-batch") && !given("step"), given("source") && !given("document"):
				return usagef("--device-batch goes with --step, --source with --document")
			}
			return inspect(cmd.Context(), o, given("step"), stdout, stderr)
		},
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.run, "run", "", "the directory of a `run`")
	cmd.Flags().Int64Var(&o.step, "step", 0, "show the batch of this step, from 0")
	cmd.Flags().IntVar(&o.batch, "device-batch", -1, "of the step, only the sequences that are on the devices at once as the `i`-th micro-batch, from 0")
	cmd.Flags().StringVar(&o.document, "document", "", "show when the documents of this `id` are seen")
	cmd.Flags().StringVar(&o.source, "source", "", "look for the document in this source only")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "as one JSON object")
	return cmd
}

func inspect(ctx context.Context, o inspectOptions, byStep bool, stdout, stderr io.Writer) error {
	r, state, err := o.order()
	if err != nil {
		return err
	}
	c, err := openCorpus(ctx, r, metrics.NewConsole(stderr))
	if err != nil {
		return err
	}
	defer c.Close()
	plan, past, err := c.plan(r)
	if err != nil {
		return err
	}
	if state.meta != nil {
		if err := sameData(*state.meta, state.dir, r, plan, past); err != nil {
			return err
		}
	}
	t := trace.Tracer{Plan: plan, Sources: map[string]trace.Source{}, Decode: c.tokenizer.Decode}
	for name, s := range c.sources {
		source := trace.Source{Corpus: s.train}
		if s.assistant {
			source.Mask = s.train
		}
		t.Sources[name] = source
	}
	if byStep {
		return inspectStep(t, r, state, o, stdout)
	}
	return inspectDocument(t, c, state, o, stdout)
}

// runState is what a run directory says beside its configuration.
type runState struct {
	meta    *checkpoint.Meta // of its newest checkpoint; nil where there is none
	dir     string
	windows spike.Windows // steps whose updates were left out
}

// order is the configuration whose order of the data is asked for, with the past that it has.
func (o *inspectOptions) order() (*configs.Resolved, runState, error) {
	if o.run == "" {
		r, err := o.load(configs.Load)
		return r, runState{}, err
	}
	dir, err := filepath.Abs(o.run)
	if err != nil {
		return nil, runState{}, err
	}
	if _, err := os.Stat(filepath.Join(dir, "config.yaml")); err != nil {
		return nil, runState{}, usagef("--run %s: want the directory of a run, which has a config.yaml: %v", o.run, err)
	}
	s := runState{dir: dir}
	if s.windows, err = spike.ReadWindows(vfs.OS, filepath.Join(dir, "spikes")); err != nil {
		return nil, s, err
	}
	if meta, ok := newestMeta(dir); ok {
		s.meta, s.windows = &meta, append(s.windows, meta.Loop.Spikes.Windows...)
		r, err := pastOf(meta)
		return r, s, err
	}
	draft, err := configs.Read(filepath.Join(dir, "config.yaml"), nil)
	if err != nil {
		return nil, s, err
	}
	id, err := runs.ReadIdentity(vfs.OS, dir)
	if err != nil {
		return nil, s, err
	}
	if id == nil || id.Parent == nil {
		r, err := draft.Resolve(nil)
		return r, s, err
	}
	store, err := checkpoint.Open(vfs.OS, filepath.Join(runs.ParentDir(dir, *id.Parent), "checkpoints"), checkpoint.Options{ReadOnly: true})
	if err != nil {
		return nil, s, err
	}
	trunk, err := store.Meta(id.Parent.Step)
	if err != nil {
		return nil, s, fmt.Errorf("the trunk's checkpoint, which this run begins with: %w", err)
	}
	old, err := pastOf(trunk)
	if err != nil {
		return nil, s, err
	}
	r, err := follow(draft, old, trunk.Step)
	return r, s, err
}

// done is the number of steps the run has made, -1 where there is no run.
func (s runState) done() int64 {
	if s.meta == nil {
		return -1
	}
	return s.meta.Step
}

// inspectedStep is what --json prints of a step.
type inspectedStep struct {
	Step      int64            `json:"step"`
	Stage     string           `json:"stage"`
	SeqLen    int              `json:"seq_len"`
	InBatch   int              `json:"sequences_in_batch"`
	Micro     int              `json:"sequences_in_device_batch"`
	LeftOut   bool             `json:"left_out,omitempty"`
	Sequences []trace.Sequence `json:"sequences"`
}

func inspectStep(t trace.Tracer, r *configs.Resolved, state runState, o inspectOptions, stdout io.Writer) error {
	if o.step < 0 || o.step >= r.Plan.Steps() {
		return usagef("--step %d: the run has steps 0 to %d", o.step, r.Plan.Steps()-1)
	}
	s := inspectedStep{Step: o.step, Stage: t.Plan.StageAt(o.step).Name}
	s.InBatch, s.SeqLen = t.Plan.SequencesAt(o.step)
	s.Micro = int(r.Derived.MicroBatch) * t.Plan.PerRow(o.step)
	_, s.LeftOut = state.windows.At(o.step)
	from, n := 0, s.InBatch
	if o.batch != -1 {
		if from, n = o.batch*s.Micro, s.Micro; o.batch < 0 || from >= s.InBatch {
			return usagef("--device-batch %d: step %d has %d of them, from 0: %d sequences, %d at a time", o.batch, o.step, s.InBatch/s.Micro, s.InBatch, s.Micro)
		}
	}
	var err error
	if s.Sequences, err = t.Sequences(o.step, from, n); err != nil {
		return err
	}
	if o.asJSON {
		return printJSON(stdout, s)
	}
	return s.print(stdout)
}

func (s inspectedStep) print(w io.Writer) error {
	note := ""
	if s.LeftOut {
		note = ". Its update was left out: a spike"
	}
	fmt.Fprintf(w, "step %d, stage %q: %d sequences of %d tokens, %d on the devices at once%s\n", s.Step, s.Stage, s.InBatch, s.SeqLen, s.Micro, note)
	for _, q := range s.Sequences {
		fmt.Fprintf(w, "\n=== sequence %d (device batch %d): source %s, epoch %d, %d tokens\n", q.Index, q.Index/s.Micro, q.Source, q.Epoch, q.Tokens)
		for _, p := range q.Pieces {
			counted := ""
			if p.Counted < p.Length {
				counted = fmt.Sprintf(", %d of them targets", p.Counted)
			}
			fmt.Fprintf(w, "--- %s: tokens %d to %d of %d%s\n%s\n", place(p.Document), p.Offset, p.Offset+p.Length, p.Tokens, counted, p.Text)
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

// place is where a document comes from and what is known about it, in a line.
func place(d trace.Document) string {
	s := fmt.Sprintf("document %d", d.Number)
	if d.ID != "" {
		s = d.ID
	}
	if d.Path != "" && d.Path != d.ID {
		s += " in " + d.Path
	}
	if d.Line > 0 {
		s += fmt.Sprintf(" line %d", d.Line)
	}
	if known, err := json.Marshal(d.Attributes); err == nil && string(known) != "{}" {
		s += " " + string(known)
	}
	return s
}

// inspectedDocuments is what --json prints of an id.
type inspectedDocuments struct {
	Document string              `json:"document"`
	Done     int64               `json:"steps_done"` // of the run; -1 where nothing is trained
	Steps    int64               `json:"steps"`
	Found    []trace.Occurrences `json:"found"`
	HeldOut  []string            `json:"held_out,omitempty"` // sources that have it in their validation text
}

func inspectDocument(t trace.Tracer, c *corpus, state runState, o inspectOptions, stdout io.Writer) error {
	if _, ok := c.sources[o.source]; o.source != "" && !ok {
		return usagef("--source %s: the sources are %s", o.source, strings.Join(t.Plan.Sources(), ", "))
	}
	d := inspectedDocuments{Document: o.document, Done: state.done()}
	stages := t.Plan.Stages()
	d.Steps = stages[len(stages)-1].To
	var err error
	if d.Found, err = t.Find(o.document, o.source); err != nil {
		return err
	}
	for _, name := range t.Plan.Sources() {
		held := c.sources[name].validation
		if held == nil || !held.HasDocs() || o.source != "" && name != o.source {
			continue
		}
		if numbers, err := held.Lookup(o.document); err != nil {
			return err
		} else if len(numbers) > 0 {
			d.HeldOut = append(d.HeldOut, name)
		}
	}
	if len(d.Found) == 0 && len(d.HeldOut) == 0 {
		return fmt.Errorf("no document has the id %q: want a record's id, or FILE or FILE:LINE where it has none, as `data inspect --step` prints them; a document that was left out when the data was prepared is in no source", o.document)
	}
	if o.asJSON {
		return printJSON(stdout, d)
	}
	return d.print(stdout)
}

func (d inspectedDocuments) print(w io.Writer) error {
	for _, name := range d.HeldOut {
		fmt.Fprintf(w, "%s is held out of source %s for validation: no step sees it\n", d.Document, name)
	}
	for _, f := range d.Found {
		fmt.Fprintf(w, "source %s, %s: %d tokens, in %d sequences of the run's %d steps\n", f.Source, place(f.Document), f.Tokens, len(f.Seen), d.Steps)
		for _, at := range f.Seen {
			when := "to come"
			if at.Step < d.Done {
				when = "seen"
			}
			fmt.Fprintf(w, "  step %d, sequence %d: tokens %d to %d, epoch %d, %s\n", at.Step, at.Index, at.Segment.Offset, at.Segment.Offset+at.Segment.Len, at.Epoch, when)
		}
	}
	return nil
}
