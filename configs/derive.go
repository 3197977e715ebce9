package configs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"pretrain/data/mix"
	"pretrain/internal/problem"
	"pretrain/model"
	"pretrain/schedule"
	"pretrain/tokenizer"
)

// Resolved is a configuration with every value filled in, and where each came from. It does not change.
type Resolved struct {
	// Run has no unset value left, except model.vocab_size where the tokenizer decides it. Its paths are absolute.
	Run Run
	// Derived is what follows from Run.
	Derived Derived
	// Plan has the batch size of each step, Schedule its learning rate.
	Plan     *schedule.Plan
	Schedule *schedule.Schedule
	// Past is what the run was before it went on by this configuration; nil where it was its own from the start.
	Past *Past

	// Stages of the data, presets in plain, as far as they are known without it.
	Stages []mix.Outline

	name     string
	decoder  *decoder // knows the origins
	formulas []Value
}

// Locate turns problem.Problem errors that a section's package found later, with the data at hand, into an [*Error] that
// names file and line. Other errors are returned as they are.
func (r *Resolved) Locate(section string, err error) error {
	if p := (problem.Problem{}); !errors.As(err, &p) {
		return err
	}
	d := &decoder{origins: r.decoder.origins, lines: r.decoder.lines}
	d.section(section, err)
	return d.err(r.name)
}

// Derived are the numbers a run has besides those it was given.
type Derived struct {
	// Steps of the run: train.tokens over the batch, rounded up.
	Steps int64 `json:"steps"`
	// Tokens trained on, whole batches: at least train.tokens.
	Tokens int64 `json:"tokens"`
	// SequencesPerStep and TokensPerStep of the largest batch.
	SequencesPerStep int64 `json:"sequences_per_step"`
	TokensPerStep    int64 `json:"tokens_per_step"`
	// MicroBatch is the number of sequences on the devices at once.
	MicroBatch int64 `json:"micro_batch"`
	// WarmupSteps is the number of steps before the peak.
	WarmupSteps int64 `json:"warmup_steps"`
	// DecayStart is the first step of the last decay; Steps if there is none.
	DecayStart int64 `json:"decay_start"`
	// HiddenPeakLR is the highest learning rate of hidden matrices: under mup schedule.peak_lr over the width ratio.
	HiddenPeakLR float64 `json:"hidden_peak_lr"`
	// EvalEvery and CheckpointEvery are in steps; 0 for never, and for intervals of time.
	EvalEvery       int64 `json:"eval_every"`
	CheckpointEvery int64 `json:"checkpoint_every"`
}

// Value is one value of a configuration, or one derived from it.
type Value struct {
	// Key is the full path, such as "model.d_model".
	Key string
	// Text is the value as YAML writes it.
	Text string
	// Origin says where it came from.
	Origin Origin
}

// Values lists every value of the configuration in its order.
func (r *Resolved) Values() []Value {
	var values []Value
	tree("", "", reflect.ValueOf(r.Run)).leaves(func(n *node) {
		values = append(values, Value{n.path, n.text, r.origin(n)})
	})
	return values
}

// origin is where a leaf came from; a list of which a --set changed one item is the --set's.
func (r *Resolved) origin(n *node) Origin {
	for i := range n.items {
		if o := r.decoder.origins[fmt.Sprintf("%s[%d]", n.path, i)]; o.Kind == FromSet {
			return o
		}
	}
	return r.decoder.origins[n.path]
}

// Explain lists what was derived, each with its formula.
func (r *Resolved) Explain() []Value { return r.formulas }

// YAML is the whole configuration. Loading it gives the same configuration again. With origins each line says where its
// value came from.
func (r *Resolved) YAML(origins bool) []byte {
	if !origins {
		return r.Run.yaml(func(*node) string { return "" })
	}
	return r.Run.yaml(func(n *node) string { return r.origin(n).String() })
}

// yaml is a run's configuration, with a comment on each line.
func (r Run) yaml(comment func(*node) string) []byte {
	var b bytes.Buffer
	tree("", "", reflect.ValueOf(r)).write(&b, "", comment)
	return b.Bytes()
}

// MarshalJSON is the configuration with the same keys and spellings as in YAML.
func (r *Resolved) MarshalJSON() ([]byte, error) {
	return []byte(tree("", "", reflect.ValueOf(r.Run)).flowJSON()), nil
}

