package mix

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"pretrain/internal/units"
)

// uniform is an index of n documents of 100 tokens.
func uniform(n int) Available {
	l := make(lengths, n+1)
	for i := range l {
		l[i] = 100 * int64(i)
	}
	return Available{l, ""}
}

func schemeConfig() (Config, map[string]Available) {
	c := Default()
	c.Sources = map[string]Source{
		"web": {Path: "w", MaxEpochs: 1000}, "code": {Path: "c", Domain: DomainCode, MaxEpochs: 1000, Weight: 3},
		"book": {Path: "b", Quality: High, MaxEpochs: 1000}, "chat": {Path: "s", Quality: SFT, MaxEpochs: 1000},
	}
	return c, map[string]Available{"web": uniform(30), "code": uniform(10), "book": uniform(8), "chat": uniform(2)}
}

func TestSchemesExpandToPlainStages(t *testing.T) {
	type m = map[string]float64
	only := m{"web": 0.75, "code": 0.25}
	ordinary := func(high float64) m { return m{"web": 0.75 * (1 - high), "code": 0.25 * (1 - high), "book": high} }
	for _, tt := range []struct {
		name string
		edit func(c *Config, run *Run)
		want []StagePlan
	}{
		{"none", func(*Config, *Run) {}, []StagePlan{
			{"stage 1", 0, 1000, 128000, 16, m{"web": 0.6, "code": 0.2, "book": 0.16, "chat": 0.04}},
		}},
		{"late_quality", func(c *Config, _ *Run) { c.Scheme = SchemeLateQuality }, []StagePlan{
			{"ordinary", 0, 900, 115200, 16, only},
			{"decay", 900, 1000, 12800, 16, m{"web": 0.375, "code": 0.125, "book": 0.3, "chat": 0.2}},
		}},
		{"late_quality without sft", func(c *Config, _ *Run) { c.Scheme = SchemeLateQuality; delete(c.Sources, "chat") }, []StagePlan{
			{"ordinary", 0, 900, 115200, 16, only},
			{"decay", 900, 1000, 12800, 16, ordinary(0.5)},
		}},
		{"early_quality", func(c *Config, _ *Run) { c.Scheme = SchemeEarlyQuality }, []StagePlan{
			{"widening 1 of 4", 0, 300, 38400, 16, ordinary(0.8)},
			{"widening 2 of 4", 300, 500, 25600, 16, ordinary(0.6)},
			{"widening 3 of 4", 500, 700, 25600, 16, ordinary(0.4)},
			{"widening 4 of 4", 700, 1000, 38400, 16, ordinary(0.2)},
		}},
		{"early_quality under cosine", func(c *Config, r *Run) {
			c.Scheme, c.EarlyQuality.Steps, r.Phases = SchemeEarlyQuality, 2, map[string]int64{"warmup": 0, "decay": 10}
		}, []StagePlan{
			{"widening 1 of 2", 0, 500, 64000, 16, ordinary(0.8)},
			{"widening 2 of 2", 500, 1000, 64000, 16, ordinary(0.2)},
		}},
		{"all_quality", func(c *Config, _ *Run) { c.Scheme = SchemeAllQuality }, []StagePlan{{"high quality", 0, 1000, 128000, 16, m{"book": 1}}}},
		{"explicit", func(c *Config, _ *Run) { c.Scheme, c.Mix.Kind = SchemeLateQuality, Explicit }, []StagePlan{
			{"ordinary", 0, 900, 115200, 16, m{"web": 0.25, "code": 0.75}},
			{"decay", 900, 1000, 12800, 16, m{"web": 0.125, "code": 0.375, "book": 0.3, "chat": 0.2}},
		}},
		// 26% at 2.4e9 parameters is 26%·10^0.1 = 32.7% at 2.4e10; the rest keeps its proportions.
		{"code_math", func(c *Config, r *Run) {
			c.CodeMath.Enabled, r.Params = true, 2.4e10
			c.Stages = []Stage{{Sources: []string{"web", "code"}}}
		}, []StagePlan{
			{"stage 1", 0, 1000, 128000, 16, m{"web": 1 - 0.26*math.Pow(10, 0.1), "code": 0.26 * math.Pow(10, 0.1)}},
		}},
		{"code_math's limit", func(c *Config, r *Run) { c.CodeMath.Enabled, r.Params = true, 2.4e15 }, []StagePlan{
			{"stage 1", 0, 1000, 128000, 16, m{"web": 0.375, "code": 0.5, "book": 0.1, "chat": 0.025}},
		}},
		{"at, until, tokens under a ramp", func(c *Config, r *Run) {
			r.Batches = ramp{500, 8, 16} // 64,000 tokens by step 500, then 256 a step
			c.Stages = []Stage{
				{Name: "x", Until: units.OfTokens(70_000), Mix: m{"web": 1}},
				{At: Start{Length: units.OfTokens(70_000)}, Mix: m{"web": 1, "book": 3}, SeqLen: 8},
				{At: AtPhase("decay"), Mix: m{"chat": 2}},
			}
		}, []StagePlan{
			{"x", 0, 524, 70144, 16, m{"web": 1}},
			{"stage 2", 524, 900, 96256, 8, m{"web": 0.25, "book": 0.75}},
			{"stage 3", 900, 1000, 25600, 16, m{"chat": 1}},
		}},
	} {
		c, available := schemeConfig()
		run := testRun(1000, 16, fixed(8))
		tt.edit(&c, &run)
		plan, err := Expand(c, run, available)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(tt.want, plan.Stages(), cmpopts.EquateApprox(0, 1e-9)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		for _, st := range plan.Stages() {
			if got := plan.StageAt(st.To - 1).Name; got != st.Name {
				t.Errorf("%s: step %d is in stage %q, want %q", tt.name, st.To-1, got, st.Name)
			}
		}
	}
}

// Linear widening falls evenly from first to last, and the decay stays at last.
func TestLinearWidening(t *testing.T) {
	c, available := schemeConfig()
	c.Scheme, c.EarlyQuality.Widen = SchemeEarlyQuality, WidenLinear
	plan := mustExpand(t, c, testRun(1000, 16, fixed(8)), available)
	for step := int64(100); step < 900; step++ {
		line := 0.8 - 0.6*(float64(step)+0.5-100)/800
		if got := plan.StageAt(step).Mix["book"]; math.Abs(got-line) > 0.6/64+1e-9 {
			t.Fatalf("step %d: %.4f high quality, the line is at %.4f", step, got, line)
		}
	}
	if got := plan.StageAt(950).Mix["book"]; math.Abs(got-0.2) > 1e-9 {
		t.Errorf("decay has %v high quality, want 0.2", got)
	}
}

func TestRules(t *testing.T) {
	of := func(tokens ...float64) (out []candidate) {
		for i, n := range tokens {
			out = append(out, candidate{source: i, tokens: n, weight: float64(i + 1)})
		}
		return out
	}
	used := of(100, 10)
	used[1].used = 15
	for _, tt := range []struct {
		rule   Rule
		of     []candidate
		budget float64
		want   []float64
	}{
		{Rule{Natural, 0}, of(60, 30, 10), 1, []float64{0.6, 0.3, 0.1}},
		{Rule{Temperature, 1}, of(60, 30, 10), 1, []float64{0.6, 0.3, 0.1}},
		{Rule{Temperature, 2}, of(64, 4, 1), 1, []float64{8. / 11, 2. / 11, 1. / 11}},
		{Rule{Temperature, 1e9}, of(64, 4, 1), 1, []float64{1. / 3, 1. / 3, 1. / 3}},
		{Rule{Explicit, 0}, of(9, 9, 9), 1, []float64{1. / 6, 2. / 6, 3. / 6}},
		{Rule{Unimax, 2}, of(100, 100), 60, []float64{0.5, 0.5}},
		{Rule{Unimax, 2}, of(100, 10, 50), 120, []float64{50. / 120, 20. / 120, 50. / 120}},
		{Rule{Unimax, 1}, of(10, 30), 100, []float64{0.25, 0.75}}, // all caps reached
		{Rule{Unimax, 2}, used, 50, []float64{0.9, 0.1}},          // 5 left of the second's 20
	} {
		if diff := cmp.Diff(tt.want, tt.rule.shares(tt.of, tt.budget), cmpopts.EquateApprox(0, 1e-6)); diff != "" {
			t.Errorf("%v of %v (-want +got):\n%s", tt.rule, tt.of, diff)
		}
	}
}

// What is known without the data is what the plan does with it: the same edges, and for each part the same share.
func TestOutlineIsThePlan(t *testing.T) {
	c, available := testConfig()
	for name, q := range map[string]Quality{"b": High, "c": High, "d": SFT} {
		s := c.Sources[name]
		s.Quality, s.Weight = q, 2
		c.Sources[name] = s
	}
	run := testRun(400, 16, ramp{40, 4, 8})
	for _, scheme := range []Scheme{SchemeNone, SchemeLateQuality, SchemeEarlyQuality, SchemeAllQuality} {
		for _, rule := range []Rule{{Kind: Natural}, {Temperature, 2}, {Unimax, 3}, {Kind: Explicit}} {
			c.Scheme, c.Mix, c.Stages = scheme, rule, nil
			if scheme == SchemeNone {
				c.Stages = []Stage{
					{Name: "first", Until: units.OfRun(0.3), Mix: map[string]float64{"a": 3, "b": 1}, SeqLen: 8},
					{Mix: map[string]float64{"a": 1, "b": 1, "d": 2}},
				}
			}
			outline, err := c.Outline(run)
			if err != nil {
				t.Fatal(err)
			}
			stages := mustExpand(t, c, run, available).Stages()
			if len(outline) != len(stages) {
				t.Fatalf("%s: %d stages in outline, %d in plan", scheme, len(outline), len(stages))
			}
			for i, o := range outline {
				if s := stages[i]; o.Name != s.Name || o.From != s.From || o.To != s.To || o.SeqLen != s.SeqLen {
					t.Errorf("%s: outline %+v, plan %+v", scheme, o, s)
				}
				open := false
				for _, p := range o.Parts {
					share := 0.0
					for _, name := range p.Sources {
						share += stages[i].Mix[name]
					}
					if math.Abs(share-p.Share) > 1e-9 {
						t.Errorf("%s by %s, stage %s: %v have %v, outline %v", scheme, rule, o.Name, p.Sources, share, p.Share)
					}
					open = open || len(p.Sources) > 1
				}
				if open != o.Open() || open && (rule.Kind == Explicit || scheme == SchemeNone) {
					t.Errorf("%s by %s: open %v", scheme, rule, o.Open())
				}
			}
		}
	}
	o := Outline{Parts: []Part{{[]string{"a"}, 0.5, Rule{}}, {[]string{"b", "c"}, 1. / 3, Rule{Temperature, 2}}}}
	if got, want := o.String(), "a 50%, b + c 33.3% by temperature(2)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	c.Scheme, run.Phases = SchemeLateQuality, map[string]int64{"warmup": 0, "decay": 40}
	c.Stages = nil
	if _, err := c.Outline(run); err == nil || !strings.Contains(err.Error(), "a schedule with a stable and a decay phase") {
		t.Errorf("late_quality under cosine: %v", err)
	}
}
