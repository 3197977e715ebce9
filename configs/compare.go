package configs

import (
	"fmt"
	"reflect"
	"slices"

	"pretrain/data/mix"
	"pretrain/internal/units"
	"pretrain/schedule"
)

// Class says whether a resumed run may differ from the run that wrote the checkpoint.
type Class string

// The classes.
const (
	Allowed   Class = "allowed"   // it applies from the resumed step on
	Forbidden Class = "forbidden" // the saved state would not fit, or the past would have been another
)

// Difference is one value that two configurations do not share.
type Difference struct {
	Key string `json:"key"`
	// Old and New are the values as YAML; "" where there is none.
	Old string `json:"old"`
	New string `json:"new"`
	// Class and the Reason for it.
	Class  Class  `json:"class"`
	Reason string `json:"reason"`
}

func (d Difference) String() string {
	show := func(s string) string {
		if s == "" {
			return "not given"
		}
		return s
	}
	return fmt.Sprintf("%s: %s → %s: %s: %s", d.Key, show(d.Old), show(d.New), d.Class, d.Reason)
}

// rule is what holds for a key and all below it. The longest key that fits decides.
type rule struct {
	key    string
	class  Class
	reason string
}

const (
	fromHere  = "it applies from the resumed step on"
	elsewhere = "it does not change what is learnt"
	anew      = "; train anew in another --run-dir"
)

// rules has one entry for each section at least; a test checks that no key is without.
var rules = []rule{
	{"name", Allowed, elsewhere},
	{"seed", Forbidden, "the order of the data hangs on it" + anew},
	{"model", Forbidden, "the saved weights are of the old model; train anew"},
	{"model.document_mask", Forbidden, "the weights were trained with the other attention" + anew},
	{"model.max_seq_len", Forbidden, "the order of the data hangs on it" + anew},
	{"model.preset", Allowed, "only the values it stands for count"},
	{"tokenizer", Forbidden, "the weights know the old vocabulary; train anew"},
	{"tokenizer.path", Allowed, "a moved file; its content must be the same"},
	{"data", Forbidden, "steps already trained would have seen other data" + anew},
	{"data.path", Allowed, "a moved folder; its content must be the same"},
	{"data.on_bad", Forbidden, "other documents may be left out" + anew},
	{"data.max_epochs", Allowed, "it bounds, it does not order"},
	{"batch", Forbidden, "the steps already trained would count other tokens" + anew},
	{"batch.micro_batch", Allowed, elsewhere},
	{"schedule", Allowed, fromHere},
	{"optimizer", Allowed, fromHere},
	{"optimizer.kind", Forbidden, "the saved state is the other optimizer's" + anew},
	{"loss", Allowed, fromHere},
	{"train.tokens", Allowed, "the schedule's end and its fractions of the run move with it"},
	{"train.precision", Allowed, "it applies from the resumed step on; master weights are fp32 in both"},
	{"train.remat", Allowed, elsewhere},
	{"eval", Allowed, elsewhere},
	{"spikes", Allowed, fromHere},
	{"checkpoint", Allowed, elsewhere},
	{"metrics", Allowed, elsewhere},
	{"sample", Allowed, elsewhere},
}

func ruleOf(key string) (rule, bool) {
	var best rule
	for _, r := range rules {
		if within(key, r.key) && len(r.key) > len(best.key) {
			best = r
		}
	}
	return best, best.key != ""
}

// Compare lists every difference between the configuration a checkpoint of the given step was written with and the one
// to resume it with, in the order of the new one. Stages, and sources they use, may differ as long as the steps before
// would have drawn from the same mixtures. Whether a moved path still has the same content is for the hashes in the
// checkpoint to say.
func Compare(old, new *Resolved, step int64) []Difference {
	was, is := texts("", old.Run), texts("", new.Run)
	var keys []string
	for _, r := range []*Resolved{new, old} {
		tree("", "", reflect.ValueOf(r.Run)).leaves(func(n *node) {
			if was[n.path] != is[n.path] && !slices.Contains(keys, n.path) {
				keys = append(keys, n.path)
			}
		})
	}
	samePast := slices.Equal(mixtures(old, step), mixtures(new, step))
	var list []Difference
	for _, key := range keys {
		d := Difference{Key: key, Old: was[key], New: is[key]}
		r, _ := ruleOf(key)
		d.Class, d.Reason = r.class, r.reason
		stages := within(key, "data.stages")
		source := sourceOf(key, old, new)
		_, before := old.Run.Data.Sources[source]
		_, after := new.Run.Data.Sources[source]
		switch {
		case before && after && key == "data.sources."+source+".path":
			d.Class, d.Reason = Allowed, "a moved folder; its content must be the same"
		case samePast && (stages || before != after):
			d.Class, d.Reason = Allowed, fmt.Sprintf("the mixtures before step %d are the same", step)
		case key == "train.tokens" && !samePast:
			d.Class, d.Reason = Forbidden, fmt.Sprintf("it moves stages that began before step %d; give their ends in steps or tokens", step)
		case key == "optimizer.momentum" && (d.Old == "0" || d.New == "0"):
			d.Class, d.Reason = Forbidden, "the checkpoint has no momentum for it, or one too many"+anew
		}
		list = append(list, d)
	}
	return list
}

// sourceOf is the name of the source that a key belongs to, "" if none.
func sourceOf(key string, runs ...*Resolved) string {
	for _, r := range runs {
		for name := range r.Run.Data.Sources {
			if within(key, "data.sources."+name) {
				return name
			}
		}
	}
	return ""
}

// mixtures are the mixtures of the steps before the given one: where each begins, and its weights or their rule.
func mixtures(r *Resolved, step int64) []string {
	c := r.Run.Data.Mix()
	if c.Scheme != mix.SchemeNone {
		return []string{tree("", "", reflect.ValueOf(c)).flow()} // its stages follow from all of it
	}
	var list []string
	at := int64(0)
	for i, s := range c.Stages {
		if !s.At.IsZero() {
			at = stageStart(r, s.At)
		}
		if at >= step {
			break
		}
		weights := fmt.Sprint(s.SeqLen, s.Mix)
		if s.Mix == nil {
			names := s.Sources
			if names == nil {
				for name := range c.Sources {
					names = append(names, name)
				}
				slices.Sort(names)
			}
			weights = fmt.Sprint(s.SeqLen, c.Mix, names)
		}
		list = append(list, fmt.Sprintf("%d %s", at, weights))
		if i+1 < len(c.Stages) {
			at = lengthEnd(r, s.Until)
		}
	}
	return list
}

func stageStart(r *Resolved, start mix.Start) int64 {
	for _, span := range r.Schedule.Spans() {
		if string(span.Phase) == start.Phase {
			return span.From
		}
	}
	return lengthEnd(r, start.Length)
}

func lengthEnd(r *Resolved, l units.Length) int64 {
	return l.Resolve(r.Plan.Steps(), func(tokens int64) int64 { return stepAfter(r.Plan, tokens) })
}

// stepAfter is the first step that begins at or after a number of tokens.
func stepAfter(p *schedule.Plan, tokens int64) int64 {
	step := p.StepAt(tokens)
	if p.TokensBefore(step) < tokens {
		step++
	}
	return step
}
