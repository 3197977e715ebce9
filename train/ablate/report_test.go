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
