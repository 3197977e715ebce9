package mix

import (
	"fmt"
	"maps"
	"slices"

	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// draft is a stage before its weights are known: explicit ones, or classes of sources with a share each.
type draft struct {
	Stage
	classes []class
	index   int // among the config's stages
}

// class is some sources that the rule weighs among themselves, and their share of the stage together.
type class struct {
	sources []string
	share   float64
}

// schemeNeeds is the qualities a scheme cannot be without. sft will do for late_quality's high.
var schemeNeeds = map[Scheme][]Quality{
	SchemeLateQuality:  {Ordinary, High},
	SchemeEarlyQuality: {Ordinary, High},
	SchemeAllQuality:   {High},
}

// drafts writes a preset's stages, or takes those of the config.
func (c Config) drafts(run Run, p *problem.List) []draft {
	switch c.Scheme {
	case SchemeLateQuality:
		return c.lateQuality(run, p)
	case SchemeEarlyQuality:
		return c.earlyQuality(run)
	case SchemeAllQuality:
		return []draft{{Stage: Stage{Name: "high quality"}, classes: c.classes(1, 0)}}
	}
	out := make([]draft, len(c.Stages))
	for i, s := range c.Stages {
		out[i].Stage = s
		if len(s.Mix) == 0 {
			sources := s.Sources
			if len(sources) == 0 {
				sources = slices.Sorted(maps.Keys(c.Sources))
			}
			out[i].classes = []class{{sources, 1}}
		}
	}
	return out
}

func (c Config) lateQuality(run Run, p *problem.List) []draft {
	_, ok := run.plateau()
	p.Check(ok, "scheme", c.Scheme, "a schedule with a stable and a decay phase (wsd), the decay being when the high-quality data comes, or stages of your own")
	if !ok {
		return nil
	}
	return []draft{
		{Stage: Stage{Name: "ordinary"}, classes: c.classes(0, 0)},
		{Stage: Stage{Name: "decay", At: AtPhase(phaseDecay)}, classes: c.classes(float64(c.LateQuality.High), float64(c.LateQuality.SFT))},
	}
}

// earlyQuality divides the stable phase; under a schedule without one, such as cosine, the whole run.
func (c Config) earlyQuality(run Run) []draft {
	parts, e := c.EarlyQuality.Steps, c.EarlyQuality
	if e.Widen == WidenLinear {
		parts = linearParts
	}
	from, to := int64(0), run.Steps
	decay, ok := run.plateau()
	if ok {
		from, to = run.Phases[phaseStable], decay
	}
	parts = int(max(1, min(int64(parts), to-from)))
	var out []draft
	for i := range parts {
		done := 1.0 // of the way from first to last
		switch {
		case e.Widen == WidenLinear:
			done = (float64(i) + 0.5) / float64(parts)
		case parts > 1:
			done = float64(i) / float64(parts-1)
		}
		high := float64(e.First) + float64((float64(e.Last)-float64(e.First))*done)
		d := draft{Stage: Stage{Name: fmt.Sprintf("widening %d of %d", i+1, parts)}, classes: c.classes(high, 0)}
		if i > 0 {
			d.At = Start{Length: units.Steps(from + (to-from)*int64(i)/int64(parts))}
		}
		out = append(out, d)
	}
	if e.Widen == WidenLinear && ok {
		out = append(out, draft{Stage: Stage{Name: "decay", At: AtPhase(phaseDecay)}, classes: c.classes(float64(e.Last), 0)})
	}
	return out
}

// The schedule's phases that schemes go by.
const (
	phaseStable = "stable"
	phaseDecay  = "decay"
)

// plateau is the step at which the decay after a stable phase begins. A cosine, which decays from the warm-up on, has none.
func (run Run) plateau() (decay int64, ok bool) {
	decay, ok = run.Phases[phaseDecay]
	stable, has := run.Phases[phaseStable]
	return decay, ok && has && stable < decay
}

// classes are the three qualities with their shares, ordinary taking the rest. Of high and sft, one without sources
// leaves its share to the other.
func (c Config) classes(high, sft float64) []class {
	by := map[Quality][]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		q := c.Sources[name].Quality
		by[q] = append(by[q], name)
	}
	rest := 1 - high - sft
	if by[High] == nil {
		high, sft = 0, high+sft
	} else if by[SFT] == nil {
		high, sft = high+sft, 0
	}
	var out []class
	for _, k := range []class{{by[Ordinary], rest}, {by[High], high}, {by[SFT], sft}} {
		if k.share > 1e-12 {
			out = append(out, k)
		}
	}
	return out
}

// weigh gives the shares of a stage by source, in the order of names. used is the tokens each source has given to the
// stages before, budget those of this one.
func (d draft) weigh(c Config, run Run, names []string, tokens, used []float64, budget float64) []float64 {
	w := make([]float64, len(names))
	if len(d.Mix) > 0 {
		sum := 0.0
		for i, name := range names {
			w[i] = d.Mix[name]
			sum += w[i]
		}
		for i := range w {
			w[i] /= sum
		}
		return w
	}
	for _, k := range d.classes {
		var of []candidate
		for i, name := range names {
			if slices.Contains(k.sources, name) {
				of = append(of, candidate{i, tokens[i], used[i], c.Sources[name].Weight})
			}
		}
		for j, s := range c.Mix.shares(of, k.share*budget) {
			w[of[j].source] = float64(s * k.share)
		}
	}
	if c.CodeMath.Enabled {
		c.codeMath(w, run.Params, names)
	}
	return w
}

// codeMath scales the weights in place so that code and math have their share. Weights of only the one kind stay.
func (c Config) codeMath(w []float64, params float64, names []string) {
	is := func(i int) bool { d := c.Sources[names[i]].Domain; return d == DomainCode || d == DomainMath }
	sum := 0.0
	for i := range w {
		if is(i) {
			sum += w[i]
		}
	}
	if sum <= 0 || sum >= 1 {
		return
	}
	share := c.CodeMath.ShareFor(params)
	for i := range w {
		if is(i) {
			w[i] *= share / sum
		} else {
			w[i] *= (1 - share) / (1 - sum)
		}
	}
}
