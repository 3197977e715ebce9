package ablate

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pretrain/internal/prng"
	"pretrain/train/metrics"
)

// grid is an ablation of a two-key grid whose final loss is f(x, group, seed).
func grid(x string, xs []Value, group string, groups []Value, seeds int, f func(x, group float64, seed int) float64) Analysis {
	c := Config{Name: "grid", Base: "b", Variants: Variants{Grid: map[string][]Value{x: xs}}}
	if group != "" {
		c.Variants.Grid[group] = groups
	}
	for s := range seeds {
		c.Seeds = append(c.Seeds, uint64(s+1))
	}
	a := Analysis{Config: c, Variants: c.Expand()}
	for _, v := range a.Variants {
		a.Orders = append(a.Orders, SameOrder)
		value, _ := v.Value(x)
		at, _ := value.Number()
		value, _ = v.Value(group)
		g, _ := value.Number()
		for s := range seeds {
			y := metrics.Number(f(at, g, s))
			a.Outcomes = append(a.Outcomes, Outcome{Run: Run{Variant: v.Name, Seed: uint64(s + 1)}, Status: Done, BPB: y, Loss: y, Area: y})
		}
	}
	return a
}

func square(x float64) float64 { return x * x }

// Where the loss is a parabola in log x, its bottom is found, and the interval is that of the seeds' bottoms.
func TestSweepFindsTheBottom(t *testing.T) {
	xs := []Value{"0.001", "0.002", "0.004", "0.008", "0.016", "0.032"}
	bottoms := []float64{0.0050, 0.0060, 0.0055}
	a := grid("schedule.peak_lr", xs, "", nil, 3, func(x, _ float64, seed int) float64 {
		return 2 + 0.01*float64(seed) + 0.1*square(math.Log(x/bottoms[seed]))
	})
	r := a.Report()
	if len(r.Sweeps) != 1 {
		t.Fatalf("%d sweeps", len(r.Sweeps))
	}
	s := r.Sweeps[0]
	if !s.Log || s.Best != 0.004 || s.Key != "schedule.peak_lr" {
		t.Errorf("%+v", s)
	}
	var logs []float64
	for _, b := range bottoms {
		logs = append(logs, math.Log(b))
	}
	ci := TInterval(logs)
	near(t, "optimum", float64(s.Optimum), math.Exp((logs[0]+logs[1]+logs[2])/3), 1e-9)
	near(t, "low", float64(s.CI.Low), math.Exp(float64(ci.Low)), 1e-9)
	near(t, "high", float64(s.CI.High), math.Exp(float64(ci.High)), 1e-9)
	near(t, "bpb", float64(s.AtOptimum), 2.01, 1e-9)
}

func TestSweepAtAnEnd(t *testing.T) {
	a := grid("batch.tokens", []Value{"1024tok", "2048tok", "4096tok"}, "", nil, 2, func(x, _ float64, seed int) float64 { return x + float64(seed) })
	s := a.Report().Sweeps[0]
	if s.Best != 1024 || !math.IsNaN(float64(s.Optimum)) || !strings.Contains(s.Note, "at an end") {
		t.Errorf("%+v", s)
	}
}

// Ten times as fine or as coarse a grid is told apart from one of equal differences.
func TestSpacing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first, n := rapid.Float64Range(1e-6, 1e3).Draw(t, "first"), rapid.IntRange(3, 8).Draw(t, "n")
		ratio := rapid.Float64Range(1.1, 10).Draw(t, "ratio")
		var geometric, arithmetic []float64
		for i := range n {
			geometric = append(geometric, first*math.Pow(ratio, float64(i)))
			arithmetic = append(arithmetic, first*(1+float64(i)*(ratio-1)))
		}
		if !spacedByRatio(geometric) || spacedByRatio(arithmetic) {
			t.Fatalf("%v is by ratio: %v; %v: %v", geometric, spacedByRatio(geometric), arithmetic, spacedByRatio(arithmetic))
		}
	})
}

// The least-squares parabola leaves residuals that are orthogonal to 1, x and x².
func TestParabolaIsLeastSquares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shift := rapid.Float64Range(-20, 20).Draw(t, "shift")
		var xs, ys []float64
		for i := range rapid.IntRange(3, 6).Draw(t, "n") {
			xs = append(xs, shift+float64(i)+rapid.Float64Range(-0.3, 0.3).Draw(t, "x"))
			ys = append(ys, rapid.Float64Range(-1, 1).Draw(t, "y"))
		}
		p, up := fitParabola(xs, ys)
		if up != (p.c > 0) {
			t.Fatalf("up %v, c %v", up, p.c)
		}
		for k := range 3 {
			sum := 0.0
			for i, x := range xs {
				sum += (ys[i] - p.at(x)) * math.Pow(x-shift, float64(k))
			}
			if math.Abs(sum) > 1e-6 {
				t.Fatalf("residuals times x^%d sum to %v", k, sum)
			}
		}
	})
}