// modelFormulas are what model.Config.Resolve computes from other values; the other values it fills in are constants.
var modelFormulas = map[string]string{
	"model.d_ff": "2.5 · d_model", "model.num_heads": "d_model / head_dim", "model.num_kv_heads": "num_heads",
}

// resolve fills in the values that depend on others, noting their origin.
func (r *Run) resolve(d *decoder) {
	preset := model.Presets[r.Model.Preset]
	was := texts("model", r.Model)
	own := texts("model", preset)
	r.Model = r.Model.Resolve()
	for key, text := range texts("model", r.Model) {
		formula := modelFormulas[key]
		switch _, given := d.origins[key]; {
		case given:
		case was[key] != text && own[key] == text:
			d.origins[key] = Origin{Kind: FromPreset, Name: r.Model.Preset}
		case formula != "":
			d.origins[key] = Origin{Kind: FromFormula, Name: formula}
		}
	}
	sources, stages := maps.Clone(r.Data.Sources), len(r.Data.Stages)
	r.Data.Config = r.Data.Config.Resolved()
	if len(sources) == 0 && stages == 0 {
		r.Data.Stages = nil // one source, one stage: nothing to say
	}
}

// texts are the leaves of a section by path.
func texts(section string, v any) map[string]string {
	m := map[string]string{}
	tree(section, section, reflect.ValueOf(v)).leaves(func(n *node) { m[n.path] = n.text })
	return m
}

// absolute makes the paths of a run independent of the working directory, and reports those that do not exist.
func (d *decoder) absolute(run *Run, mustExist bool) error {
	return run.eachPath(func(key string, p *string) error {
		if d.has("data.root") && strings.HasPrefix(key, "data.sources.") {
			return nil
		}
		return d.absolutePath(key, p, mustExist)
	})
}

// absolutePath is absolute for one path. What is not in the file system stays as it is.
func (d *decoder) absolutePath(key string, p *string, mustExist bool) error {
	if *p == "" || !filepath.IsAbs(*p) && notRelative(*p) {
		return nil
	}
	path := *p
	if dir := d.origins[key].dir; dir != "" && !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", key, *p, err)
	}
	if key == "tokenizer.path" {
		path = tokenizer.File(path)
	}
	if _, err := os.Stat(path); mustExist && err != nil {
		reason := err
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			reason = e.Err
		}
		d.value(key, *p, fmt.Sprintf("a file or folder that can be read: %s: %v", path, reason))
	}
	*p = path
	return nil
}

// derive computes what follows from the run, and checks what no section can see alone.
func (r *Resolved) derive(d *decoder) {
	run := &r.Run
	vocab, trained := run.Model.VocabSize, run.Tokenizer.VocabSize
	if run.Tokenizer.Path == "" && vocab > 0 && vocab < trained && !d.has("tokenizer.vocab_size") {
		d.value("model.vocab_size", fmt.Sprint(vocab),
			fmt.Sprintf("at least tokenizer.vocab_size, %d, or nothing: then it is the tokenizer's", trained))
	}
	if d.has("batch", "model.max_seq_len", "train.tokens") {
		return
	}
	plan, err := r.plan()
	if d.section("batch", err); err != nil {
		return
	}
	most := int64(0)
	for i, s := range plan.Stages() {
		if stages := plan.Stages(); r.Past == nil || i+1 == len(stages) || stages[i+1].Step > r.Past.Step {
			most = max(most, s.Sequences)
		}
	}
	perStep := most * plan.SequenceLength()
	if int64(run.Train.Tokens) < perStep {
		d.value("train.tokens", run.Train.Tokens.String(), fmt.Sprintf("at least one batch, %d tokens", perStep))
		return
	}
	r.Plan = plan
	r.Derived = Derived{
		Steps: plan.Steps(), Tokens: plan.Tokens(), SequencesPerStep: most, TokensPerStep: perStep, MicroBatch: plan.MicroBatch(),
		HiddenPeakLR: run.Schedule.PeakLR / cmp.Or(run.Model.WidthRatio(), 1),
		EvalEvery:    run.Eval.Every.Resolve(plan.Steps(), plan.StepAt), CheckpointEvery: run.Checkpoint.Every.Resolve(plan.Steps(), plan.StepAt),
	}
	if run.Batch.Tokens == schedule.Law && r.Derived.EvalEvery == 0 && !d.has("eval.every") {
		d.value("eval.every", run.Eval.Every.String(), "an interval: batch.tokens: law follows the validation loss")
	}
	// What does not fit the run stands beside what is wrong in itself, unless it is a length that could not be read.
	if !d.has("schedule.kind", "schedule.warmup", "schedule.cosine_length", "schedule.decay.length", "schedule.wave.length", "schedule.infinite") {
		d.section("schedule", run.Schedule.Fits(plan))
	}
	if d.has("schedule") {
		return
	}
	if r.Schedule, err = r.curve(); err != nil {
		d.section("schedule", err)
		return
	}
	r.Derived.DecayStart = plan.Steps()
	for _, s := range r.Schedule.Spans() {
		switch s.Phase {
		case schedule.PhaseWarmup:
			r.Derived.WarmupSteps = s.To - s.From
		case schedule.PhaseDecay:
			r.Derived.DecayStart = s.From
		}
	}
	r.explain()
	r.stages(d)
}

