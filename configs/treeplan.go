package configs

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"pretrain/internal/problem"
	"pretrain/internal/units"
	"pretrain/schedule"
)

// Tree is a family of runs that one command makes: a trunk of constant learning rate, and decays that branch off it at several
// lengths, each a point of the loss over the data (MiniCPM, 2404.06395, §4.5). The trunk is trained once, so n lengths cost about
// what the longest does, where n runs of their own cost n/2 times that.
type Tree struct {
	// Name of the family. Default: that of the file.
	Name string `yaml:"name"`
	// At are the points of the trunk to branch off at, in tokens per parameter besides the embedding, rising.
	At []float64 `yaml:"at"`
	// Cosine also trains each length as a run of its own with a cosine to the end, to compare. Default false.
	Cosine bool `yaml:"cosine"`

	// Trunk is the trunk's configuration, Forks what branches off it. Both follow from the configuration under `run`, whose
	// schedule.decay is the branches' and whose train.tokens counts for nothing.
	Trunk *Resolved `yaml:"-"`
	Forks []Fork    `yaml:"-"`
}

// Fork is a decay that branches off.
type Fork struct {
	// At is the entry of Tree.At.
	At float64
	// Step is where it branches off, after Tokens.
	Step, Tokens int64
	// Decay is the branch's configuration, Cosine's that of a run of the same length with a cosine.
	Decay, Cosine *Resolved
}

// LoadTree reads the plan of a family: a file or, where there is none of that name, an embedded one. sets are "key=value"
// overrides, of `at` and `cosine` or else of the runs' configuration. The error is an [*Error] unless a file could not be read.
func LoadTree(nameOrPath string, sets []string) (*Tree, error) {
	d := newDecoder()
	src, err := open(nameOrPath, source{})
	if errors.Is(err, errNoConfig) {
		src, err = open(filepath.Join(ablations, nameOrPath), source{embedded: true})
	}
	if errors.Is(err, errNoConfig) {
		d.report(Origin{}, "", "got %q: no such file, nor an embedded plan such as wsd-branches", nameOrPath)
		return nil, d.err(nameOrPath)
	}
	if err != nil {
		return nil, err
	}
	t := new(Tree)
	c := &Draft{run: Default(), d: d, name: nameOrPath}
	d.src = Origin{Kind: FromFile, Name: src.shown, dir: src.dir}
	if err := t.decode(d.parse(src.text), d, src, &c.run); err != nil {
		return nil, err
	}
	for i, set := range sets {
		d.src = Origin{Kind: FromSet, Name: set, Line: i + 1}
		root := reflect.ValueOf(&c.run).Elem()
		if key, _, _ := strings.Cut(set, "="); key == "at" || key == "cosine" {
			root = reflect.ValueOf(t).Elem()
		}
		d.override(set, root)
	}
	if t.Name == "" {
		t.Name = strings.TrimSuffix(filepath.Base(nameOrPath), ".yaml")
	}
	if c.run.Train.Tokens == 0 {
		c.run.Train.Tokens = maxTokens // for the checks; what it is follows from At
	}
	if err := c.complete("trunk", true); err != nil {
		return nil, err
	}
	d.section("", t.check(c.run))
	if err := d.err(nameOrPath); err != nil {
		return nil, err
	}
	return t, t.layOut(c.run)
}

// decode reads the plan's own keys, and the runs' configuration under `run`.
func (t *Tree) decode(root ast.Node, d *decoder, src source, run *Run) error {
	m, ok := root.(ast.MapNode)
	if !ok {
		d.report(d.src, "", "want a mapping with the keys name, at, cosine and run")
		d.broken = true
		return nil
	}
	for it := m.MapRange(); it.Next(); {
		key, _, _ := scalar(it.Key())
		switch key {
		case "run":
			if err := d.node(it.Value(), src, []string{src.name}, run); err != nil {
				return err
			}
		case "name", "at", "cosine":
			d.child(key, key, it.Key(), reflect.ValueOf(t).Elem(), func(v reflect.Value) { d.into(key, it.Value(), v) }, false)
		default:
			d.bad(it.Key(), key, "unknown key; the keys here are name, at, cosine and run, and below run those of a run's configuration")
		}
	}
	return nil
}

// check reports what is wrong with the plan beside the runs' configuration.
func (t *Tree) check(run Run) error {
	var p problem.List
	p.Check(len(t.At) > 0 && slices.IsSorted(t.At) && len(slices.Compact(slices.Clone(t.At))) == len(t.At) && t.At[0] > 0, "at", fmt.Sprint(t.At),
		"numbers above 0, rising, such as [10, 20, 30]")
	p.Check(run.Schedule.Kind == schedule.WSD, "schedule.kind", run.Schedule.Kind, "wsd: its decay is what branches off")
	steps, _ := run.Schedule.Decay.Length.Steps()
	tokens, _ := run.Schedule.Decay.Length.Tokens()
	part, _ := run.Schedule.Decay.Length.Fraction()
	p.Check(steps > 0 || tokens > 0 || part > 0 && part < 1, "schedule.decay.length", run.Schedule.Decay.Length, `a length above 0, such as "10%%"`)
	return p.Err()
}

// layOut makes the runs of the plan out of their common configuration.
func (t *Tree) layOut(run Run) error {
	n := float64(run.Model.Count().NonEmbedding)
	base := Text{Name: t.Name, YAML: string(run.yaml(func(*node) string { return "" }))}
	with := func(name string, past *Past, sets ...string) (*Resolved, error) {
		base.Run = name
		d, err := ReadOver(base, "", sets)
		if err != nil {
			return nil, err
		}
		return d.Resolve(past)
	}
	var points []string
	for _, at := range t.At {
		points = append(points, fmt.Sprintf("%v", units.Tokens(math.Ceil(at*n))))
	}
	var err error
	t.Trunk, err = with("trunk", nil, "train.tokens="+points[len(points)-1], "schedule.decay.length=0 steps", "checkpoint.at=["+strings.Join(points, ", ")+"]")
	if err != nil {
		return err
	}
	plan := t.Trunk.Plan
	for i, at := range t.At {
		step := t.Trunk.Run.Checkpoint.At[i].Resolve(plan.Steps(), plan.StepsFor)
		f := Fork{At: at, Step: step, Tokens: plan.TokensBefore(step)}
		total := plan.TokensBefore(f.end(run.Schedule.Decay.Length, plan))
		length := fmt.Sprint("train.tokens=", units.Tokens(total))
		if f.Decay, err = with(fmt.Sprintf("decay-%v", at), &Past{Run: t.Trunk, Step: step}, length); err != nil {
			return err
		}
		if f.Cosine, err = with(fmt.Sprintf("cosine-%v", at), nil, length, "schedule.kind=cosine", fmt.Sprintf("schedule.warmup=%d steps", t.Trunk.Derived.WarmupSteps)); err != nil {
			return err
		}
		t.Forks = append(t.Forks, f)
	}
	return nil
}

// end is the step at which a branch's decay ends: a fraction is of the whole run.
func (f Fork) end(decay units.Length, plan *schedule.Plan) int64 {
	if part, ok := decay.Fraction(); ok {
		return plan.StepAt(int64(math.Round(float64(f.Tokens)/(1-float64(part)))) + (plan.TokensBefore(f.Step+1)-f.Tokens)/2)
	}
	if tokens, ok := decay.Tokens(); ok {
		return plan.StepsFor(f.Tokens + int64(tokens))
	}
	steps, _ := decay.Steps()
	return f.Step + steps
}
