package pipeline

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"pretrain/data"
	"pretrain/data/exec"
	"pretrain/data/lm"
	"pretrain/data/read"
	"pretrain/internal/problem"
)

// Perplexity judges text by an n-gram model of a reference set, as CCNet does. It is for sources of domain text.
type Perplexity struct {
	// Mode is off, tag or filter. Default off: it needs a reference set. Either mode writes lm.perplexity and lm.bucket.
	Mode data.Mode `yaml:"mode" json:"mode"`
	// Reference is the text that good text is like: files or folders, of any format that a source can have. Take every language
	// of the sources in.
	Reference []string `yaml:"reference" json:"-"`
	// Model is the n-gram model.
	Model lm.Config `yaml:"model" json:"model"`
	// Percentiles are where head, middle and tail of a language begin.
	Percentiles lm.Percentiles `yaml:"percentiles" json:"percentiles"`
	// Drop lists the buckets that are dropped where mode is filter. Default [tail].
	Drop []lm.Bucket `yaml:"drop" json:"drop"`
}

// Validate reports every problem at once, as joined [problem.Problem] errors.
func (x Perplexity) Validate() error {
	var p problem.List
	p.Check(x.Mode.Valid(), "mode", x.Mode, "off, filter or tag")
	p.Check(x.Mode == data.Off || len(x.Reference) > 0, "reference", "none", "files or folders of good text, since mode is %s", x.Mode)
	for _, b := range x.Drop {
		p.Check(slices.Contains([]lm.Bucket{lm.Head, lm.Middle, lm.Tail}, b), "drop", b, "%s, %s or %s", lm.Head, lm.Middle, lm.Tail)
	}
	p.Section("model", x.Model.Validate())
	p.Section("percentiles", x.Percentiles.Validate())
	return p.Err()
}

const (
	modelName      = "model.lm"
	perplexityName = "perplexities.json"
	cutsName       = "cuts.json"
	perplexityAttr = "lm.perplexity"
	bucketAttr     = "lm.bucket"
)

// judged reports whether the documents of a source get a perplexity.
func (p *preparation) judged(source string) bool {
	return p.Perplexity.Mode != data.Off && p.Sources[source].domain() == Text
}

// reference trains the n-gram model.
func (p *preparation) reference(ctx context.Context) (*exec.Done, error) {
	if !slices.ContainsFunc(p.inputs, func(in input) bool { return p.judged(in.source) }) {
		return nil, nil
	}
	task := exec.Task{Name: "all"}
	var sources []*read.Source
	for _, path := range p.Perplexity.Reference {
		spec := read.Default(path)
		spec.OnBad, spec.MaxDocument = p.Read.OnBad, p.Read.MaxDocument
		s, err := read.Open(ctx, spec)
		if err != nil {
			return nil, fmt.Errorf("perplexity.reference: %w", err)
		}
		sources = append(sources, s)
		for i := range s.Files() {
			hash, err := s.HashFile(ctx, i)
			if err != nil {
				return nil, fmt.Errorf("perplexity.reference: %w", err)
			}
			task.Inputs = append(task.Inputs, exec.Input{Name: s.File(i).Path, Hash: hash})
		}
	}
	task.Run = func(ctx context.Context, dir string) (exec.Counts, error) {
		m, err := lm.Train(ctx, texts(ctx, sources), p.Perplexity.Model, nil)
		if err != nil {
			return nil, fmt.Errorf("perplexity.reference %s: %w", strings.Join(p.Perplexity.Reference, ", "), err)
		}
		units, grams := m.Size()
		return exec.Counts{"units": int64(units), "grams": int64(grams)}, m.Save(filepath.Join(dir, modelName))
	}
	done, err := p.runner.Run(ctx, exec.Step{Name: "reference", Key: keyOf(version, p.Perplexity.Model), Tasks: []exec.Task{task}})
	if err != nil {
		return nil, err
	}
	return &done[0], nil
}

func texts(ctx context.Context, sources []*read.Source) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, s := range sources {
			for d, err := range s.Documents(ctx, nil) {
				if !yield(d.Plain(), err) || err != nil {
					return
				}
			}
		}
	}
}

// scorer is the step that writes down the perplexity.
func scorer(m *lm.Model) link {
	return link{"perplexity", func() data.Step {
		score := m.Scorer()
		return data.StepFunc(func(d *data.Document) (data.Reason, string) {
			d.SetNumber(perplexityAttr, score(d.Plain()))
			return "", ""
		})
	}}
}

// cuts takes the percentiles of the perplexities of all documents.
func (p *preparation) cuts(ctx context.Context, cleaned []exec.Done) (*exec.Done, error) {
	task := exec.Task{Name: "all"}
	var files []string
	for i, in := range p.inputs {
		if p.judged(in.source) {
			f, _ := cleaned[i].File(perplexityName)
			task.Inputs = append(task.Inputs, f)
			files = append(files, filepath.Join(cleaned[i].Dir, perplexityName))
		}
	}
	if files == nil {
		return nil, nil
	}
	task.Run = func(_ context.Context, dir string) (exec.Counts, error) {
		all := lm.Distribution{}
		for _, f := range files {
			var d lm.Distribution
			if err := readJSON(f, &d); err != nil {
				return nil, err
			}
			all.Merge(d)
		}
		return nil, writeJSON(filepath.Join(dir, cutsName), all.Cuts(p.Perplexity.Percentiles))
	}
	done, err := p.runner.Run(ctx, exec.Step{Name: "cuts", Key: keyOf(version, p.Perplexity.Percentiles), Tasks: []exec.Task{task}})
	if err != nil {
		return nil, err
	}
	return &done[0], nil
}

// buckets is the step that sorts documents into head, middle and tail.
func (p *preparation) buckets(cuts lm.Cuts) link {
	return link{"perplexity cut", func() data.Step {
		return data.StepFunc(func(d *data.Document) (data.Reason, string) {
			perplexity, _ := d.Number(perplexityAttr)
			bucket := cuts.Of(d.Language, perplexity)
			d.SetText(bucketAttr, string(bucket))
			if p.Perplexity.Mode == data.Filter && slices.Contains(p.Perplexity.Drop, bucket) {
				return data.Reason("perplexity_" + string(bucket)), fmt.Sprintf("perplexity %.0f, language %q", perplexity, d.Language)
			}
			return "", ""
		})
	}}
}
