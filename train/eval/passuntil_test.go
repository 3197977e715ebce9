package eval

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"pretrain/internal/prng"
)

// coin passes with a known chance; draw i is a function of i.
func coin(key prng.Key, p float64) func(context.Context, int, int) ([]bool, error) {
	return func(_ context.Context, first, n int) ([]bool, error) {
		passed := make([]bool, n)
		for i := range passed {
			passed[i] = key.Float64At(uint64(first+i)) < p
		}
		return passed, nil
	}
}

// TestPassUntilBias: by simulation, (r−1)/(K−1) is right on average within three standard errors and r/K too high by about 1/r,
// and the intervals hold the truth in 95% of cases or more.
func TestPassUntilBias(t *testing.T) {
	for i, c := range []struct {
		r     int
		p     float64
		draws int
	}{{2, 0.3, 10000}, {3, 0.05, 10000}, {10, 0.02, 10000}, {5, 0.004, 200}} { // the last mostly comes to its bound
		const n = 3000
		var sum, squares, ratios float64
		held := 0
		for trial := range n {
			got, err := PassUntil{Passes: c.r, Draws: c.draws, Batch: 64}.Run(context.Background(), "x", coin(prng.New(uint64(i)).SplitN(uint64(trial)), c.p))
			if err != nil {
				t.Fatal(err)
			}
			sum += got.Rate()
			squares += got.Rate() * got.Rate()
			ratios += got.RatioRK()
			if ci := got.Interval(); ci.Low <= c.p && c.p <= ci.High {
				held++
			}
		}
		mean := sum / n
		se := math.Sqrt((squares/n - mean*mean) / n)
		if math.Abs(mean-c.p) > 3*se {
			t.Errorf("r %d, p %g: %g on average, ± %g", c.r, c.p, mean, se)
		}
		if c.draws > 1000 && ratios/n < c.p*(1+0.5/float64(c.r)) {
			t.Errorf("r %d, p %g: r/K is %g on average, want it too high by about 1/r", c.r, c.p, ratios/n)
		}
		if share := float64(held) / n; share < 0.94 {
			t.Errorf("r %d, p %g: %.3f of the intervals hold the truth", c.r, c.p, share)
		}
	}
}

// TestPassUntilSmallRates: a rate of 1e-5 shows, within its interval, where 164 single answers show 0.
func TestPassUntilSmallRates(t *testing.T) {
	got, err := PassUntil{Passes: 5, Draws: 2_000_000, Batch: 1 << 16}.Run(context.Background(), "x", coin(prng.New(3), 1e-5))
	if err != nil || !got.Reached {
		t.Fatalf("%+v, %v", got, err)
	}
	if ci := got.Interval(); !(ci.Low < 1e-5 && 1e-5 < ci.High && ci.Low > 1e-6) {
		t.Errorf("%+v has the interval %v", got, ci)
	}
	none, _ := PassUntil{Passes: 2, Draws: 1000, Batch: 64}.Run(context.Background(), "x", coin(prng.New(3), 0))
	if none.Rate() != 0 || none.Interval().Low != 0 || math.Abs(none.Interval().High-0.00368) > 1e-4 { // 1 − 0.025^(1/1000)
		t.Errorf("no pass in 1000: %+v, %v", none, none.Interval())
	}
	certain, _ := PassUntil{Passes: 3, Draws: 1000, Batch: 64}.Run(context.Background(), "x", coin(prng.New(3), 1))
	if certain.Draws != 3 || certain.Rate() != 1 || certain.Interval().High != 1 {
		t.Errorf("all pass: %+v, %v", certain, certain.Interval())
	}
}

// TestPassUntilBatches: the outcome is the draws', however they are batched, and errors end it.
func TestPassUntilBatches(t *testing.T) {
	want, _ := PassUntil{Passes: 4, Draws: 5000, Batch: 1}.Run(context.Background(), "x", coin(prng.New(9), 0.01))
	for _, batch := range []int{7, 64, 5000} {
		if got, _ := (PassUntil{Passes: 4, Draws: 5000, Batch: batch}).Run(context.Background(), "x", coin(prng.New(9), 0.01)); got != want {
			t.Errorf("in batches of %d: %+v, one by one %+v", batch, got, want)
		}
	}
	if _, err := (PassUntil{Passes: 1, Draws: 10, Batch: 1}).Run(context.Background(), "x", coin(prng.New(9), 1)); err == nil {
		t.Error("one pass has an unbiased estimate")
	}
	failed := errors.New("no device")
	if _, err := (PassUntil{Passes: 2, Draws: 10, Batch: 1}).Run(context.Background(), "x", func(context.Context, int, int) ([]bool, error) { return nil, failed }); err != failed {
		t.Errorf("error %v", err)
	}
}

// ladder samples models whose true rates are given; accuracy is 1 where the rate is above a half.
func ladder(seed uint64, scales []float64, rate func(scale float64) float64) []Rung {
	var list []Rung
	for i, scale := range scales {
		var trials []Trial
		for item := range 5 {
			trial, _ := PassUntil{Passes: 20, Draws: 400_000, Batch: 4096}.Run(context.Background(), "x", coin(prng.New(seed).SplitN(uint64(10*i+item)), rate(scale)))
			trials = append(trials, trial)
		}
		list = append(list, Rung{Scale: scale, Rate: MeanRate(trials), Accuracy: Estimate{Value: indicator(rate(scale) > 0.5)}})
	}
	return list
}

// TestFitLaw: a ladder that follows the law is found to, with its numbers, though its accuracy jumps from 0 to 1; one that jumps
// itself is found to jump.
func TestFitLaw(t *testing.T) {
	scales := []float64{3e7, 1e8, 3e8, 1e9, 3e9}
	const c, alpha = 400, 0.22
	law := func(n float64) float64 { return math.Exp(-c * math.Pow(n, -alpha)) } // 1.2e-4 … 0.036
	got := FitLaw(ladder(1, scales, law))
	if math.Abs(got.Alpha-alpha) > 0.02 || got.Points != 5 || !strings.HasPrefix(got.Verdict, "a jump is in the metric") {
		t.Errorf("law: %+v", got)
	}
	if p := got.Predict(1e10); math.Abs(p-law(1e10)) > 0.1*law(1e10) {
		t.Errorf("extrapolated to %g, want %g", p, law(1e10))
	}
	jump := func(n float64) float64 {
		if n > 5e8 {
			return 0.4
		}
		return law(n)
	}
	// The rate makes a step up and stays: it bends both ways; what matters is that it leaves the law.
	if got := FitLaw(ladder(2, scales, jump)); got.P > 1e-3 {
		t.Errorf("jump: %+v", got)
	}
	accelerates := func(n float64) float64 { return math.Exp(-math.Exp(2.2 - 0.1*math.Pow(math.Log(n/3e7), 1.7))) }
	if got := FitLaw(ladder(3, scales, accelerates)); !strings.HasPrefix(got.Verdict, "a jump is in the model") {
		t.Errorf("accelerates: %+v", got)
	}
	if got := FitLaw(ladder(4, scales[:1], law)); got.Points != 1 || !strings.Contains(got.Verdict, "too few") {
		t.Errorf("one model: %+v", got)
	}
	if got := FitLaw(ladder(5, scales[:2], law)); !strings.Contains(got.Verdict, "two models") {
		t.Errorf("two models: %+v", got)
	}
}
