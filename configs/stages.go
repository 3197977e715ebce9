package configs

import (
	"fmt"

	"pretrain/data/mix"
	"pretrain/internal/prng"
	"pretrain/schedule"
)

// MixRun is what the order of the data needs to know of the run.
func (r *Resolved) MixRun() mix.Run {
	phases := map[string]int64{}
	for _, s := range r.Schedule.Spans() {
		if at, ok := r.Schedule.Begins(s.Phase); ok {
			phases[string(s.Phase)] = at
		}
	}
	return mix.Run{
		Key: prng.New(r.Run.Seed).Split("data"), Steps: r.Plan.Steps(), SeqLen: r.Run.Model.MaxSeqLen,
		Batches: rows{r.Plan}, Phases: phases, Params: float64(r.Run.Model.Count().NonEmbedding),
	}
}

// rows is a batch plan as the mix counts it.
type rows struct{ *schedule.Plan }

func (p rows) SequencesBefore(step int64) int64 { return p.TokensBefore(step) / p.SequenceLength() }
func (p rows) SequencesAt(step int64) int       { return int(p.Plan.SequencesAt(step)) }

// stages lays the stages of the data out, those of a scheme in plain, and notes them with what they come from.
func (r *Resolved) stages(d *decoder) {
	if d.has("data") {
		return
	}
	c := r.Run.Data.Mix()
	outline, err := c.Outline(r.MixRun())
	if err != nil {
		d.section("data", err)
		return
	}
	r.Stages = outline
	if len(outline) == 1 && len(c.Sources) == 1 {
		return // the whole run, all of the one source
	}
	from := "data.stages"
	if outline[0].Open() {
		from = "data.mix " + c.Mix.String()
	}
	switch c.Scheme {
	case mix.SchemeLateQuality:
		from = fmt.Sprintf("data.scheme late_quality, high %s and sft %s with the decay", c.LateQuality.High, c.LateQuality.SFT)
	case mix.SchemeEarlyQuality:
		e := c.EarlyQuality
		from = fmt.Sprintf("data.scheme early_quality, %s high at first, %s at last, widen %s", e.First, e.Last, e.Widen)
	case mix.SchemeAllQuality:
		from = "data.scheme all_quality"
	}
	for i, o := range outline {
		text := fmt.Sprintf("%s: steps %d to %d: %s", o.Name, o.From, o.To, o)
		if o.SeqLen != r.Run.Model.MaxSeqLen {
			text += fmt.Sprintf("; sequences of %d", o.SeqLen)
		}
		r.formulas = append(r.formulas, Value{fmt.Sprintf("data.stages[%d]", i), text, Origin{Kind: FromFormula, Name: from}})
	}
	if m := c.CodeMath; m.Enabled {
		params := r.MixRun().Params
		r.formulas = append(r.formulas, Value{"data.code_math", fmt.Sprintf("%.4g%% of stages whose weights are not written out", 100*m.ShareFor(params)), Origin{Kind: FromFormula,
			Name: fmt.Sprintf("share %s · (%.3g parameters / reference_params %.3g)^%v, at most %s", m.Share, params, m.ReferenceParams, m.Exponent, m.Max)}})
	}
}
