package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"time"

	"pretrain/data/stats/baseline"
	"pretrain/internal/prng"
	"pretrain/internal/units"
	"pretrain/internal/vfs"
	"pretrain/model/generate"
	"pretrain/train"
	"pretrain/train/metrics"
	"pretrain/train/runs"
)

// finish ends a run that reached its last step: sample, baselines, result.json, and what there is to see and do next.
func (j *job) finish(ctx context.Context, start time.Time, asJSON bool) error {
	if err := j.run.Metrics.Flush(); err != nil {
		return err
	}
	r := &result{
		RunDir: j.dir, Step: j.run.Step, Tokens: j.run.Batches.TokensBefore(j.run.Step), TrainLoss: metrics.Number(j.run.Loop.LossEMA),
		GzipBPB: metrics.Number(math.NaN()), XZBPB: metrics.Number(math.NaN()),
	}
	last, err := j.lastValidation()
	if err != nil {
		return err
	}
	r.ValLoss, r.ValBPB, r.ValSources = last.ValLoss, last.ValBPB, last.ValSources
	if err := j.sample(ctx, j.run.State, j.run.Step); err != nil {
		return err
	}
	if sizes, err := j.baselines(ctx); err != nil {
		return err
	} else if sizes.Raw > 0 {
		r.GzipBPB, r.XZBPB = metrics.Number(sizes.GzipBPB()), metrics.Number(sizes.XZBPB())
	}
	perSecond := float64(r.Tokens) / j.run.Loop.TrainSeconds
	r.TokensPerSecond = metrics.Number(perSecond)
	r.MFU = metrics.Number(perSecond * j.decoder.FLOPsPerToken().Total() / j.peak)
	r.DataWait = metrics.Number(j.run.Loop.DataWaitSeconds / j.run.Loop.TrainSeconds)
	r.Seconds = time.Since(start).Seconds()
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(j.dir, "result.json"), append(text, '\n')); err != nil {
		return err
	}
	return j.show(r, asJSON)
}

// show prints the result: one JSON object, or a summary for people.
func (j *job) show(r *result, asJSON bool) error {
	if asJSON {
		return printJSON(j.stdout, r)
	}
	w := j.stdout
	switch {
	case math.IsNaN(float64(r.ValLoss)):
		fmt.Fprintf(w, "\nvalidation  not measured: there is no held-out text\n\n")
	case !j.config.Run.Eval.AtEnd:
		fmt.Fprintf(w, "\nvalidation  %.4f nats per token, %.3f bits per byte, of the part of the held-out text (eval.tokens)\n\n",
			float64(r.ValLoss), float64(r.ValBPB))
	case math.IsNaN(float64(r.GzipBPB)):
		fmt.Fprintf(w, "\nvalidation  %.4f nats per token\n\nbits per byte of held-out text: %.3f\n\n", float64(r.ValLoss), float64(r.ValBPB))
	default:
		fmt.Fprintf(w, "\nvalidation  %.4f nats per token\n\n", float64(r.ValLoss))
		fmt.Fprintf(w, "bits per byte of the same held-out text (less is better)\n")
		fmt.Fprintf(w, "  this model  %.3f\n  gzip -9     %.3f\n  xz -9e      %.3f\n\n", float64(r.ValBPB), float64(r.GzipBPB), float64(r.XZBPB))
	}
	fmt.Fprintf(w, "%s tokens at %s tokens/s, MFU %.0f%%, %.2g%% of the time waiting for data, %s in all\n\n", si(r.Tokens), si(int64(r.TokensPerSecond)), 100*float64(r.MFU),
		100*float64(r.DataWait), time.Duration(r.Seconds*1e9).Round(time.Second))
	fmt.Fprintf(w, "run        %s\n", r.RunDir)
	fmt.Fprintf(w, "  config.yaml, tokenizer.json, metrics.jsonl, sample.txt, train.log, result.json, checkpoints/step-%09d\n\n", r.Step)
	config := cmp.Or(j.options.config, filepath.Join(r.RunDir, "config.yaml")) // a branch was given none
	fmt.Fprintf(w, "try next\n")
	fmt.Fprintf(w, "  pretrain config explain --config %s   # what decided this run, value by value\n", config)
	if j.config.Run.Data.Path != "" {
		fmt.Fprintf(w, "  pretrain --config %s --run-dir runs/mine --set data.path=DIR   # on your own text, JSONL or Parquet\n", config)
	}
	fmt.Fprintf(w, "  pretrain --config %s --run-dir runs/cosine --set schedule.kind=cosine\n", config)
	return nil
}

// lastValidation is the last measurement in metrics.jsonl; unknown where there is none.
func (j *job) lastValidation() (metrics.Eval, error) {
	last := metrics.Eval{ValLoss: metrics.Number(math.NaN()), ValBPB: metrics.Number(math.NaN())}
	file, err := vfs.OS.Open(filepath.Join(j.dir, "metrics.jsonl"))
	if err != nil {
		return last, err
	}
	defer file.Close()
	for record, err := range metrics.Records(file) {
		if err != nil {
			return last, err
		}
		if record.Eval != nil {
			last = *record.Eval
		}
	}
	return last, nil
}

// baselines are what general compressors make of the held-out text; zero where there is none, more than one source, or a model that was
// not measured on all of it.
func (j *job) baselines(ctx context.Context) (baseline.Sizes, error) {
	if !j.config.Run.Eval.AtEnd {
		return baseline.Sizes{}, nil
	}
	for _, s := range j.corpus.sources {
		if len(j.corpus.sources) == 1 && s.heldOut != "" {
			return baseline.Measure(ctx, s.heldOut)
		}
	}
	return baseline.Sizes{}, nil
}

// sample continues the configured prompts, prints the texts and writes them to a file of the step and to sample.txt.
func (j *job) sample(ctx context.Context, s *train.State, step int64) error {
	c := j.config.Run.Sample
	if c.Tokens == 0 {
		return nil
	}
	eos := j.corpus.tokenizer.EOS() // what stands before a document in training
	key := prng.New(j.config.Run.Seed).Split("sample").SplitN(uint64(step))
	params, free, err := s.WholeParams()
	if err != nil {
		return err
	}
	defer free()
	var requests []generate.Request
	for i, prompt := range c.Prompts {
		ids, err := j.corpus.tokenizer.Encode(prompt)
		if err != nil {
			return err
		}
		requests = append(requests, generate.Request{
			Prompt: append([]uint32{eos}, ids...), MaxTokens: int(c.Tokens), Stop: []uint32{eos},
			Sampling: generate.Sampling{Temperature: c.Temperature}, Key: key.SplitN(uint64(i)),
		})
	}
	texts, err := j.sampler.Generate(ctx, params, requests)
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "--- sample after step %d, temperature %g\n", step, c.Temperature)
	for i, prompt := range c.Prompts {
		fmt.Fprintf(&text, "%s%s\n---\n", prompt, j.corpus.tokenizer.Decode(texts[i]))
	}
	j.say("%s", strings.TrimSuffix(text.String(), "\n"))
	folder := filepath.Join(j.dir, runs.SampleFolder)
	if err := vfs.MkdirAllSync(vfs.OS, folder); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(folder, runs.SampleFile(step)), []byte(text.String())); err != nil {
		return err
	}
	return writeFile(filepath.Join(j.dir, "sample.txt"), []byte(text.String()))
}

// si writes a count with three digits and a metric suffix.
func si(n int64) string { return units.Short(float64(n)) }
