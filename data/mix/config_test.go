package mix

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"pretrain/internal/problem"
	"pretrain/internal/units"
)

func TestConfigReadsAsYAML(t *testing.T) {
	c := Default()
	err := yaml.UnmarshalWithOptions([]byte(`
sources:
  web: {path: shards/web}
  textbook: {path: shards/textbook, quality: high, max_epochs: 2.5}
  sft: {path: shards/sft, quality: sft, format: chat, loss: assistant, pack: best_fit, fields: {messages: turns}}
mix: temperature(1.5)
stages:
  - {until: 20Btok, sources: [web]}
  - {at: 20Btok, mix: {web: 0.5, textbook: 0.5}, seq_len: 1024}
  - {name: anneal, at: decay, mix: {web: 0.3, textbook: 0.4, sft: 0.3}}
`), &c, yaml.Strict())
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Sources = map[string]Source{
		"web":      {Path: "shards/web"},
		"textbook": {Path: "shards/textbook", Quality: High, MaxEpochs: 2.5},
		"sft":      {Path: "shards/sft", Quality: SFT, Format: FormatChat, Loss: LossAssistant, Pack: BestFit, Fields: Fields{Messages: "turns"}},
	}
	want.Mix = Rule{Temperature, 1.5}
	want.Stages = []Stage{
		{Until: units.OfTokens(20e9), Sources: []string{"web"}},
		{At: Start{Length: units.OfTokens(20e9)}, Mix: map[string]float64{"web": 0.5, "textbook": 0.5}, SeqLen: 1024},
		{Name: "anneal", At: AtPhase("decay"), Mix: map[string]float64{"web": 0.3, "textbook": 0.4, "sft": 0.3}},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var again Config
	if err := yaml.UnmarshalWithOptions(text, &again, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.Resolved(), again.Resolved(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("written and read again (-want +got):\n%s", diff)
	}
}

func TestRuleText(t *testing.T) {
	for text, want := range map[string]Rule{"natural": {Natural, 0}, " unimax( 4 )": {Unimax, 4}, "temperature(0.5)": {Temperature, 0.5}, "explicit": {Explicit, 0}} {
		var r Rule
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want {
			t.Errorf("%q: got %v (%v), want %v", text, r, err, want)
		}
	}
	for _, text := range []string{"", "temperature", "temperature()", "temperature(0)", "temperature(-1)", "unimax(4", "natural(2)", "unimax(4))", "doremi", "unimax(Inf)"} {
		if err := new(Rule).UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "want natural, temperature(τ)") {
			t.Errorf("%q: error is %v", text, err)
		}
	}
}

func TestStartText(t *testing.T) {
	for _, text := range []string{"decay", "20Btok", "90%", "1000 steps", ""} {
		var s Start
		if err := s.UnmarshalText([]byte(text)); err != nil || s.String() != text || s.IsZero() != (text == "") {
			t.Errorf("%q: got %q (%v)", text, s, err)
		}
	}
	if err := new(Start).UnmarshalText([]byte("20B")); err == nil || !strings.Contains(err.Error(), `got "20B"`) || !strings.Contains(err.Error(), "decay") {
		t.Errorf("error is %v", err)
	}
}

// Each row breaks a good config in one place; the problems name the key.
func TestValidateNamesEveryProblem(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(c *Config)
		want []string
	}{
		{"good", func(*Config) {}, nil},
		{"no sources", func(c *Config) { c.Sources = nil }, []string{"sources: none"}},
		{"source", func(c *Config) {
			c.Sources["a"] = Source{Quality: "best", Format: "html", Loss: "none", Domain: "law", Weight: -1, MaxEpochs: math.Inf(1), Pack: "x"}
		}, []string{"sources.a.path", `sources.a.quality: "best": want ordinary, high, sft`, "sources.a.format", "sources.a.loss", "sources.a.domain", "sources.a.weight", "sources.a.max_epochs", "sources.a.pack"}},
		{"loss without a chat", func(c *Config) { c.Sources["a"] = Source{Path: "a", Loss: LossAssistant} }, []string{"sources.a.loss: assistant: want all: only format chat"}},
		{"words", func(c *Config) { c.Scheme, c.Pack, c.Template, c.MaxEpochs = "best", "x", "x", 0 }, []string{"scheme", "pack", "template", "max_epochs"}},
		{"rule", func(c *Config) { c.Mix = Rule{Temperature, 0} }, []string{"mix: temperature: want a number above 0"}},
		{"weights", func(c *Config) {
			c.Stages = []Stage{{Mix: map[string]float64{"x": 1, "a": -1}, SeqLen: -1}, {Mix: map[string]float64{"a": 0}}, {Sources: []string{"y"}}, {Mix: map[string]float64{"a": 1}, Sources: []string{"a"}}}
		}, []string{"stages[0].mix.x: 1: want one of the sources: a, b, c, d", "stages[0].mix.a: -1", "stages[0].mix: 0", "stages[0].seq_len", "stages[1].mix: 0", "stages[2].sources: y", "stages[3].sources: a: want nothing beside mix"}},
		{"explicit without weights", func(c *Config) { c.Mix = Rule{Kind: Explicit} }, []string{"stages[0].mix: none"}},
		{"stages beside a scheme", func(c *Config) { c.Scheme, c.Stages = SchemeAllQuality, []Stage{{}} }, []string{"stages: 1 stages: want none beside scheme", "scheme: all_quality: want a source of quality high"}},
		{"scheme numbers", func(c *Config) {
			c.Scheme, c.EarlyQuality = SchemeEarlyQuality, EarlyQuality{First: 0.1, Last: 0.5, Widen: "x"}
		}, []string{"scheme: early_quality: want a source of quality high", "early_quality.first: 10%", "early_quality.widen", "early_quality.steps"}},
		{"late", func(c *Config) {
			c.Scheme, c.LateQuality = SchemeLateQuality, LateQuality{High: 0.8, SFT: 0.3}
		}, []string{"scheme: late_quality: want a source of quality high", "late_quality: 110"}},
		{"code and math", func(c *Config) { c.CodeMath = CodeMath{Enabled: true, Share: 0.5, Max: 0.2, Exponent: 2} }, []string{"code_math.reference_params", "code_math.max: 20%", "code_math.exponent"}},
	} {
		c, _ := testConfig()
		tt.edit(&c)
		expectProblems(t, tt.name, c.Validate(), tt.want)
	}
}

