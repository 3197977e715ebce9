package ablate

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"pretrain/internal/prng"
	"pretrain/train/metrics"
)

// simulated is an ablation whose runs end at mean[variant] + seed effect + noise.
func simulated(means []float64, seeds int, seedSD, noise float64, key prng.Key) Analysis {
	a := Analysis{Config: Config{Name: "simulated", Seeds: make(Seeds, seeds)}}
	for v := range means {
		a.Variants = append(a.Variants, Variant{Name: fmt.Sprintf("v%d", v), Settings: []Setting{{Key: "schedule.peak_lr", Value: Value(fmt.Sprint(v + 1))}}})
		a.Orders = append(a.Orders, SameOrder)
		for s := range seeds {
			a.Config.Seeds[s] = uint64(s + 1)
			x := means[v] + seedSD*key.Split("seed").NormFloat64At(uint64(s)) + noise*key.Split("noise").NormFloat64At(uint64(v*seeds+s))
			a.Outcomes = append(a.Outcomes, Outcome{
				Run: Run{Variant: a.Variants[v].Name, Seed: uint64(s + 1)}, Status: Done, BPB: metrics.Number(x), Loss: metrics.Number(2 * x), Area: metrics.Number(x + 1),
			})
		}
	}
	return a
}

// With no difference between six variants, an ablation calls any of them better or worse in at most 5% of cases, whatever
// the seeds have in common.
func TestErrorRateUnderTheNull(t *testing.T) {
	const trials = 400
	for _, c := range []struct {
		seeds  int
		seedSD float64
	}{{2, 0}, {3, 0.02}, {3, 0}, {4, 0.02}} {
		wrong := 0
		for trial := range trials {
			r := simulated(make([]float64, 6), c.seeds, c.seedSD, 0.01, prng.New(uint64(trial)).Split("null")).Report()
			for _, v := range r.Variants {
				if v.Verdict == Better || v.Verdict == Worse {
					wrong++
					break
				}
			}
		}
		rate, margin := float64(wrong)/trials, 3*math.Sqrt(Alpha*(1-Alpha)/trials)
		if rate > Alpha+margin || wrong == 0 {
			t.Errorf("%d seeds, seed deviation %v: error rate %.4f, want above 0 and at most %.2f + %.3f", c.seeds, c.seedSD, rate, Alpha, margin)
		}
	}
}

func TestVerdicts(t *testing.T) {
	a := simulated([]float64{1, 0.9, 1.1, 1.0001, 1}, 3, 0.02, 0.001, prng.New(5))
	a.Config.Baseline = "v0"
	for i := range a.Outcomes {
		switch o := &a.Outcomes[i]; {
		case o.Variant == "v4" && o.Seed == 2:
			o.Status = Diverged
		case o.Variant == "v3" && o.Seed == 3:
			o.Status = Failed
		}
	}
	r := a.Report()
	want := []Verdict{IsBaseline, Better, Worse, CannotTell, Unstable}
	for i, v := range r.Variants {
		if v.Verdict != want[i] {
			t.Errorf("%s: %s (%s), want %s", v.Name, v.Verdict, v.Reason, want[i])
		}
	}
	if v := r.Variant("v3"); v.Delta.Pairs != 2 || v.Failed != 1 || !strings.Contains(v.Reason, "needs") {
		t.Errorf("v3: %+v", v)
	}
	if v := r.Variant("v4"); v.Diverged != 1 || v.Delta.Pairs != 2 {
		t.Errorf("v4: %+v", v)
	}
	// The seeds' common effect is in the noise floor and not in the pairs.
	if float64(r.Noise.SeedSD) < 5*float64(r.Noise.PairSD) {
		t.Errorf("noise %+v: pairing should have taken out a common effect 20 times the rest", r.Noise)
	}
	var text bytes.Buffer
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"better by 0.1", "worse by 0.1", "1 of 3 runs diverged", "1 runs failed for good"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, text.String())
		}
	}
}

func TestOneSeed(t *testing.T) {
	r := simulated([]float64{1, 0.5}, 1, 0, 0.01, prng.New(1)).Report()
	if v := r.Variants[1]; v.Verdict != CannotTell || v.MoreSeeds != 1 || v.Delta.Pairs != 1 {
		t.Errorf("%+v", v)
	}
	if _, err := r.JSON(); err != nil {
		t.Error(err)
	}
}

// Nothing there yet: a report all the same.
func TestEmpty(t *testing.T) {
	a := simulated([]float64{1, 0.5}, 2, 0, 0.01, prng.New(1))
	for i := range a.Outcomes {
		a.Outcomes[i] = Outcome{Run: a.Outcomes[i].Run, Status: Missing, BPB: metrics.Unknown, Loss: metrics.Unknown, Area: metrics.Unknown}
	}
	r := a.Report()
	if r.Variants[1].Verdict != CannotTell || len(r.Warnings) == 0 {
		t.Errorf("%+v", r)
	}
}

