package schedule_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"pretrain/internal/units"
	"pretrain/schedule"
)

// A run that goes on by another config keeps its past, and from there on does what the config, read literally, says of so many
// tokens.
func TestContinue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, seqLen, length := drawBatch(t)
		old, err := schedule.NewPlan(b, seqLen, length)
		if err != nil {
			t.Skip("does not fit")
		}
		step := rapid.Int64Range(0, old.Steps()).Draw(t, "step")
		next, _ := drawBatchOf(t, seqLen)
		total := old.TokensBefore(step) + rapid.Int64Range(1, 2000*seqLen).Draw(t, "more")
		p, err := old.Continue(step, next, units.OfTokens(units.Tokens(total)))
		if err != nil {
			t.Skip("does not fit")
		}
		if p.Tokens() < total || p.TokensBefore(p.Steps()-1) >= total || p.Steps() <= step {
			t.Fatalf("%d steps, %d tokens for a run of %d", p.Steps(), p.Tokens(), total)
		}
		var seen int64
		for s := range p.Steps() + 2 {
			batch := p.SequencesAt(s) * seqLen
			if p.TokensBefore(s) != seen || p.StepAt(seen) != s || p.StepAt(seen+batch-1) != s {
				t.Fatalf("step %d begins at %d tokens, counted %d", s, p.TokensBefore(s), seen)
			}
			switch {
			case s < step:
				if p.SequencesAt(s) != old.SequencesAt(s) {
					t.Fatalf("step %d of the past has %d sequences, had %d", s, p.SequencesAt(s), old.SequencesAt(s))
				}
			case p.SequencesAt(s)%p.MicroBatch() != 0:
				t.Fatalf("step %d: %d sequences in micro-batches of %d", s, p.SequencesAt(s), p.MicroBatch())
			case next.Tokens != schedule.Law && next.Linear.Until.IsZero():
				want := int64(next.Tokens)
				for _, r := range slices.Backward(next.Ramp) {
					if until, _ := r.Until.Tokens(); seen < int64(until) {
						want = int64(r.Tokens)
					}
				}
				if batch != want {
					t.Fatalf("step %d at %d tokens: a batch of %d, want %d", s, seen, batch, want)
				}
			}
			seen += batch
		}
		c := configs.Draw(t, "config")
		was, err := schedule.New(configs.Draw(t, "old config"), old)
		if err != nil {
			t.Skip("does not fit")
		}
		own, err := schedule.New(c, p)
		if err != nil {
			t.Skip("does not fit")
		}
		s, err := was.Continue(step, c, p)
		if err != nil {
			from, _ := own.Begins(schedule.PhaseDecay)
			if from >= step || was.Phase(step-1) == schedule.PhaseDecay {
				t.Fatalf("refused a decay from %d at %d: %v", from, step, err)
			}
			return
		}
		at := int64(0)
		for _, span := range s.Spans() {
			if span.From != at || span.To <= at || s.Phase(span.From) != span.Phase || s.Phase(span.To-1) != span.Phase {
				t.Fatalf("spans %v", s.Spans())
			}
			at = span.To
		}
		if at != p.Steps() {
			t.Fatalf("spans %v of %d steps", s.Spans(), p.Steps())
		}
		for i := range p.Steps() {
			want := own
			if i < step {
				want = was
			}
			if s.LR(i) != want.LR(i) || s.Phase(i) != want.Phase(i) {
				t.Fatalf("step %d: rate %v in %s, want %v in %s", i, s.LR(i), s.Phase(i), want.LR(i), want.Phase(i))
			}
		}
	})
}

// Going on as before is going on.
func TestContinueUnchanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, seqLen, length := drawBatch(t)
		if b.Tokens == schedule.Law {
			t.Skip("its past hangs on the losses")
		}
		p, err := schedule.NewPlan(b, seqLen, length)
		if err != nil {
			t.Skip("does not fit")
		}
		c := configs.Draw(t, "config")
		s, err := schedule.New(c, p)
		if err != nil {
			t.Skip("does not fit")
		}
		step := rapid.Int64Range(0, p.Steps()).Draw(t, "step")
		q, err := p.Continue(step, b, length)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Continue(step, c, q)
		if err != nil {
			t.Fatal(err)
		}
		if q.Steps() != p.Steps() || !slices.Equal(r.Spans(), s.Spans()) && c.Kind != schedule.SGDR {
			t.Fatalf("%d steps %v, were %d %v", q.Steps(), r.Spans(), p.Steps(), s.Spans())
		}
		for i := range p.Steps() {
			if q.SequencesAt(i) != p.SequencesAt(i) || r.LR(i) != s.LR(i) {
				t.Fatalf("step %d: %d sequences at %v, were %d at %v", i, q.SequencesAt(i), r.LR(i), p.SequencesAt(i), s.LR(i))
			}
		}
	})
}

// A decay that would have begun before the run goes on cannot be entered in its middle.
func TestContinueRefusesHalfADecay(t *testing.T) {
	p := plan(t, 100)
	c := schedule.Default()
	c.Decay.Length = units.Steps(0)
	trunk := layOut(t, c, p)
	c.Decay.Length = units.OfRun(.2)
	if _, err := trunk.Continue(80, c, p); err != nil {
		t.Error(err)
	}
	_, err := trunk.Continue(85, c, p)
	checkProblems(t, err, []string{"decay.length: 20%: want at most the 15 steps from step 85, where this run goes on, to its end; this is 20"})
	decaying, err := trunk.Continue(80, c, p)
	if err != nil {
		t.Fatal(err)
	}
	c.Decay.Shape = schedule.ShapeLinear
	if _, err := decaying.Continue(85, c, p); err != nil {
		t.Error("another shape in the middle of the decay: ", err)
	}
}
