package mix

import (
	"maps"
	"slices"

	"pretrain/internal/problem"
)

// Outline is where the stages of a run fall, as far as that can be said without its data: Mix is empty in a stage whose shares
// depend on how much of each source there is. Errors are those of [Expand] that need no data.
func Outline(c Config, run Run) ([]StagePlan, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.Resolved()
	var p problem.List
	drafts := c.drafts(run, &p)
	if err := p.Err(); err != nil {
		return nil, err
	}
	plan := &Plan{run: run}
	plan.place(drafts, &p)
	if err := p.Err(); err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(c.Sources))
	some, none := slices.Repeat([]float64{1}, len(names)), make([]float64, len(names)) // sizes, which have no say below
	for i := range plan.stages {
		st, d := &plan.stages[i], drafts[i]
		st.Tokens = plan.rows(*st) * int64(run.SeqLen)
		if c.Mix.Kind != Explicit && slices.ContainsFunc(d.classes, func(k class) bool { return len(k.sources) > 1 }) {
			continue // the rule weighs them by their sizes
		}
		st.Mix = map[string]float64{}
		for j, w := range d.weigh(c, run, names, some, none, float64(st.Tokens)) {
			if w > 0 {
				st.Mix[names[j]] = w
			}
		}
	}
	return plan.Stages(), nil
}
