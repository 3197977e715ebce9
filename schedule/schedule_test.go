package schedule_test

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pretrain/internal/problem"
	"pretrain/internal/units"
	"pretrain/schedule"
)

// plan is a run with batches of one size, in steps.
func plan(t testing.TB, steps int64) *schedule.Plan {
	t.Helper()
	b := schedule.DefaultBatch()
	b.Tokens = 4096
	p, err := schedule.NewPlan(b, 256, units.Steps(steps))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func layOut(t testing.TB, c schedule.Config, p *schedule.Plan) *schedule.Schedule {
	t.Helper()
	s, err := schedule.New(c, p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// curve is how the golden file, written by bench/golden from the formulas alone, describes a curve.
type curve struct {
	Kind, Shape                         string
	Warmup, Steps, First, Length, Waves int64
	Peak, Min, Mult                     float64
	DecaySteps, CosineSteps             int64
	HalfLife, TroughRatio               float64
}

func TestGolden(t *testing.T) {
	params, names, rows := readGolden(t)
	for column, name := range names {
		t.Run(name, func(t *testing.T) {
			g, ok := params[name]
			if !ok {
				t.Fatalf("no parameters for curve %q", name)
			}
			steps := g.Steps
			if steps == 0 {
				steps = int64(len(rows)) - 1
			}
			c := schedule.Config{
				Kind: schedule.Kind(g.Kind), PeakLR: g.Peak, MinLR: g.Min, Warmup: units.Steps(g.Warmup),
				Decay: schedule.Decay{Length: units.Steps(g.DecaySteps), Shape: schedule.Shape(g.Shape)},
				SGDR:  schedule.Cycles{First: units.Steps(g.First), Mult: g.Mult},
				Wave:  schedule.Wave{Length: units.Steps(g.CosineSteps), Count: int(g.Waves), Trough: g.TroughRatio},
			}
			if g.HalfLife > 0 {
				c.Decay.HalfLife = units.Steps(int64(g.HalfLife))
			}
			if g.Kind == "infinitecosine" {
				c.Kind = schedule.Infinite
				c.Infinite = schedule.Floor{Cooldown: units.Steps(g.Length), LR: g.Min, Anneal: units.Steps(0)}
				c.Decay.Shape = schedule.ShapeLinear
			}
			s := layOut(t, c, plan(t, steps))
			// The golden value at s is the curve after s updates, which is what update s-1 uses.
			for i := 1; i < len(rows); i++ {
				want, err := strconv.ParseFloat(rows[i][column+1], 64)
				if err != nil {
					t.Fatal(err)
				}
				if got := s.LR(int64(i - 1)); math.Abs(got-want) > 1e-12*g.Peak+1e-11*want {
					t.Fatalf("LR(%d) = %.15g, golden f(%d) = %.15g", i-1, got, i, want)
				}
			}
		})
	}
}

func readGolden(t *testing.T) (params map[string]curve, names []string, rows [][]string) {
	data, err := os.ReadFile("../bench/golden/data/schedules.csv")
	if err != nil {
		t.Fatal(err)
	}
	params = map[string]curve{}
	lines := bufio.NewScanner(strings.NewReader(string(data)))
	for lines.Scan() {
		name, object, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "# "), " {")
		if !ok || !strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		var c curve
		if json.Unmarshal([]byte("{"+strings.ReplaceAll(object, "_", "")), &c) == nil {
			params[name] = c
		}
	}
	r := csv.NewReader(strings.NewReader(string(data)))
	r.Comment = '#'
	all, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 200 || len(all[0]) < 15 {
		t.Fatalf("golden file has %d rows of %d columns", len(all), len(all[0]))
	}
	return params, all[0][1:], all[1:]
}

// The forms that the golden file does not have, by hand.
func TestLearningRates(t *testing.T) {
	base := schedule.Config{PeakLR: 1, Warmup: units.Steps(0)}
	with := func(edit func(c *schedule.Config)) schedule.Config {
		c := base
		edit(&c)
		return c
	}
	for name, test := range map[string]struct {
		config schedule.Config
		want   []float64
	}{
		"the first update is not wasted and the last of the warm-up has the peak": {
			with(func(c *schedule.Config) { c.Kind, c.Warmup = schedule.Constant, units.Steps(4) }),
			[]float64{.25, .5, .75, 1, 1, 1, 1, 1},
		},
		"a cosine that stops early stays at the minimum": {
			with(func(c *schedule.Config) { c.Kind, c.MinLR, c.CosineLength = schedule.Cosine, .2, units.Steps(4) }),
			[]float64{.2 + .4*(1+math.Sqrt2/2), .6, .2 + .4*(1-math.Sqrt2/2), .2, .2, .2, .2, .2},
		},
		"a cosine longer than the run is cut off": {
			with(func(c *schedule.Config) { c.Kind, c.CosineLength = schedule.Cosine, units.Steps(16) }),
			[]float64{0.9903926402, 0.9619397663, 0.9157348062, 0.8535533906, 0.7777851165, 0.6913417162, 0.5975451610, 0.5},
		},
		"an exponential decay without half-life ends at the minimum": {
			with(func(c *schedule.Config) {
				c.Kind, c.MinLR, c.Decay = schedule.WSD, 1./16, schedule.Decay{Length: units.Steps(4), Shape: schedule.ShapeExponential}
			}),
			[]float64{1, 1, 1, 1, .5, .25, .125, .0625},
		},
		"and without a minimum has five half-lives": {
			with(func(c *schedule.Config) {
				c.Kind, c.Decay = schedule.WSD, schedule.Decay{Length: units.Steps(5), Shape: schedule.ShapeExponential}
			}),
			[]float64{1, 1, 1, .5, .25, .125, .0625, .03125},
		},
		"a half-life in tokens": {
			with(func(c *schedule.Config) {
				c.Kind, c.Decay = schedule.WSD, schedule.Decay{Length: units.OfRun(.5), Shape: schedule.ShapeExponential, HalfLife: units.OfTokens(8192)}
			}),
			[]float64{1, 1, 1, 1, math.Sqrt(.5), .5, math.Sqrt(.125), .25},
		},
		"infinite anneals from its floor": {
			with(func(c *schedule.Config) {
				c.Kind, c.Infinite = schedule.Infinite, schedule.Floor{Cooldown: units.Steps(2), LR: .5, Anneal: units.Steps(2)}
				c.Decay.Shape = schedule.ShapeLinear
			}),
			[]float64{.75, .5, .5, .5, .5, .5, .25, 0},
		},
		"a decay of no steps is a trunk": {
			with(func(c *schedule.Config) {
				c.Kind, c.Decay = schedule.WSD, schedule.Decay{Length: units.Steps(0), Shape: schedule.ShapeLinear}
			}),
			[]float64{1, 1, 1, 1, 1, 1, 1, 1},
		},
		"a length above nothing is at least a step": {
			with(func(c *schedule.Config) {
				c.Kind, c.Warmup, c.Decay = schedule.WSD, units.OfRun(.01), schedule.Decay{Length: units.OfRun(.01), Shape: schedule.ShapeLinear}
			}),
			[]float64{1, 1, 1, 1, 1, 1, 1, 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := layOut(t, test.config, plan(t, 8))
			for i, want := range test.want {
				if got := s.LR(int64(i)); math.Abs(got-want) > 1e-10 {
					t.Errorf("LR(%d) = %v, want %v", i, got, want)
				}
			}
			if s.LR(7) != s.LR(1000) || s.LR(0) != s.LR(-1) {
				t.Error("the rate changes outside the run")
			}
		})
	}
}

func TestPhases(t *testing.T) {
	c := schedule.Default()
	c.Kind, c.Warmup, c.Decay.Length, c.Wave.Length = schedule.WCSD, units.Steps(5), units.OfRun(.2), units.OfTokens(50*4096)
	s := layOut(t, c, plan(t, 100))
	want := []schedule.Span{{schedule.PhaseWarmup, 0, 5}, {schedule.PhaseWave, 5, 55}, {schedule.PhaseStable, 55, 80}, {schedule.PhaseDecay, 80, 100}}
	got := s.Spans()
	if len(got) != len(want) {
		t.Fatalf("spans %v, want %v", got, want)
	}
	for i, span := range want {
		if got[i] != span || s.Phase(span.From) != span.Phase || s.Phase(span.To-1) != span.Phase {
			t.Errorf("span %v with phases %v … %v, want %v", got[i], s.Phase(span.From), s.Phase(span.To-1), span)
		}
	}
	if got := s.Phase(100); got != schedule.PhaseDone {
		t.Errorf("phase after the end is %v", got)
	}
}

var length = rapid.Custom(func(t *rapid.T) units.Length {
	switch rapid.IntRange(0, 2).Draw(t, "unit") {
	case 0:
		return units.Steps(rapid.Int64Range(1, 200).Draw(t, "steps"))
	case 1:
		return units.OfTokens(units.Tokens(rapid.Int64Range(1, 200*4096).Draw(t, "tokens")))
	}
	return units.OfRun(units.Fraction(rapid.Float64Range(.001, .5).Draw(t, "fraction")))
})

var configs = rapid.Custom(func(t *rapid.T) schedule.Config {
	peak := rapid.Float64Range(1e-4, 1).Draw(t, "peak")
	low := rapid.SampledFrom([]float64{0, .1 * peak, peak}).Draw(t, "min")
	return schedule.Config{
		Kind: rapid.SampledFrom(schedule.Kinds).Draw(t, "kind"), PeakLR: peak, MinLR: low, Warmup: length.Draw(t, "warmup"),
		Decay:    schedule.Decay{Length: length.Draw(t, "decay"), Shape: rapid.SampledFrom(schedule.Shapes).Draw(t, "shape")},
		SGDR:     schedule.Cycles{First: length.Draw(t, "first"), Mult: rapid.SampledFrom([]float64{1, 1.5, 2}).Draw(t, "t_mult")},
		Wave:     schedule.Wave{Length: length.Draw(t, "wave"), Count: rapid.IntRange(1, 4).Draw(t, "waves"), Trough: rapid.Float64Range(0, 1).Draw(t, "trough")},
		Infinite: schedule.Floor{Cooldown: length.Draw(t, "cooldown"), LR: low + (peak-low)*.3, Anneal: length.Draw(t, "anneal")},
	}
})

var phases = map[schedule.Kind][]schedule.Phase{
	schedule.Constant: {schedule.PhaseWarmup, schedule.PhaseStable},
	schedule.Linear:   {schedule.PhaseWarmup, schedule.PhaseDecay},
	schedule.Cosine:   {schedule.PhaseWarmup, schedule.PhaseDecay, schedule.PhaseStable},
	schedule.SGDR:     {schedule.PhaseWarmup, schedule.PhaseWave},
	schedule.WSD:      {schedule.PhaseWarmup, schedule.PhaseStable, schedule.PhaseDecay},
	schedule.WCSD:     {schedule.PhaseWarmup, schedule.PhaseWave, schedule.PhaseStable, schedule.PhaseDecay},
	schedule.Infinite: {schedule.PhaseWarmup, schedule.PhaseWave, schedule.PhaseStable, schedule.PhaseDecay},
}

// Every schedule on every ramp: the phases are the run without gaps, the rate is bounded by the peak, rises through the
// warm-up to exactly the peak, does not rise in a decay, ends at the minimum, and is continuous but at SGDR's restarts.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := plans.Draw(t, "plan")
		c := configs.Draw(t, "config")
		s, err := schedule.New(c, p)
		if err != nil {
			t.Skip("does not fit")
		}
		at := int64(0)
		for _, span := range s.Spans() {
			if span.From != at || span.To <= span.From || !slices.Contains(phases[c.Kind], span.Phase) {
				t.Fatalf("%s: spans %v at %d", c.Kind, s.Spans(), at)
			}
			at = span.To
		}
		if at != p.Steps() {
			t.Fatalf("spans %v end before the run at %d", s.Spans(), p.Steps())
		}
		lr := func(step int64) float64 { return s.LR(step) / p.LRScale(step) } // without the ramp's jumps
		eps := 1e-12 * c.PeakLR
		for _, span := range s.Spans() {
			n := span.To - span.From
			// The steepest curves: 1-sqrt falls by the root of its first step, the others by a few times a step's share.
			most := c.PeakLR * min(1, 20*float64(c.Wave.Count)*share(p, span))
			if c.Decay.Shape == schedule.ShapeOneSqrt && span.Phase == schedule.PhaseDecay {
				most = c.PeakLR * math.Sqrt(share(p, span))
			}
			for step := span.From; step < span.To; step++ {
				now, before := lr(step), 0.
				if step > 0 {
					before = lr(step - 1)
				} else if span.Phase != schedule.PhaseWarmup {
					before = c.PeakLR
				}
				restart := c.Kind == schedule.SGDR && step+1 == span.To
				switch {
				case !(now >= 0 && now <= c.PeakLR+eps):
					t.Fatalf("%s: LR(%d) = %v, peak %v", c.Kind, step, now, c.PeakLR)
				case span.Phase == schedule.PhaseDecay && now > before+eps:
					t.Fatalf("%s: rises in the decay at %d: %v to %v", c.Kind, step, before, now)
				case span.Phase == schedule.PhaseWarmup && now <= before:
					t.Fatalf("%s: does not rise in the warm-up at %d: %v to %v", c.Kind, step, before, now)
				case !restart && math.Abs(now-before) > most+eps:
					t.Fatalf("%s: jumps at %d of %v: %v to %v, more than %v", c.Kind, step, span, before, now, most)
				}
			}
			if span.Phase == schedule.PhaseWarmup && s.LR(span.To-1) != c.PeakLR*p.LRScale(span.To-1) {
				t.Fatalf("%s: the warm-up of %d ends at %v, not at the peak %v", c.Kind, n, lr(span.To-1), c.PeakLR)
			}
		}
		last, spans := lr(p.Steps()-1), s.Spans()
		decays := spans[len(spans)-1].Phase == schedule.PhaseDecay
		five := c.Decay.Shape == schedule.ShapeExponential && c.MinLR == 0 && c.Kind != schedule.Linear && c.Kind != schedule.Cosine
		if decays && !five && math.Abs(last-c.MinLR) > eps {
			t.Fatalf("%s: ends at %v, not %v", c.Kind, last, c.MinLR)
		}
	})
}

