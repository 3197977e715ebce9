package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"pretrain/configs"
	"pretrain/data/mix"
	"pretrain/internal/gpu"
	"pretrain/model"
	"pretrain/schedule"
	"pretrain/train"
	"pretrain/train/metrics"

	"github.com/spf13/cobra"
)

// plan is what a run will take, before it takes it.
type plan struct {
	Name string `json:"name"`
	model.Counts
	FLOPsPerToken float64     `json:"flops_per_token"`
	FLOPs         model.FLOPs `json:"flops_per_token_parts"`
	TotalFLOPs    float64     `json:"total_flops"`
	configs.Derived
	StateBytes      int64       `json:"state_bytes"`
	CheckpointBytes int64       `json:"checkpoint_bytes"` // of all that are kept at once
	Batches         []batchStep `json:"batches"`
	Phases          []phaseSpan `json:"phases"`
	Stages          []stageSpan `json:"stages"`
	// Sources is what the run takes from each of them; only with --data.
	Sources []mix.SourcePlan `json:"sources,omitempty"`
	Seconds float64          `json:"seconds,omitempty"`
	// Memory is what each device needs; only with --memory or --device.
	Memory *memoryPlan `json:"memory,omitempty"`
}

type batchStep struct {
	Step   int64 `json:"step"`
	Tokens int64 `json:"tokens"`
}

type phaseSpan struct {
	Phase string  `json:"phase"`
	From  int64   `json:"from"`
	To    int64   `json:"to"`
	LR    float64 `json:"lr"` // at its last step
}

// stageSpan is a stage of the data; its mixture is empty where it depends on the amount of data there is.
type stageSpan struct {
	Stage string             `json:"stage"`
	From  int64              `json:"from"`
	To    int64              `json:"to"`
	Mix   map[string]float64 `json:"mix"`
	words string
}

func newPlan(stdout, stderr io.Writer) *cobra.Command {
	var f configFlags
	var asJSON, withData, withMemory bool
	var speed float64
	var svg, device, spec string
	cmd := &cobra.Command{
		Use: "plan --config NAME_OR_FILE", Short: "Say what a run will take: parameters, FLOPs, steps, phases, disk, hours", Args: noArgs,
		Long: `Say what a run will take, without training and without its data being there. With --data also what each stage takes from each
source, in tokens and epochs; raw data is prepared first, where it is not yet. A source that would be read more often than its
max_epochs is an error, as it is in training. With --memory the training programs are compiled, for the devices of train.mesh, but
not run, and the compiler's account of their memory is given, with the largest micro-batch that fits; --device names another device
to fit it on.`,
		Example: `  pretrain plan --config 2b --tokens-per-second 1.2e6
  pretrain plan --config my.yaml --data
  pretrain plan --config quickstart --device 4090
  pretrain plan --config 2b --memory --backend cpu,devices=8 --set train.mesh.fsdp=8 --set batch.micro_batch=8
  pretrain plan --config quickstart --set schedule.kind=wcsd --svg DIR`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !(speed >= 0) {
				return usagef("--tokens-per-second %g: want a number above 0", speed)
			}
			load := configs.LoadWithoutFiles
			if withData {
				load = configs.Load
			}
			r, err := f.load(load)
			if err != nil {
				return err
			}
			var memory *memoryPlan
			if withMemory || device != "" {
				if memory, r, err = planMemory(r, spec, device, stderr); err != nil {
					return err
				}
			}
			p := makePlan(r, speed)
			p.Memory = memory
			if withData {
				if err := p.addData(cmd.Context(), r, stderr); err != nil {
					return err
				}
			}
			if svg != "" {
				if err := p.curves(r).write(svg); err != nil {
					return err
				}
			}
			if asJSON {
				return printJSON(stdout, p)
			}
			return p.print(stdout, r)
		},
	}
	f.add(cmd)
	cmd.Flags().Float64Var(&speed, "tokens-per-second", 0, "measured or hoped-for speed of all devices together, to give hours")
	cmd.Flags().BoolVar(&withMemory, "memory", false, "compile the training programs, and say what they take of each device's memory")
	cmd.Flags().StringVar(&device, "device", "", "with --memory, the GPU to fit it on: "+strings.Join(gpu.Keys(), ", "))
	cmd.Flags().StringVar(&spec, "backend", "", "with --memory, the backend whose compiler is asked (default: as in training)")
	cmd.Flags().StringVar(&svg, "svg", "", "also draw learning rate, batch and mixture over the run, as SVG files in this `folder`")
	cmd.Flags().BoolVar(&withData, "data", false, "open the data, and say what is taken from each source")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as one JSON object")
	return cmd
}

