package mix

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"pretrain/internal/problem"
)

// Outline is a stage as far as it is known before the data is: presets are written out and edges lie on steps, but what a rule
// makes of sources that it weighs by size is left open.
type Outline struct {
	Name     string
	From, To int64 // steps, From ≤ step < To
	SeqLen   int
	Parts    []Part
}

// Part is a share of a stage's tokens: one source's, or that of several which Rule divides among themselves.
type Part struct {
	Sources []string
	Share   float64
	Rule    Rule // natural, temperature or unimax; not used for one source
}

// Outline lays the stages out over a run. Errors are those of [Expand] that need no data.
func (c Config) Outline(run Run) ([]Outline, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.Resolved()
	var p problem.List
	drafts := c.drafts(run, &p)
	if p.Err() != nil {
		return nil, p.Err()
	}
	plan := &Plan{run: run}
	plan.place(drafts, &p)
	if p.Err() != nil {
		return nil, p.Err()
	}
	out := make([]Outline, len(drafts))
	for i, d := range drafts {
		st := plan.stages[i]
		out[i] = Outline{Name: st.Name, From: st.From, To: st.To, SeqLen: st.SeqLen, Parts: d.parts(c)}
	}
	return out, nil
}

// parts are the shares of a stage that do not hang on sizes.
func (d draft) parts(c Config) (parts []Part) {
	classes := d.classes
	if len(d.Mix) > 0 {
		classes = []class{{slices.Sorted(maps.Keys(d.Mix)), 1}}
	}
	for _, k := range classes {
		if len(d.Mix) == 0 && c.Mix.Kind != Explicit && len(k.sources) > 1 {
			parts = append(parts, Part{k.sources, k.share, c.Mix})
			continue
		}
		weight, sum := func(name string) float64 { return c.Sources[name].Weight }, 0.0
		if len(d.Mix) > 0 {
			weight = func(name string) float64 { return d.Mix[name] }
		}
		for _, name := range k.sources {
			sum += weight(name)
		}
		for _, name := range k.sources {
			if w := weight(name); w > 0 {
				parts = append(parts, Part{[]string{name}, k.share * w / sum, Rule{}})
			}
		}
	}
	return parts
}

// Open reports whether the data decides some of the shares.
func (o Outline) Open() bool {
	return slices.ContainsFunc(o.Parts, func(p Part) bool { return len(p.Sources) > 1 })
}

// String is the stage's shares in words, the largest first: "code + web 50% by temperature(2), books 30%, sft 20%".
func (o Outline) String() string {
	var parts []string
	for _, p := range slices.SortedStableFunc(slices.Values(o.Parts), func(a, b Part) int { return cmp.Compare(b.Share, a.Share) }) {
		text := fmt.Sprintf("%s %.3g%%", strings.Join(p.Sources, " + "), 100*p.Share)
		if len(p.Sources) > 1 {
			text = fmt.Sprintf("%s by %s", text, p.Rule)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// ShareFor is the share of code and math that code_math gives a model of so many non-embedding parameters.
func (m CodeMath) ShareFor(params float64) float64 {
	return min(float64(m.Max), float64(m.Share)*math.Pow(params/m.ReferenceParams, m.Exponent))
}