func TestOrderOf(t *testing.T) {
	for _, c := range []struct {
		keys []string
		want Order
	}{
		{nil, SameOrder},
		{[]string{"schedule.peak_lr", "optimizer.kind", "model.d_model", "batch.micro_batch"}, SameOrder},
		{[]string{"batch.tokens"}, OtherBatches},
		{[]string{"batch.tokens", "train.tokens"}, OtherLength},
		{[]string{"train.tokens", "tokenizer.vocab_size"}, OtherData},
		{[]string{"data.sources.x.weight"}, OtherData},
		{[]string{"model.max_seq_len"}, OtherData},
	} {
		if got := OrderOf(c.keys); got != c.want {
			t.Errorf("%v: %s, want %s", c.keys, got, c.want)
		}
	}
}

// Of eight variants four go on at a quarter and two at half, and the baseline whatever its rank.
func TestHalving(t *testing.T) {
	h := Halving{Eta: 2, Rungs: 2}
	a := simulated([]float64{8, 1, 2, 3, 4, 5, 6, 7}, 2, 0, 0, prng.New(1))
	advance := func(dropped map[string]float64, step int64) {
		for i := range a.Outcomes {
			o := &a.Outcomes[i]
			o.Steps, o.Status = 100, Partial
			if dropped[o.Variant] == 0 {
				o.Curve = append(o.Curve, Point{Step: step, BPB: o.BPB})
			}
		}
	}
	check := func(until float64, dropped string) Race {
		t.Helper()
		race := h.Judge(a.Variants, "v0", a.Outcomes)
		var names []string
		for _, v := range a.Variants {
			if race.Dropped[v.Name] > 0 {
				names = append(names, v.Name)
			}
		}
		if got := strings.Join(names, " "); race.Until != until || got != dropped {
			t.Errorf("until %v, dropped %q; want %v, %q", race.Until, got, until, dropped)
		}
		return race
	}
	check(0.25, "")
	advance(nil, 20)
	check(0.25, "")
	advance(nil, 30)
	race := check(0.5, "v5 v6 v7")
	advance(race.Dropped, 50)
	race = check(1, "v4 v5 v6 v7") // of v0 to v4 three go on; v0 is the last of them but the baseline
	if race.Dropped["v3"] != 0 || race.Dropped["v4"] != 0.5 || race.Dropped["v7"] != 0.25 {
		t.Errorf("%v", race.Dropped)
	}
	a.Config.Halving, a.Config.Baseline = h, "v0"
	r := a.Report()
	if v := r.Variant("v7"); v.Verdict != Stopped || !strings.Contains(v.Reason, "25%") {
		t.Errorf("%+v", v)
	}
	// A run that will never get there comes last, and does not hold the others up.
	a.Outcomes[2*1].Curve, a.Outcomes[2*1].Status = nil, Failed
	if race := h.Judge(a.Variants, "v0", a.Outcomes); race.Dropped["v1"] != 0.25 {
		t.Errorf("the failed variant: %v", race.Dropped)
	}
}

// TestCurves: the drawing has each seed's curve as it was measured, and the mean of those that are done.
func TestCurves(t *testing.T) {
	a := simulated([]float64{1, 2}, 3, 0.1, 0.1, prng.New(7))
	for i := range a.Outcomes {
		o := &a.Outcomes[i]
		for step := range 4 {
			o.Curve = append(o.Curve, Point{Tokens: int64(100 * step), BPB: o.BPB + metrics.Number(3-step)})
		}
		if o.Variant == "v1" && o.Seed == 2 {
			o.Status = Diverged
		}
	}
	drawn := a.Report().curves().Series
	if len(drawn) != 2*(3+1) {
		t.Fatalf("%d series", len(drawn))
	}
	for v := range 2 {
		seeds, mean := drawn[4*v:4*v+3], drawn[4*v+3]
		for j := range 4 {
			sum, n := 0.0, 0.0
			for i, s := range seeds {
				o := a.Outcomes[3*v+i]
				if want := float64(o.Curve[j].BPB); !s.Faint || s.Points[j].Y != want {
					t.Errorf("%s, seed %d: %g, want %g", o.Variant, o.Seed, s.Points[j].Y, want)
				}
				if o.Status == Done {
					sum, n = sum+float64(o.Curve[j].BPB), n+1
				}
			}
			if got := mean.Points[j]; math.Abs(got.Y-sum/n) > 1e-12 || got.X != float64(100*j) {
				t.Errorf("v%d: mean %v, want %g", v, got, sum/n)
			}
		}
	}
}