func TestExpandNamesEveryProblem(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(c *Config, run *Run, available map[string]Available)
		want []string
	}{
		{"good", func(*Config, *Run, map[string]Available) {}, nil},
		{"invalid", func(c *Config, _ *Run, _ map[string]Available) { c.Pack = "x" }, []string{"pack"}},
		{"missing and empty", func(_ *Config, _ *Run, a map[string]Available) { delete(a, "a"); a["b"] = Available{lengths{0}, ""} }, []string{"sources.a: not available", "sources.b.path: b: want usable documents: 0 documents"}},
		{"no such phase", func(c *Config, _ *Run, _ map[string]Available) { c.Stages = []Stage{{}, {At: AtPhase("anneal")}} }, []string{"stages[1].at: anneal: want a phase of this run's schedule: decay, stable, warmup"}},
		{"no decay", func(c *Config, r *Run, _ map[string]Available) {
			c.Scheme, r.Phases = SchemeLateQuality, map[string]int64{"warmup": 0, "decay": 10}
			c.Sources["a"] = Source{Path: "a", Quality: High}
		}, []string{"scheme: late_quality: want a schedule with a stable and a decay phase"}},
		{"late first stage", func(c *Config, _ *Run, _ map[string]Available) {
			c.Stages = []Stage{{At: Start{Length: units.Steps(5)}}}
		}, []string{"stages[0].at: 5 steps"}},
		{"gap", func(c *Config, _ *Run, _ map[string]Available) {
			c.Stages = []Stage{{Until: units.OfRun(0.5)}, {At: AtPhase("decay")}}
		}, []string{"stages[1].at: decay: want where the stage before ends (step 50); this is step 90"}},
		{"no end", func(c *Config, _ *Run, _ map[string]Available) { c.Stages = []Stage{{}, {}} }, []string{"stages[0].until: none"}},
		{"ends early", func(c *Config, _ *Run, _ map[string]Available) { c.Stages = []Stage{{Until: units.OfRun(0.5)}} }, []string{"stages[0].until: 50%: want the end of the run (step 100) for the last stage; this is step 50"}},
		{"beyond the end", func(c *Config, _ *Run, _ map[string]Available) {
			c.Stages = []Stage{{Until: units.OfTokens(1e9)}, {}}
		}, []string{"stages[1]: stage 2: want at least one step before the run's end at step 100; this stage is steps 100 to 100"}},
		{"backwards", func(c *Config, _ *Run, _ map[string]Available) {
			c.Stages = []Stage{{Until: units.Steps(60)}, {Until: units.Steps(40)}, {}}
		}, []string{"stages[1]: stage 2"}},
		{"sequence length", func(c *Config, _ *Run, _ map[string]Available) { c.Stages = []Stage{{SeqLen: 5}} }, []string{"stages[0].seq_len: 5: want a divisor of the run's sequence length 16"}},
		{"best fit cut", func(c *Config, _ *Run, _ map[string]Available) {
			c.Stages = []Stage{{SeqLen: 8}}
			c.Sources["d"] = Source{Path: "d", Pack: BestFit, MaxEpochs: 1e6}
		}, []string{"stages[0].seq_len: 8: want the run's 16: source d is packed best_fit"}},
		{"size unknown", func(c *Config, r *Run, _ map[string]Available) { c.CodeMath.Enabled, r.Params = true, 0 }, []string{"code_math.enabled"}},
	} {
		c, available := testConfig()
		run := testRun(100, 16, fixed(8))
		tt.edit(&c, &run, available)
		_, err := Expand(c, run, available)
		expectProblems(t, tt.name, err, tt.want)
	}
	c, available := testConfig()
	if _, err := Expand(c, testRun(0, 16, fixed(8)), available); err == nil {
		t.Error("a run of no steps is taken")
	}
}

