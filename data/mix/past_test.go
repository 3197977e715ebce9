package mix

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"pretrain/internal/units"
)

// drawStages are up to three stages with some rule for their weights.
func drawStages(t *rapid.T, steps int64, label string) []Stage {
	var stages []Stage
	for at := int64(0); len(stages) < 3 && at < steps; at += rapid.Int64Range(1, steps).Draw(t, label+" length") {
		s := Stage{At: Start{Length: units.Steps(at)}}
		if rapid.Bool().Draw(t, label+" weights") {
			s.Mix = drawMix(t, label)
		}
		if rapid.IntRange(0, 3).Draw(t, label+" short") == 0 {
			s.SeqLen = 4
		}
		stages = append(stages, s)
	}
	return stages
}

// A run that goes on by another config keeps the batches of its past; from there on the new stages hold; and through it all each
// source's rows come one after another, none twice and none left out.
func TestContinue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, available := testConfig()
		c.Mix = rapid.SampledFrom([]Rule{{Kind: Natural}, {Kind: Temperature, Value: 2}, {Kind: Unimax, Value: 1e5}}).Draw(t, "rule")
		steps := rapid.Int64Range(2, 120).Draw(t, "steps")
		c.Stages = drawStages(t, steps, "old")
		gone := rapid.Bool().Draw(t, "a source goes") // the new config does not know it
		if gone {
			c.Stages[0].Mix = drawMix(t, "with it")
		}
		old, err := Expand(c, testRun(steps, 16, fixed(8)), available)
		if err != nil {
			t.Fatal(err)
		}
		step := rapid.Int64Range(0, steps).Draw(t, "step")
		n := c
		n.Sources, n.Stages = maps.Clone(c.Sources), nil
		if rapid.Bool().Draw(t, "a source comes") {
			n.Sources["new"], available["new"] = Source{Path: "new", MaxEpochs: 1e6}, Available{newLengths(77, 20), "hash-new"}
		}
		more := step + rapid.Int64Range(1, 120).Draw(t, "more")
		n.Stages = drawStages(t, more, "new")
		if gone {
			delete(n.Sources, "d")
			for i := range n.Stages {
				delete(n.Stages[i].Mix, "d")
			}
		}
		run := testRun(more, 16, ramp{step, 8, rapid.SampledFrom([]int{8, 3}).Draw(t, "batch")})
		plan, err := old.Continue(step, n, run, available)
		if err != nil {
			t.Fatal(err)
		}
		own := mustExpandRapid(t, n, run, available)
		next := map[string]int64{}
		for s := range more {
			want := own.StageAt(s).Mix
			if s < step {
				want = old.StageAt(s).Mix
				if diff := cmp.Diff(named(t, old, s), named(t, plan, s)); diff != "" {
					t.Fatalf("step %d of the past: -was +is\n%s", s, diff)
				}
			}
			if c.Mix.Kind != Unimax { // whose weights hang on what is left
				if diff := cmp.Diff(want, plan.StageAt(s).Mix); diff != "" {
					t.Fatalf("step %d, -want +got:\n%s", s, diff)
				}
			}
			st := plan.stageAt(s)
			for i := range run.Batches.SequencesAt(s) {
				src, rank := st.share.locate(run.Batches.SequencesBefore(s) + int64(i) - st.row)
				name := plan.sources[src].name
				if row := st.before[src] + rank; row != next[name] {
					t.Fatalf("step %d: row %d of source %s, want %d", s, row, name, next[name])
				}
				next[name]++
			}
		}
		for i, s := range plan.sources {
			if s.rows != next[s.name] || plan.taken(i, more) != next[s.name] {
				t.Fatalf("source %s: %d rows planned, %d taken, %d counted", s.name, s.rows, plan.taken(i, more), next[s.name])
			}
		}
	})
}

// named is a batch with its sources' names, as their places may change.
func named(t *rapid.T, plan *Plan, step int64) (list []any) {
	batch, err := plan.At(step)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range batch {
		list = append(list, []any{plan.Sources()[s.Source], s.Epoch, s.Segments})
	}
	return list
}

func mustExpandRapid(t *rapid.T, c Config, run Run, available map[string]Available) *Plan {
	plan, err := Expand(c, run, available)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// Going on as before is going on, in the middle of a stage and between two.
func TestContinueUnchanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, available := testConfig()
		steps := rapid.Int64Range(2, 120).Draw(t, "steps")
		c.Stages = drawStages(t, steps, "old")
		run := testRun(steps, 16, fixed(8))
		plan := mustExpandRapid(t, c, run, available)
		again, err := plan.Continue(rapid.Int64Range(0, steps).Draw(t, "step"), c, run, available)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(plan.Usage(), again.Usage()); diff != "" {
			t.Fatalf("usage: %s", diff)
		}
		for s := range steps {
			if diff := cmp.Diff(named(t, plan, s), named(t, again, s)); diff != "" {
				t.Fatalf("step %d: %s", s, diff)
			}
		}
	})
}

// The past was trained on something: that cannot change under its name.
func TestContinueRefusesOtherContent(t *testing.T) {
	c, available := testConfig()
	c.Stages = []Stage{{Mix: map[string]float64{"a": 1, "b": 1}}}
	run := testRun(100, 16, fixed(8))
	old := mustExpand(t, c, run, available)
	available["a"] = Available{newLengths(10, 20), "other"}
	available["c"] = Available{newLengths(10, 20), "other"} // which no step has seen
	s := c.Sources["b"]
	s.Pack = BestFit
	c.Sources["b"] = s
	_, err := old.Continue(50, c, run, available)
	if err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.Contains(err.Error(), "sources.a.path: other content") ||
		!strings.Contains(err.Error(), "sources.b.pack: best_fit: want concat") {
		t.Errorf("got %v", err)
	}
}