func TestTransfer(t *testing.T) {
	lrs, widths := []Value{"0.001", "0.002", "0.004", "0.008", "0.016", "0.032"}, []Value{"64", "128", "256"}
	run := func(power float64) TransferReport {
		a := grid("schedule.peak_lr", lrs, "model.d_model", widths, 3, func(x, width float64, seed int) float64 {
			best := 0.008 * math.Pow(width/64, power) * (1 + 0.05*float64(seed))
			return 3 - 0.1*math.Log(width) + 0.2*square(math.Log(x/best)) + 0.01*float64(seed)
		})
		a.Config.Transfer = Transfer{Tune: "schedule.peak_lr", Width: "model.d_model"}
		r := a.Report()
		if len(r.Sweeps) != 3 || len(r.Transfers) != 1 {
			t.Fatalf("%d sweeps, %d transfers", len(r.Sweeps), len(r.Transfers))
		}
		return r.Transfers[0]
	}
	moved := run(-1)
	near(t, "slope", float64(moved.Slope), -1, 1e-9)
	near(t, "ratio", float64(moved.Found/moved.Predicted), 0.25, 1e-9)
	// Half the parabola's curvature times the square of the distance, the seeds' own offsets from their mean included.
	want := 0.0
	for seed := range 3 {
		offset := math.Log(1+0.05*float64(seed)) - (math.Log(1.05)+math.Log(1.1))/3
		want += 0.2 * square(math.Log(4)-offset) / 3
	}
	near(t, "cost", float64(moved.Cost), want, 1e-9)
	if still := run(0); math.Abs(float64(still.Slope)) > 1e-9 || still.Found != still.Predicted && math.Abs(float64(still.Found/still.Predicted)-1) > 1e-9 {
		t.Errorf("an optimum that does not move: %+v", still)
	}
}

// Every form of the report can be made of any mixture of outcomes.
func TestFilesOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seeds := rapid.IntRange(1, 3).Draw(t, "seeds")
		key := prng.New(rapid.Uint64().Draw(t, "key"))
		a := grid("schedule.peak_lr", []Value{"0.001", "0.002", "0.004"}, "model.d_model", []Value{"64", "96"}, seeds,
			func(x, g float64, s int) float64 { return 2 + key.NormFloat64At(uint64(x*1e6+g*10)+uint64(s)) })
		a.Config.Transfer = Transfer{Tune: "schedule.peak_lr", Width: "model.d_model"}
		for i := range a.Outcomes {
			o := &a.Outcomes[i]
			o.Status = rapid.SampledFrom([]Status{Done, Done, Done, Diverged, Failed, Missing, Partial}).Draw(t, "status")
			o.Error = "a <b> & c"
			o.Sources = map[string]metrics.SourceEval{"en": {BPB: o.BPB}, "code": {BPB: o.BPB}}
			for p := range rapid.IntRange(0, 3).Draw(t, "points") {
				o.Curve = append(o.Curve, Point{Step: int64(p), Tokens: int64(p * 100), BPB: o.BPB})
			}
		}
		files, err := a.Report().Files()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.Contains(string(f.Content), "NaN") || strings.Contains(string(f.Content), "%!") {
				t.Fatalf("%s has a NaN or a bad format:\n%s", f.Name, f.Content)
			}
		}
	})
}

func TestExpand(t *testing.T) {
	c := Config{Base: "b", Seeds: Seeds{1}, Variants: Variants{
		List:   []Entry{{Name: "plain"}, {Name: "x", Set: map[string]Value{"a.b": "1", "a.a": "2"}}},
		Grid:   map[string][]Value{"s.lr": {"0.1", "0.2"}, "m.d": {"8", "16"}},
		Sample: Sample{Count: 50, Seed: 3, Over: map[string]Range{"s.lr": {Low: 0.001, High: 0.1}, "b.tokens": {Low: 100, High: 10_000, MultipleOf: 64, Unit: "tok"}}},
	}}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	v := c.Expand()
	if got := fmt.Sprint(Names(v[:6])); got != "[plain x d=8,lr=0.1 d=8,lr=0.2 d=16,lr=0.1 d=16,lr=0.2]" {
		t.Error(got)
	}
	if v[1].Settings[0].Key != "a.a" || v[1].Settings[1].Path != "variants.list[1].set.a.b" {
		t.Errorf("%+v", v[1])
	}
	// One sample in each fiftieth of the logarithmic range, within rounding to three digits.
	var strata [50]int
	for _, s := range v[6:] {
		text, _ := s.Value("s.lr")
		x, _ := text.Number()
		strata[min(49, max(0, int(50*math.Log(x/0.001)/math.Log(100))))]++
		tokens, _ := s.Value("b.tokens")
		if n, ok := tokens.Number(); !ok || math.Mod(n, 64) != 0 || !strings.HasSuffix(string(tokens), "tok") {
			t.Errorf("%s is no multiple of 64", tokens)
		}
	}
	empty := 0
	for _, n := range strata {
		if n == 0 {
			empty++
		}
	}
	if empty > 3 {
		t.Errorf("%d of 50 strata are empty: %v", empty, strata)
	}
}

func TestValidateReportsAll(t *testing.T) {
	c := Config{Baseline: "none", Variants: Variants{
		List: []Entry{{Name: "a/b"}, {Name: "x"}, {Name: "x"}}, Grid: map[string][]Value{"k": {"1", "1"}},
		Sample: Sample{Count: 2, Over: map[string]Range{"k": {Low: 0, High: -1}}},
	}}
	err := fmt.Sprint(c.Validate())
	for _, key := range []string{"base", "seeds", "variants.list[0].name", "variants.list[2].name", "variants.grid.k[1]", "variants.sample.over.k.low", "variants.sample.over.k.high"} {
		if !strings.Contains(err, key+":") {
			t.Errorf("nothing of %s in\n%s", key, err)
		}
	}
	c = Config{Base: "b", Seeds: Seeds{1}, Baseline: "none", Variants: Variants{Grid: map[string][]Value{"k": {"1"}}}, Transfer: Transfer{Tune: "k", Width: "w"}}
	err = fmt.Sprint(c.Validate())
	for _, key := range []string{"baseline", "transfer.tune", "transfer.width"} {
		if !strings.Contains(err, key+":") {
			t.Errorf("nothing of %s in\n%s", key, err)
		}
	}
}
