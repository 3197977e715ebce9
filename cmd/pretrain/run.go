package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"pretrain/configs"
	"pretrain/data/mix"
	"pretrain/internal/atomicfile"
	"pretrain/internal/backend"
	"pretrain/internal/prng"
	"pretrain/internal/vfs"
	"pretrain/model"
	"pretrain/model/generate"
	"pretrain/schedule"
	"pretrain/train"
	"pretrain/train/checkpoint"
	"pretrain/train/eval"
	"pretrain/train/mesh"
	"pretrain/train/metrics"
	"pretrain/train/mirror"
	"pretrain/train/runs"
	"pretrain/train/spike"

	"github.com/gomlx/compute"
)

// trainOptions are what the command line adds to a configuration.
type trainOptions struct {
	config  string // as given, to be given again
	sets    []string
	runDir  string
	resume  string // auto, never, or a checkpoint's directory
	backend string
	verbose bool
}

// result is what a run comes to, the object that --json prints.
type result struct {
	RunDir          string                        `json:"run_dir"`
	Step            int64                         `json:"step"`
	Tokens          int64                         `json:"tokens"`
	TrainLoss       metrics.Number                `json:"train_loss"` // smoothed over about the last 50 steps, nats per token
	ValLoss         metrics.Number                `json:"val_loss"`
	ValBPB          metrics.Number                `json:"val_bpb"`
	ValSources      map[string]metrics.SourceEval `json:"val_sources,omitempty"`
	GzipBPB         metrics.Number                `json:"gzip_bpb"`
	XZBPB           metrics.Number                `json:"xz_bpb"`
	TokensPerSecond metrics.Number                `json:"tokens_per_second"` // over the whole training, what happens between steps included
	MFU             metrics.Number                `json:"mfu"`
	DataWait        metrics.Number                `json:"data_wait"` // part of the training time, 0 to 1, that the device waited for a batch
	Seconds         float64                       `json:"seconds"`   // of this process, all stages
}

// job is a run being put together and taken apart again.
type job struct {
	draft   *configs.Draft
	config  *configs.Resolved // of draft, once it is known what the run was before
	options trainOptions
	console *metrics.Console
	stdout  io.Writer
	log     io.Writer // stderr and the run's log file

	dir     string
	parent  *checkpoint.Parent // of a branch
	backend compute.Backend
	mesh    *mesh.Mesh
	device  backend.Info
	peak    float64
	corpus  *corpus
	decoder model.Decoder
	eval    *eval.Evaluator
	sampler *generate.Generator
	run     *train.Run
	closers []func() error
	started int // closers there were before the run was started
}

// onClose has f called by close, last first.
func (j *job) onClose(f func() error) { j.closers = append(j.closers, f) }

func (j *job) close() error { return j.closeTo(0) }

// closeTo leaves the first n open.
func (j *job) closeTo(n int) error {
	var err error
	for i := len(j.closers) - 1; i >= n; i-- {
		err = errors.Join(err, j.closers[i]())
		j.closers = j.closers[:i]
	}
	return err
}