func TestMaxEpochs(t *testing.T) {
	c, available := testConfig()
	available["d"] = Available{lengths{0, 600, 1000}, ""}
	c.Sources["d"] = Source{Path: "d"}
	c.Stages = []Stage{{Mix: map[string]float64{"a": 3, "d": 1}}} // d: 0.25 of 12.8k tokens in the first, 3.2 epochs
	if _, err := Expand(c, testRun(100, 16, fixed(8)), available); err != nil {
		t.Errorf("3.2 of 4 epochs: %v", err)
	}
	_, err := Expand(c, testRun(200, 16, fixed(8)), available)
	expectProblems(t, "6.4 of 4 epochs", err, []string{`sources.d.max_epochs: 4: want at least 6.40: the plan takes 6.4ktok from the source's 1ktok (25% of stage "stage 1", 6.4ktok)`})
	d := c.Sources["d"]
	d.MaxEpochs = 6.4
	c.Sources["d"] = d
	if _, err := Expand(c, testRun(200, 16, fixed(8)), available); err != nil {
		t.Errorf("6.4 of 6.4 epochs: %v", err)
	}
}

// expectProblems wants each problem to begin as listed, and no others.
func expectProblems(t *testing.T, name string, err error, want []string) {
	t.Helper()
	var got []string
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if p := (problem.Problem{}); !errors.As(e, &p) {
				t.Errorf("%s: %v is no problem.Problem", name, e)
			}
			got = append(got, e.Error())
		}
	} else if err != nil {
		t.Fatalf("%s: error %v does not hold problems", name, err)
	}
	for _, w := range want {
		found := false
		for _, g := range got {
			found = found || strings.HasPrefix(g, w)
		}
		if !found {
			t.Errorf("%s: no problem %q in %q", name, w, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d problems %q, want %d", name, len(got), got, len(want))
	}
}