// share is the part of a span that its largest batch is.
func share(p *schedule.Plan, span schedule.Span) float64 {
	var most int64
	for s := span.From; s < span.To; s++ {
		most = max(most, p.SequencesAt(s))
	}
	return float64(most*p.SequenceLength()) / float64(p.TokensBefore(span.To)-p.TokensBefore(span.From))
}

func TestProblems(t *testing.T) {
	with := func(edit func(c *schedule.Config)) schedule.Config {
		c := schedule.Default()
		edit(&c)
		return c
	}
	for name, test := range map[string]struct {
		config schedule.Config
		want   []string
	}{
		"all at once": {
			with(func(c *schedule.Config) {
				c.Kind, c.PeakLR, c.MinLR, c.Decay = "wds", math.NaN(), -1, schedule.Decay{}
			}),
			[]string{
				"kind: wds: want one of [constant linear cosine sgdr wsd wcsd infinite]",
				"peak_lr: NaN: want more than 0",
				"min_lr: -1: want 0 or more and at most peak_lr NaN",
			},
		},
		"min above peak": {
			with(func(c *schedule.Config) { c.PeakLR, c.MinLR = .001, .01 }),
			[]string{"min_lr: 0.01: want 0 or more and at most peak_lr 0.001"},
		},
		"wsd without decay": {
			with(func(c *schedule.Config) { c.Decay = schedule.Decay{Shape: "sqrt"} }),
			[]string{
				`decay.length: not given: want a length, such as "10%"; "0 steps" for none`,
				"decay.shape: sqrt: want one of [linear cosine exponential 1-sqrt square]",
			},
		},
		"half-life of nothing": {
			with(func(c *schedule.Config) { c.Decay.HalfLife = units.Steps(0) }),
			[]string{"decay.half_life: 0 steps: want a length above 0"},
		},
		"sgdr": {
			with(func(c *schedule.Config) { c.Kind, c.SGDR = schedule.SGDR, schedule.Cycles{} }),
			[]string{`sgdr.first: not given: want a length above 0, such as "10%"`, "sgdr.t_mult: 0: want 1 or more"},
		},
		"wcsd": {
			with(func(c *schedule.Config) { c.Kind, c.Wave = schedule.WCSD, schedule.Wave{Trough: 2} }),
			[]string{
				`wave.length: not given: want a length above 0, such as "70%"`, "wave.waves: 0: want 1 or more",
				"wave.trough: 2: want a part of the peak, from 0 to 1",
			},
		},
		"infinite": {
			with(func(c *schedule.Config) { c.Kind, c.Infinite = schedule.Infinite, schedule.Floor{LR: 1} }),
			[]string{
				`infinite.cooldown: not given: want a length above 0, such as "50%"`,
				"infinite.lr: 1: want from min_lr 0 to peak_lr 0.01",
			},
		},
		"warm-up longer than the run": {
			with(func(c *schedule.Config) { c.Warmup = units.Steps(101) }),
			[]string{"warmup: 101 steps: want at most the run's 100 steps; this is 101"},
		},
		"decay longer than the run": {
			with(func(c *schedule.Config) { c.Decay.Length = units.OfTokens(101 * 4096) }),
			[]string{"decay.length: 413696tok: want at most the run's 100 steps; this is 101"},
		},
		"warm-up and decay longer than the run": {
			with(func(c *schedule.Config) { c.Warmup, c.Decay.Length = units.OfRun(.6), units.OfRun(.5) }),
			[]string{"warmup: 60%: want at most 50 steps, what decay.length (50%) leaves of the run's 100; this is 60"},
		},
		"waves too long": {
			with(func(c *schedule.Config) { c.Kind, c.Wave.Length = schedule.WCSD, units.OfRun(.9) }),
			[]string{"wave.length: 90%: want at most the 89 steps between warmup and decay.length; this is 90"},
		},
		"cooldown too long": {
			with(func(c *schedule.Config) { c.Kind, c.Infinite.Cooldown = schedule.Infinite, units.Steps(100) }),
			[]string{"infinite.cooldown: 100 steps: want at most the 99 steps between warmup and infinite.anneal; this is 100"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := schedule.New(test.config, plan(t, 100))
			checkProblems(t, err, test.want)
		})
	}
}

func checkProblems(t *testing.T, err error, want []string) {
	t.Helper()
	if err == nil || err.Error() != strings.Join(want, "\n") {
		t.Errorf("got:\n%v\nwant:\n%s", err, strings.Join(want, "\n"))
	}
	var p problem.Problem
	if !errors.As(err, &p) {
		t.Errorf("%T has no problem.Problem", err)
	}
}
