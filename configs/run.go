// Package configs is the configuration of a run: it composes the Config of each package, reads it strictly from YAML and
// --set, and says of each value where it came from.
//
// A configuration that loads is one that can run: unknown and duplicate keys, wrong types and units, and values that do
// not fit together are all reported at once, each with its line and its mend, as one [Error].
package configs

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"pretrain/data/mix"
	"pretrain/data/read"
	"pretrain/internal/problem"
	"pretrain/model"
	"pretrain/schedule"
	"pretrain/tokenizer"
	"pretrain/train/optim"
	"pretrain/train/spike"
)

// Run is everything that decides a training run, beside the machine it runs on. Start from [Default].
type Run struct {
	// Extends names a configuration to start from: a file, relative to this one, or an embedded name. Keys given here
	// override its keys; lists are replaced whole, and null removes a name from a mapping.
	Extends string `yaml:"extends,omitempty"`
	// Name of the run, and of its directory in runs where --run-dir gives no other. Default: that of the file.
	Name string `yaml:"name"`
	// Seed of all randomness, split by name (init, data, eval). Default 1. Two runs that differ in it only measure noise.
	Seed uint64 `yaml:"seed"`

	// Model is the shape of the decoder.
	Model model.Config `yaml:"model"`
	// Tokenizer is a file, or how to train one.
	Tokenizer tokenizer.Config `yaml:"tokenizer"`
	// Data is what to train on, in which proportions and when.
	Data Data `yaml:"data"`
	// Batch is the number of tokens per step.
	Batch schedule.BatchConfig `yaml:"batch"`
	// Schedule is the learning rate over the run.
	Schedule schedule.Config `yaml:"schedule"`
	// Optimizer is the update rule.
	Optimizer optim.Config `yaml:"optimizer"`
	// Loss is what is minimised.
	Loss Loss `yaml:"loss"`
	// Train is how long and on what.
	Train Train `yaml:"train"`
	// Eval is the validation during the run.
	Eval Eval `yaml:"eval"`
	// Spikes says what becomes of a step whose loss or gradient is far off those before.
	Spikes spike.Config `yaml:"spikes"`
	// Checkpoint is when state is saved and what is kept.
	Checkpoint Checkpoint `yaml:"checkpoint"`
	// Metrics says where the numbers go.
	Metrics Metrics `yaml:"metrics"`
	// Sample is the text the run generates to show what it has learnt.
	Sample Sample `yaml:"sample"`
}

// Default is a run with every section at its default. What no default can know (data, train.tokens, batch.tokens, the
// model's shape) is left for the file.
func Default() Run {
	return Run{
		Seed: 1, Tokenizer: tokenizer.Default(), Data: DefaultData(), Batch: schedule.DefaultBatch(),
		Schedule: schedule.Default(), Optimizer: optim.Default(), Loss: DefaultLoss(), Train: DefaultTrain(),
		Eval: DefaultEval(), Spikes: spike.Default(), Checkpoint: DefaultCheckpoint(), Metrics: DefaultMetrics(), Sample: DefaultSample(),
	}
}

// validate calls report with each section's key and what its Validate returns.
func (r *Run) validate(report func(section string, err error)) {
	var p problem.List
	p.Check(filepath.IsLocal(r.Name) && r.Name != "." && !strings.ContainsAny(r.Name, `/\`), "name", fmt.Sprintf("%q", r.Name), `the name of a folder, without "/"`)
	report("", p.Err())
	for _, s := range []struct {
		section string
		config  interface{ Validate() error }
	}{
		{"model", r.Model}, {"tokenizer", r.Tokenizer}, {"data", r.Data}, {"batch", r.Batch}, {"schedule", r.Schedule},
		{"optimizer", r.Optimizer}, {"loss", r.Loss}, {"train", r.Train}, {"eval", r.Eval},
		{"spikes", r.Spikes}, {"checkpoint", r.Checkpoint}, {"metrics", r.Metrics}, {"sample", r.Sample},
	} {
		report(s.section, s.config.Validate())
	}
}

// Data is what a run trains on.
type Data struct {
	// Path is the short form for one raw source: a file or folder of text, JSONL or Parquet, or "go:std", the standard
	// library of the Go installation. It is prepared on first use and cached. Not together with sources.
	Path string `yaml:"path"`
	// Root is where relative paths of sources start, and the path of a source that gives none: data that lies elsewhere on
	// another machine is --set data.root=DIR. Default: the folder of the file that names them.
	Root string `yaml:"root"`
	// OnBad says what becomes of a raw document that cannot be used (a corrupt line, text that is not UTF-8): fail, or skip,
	// which leaves it out and counts it. Default fail: silent loss of data is worse than a stop.
	OnBad read.Policy `yaml:"on_bad"`
	// Validation is what is held out of raw sources.
	Validation Validation `yaml:"validation"`
	// Config has the sources and when each is seen.
	mix.Config `yaml:",inline"`
}

// PathSource is the name of the source that data.path stands for.
const PathSource = "corpus"

// DefaultData has no source.
func DefaultData() Data {
	return Data{OnBad: read.Fail, Validation: DefaultValidation(), Config: mix.Default()}
}

// Mix is the section with the short form written out, as the mix takes it.
func (c Data) Mix() mix.Config {
	m := c.Config
	if c.Path != "" {
		m.Sources = map[string]mix.Source{PathSource: {Path: c.Path}}
	}
	return m.Resolved()
}

// Validate reports every problem at once.
func (c Data) Validate() error {
	var p problem.List
	p.Check(c.Path != "" || len(c.Sources) > 0, "path", `""`, "a file, a folder or go:std, or else sources")
	p.Check(c.Path == "" || len(c.Sources) == 0, "path", c.Path, "nothing beside sources: name it as one of them")
	p.Check(c.Path == "go:std" || !strings.HasPrefix(c.Path, "go:"), "path", c.Path, "go:std, the one built-in corpus")
	p.Check(c.OnBad == read.Fail || c.OnBad == read.Skip, "on_bad", c.OnBad, "%s or %s", read.Fail, read.Skip)
	c.Validation.check(&p)
	if (c.Path != "") == (len(c.Sources) > 0) {
		return p.Err()
	}
	return errors.Join(p.Err(), c.Mix().Validate())
}

// eachPath calls f with every file or folder the run names and its key, data.root before those that start there; f may
// change it.
func (r *Run) eachPath(f func(key string, path *string) error) error {
	err := errors.Join(f("tokenizer.path", &r.Tokenizer.Path), f("data.path", &r.Data.Path), f("data.root", &r.Data.Root))
	for _, name := range slices.Sorted(maps.Keys(r.Data.Sources)) {
		source := r.Data.Sources[name]
		if root := r.Data.Root; root != "" && !notRelative(source.Path) {
			source.Path = filepath.Join(root, source.Path)
		}
		err = errors.Join(err, f("data.sources."+name+".path", &source.Path))
		r.Data.Sources[name] = source
	}
	return err
}

// notRelative reports whether a path is whole, or none of the file system's.
func notRelative(path string) bool {
	return filepath.IsAbs(path) || strings.Contains(path, "://") || strings.HasPrefix(path, "go:")
}