// trainRun trains the configuration in its run directory: a new run, the rest of an interrupted one, or a word that it is
// finished.
func trainRun(ctx context.Context, draft *configs.Draft, o trainOptions, stdout, stderr io.Writer, asJSON bool) (err error) {
	start := time.Now()
	j := &job{draft: draft, options: o, stdout: stdout, log: stderr, console: metrics.NewConsole(stderr)}
	defer func() {
		err = j.mend(err)
		closing := j.close()
		if errors.Is(err, checkpoint.ErrGaveUp) { // closing says it again
			err = fmt.Errorf("%w\nmake room, or mend the disk, and give the same command again: what was saved before is whole, and the run goes on from it", err)
			return
		}
		err = errors.Join(err, closing)
	}()

	if j.dir, err = filepath.Abs(o.runDir); err != nil {
		return err
	}
	if _, err := os.Stat(j.dir); errors.Is(err, os.ErrNotExist) { // a run from its beginning, whose configuration stands alone
		if _, err := draft.Resolve(nil); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(j.dir, 0o755); err != nil {
		return fmt.Errorf("make the run directory (choose another with --run-dir): %w", err)
	}
	lock, err := checkpoint.Lock(j.dir)
	if err != nil {
		return err
	}
	j.onClose(lock.Unlock)
	store, err := checkpoint.Open(vfs.OS, filepath.Join(j.dir, "checkpoints"), checkpoint.Options{})
	if err != nil {
		return err
	}
	if err := j.rewind(ctx, store); err != nil {
		return err
	}
	if err := j.fetch(ctx, store); err != nil {
		return err
	}
	saved, err := j.saved(ctx, store)
	if err != nil {
		return err
	}
	if err := j.layOut(saved); err != nil {
		return err
	}
	r := j.config
	done, err := readResult(j.dir)
	switch {
	case err != nil:
		return err
	case saved == nil && done != nil:
		return fmt.Errorf("the run in %s was finished at step %d, but has no checkpoint any more; to train it again would replace its records: choose another --run-dir, or remove %s",
			j.dir, done.Step, filepath.Join(j.dir, "result.json"))
	case saved != nil && saved.Meta.Step > r.Derived.Steps:
		return usagef("the run in %s is at step %d, past the %d steps of this configuration: choose another --run-dir", j.dir, saved.Meta.Step, r.Derived.Steps)
	case done != nil && done.Step == r.Derived.Steps && saved.Meta.Step == done.Step:
		j.say("this run is finished: step %d of %d is saved in %s. Train longer with --set train.tokens=…, or start another with --run-dir.",
			done.Step, r.Derived.Steps, j.dir)
		done.RunDir = j.dir // it may have been moved
		return j.show(done, asJSON)
	}
	if err := j.openLog(); err != nil {
		return err
	}
	if err := j.build(ctx, store, saved); err != nil {
		return err
	}
	r = j.config
	j.say("training %s parameters (%s without embeddings) on %s, %s to step %d of %d",
		si(j.decoder.Count().Total), si(j.decoder.Count().NonEmbedding), j.device.Devices[0], fromStep(j.run.Step), r.Derived.Steps, r.Derived.Steps)
	if err := j.train(ctx, store); err != nil {
		return err
	}
	return j.finish(ctx, start, asJSON)
}

func fromStep(step int64) string {
	if step == 0 {
		return "from the beginning"
	}
	return fmt.Sprintf("resuming after step %d", step)
}

// say writes a line to stderr and the log.
func (j *job) say(format string, args ...any) { fmt.Fprintf(j.log, format+"\n", args...) }

// openLog appends what is said to the run's log, too.
func (j *job) openLog() error {
	f, err := os.OpenFile(filepath.Join(j.dir, "train.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	fmt.Fprintf(f, "%s pretrain, process %d: %s\n", time.Now().Format(time.RFC3339), os.Getpid(), strings.Join(os.Args, " "))
	j.log = io.MultiWriter(j.log, f)
	j.onClose(f.Close)
	return nil
}

// build opens the backend and the data and puts the run together.
func (j *job) build(ctx context.Context, store *checkpoint.Store, saved *checkpoint.State) error {
	r := j.config
	var err error
	if j.backend, j.device, err = openBackend(j.options.backend, r.Run.Train.Precision, backend.Options{Verbose: j.options.verbose, Preallocate: true}); err != nil {
		return err
	}
	j.onClose(func() error { j.backend.Finalize(); return nil })
	for _, w := range j.device.Warnings {
		j.say("warning: %s: %s", w.What, w.Mend)
	}
	if j.corpus, err = openCorpus(ctx, r, j.console); err != nil {
		return err
	}
	j.onClose(func() error { j.corpus.Close(); return nil })
	if err := j.checkVocabulary(); err != nil {
		return err
	}
	if saved != nil && saved.Meta.TokenizerHash != j.corpus.tokenizer.Hash() {
		return fmt.Errorf("the run in %s was trained with another tokenizer (%.12s… there, %.12s… now): the weights know the old vocabulary; use another --run-dir",
			j.dir, saved.Meta.TokenizerHash, j.corpus.tokenizer.Hash())
	}
	if err := j.spread(); err != nil {
		return err
	}

	planner := newMemoryPlanner(r, j.mesh, r.Run.Model, j.device.UsableBytes())
	program, err := j.fit(planner)
	if err != nil {
		return err
	}
	j.onClose(func() error { program.Finalize(); return nil })
	r = j.config
	plan, err := j.dataPlan(saved)
	if err != nil {
		return err
	}
	if err := j.describe(); err != nil {
		return err
	}
	if j.eval, err = eval.New(j.mesh, j.decoder, planner.head, int(r.Derived.MicroBatch)); err != nil {
		return err
	}
	j.onClose(func() error { j.eval.Finalize(); return nil })
	if j.sampler, err = generate.New(j.backend, j.decoder); err != nil {
		return err
	}
	j.onClose(func() error { j.sampler.Finalize(); return nil })
	if d := &j.device.Devices[0]; d.PeakFLOPS == 0 {
		if d.PeakFLOPS, err = backend.MeasurePeak(j.backend); err != nil {
			return err
		}
		d.PeakSource = "measured"
	}
	j.peak = j.device.Devices[0].PeakFLOPS * float64(j.mesh.Devices())
	j.run = &train.Run{
		Program: program, Validate: j.validate, Sample: j.sample, PeakFLOPS: j.peak,
		Loop:   checkpoint.LoopState{BestValLoss: math.Inf(1)},
		Spikes: r.Run.Spikes, Forensics: j.forensics(),
	}
	j.follow(plan)
	return j.start(store, saved)
}

// follow has the run go by its configuration's schedule, batches and data.
func (j *job) follow(plan *mix.Plan) {
	r := j.config
	j.run.Schedule, j.run.Batches, j.run.Data, j.run.Assembler = r.Schedule, r.Plan, plan, j.corpus.assembler(r, plan)
	j.run.EvalEvery = r.Derived.EvalEvery
	j.run.SampleEvery = r.Run.Sample.Every.Resolve(r.Plan.Steps(), r.Plan.StepAt)
	if m := r.Run.Metrics; m.Looks {
		j.run.LookEvery = m.LooksEvery.Resolve(r.Plan.Steps(), r.Plan.StepAt)
	}
}

// spread lays out the devices as the configuration says.
func (j *job) spread() (err error) {
	c := j.config.Run.Train.Mesh
	if j.mesh, err = mesh.New(j.backend, c); err != nil {
		return usageError{err}
	}
	if n := int64(j.mesh.BatchParts()); j.config.Run.Batch.MicroBatch != schedule.Auto && j.config.Derived.MicroBatch%n != 0 {
		return usagef("batch.micro_batch: %d sequences do not come out even over the %d parts that train.mesh (%s) cuts a batch into: give a multiple of %d",
			j.config.Derived.MicroBatch, n, j.mesh.Sizes(), n)
	}
	if used, all := j.mesh.Devices(), j.backend.NumDevices(); used < all {
		j.say("warning: %d of %d devices are used (train.mesh: %s): --set train.mesh.fsdp=-1 uses what is left", used, all, j.mesh.Sizes())
	}
	return nil
}

// start puts the run where it begins, or goes on, and opens what is written as it goes. What it opens is closed again to
// start anew elsewhere.
func (j *job) start(store *checkpoint.Store, saved *checkpoint.State) (err error) {
	j.started = len(j.closers)
	layout := j.run.Program.Layout()
	if saved != nil {
		j.run.Step, j.run.Loop = saved.Meta.Step, saved.Meta.Loop
		j.run.State, err = train.FromCheckpoint(j.mesh, layout, saved.Tensors)
		saved.Tensors = nil
		if j.branchesAt(saved) {
			j.run.Loop.BestValLoss = math.Inf(1) // its own
		}
	} else {
		j.run.State, err = train.Init(j.mesh, layout, prng.New(j.config.Run.Seed).Split("init"))
	}
	if err == nil {
		err = j.addWindows()
	}
	if err != nil {
		return err
	}
	if err := j.openMetrics(); err != nil {
		return err
	}
	return j.openSaver(store, j.run.Data.Manifest(), saved)
}

// checkVocabulary settles the model's vocabulary: the tokenizer's, unless a larger one was asked for.
func (j *job) checkVocabulary() error {
	size := j.corpus.tokenizer.VocabSize()
	if m := &j.config.Run.Model; m.VocabSize == 0 {
		m.VocabSize = size
	} else if m.VocabSize < size {
		return usagef("model.vocab_size: %d: want at least %d, the tokenizer's, or nothing: then it is the tokenizer's", m.VocabSize, size)
	}
	return nil
}

// describe writes into the run directory which run it is, its resolved configuration and the tokenizer.
func (j *job) describe() error {
	if _, err := runs.Identify(vfs.OS, j.dir, nil); err != nil {
		return err
	}
	for name, content := range map[string][]byte{"config.yaml": j.config.YAML(false), "tokenizer.json": j.corpus.tokenizerJSON} {
		if err := writeFile(filepath.Join(j.dir, name), content); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a file whole or not at all.
func writeFile(path string, content []byte) error {
	return atomicfile.Write(vfs.OS, path, content)
}

func (j *job) openMetrics() error {
	m := j.config.Run.Metrics
	patience := metrics.Patience{GiveUpAfter: j.config.Run.Checkpoint.GiveUpAfter.Std(), Report: func(err error) {
		if err != nil {
			j.say("warning: metrics cannot be written: %v (held in memory and tried again)", err)
		} else {
			j.say("metrics are written again")
		}
	}}
	file, err := metrics.OpenJSONL(vfs.OS, filepath.Join(j.dir, "metrics.jsonl"), j.run.Step, patience)
	if err != nil {
		return err
	}
	sinks := metrics.Sinks{file, j.console.Training(metrics.Training{
		Steps: j.config.Plan.Steps(), Tokens: j.config.Plan.Tokens(),
		EverySteps: m.LogEvery.Resolve(j.config.Plan.Steps(), j.config.Plan.StepAt),
	})}
	if m.TensorBoard {
		sink, err := metrics.OpenTensorBoard(vfs.OS, filepath.Join(j.dir, "tensorboard"), j.run.Step, patience)
		if err != nil {
			return err
		}
		sinks = append(sinks, sink)
	}
	if m.Prometheus != "" {
		sink, err := metrics.OpenPrometheus(m.Prometheus)
		if err != nil {
			return err
		}
		j.say("metrics for Prometheus at http://%s/metrics", sink.Address())
		sinks = append(sinks, sink)
	}
	j.run.Metrics = sinks
	j.onClose(sinks.Close)
	return nil
}

func (j *job) openSaver(store *checkpoint.Store, manifest string, saved *checkpoint.State) error {
	c, plan := j.config.Run.Checkpoint, j.config.Plan
	config := checkpoint.Default()
	config.EverySteps, config.EveryTime = j.config.Derived.CheckpointEvery, c.EveryTime.Std()
	if t, ok := c.Every.Time(); ok {
		config.EveryTime = t.Std()
	}
	config.Keep, config.GiveUpAfter = c.Keep, c.GiveUpAfter.Std()
	for _, at := range c.At {
		config.At = append(config.At, at.Resolve(plan.Steps(), plan.StepsFor))
	}
	if tokens, ok := c.KeepEvery.Tokens(); ok {
		config.KeepEveryTokens = int64(tokens)
	} else {
		config.KeepEverySteps = c.KeepEvery.Resolve(plan.Steps(), plan.StepAt)
	}
	copies := func() {}
	if c.Mirror != "" {
		m, err := mirror.Open(context.Background(), c.Mirror, vfs.OS, j.dir)
		if err != nil {
			return err
		}
		r := startMirroring(m, store, j.say)
		copies = r.saved
		j.onClose(r.close) // after the writer, which is closed first
	}
	writer := checkpoint.NewWriter(store, config, func(e checkpoint.Event) {
		if e.Err == nil {
			copies()
		}
		if e.Err != nil {
			j.say("warning: checkpoint of step %d not saved: %v (next try in %v)", e.Step, e.Err, e.RetryIn.Round(time.Second))
		}
		if e.PruneErr != nil {
			j.say("warning: old checkpoints not deleted: %v", e.PruneErr)
		}
	})
	j.onClose(func() error { return writer.Close(context.Background()) })
	text := string(j.config.YAML(false))
	j.run.Saver = &train.Saver{Writer: writer, Config: config, First: j.config.Run.Spikes.Policy == spike.Rollback, Meta: checkpoint.Meta{
		Config: text, ConfigHash: configHash(text), Parent: j.parent, Past: segments(j.config.Past),
		DataManifestHash: manifest, TokenizerHash: j.corpus.tokenizer.Hash(), Versions: j.versions(),
	}}
	if saved != nil && filepath.Dir(saved.Path) == store.Dir() {
		j.run.Saver.Resumed(saved.Meta.Step)
	}
	return nil
}

// versions are what a checkpoint was made by.
func (j *job) versions() map[string]string {
	v := map[string]string{"go": runtime.Version(), "plugin": j.device.PluginVersion, "platform": j.device.Platform}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if strings.HasPrefix(d.Path, "github.com/gomlx/") || d.Path == "github.com/daulet/tokenizers" {
				v[d.Path] = d.Version
			}
		}
	}
	return v
}

// validate measures every source's held-out text, the whole of it the last time.
func (j *job) validate(ctx context.Context, s *train.State, last bool) (eval.Sources, error) {
	tokens := int64(j.config.Run.Eval.Tokens)
	if last && j.config.Run.Eval.AtEnd {
		tokens = 0
	}
	results := eval.Sources{}
	sets := j.corpus.validation(j.decoder.Config)
	for name, set := range sets {
		r, err := j.eval.Validate(ctx, s.Tensors, set, tokens, nil)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", name, err)
		}
		results[name] = r
	}
	return results, nil
}

// readResult reads what a finished run left; nil if it left nothing.
func readResult(dir string) (*result, error) {
	text, err := os.ReadFile(filepath.Join(dir, "result.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := new(result)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "result.json"), err)
	}
	return r, nil
}