// explain notes the formula of each derived value, with the numbers in it.
func (r *Resolved) explain() {
	run, v := &r.Run, r.Derived
	add := func(key string, value any, formula string, args ...any) {
		r.formulas = append(r.formulas, Value{key, fmt.Sprint(value), Origin{Kind: FromFormula, Name: fmt.Sprintf(formula, args...)}})
	}
	add("sequences_per_step", v.SequencesPerStep, "batch.tokens %s / model.max_seq_len %d, a whole number of micro-batches", run.Batch.Tokens, run.Model.MaxSeqLen)
	add("tokens_per_step", v.TokensPerStep, "sequences_per_step %d · model.max_seq_len %d", v.SequencesPerStep, run.Model.MaxSeqLen)
	if run.Batch.MicroBatch == schedule.Auto {
		add("micro_batch", v.MicroBatch, "batch.micro_batch auto: the most that the devices have room for, at most the smallest batch of the run")
	} else {
		add("micro_batch", v.MicroBatch, "batch.micro_batch %d (0: the smallest batch of the run)", run.Batch.MicroBatch)
	}
	if stages := len(r.Plan.Stages()); stages > 1 {
		add("steps", v.Steps, "train.tokens %s over the %d batch sizes of the ramp, rounded up", run.Train.Tokens, stages)
	} else {
		add("steps", v.Steps, "train.tokens %s / tokens_per_step %d, rounded up", run.Train.Tokens, v.TokensPerStep)
	}
	add("tokens", v.Tokens, "what %d steps train on", v.Steps)
	add("warmup_steps", v.WarmupSteps, "schedule.warmup %s of %d steps", run.Schedule.Warmup, v.Steps)
	if v.DecayStart < v.Steps {
		add("decay_start", v.DecayStart, "%d steps less the decay's %d (schedule.kind %s)", v.Steps, v.Steps-v.DecayStart, run.Schedule.Kind)
	}
	if run.Model.Parameterization == model.MuP {
		add("hidden_peak_lr", round(v.HiddenPeakLR), "schedule.peak_lr %v / %v, the mup width ratio model.d_model %d / model.dim_model_base %d",
			run.Schedule.PeakLR, round(run.Model.WidthRatio()), run.Model.DModel, run.Model.DimModelBase)
	} else {
		add("hidden_peak_lr", v.HiddenPeakLR, "schedule.peak_lr (standard parameterization)")
	}
	add("eval_every", v.EvalEvery, "eval.every %s, in steps", run.Eval.Every)
	add("checkpoint_every", v.CheckpointEvery, "checkpoint.every %s, in steps", run.Checkpoint.Every)
	if run.Model.VocabSize == 0 && run.Tokenizer.Path == "" {
		add("vocab_size", run.Tokenizer.VocabSize, "tokenizer.vocab_size, as model.vocab_size is not given")
	}
}

// round is f to five digits, for people.
func round(f float64) float64 {
	if f == 0 {
		return 0
	}
	scale := math.Pow(10, 4-math.Floor(math.Log10(math.Abs(f))))
	return math.Round(f*scale) / scale
}
