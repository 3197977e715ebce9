package mix

import (
	"cmp"
	"maps"
	"slices"

	"pretrain/internal/problem"
)

// Continue plans the order of a run that took the batches of plan before step and goes on by c: a branch with another mixture,
// or a resumed run whose later stages or batch size changed. The stages of c are laid out over the whole run and count from
// step on; each source goes on with the rows that come after those taken. A stage with the weights that held before step goes
// on where that one was, so that a change of nothing changes no batch. run.Batches must agree with plan's before step.
//
// Sources may come and go. One that the past drew from must still have the content it had.
func (plan *Plan) Continue(step int64, c Config, run Run, available map[string]Available) (*Plan, error) {
	if step <= 0 {
		return Expand(c, run, available)
	}
	return expand(c, run, available, plan, step)
}

// inherit takes over the sources that only the past has, and checks those that both have.
func (plan *Plan) inherit(past *Plan, p *problem.List) {
	for i, old := range past.sources {
		at, both := slices.BinarySearchFunc(plan.sources, old.name, func(s source, name string) int { return cmp.Compare(s.name, name) })
		if !both {
			plan.sources = slices.Insert(plan.sources, at, old)
			continue
		}
		now := &plan.sources[at]
		drawn := past.taken(i, plan.from) > 0
		p.Check(!drawn || now.hash == old.hash && now.docs == old.docs && now.tokens == old.tokens, "sources."+old.name+".path", "other content",
			"what the %d steps so far were trained on; give other data another name", plan.from)
		p.Check(!drawn || now.packing == old.packing, "sources."+old.name+".pack", now.packing, "%s, as in the %d steps so far", old.packing, plan.from)
	}
}

// taken is how many rows of source i the steps before the given one have.
func (plan *Plan) taken(i int, step int64) int64 {
	st := plan.stageAt(step - 1)
	return st.before[i] + st.share.count(i, plan.run.Batches.SequencesBefore(step)-st.row)
}

// splice puts the past's stages in the place of what c has before plan.from, and returns the drafts to match.
func (plan *Plan) splice(past *Plan, drafts []draft) []draft {
	var stages []stage
	var spliced []draft
	for i, st := range past.stages {
		if st.From < plan.from {
			st.open = st.To > plan.from || i+1 == len(past.stages)
			st.To = min(st.To, plan.from)
			stages, spliced = append(stages, st), append(spliced, draft{})
		}
	}
	for i, st := range plan.stages {
		if st.To > plan.from {
			st.From = max(st.From, plan.from)
			stages, spliced = append(stages, st), append(spliced, drafts[i])
		}
	}
	plan.stages = stages
	return spliced
}

// continues reports whether a stage is the going on of the one before it, which the past was in.
func (st stage) continues(last stage) bool {
	return last.open && st.SeqLen == last.SeqLen && maps.Equal(st.weigh, last.weigh)
}
