package configs

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

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
	{"data.root", Allowed, "a moved folder; its content must be the same"},
	{"data.on_bad", Forbidden, "other documents may be left out" + anew},
	{"data.max_epochs", Allowed, "it bounds, it does not order"},
	{"batch", Allowed, "it applies from the resumed step on; the steps before keep theirs"},
	{"batch.micro_batch", Allowed, elsewhere},
	{"schedule", Allowed, fromHere},
	{"optimizer", Allowed, fromHere},
	{"optimizer.kind", Forbidden, "the saved state is the other optimizer's" + anew},
	{"loss", Allowed, fromHere},
	{"train.tokens", Allowed, "the schedule's end and its fractions of the run move with it"},
	{"train.precision", Allowed, "it applies from the resumed step on; master weights are fp32 in both"},
	{"train.remat", Allowed, elsewhere},
	{"train.attention", Allowed, elsewhere},
	{"train.mesh", Allowed, "the saved state is cut anew; what is learnt differs in rounding only"},
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
	samePast := slices.Equal(mixtures(old, step), mixtures(new, step))
	list := differences(old.Run, new.Run)
	for i := range list {
		d, key := &list[i], list[i].Key
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
	}
	return list
}

// differences are the values that two configurations do not share, in the order of the new one.
func differences(old, new Run) (list []Difference) {
	was, is := texts("", old), texts("", new)
	for _, r := range []Run{new, old} {
		tree("", "", reflect.ValueOf(r)).leaves(func(n *node) {
			if was[n.path] != is[n.path] && !slices.ContainsFunc(list, func(d Difference) bool { return d.Key == n.path }) {
				list = append(list, Difference{Key: n.path, Old: was[n.path], New: is[n.path]})
			}
		})
	}
	return list
}

// Differences lists the values that two configurations at hand do not share, names aside, without judging them.
func Differences(old, new Text) ([]Difference, error) {
	var drafts [2]*Draft
	for i, t := range []Text{old, new} {
		d, err := readDraft(&t, "", nil, false)
		if err == nil {
			err = d.d.err(d.name)
		}
		if err != nil {
			return nil, err
		}
		drafts[i] = d
	}
	list := differences(drafts[0].run, drafts[1].run)
	return slices.DeleteFunc(list, func(d Difference) bool { return d.Key == "name" }), nil
}

// CompareBranch is [Compare] for a run that branches off at a step. The past of old stays as it was whatever the new
// configuration says, so the mixture may change there, too.
func CompareBranch(old, new *Resolved, step int64) []Difference {
	list := Compare(old, new, step)
	was, is := old.Run.Data.Mix(), new.Run.Data.Mix() // data.path written out as a source
	oldTexts, newTexts := texts("data", was), texts("data", is)
	list = slices.DeleteFunc(list, func(d Difference) bool { return oldTexts[d.Key] != "" && oldTexts[d.Key] == newTexts[d.Key] })
	for i, d := range list {
		source := sourceOf(d.Key, old, new)
		_, before := was.Sources[source]
		_, after := is.Sources[source]
		mixture := d.Key == "train.tokens" || source != "" && before != after || slices.ContainsFunc(mixtureKeys, func(key string) bool {
			return within(strings.Replace(d.Key, "data.sources."+source+".", "data.sources.*.", 1), key)
		})
		switch {
		case d.Class == Allowed:
		case mixture:
			list[i].Class, list[i].Reason = Allowed, fmt.Sprintf("it applies from step %d on", step)
		case before && after && d.Key == "data.sources."+source+".path":
			list[i].Class, list[i].Reason = Allowed, "a moved folder; its content must be the same"
		}
	}
	return list
}

// mixtureKeys decide which data is seen when, and not what a source's rows are.
var mixtureKeys = []string{
	"data.stages", "data.scheme", "data.mix", "data.late_quality", "data.early_quality", "data.code_math", "data.template", "data.mask_boundary",
	"data.sources.*.quality", "data.sources.*.domain", "data.sources.*.weight", "data.sources.*.max_epochs",
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
	if at, ok := r.Schedule.Begins(schedule.Phase(start.Phase)); ok {
		return at
	}
	return lengthEnd(r, start.Length)
}

func lengthEnd(r *Resolved, l units.Length) int64 {
	return l.Resolve(r.Plan.Steps(), r.Plan.StepsFor)
}