func makePlan(r *configs.Resolved, speed float64) plan {
	m := r.Run.Model
	if m.VocabSize == 0 { // the tokenizer's, which is not looked at here
		m.VocabSize = r.Run.Tokenizer.VocabSize
	}
	p := plan{
		Name: r.Run.Name, Counts: m.Count(), FLOPs: m.FLOPsPerToken(), Derived: r.Derived,
		StateBytes: train.NewLayout(m, r.Run.Optimizer).Bytes(),
	}
	p.FLOPsPerToken = p.FLOPs.Total()
	p.TotalFLOPs = p.FLOPsPerToken * float64(r.Derived.Tokens)
	kept := int64(r.Run.Checkpoint.Keep)
	if every := r.Run.Checkpoint.KeepEvery.Resolve(r.Plan.Steps(), r.Plan.StepAt); every > 0 {
		kept += r.Plan.Steps() / every
	}
	p.CheckpointBytes = kept * p.StateBytes
	for _, s := range r.Plan.Stages() {
		p.Batches = append(p.Batches, batchStep{s.Step, s.Sequences * r.Plan.SequenceLength()})
	}
	for _, s := range r.Schedule.Spans() {
		p.Phases = append(p.Phases, phaseSpan{string(s.Phase), s.From, s.To, r.Schedule.LR(s.To - 1)})
	}
	for _, s := range r.Stages {
		span := stageSpan{Stage: s.Name, From: s.From, To: s.To, words: s.String()}
		if !s.Open() {
			span.Mix = map[string]float64{}
			for _, part := range s.Parts {
				span.Mix[part.Sources[0]] = part.Share
			}
		}
		p.Stages = append(p.Stages, span)
	}
	if speed > 0 {
		p.Seconds = float64(r.Derived.Tokens) / speed
	}
	return p
}

// addData plans the order of the data over the run.
func (p *plan) addData(ctx context.Context, r *configs.Resolved, stderr io.Writer) error {
	c, err := openCorpus(ctx, r, metrics.NewConsole(stderr))
	if err != nil {
		return err
	}
	defer c.Close()
	order, _, err := c.plan(r)
	if err != nil {
		return err
	}
	p.Stages, p.Sources = nil, order.Usage()
	for _, s := range order.Stages() {
		p.Stages = append(p.Stages, stageSpan{s.Name, s.From, s.To, s.Mix, mixText(s.Mix)})
	}
	return nil
}

func (p plan) print(stdout io.Writer, r *configs.Resolved) error {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	row := func(key, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", key, fmt.Sprintf(format, args...)) }
	row("run", "%s", p.Name)
	row("parameters", "%d in all, %d without embeddings", p.Total, p.NonEmbedding)
	row("FLOPs a token", "%.4g: 6·N %.4g with the output projection, causal attention %.4g", p.FLOPsPerToken, p.FLOPs.Dense, p.FLOPs.Attention)
	row("FLOPs in all", "%.4g", p.TotalFLOPs)
	row("tokens", "%d in %d steps", p.Tokens, p.Steps)
	for _, b := range p.Batches {
		row("  batch", "%d tokens from step %d", b.Tokens, b.Step)
	}
	if r.Run.Batch.Tokens == schedule.Law {
		row("", "and more as the validation loss falls, up to %v: then the run has fewer steps", r.Run.Batch.Law.Max)
	}
	for _, s := range p.Phases {
		row("  "+s.Phase, "steps %d to %d, learning rate %.4g at the end", s.From, s.To, s.LR)
	}
	for _, s := range p.Stages {
		row("  data", "steps %d to %d, %s: %s", s.From, s.To, s.Stage, s.words)
	}
	for _, s := range p.Sources {
		fill := ""
		if s.Fill < 1 {
			fill = fmt.Sprintf("; %.3g%% of its rows is padding", 100*(1-s.Fill))
		}
		row("  "+s.Name, "%s tokens in %d documents; the run takes %s, %.3g epochs of at most %.3g%s", si(s.Tokens), s.Docs, si(s.Asked), s.Epochs, s.MaxEpochs, fill)
	}
	row("state", "%s: weights and optimizer in fp32", bytesText(p.StateBytes))
	if p.Memory != nil {
		p.Memory.rows(row)
	}
	row("checkpoints", "%s on disk at most", bytesText(p.CheckpointBytes))
	if p.Seconds > 0 {
		row("time", "%s", time.Duration(p.Seconds*1e9).Round(time.Second))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return p.curves(r).draw(stdout)
}

// bytesText writes a size with three digits.
func bytesText(n int64) string { return strings.Replace(si(n), "B", "G", 1) + "B" }
