package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"pretrain/data"
	"pretrain/data/decontam"
	"pretrain/data/exec"
	"pretrain/data/label"
	"pretrain/data/record"
	"pretrain/internal/problem"
)

// Labels are what is found out about documents beside the rules. Each label is an attribute.
type Labels struct {
	// Classifiers are models that `pretrain data train-classifier` trained: of quality, topic, sensitive content.
	Classifiers []label.Classifier `yaml:"classifiers" json:"classifiers"`
	// Commands are programs of your own that read documents and write labels. They run after everything that looks at one
	// document, on what it left, in a step of their own, which a change of other settings does not repeat.
	Commands []label.Command `yaml:"commands" json:"commands"`
}

// Validate reports every problem at once, as joined [problem.Problem] errors.
func (l Labels) Validate() error {
	var p problem.List
	names := map[string]bool{}
	for i, c := range l.Classifiers {
		key := fmt.Sprintf("classifiers[%d]", i)
		p.Section(key, c.Validate())
		p.Check(!names[c.Name], key+".name", c.Name, "a name of its own: another classifier has it")
		names[c.Name] = true
	}
	for i, c := range l.Commands {
		p.Section(fmt.Sprintf("commands[%d]", i), c.Validate())
	}
	return p.Err()
}

// Rule chooses documents by an attribute.
type Rule struct {
	// Attribute is its name, such as label.edu, lm.bucket or gopher.words. Documents without it stay.
	Attribute string `yaml:"attribute" json:"attribute"`
	// Min is the lowest number of documents that stay. Default: no bound.
	Min *float64 `yaml:"min" json:"min"`
	// Max is the highest number of documents that stay. Default: no bound.
	Max *float64 `yaml:"max" json:"max"`
	// In lists the words of documents that stay. Default: any.
	In []string `yaml:"in" json:"in"`
	// Sources are the names of those that the rule is for. Default: all.
	Sources []string `yaml:"sources" json:"sources"`
}

func (r Rule) check(p *problem.List, key string, sources map[string]Source) {
	p.Check(r.Attribute != "", key+".attribute", `""`, "the name of an attribute, such as label.edu")
	p.Check(r.Min != nil || r.Max != nil || len(r.In) > 0, key, r.Attribute, "min, max or in")
	p.Check(r.Min == nil || r.Max == nil || *r.Min <= *r.Max, key+".min", r.Min, "at most max")
	for _, name := range r.Sources {
		_, ok := sources[name]
		p.Check(ok, key+".sources", name, "names of sources")
	}
}

// apply is a step.
func (r Rule) apply(d *data.Document) (data.Reason, string) {
	reason := data.Reason("select_" + strings.ReplaceAll(r.Attribute, ".", "_"))
	if text := d.TextOf(r.Attribute); text != "" {
		if len(r.In) > 0 && !slices.Contains(r.In, text) {
			return reason, fmt.Sprintf("%s is %s; want %s", r.Attribute, text, strings.Join(r.In, " or "))
		}
		return "", ""
	}
	low, high := math.Inf(-1), math.Inf(1)
	if r.Min != nil {
		low = *r.Min
	}
	if r.Max != nil {
		high = *r.Max
	}
	if x, ok := d.Number(r.Attribute); ok && (x < low || x > high) {
		return reason, fmt.Sprintf("%s is %g; want %g to %g", r.Attribute, x, low, high)
	}
	return "", ""
}

// selection is the rules of a source as steps.
func (p *preparation) selection(source string) (links []link) {
	for _, r := range p.Select {
		if len(r.Sources) == 0 || slices.Contains(r.Sources, source) {
			links = append(links, link{"select " + r.Attribute, func() data.Step { return data.StepFunc(r.apply) }})
		}
	}
	return links
}

// judges are the models and indices that steps share.
type judges struct {
	links []link
	keys  []string // of the settings and of what the files hold
}

// loadJudges loads what the steps of decontamination and labels need.
func (p *preparation) loadJudges(ctx context.Context) (*judges, error) {
	var j judges
	if p.Decontam.Mode != data.Off && len(p.Decontam.Tasks) > 0 {
		x, err := decontam.Load(ctx, p.Decontam)
		if err != nil {
			return nil, fmt.Errorf("decontam.%w", err)
		}
		j.add("decontam", x.Key(), x.Step())
	}
	for i, c := range p.Labels.Classifiers {
		if c.Mode == data.Off {
			continue
		}
		m, err := label.Load(c.Model)
		if err != nil {
			return nil, fmt.Errorf("labels.classifiers[%d].model: %w", i, err)
		}
		factory, err := m.Step(c)
		if err != nil {
			return nil, fmt.Errorf("labels.classifiers[%d].%w", i, err)
		}
		c.Model = ""
		j.add("label "+c.Name, keyOf(c, m.Key()), factory)
	}
	return &j, nil
}

func (j *judges) add(name, key string, f data.Factory) {
	j.links = append(j.links, link{name, f})
	j.keys = append(j.keys, key)
}

// label runs the labellers that are commands over the documents that are left. Where there are none, those are returned as they are.
func (p *preparation) label(ctx context.Context, documents []exec.Done) ([]exec.Done, error) {
	if len(p.Labels.Commands) == 0 {
		return documents, nil
	}
	step := exec.Step{Name: "labels", Key: keyOf(version, p.Labels.Commands)}
	for i, in := range p.inputs {
		from, _ := documents[i].File(documentsName)
		step.Tasks = append(step.Tasks, exec.Task{
			Name: in.task(), Size: outputSize(documents[i], documentsName), Inputs: []exec.Input{from},
			Run: func(ctx context.Context, dir string) (exec.Counts, error) {
				return nil, p.labelFile(ctx, filepath.Join(documents[i].Dir, documentsName), dir)
			},
		})
	}
	return p.runner.Run(ctx, step)
}

// labelFile labels the documents of a file, some hundred at a time.
func (p *preparation) labelFile(ctx context.Context, from, dir string) (err error) {
	var labellers []*label.Labeller
	defer func() {
		for _, l := range labellers {
			err = errors.Join(err, l.Close())
		}
	}()
	for _, c := range p.Labels.Commands {
		l, err := c.Start(ctx)
		if err != nil {
			return err
		}
		labellers = append(labellers, l)
	}
	return writeDocuments(dir, func(out *record.Writer) error {
		batch := make([]*data.Document, 0, label.BatchSize)
		flush := func() error {
			for _, l := range labellers {
				if err := l.Label(batch); err != nil {
					return err
				}
			}
			for _, d := range batch {
				if err := out.Write(d); err != nil {
					return err
				}
			}
			batch = batch[:0]
			return nil
		}
		for d, err := range record.Read(from) {
			if err := errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			if batch = append(batch, &d); len(batch) == label.BatchSize {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return flush()
	})
}
