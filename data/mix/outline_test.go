package mix

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pretrain/internal/units"
)

// TestOutline: without the data it is the plan that there is with it, less the shares that the amount of data decides.
func TestOutline(t *testing.T) {
	sources, available := testSources()
	run := testRun(1000, 64, ramp{at: 300, first: 4, second: 8})
	for name, stages := range map[string][]Stage{
		"explicit": {{Mix: map[string]float64{"a": 3, "b": 1}, Until: units.OfRun(0.5)}, {Name: "anneal", Mix: map[string]float64{"b": 1, "c": 1}}},
		"one":      {{Sources: []string{"a"}, Until: units.OfRun(0.2)}, {At: AtPhase("decay"), Mix: map[string]float64{"b": 1, "a": 2}}},
		"by size":  {{Sources: []string{"a", "b"}, Until: units.OfRun(0.5)}, {Sources: []string{"a"}}},
	} {
		c := Default()
		c.Sources, c.Stages, c.MaxEpochs = sources, stages, 1e6
		if name == "one" { // its first stage has no end of its own
			c.Stages[0].Until = units.Length{}
		}
		plan, err := Expand(c, run, available)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := Outline(c, run)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := plan.Stages()
		if name == "by size" {
			if len(want[0].Mix) != 2 {
				t.Fatalf("the test's own plan: %v", want)
			}
			want[0].Mix = nil
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: the plan (-) and its outline (+):\n%s", name, d)
		}
	}
	c := Default()
	c.Sources = maps.Clone(sources)
	c.Stages = []Stage{{At: AtPhase("decay"), Mix: map[string]float64{"a": 1}}}
	if _, err := Outline(c, run); err == nil {
		t.Error("a first stage that does not begin at the start")
	}
}
