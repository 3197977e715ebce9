package ablate

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"pretrain/internal/prng"
)

// golden is bench/golden/data/significance.json, which SciPy made.
type golden struct {
	TQuantiles []struct{ P, DF, T float64 } `json:"t_quantiles"`
	Paired     []struct {
		Differences            []float64
		Mean, SD, P, Low, High float64
	}
	Bootstrap []struct {
		Differences []float64
		Low, High   float64
	}
	Holm  []struct{ P, Adjusted []float64 }
	Power []struct {
		Difference, SD, Alpha, Power float64
		N                            int
	}
	Seeds []struct {
		Difference, SD, Alpha float64
		N                     int
	}
}

func readGolden(t *testing.T) golden {
	t.Helper()
	text, err := os.ReadFile("../../bench/golden/data/significance.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.TQuantiles) == 0 || len(g.Paired) == 0 || len(g.Bootstrap) == 0 || len(g.Holm) == 0 || len(g.Power) == 0 || len(g.Seeds) == 0 {
		t.Fatal("a part of the golden file is empty")
	}
	return g
}

func near(t *testing.T, what string, got, want, relative float64) {
	t.Helper()
	if !(math.Abs(got-want) <= relative*max(1e-12, math.Abs(want))) {
		t.Errorf("%s: got %.12g, want %.12g", what, got, want)
	}
}

func TestAgainstSciPy(t *testing.T) {
	g := readGolden(t)
	for _, c := range g.TQuantiles {
		near(t, "t quantile", tQuantile(c.P, c.DF), c.T, 1e-8)
	}
	for _, c := range g.Paired {
		got := Compare(c.Differences, prng.New(1))
		near(t, "mean", float64(got.Mean), c.Mean, 1e-9)
		near(t, "sd", float64(got.SD), c.SD, 1e-9)
		near(t, "p", float64(got.P), c.P, 1e-8)
		near(t, "low", float64(got.CI.Low), c.Low, 1e-8)
		near(t, "high", float64(got.CI.High), c.High, 1e-8)
	}
	for _, c := range g.Bootstrap {
		got := bootstrap(c.Differences, prng.New(1))
		near(t, "bootstrap low", float64(got.Low), c.Low, 1e-9)
		near(t, "bootstrap high", float64(got.High), c.High, 1e-9)
	}
	for _, c := range g.Holm {
		for i, p := range holm(c.P) {
			near(t, "Holm", p, c.Adjusted[i], 1e-12)
		}
	}
	for _, c := range g.Power {
		near(t, "power", tPower(c.Difference, c.SD, c.Alpha, c.N), c.Power, 1e-6)
	}
	for _, c := range g.Seeds {
		if got := seedsFor(c.Difference, c.SD, c.Alpha, 1000); got != c.N {
			t.Errorf("seeds for %v: got %d, want %d", c.Difference, got, c.N)
		}
		// What n seeds can detect lies between the difference that needs n and the one that needs n+1 at most.
		if d := detectable(c.SD, c.Alpha, c.N); d > c.Difference {
			t.Errorf("%d seeds detect %v only, and yet are enough for %v", c.N, d, c.Difference)
		}
	}
	if n := seedsFor(0.001, 1, 0.05, 50); n != 0 {
		t.Errorf("a tiny difference: %d seeds, want 0, more than 50", n)
	}
}

// The bootstrap of many values is drawn, not enumerated; on a sample whose resampled mean is nearly normal it must agree
// with the normal interval of the plug-in variance.
func TestBootstrapDrawn(t *testing.T) {
	key, values := prng.New(3), make([]float64, 200)
	sum, squares := 0.0, 0.0
	for i := range values {
		values[i] = key.NormFloat64At(uint64(i))
		sum, squares = sum+values[i], squares+values[i]*values[i]
	}
	n := float64(len(values))
	mean := sum / n
	half := 1.959964 * math.Sqrt((squares/n-mean*mean)/n)
	got := bootstrap(values, prng.New(4))
	for _, c := range []struct{ got, want float64 }{{float64(got.Low), mean - half}, {float64(got.High), mean + half}} {
		if math.Abs(c.got-c.want) > 0.06*half { // Monte Carlo error of a 2.5% quantile of 10,000: about 0.03 of half
			t.Errorf("got %v, want about %v", c.got, c.want)
		}
	}
}

// coverage is how often an interval of n normal differences holds the true mean.
func coverage(n, trials int, interval func([]float64) Interval) float64 {
	key, hits := prng.New(7), 0
	values := make([]float64, n)
	for trial := range trials {
		for i := range values {
			values[i] = 0.5 + 2*key.NormFloat64At(uint64(trial*n+i))
		}
		if interval(values).Contains(0.5) {
			hits++
		}
	}
	return float64(hits) / float64(trials)
}

// Student's interval covers what it promises with any number of seeds; the bootstrap's does not with few, as the doc comment
// of Comparison.Bootstrap says.
func TestCoverage(t *testing.T) {
	const trials = 4000
	margin := 4 * math.Sqrt(Alpha*(1-Alpha)/trials)
	for _, n := range []int{2, 3, 5, 10} {
		if got := coverage(n, trials, TInterval); math.Abs(got-(1-Alpha)) > margin {
			t.Errorf("t interval of %d: covers %.3f, want %.3f ± %.3f", n, got, 1-Alpha, margin)
		}
	}
	three := coverage(3, trials, func(v []float64) Interval { return bootstrap(v, prng.New(1)) })
	if three > 0.85 || three < 0.65 {
		t.Errorf("bootstrap of 3 covers %.3f; the documentation says about 3/4", three)
	}
}

func TestTooFewPairs(t *testing.T) {
	for n, c := range []Comparison{Compare(nil, prng.New(1)), Compare([]float64{0.5}, prng.New(1))} {
		if c.Pairs != n || !math.IsNaN(float64(c.P)) || !math.IsNaN(float64(c.CI.Low)) || !math.IsNaN(float64(c.Bootstrap.High)) {
			t.Errorf("%d pairs: %+v", n, c)
		}
	}
	equal := Compare([]float64{0.5, 0.5}, prng.New(1))
	if equal.P != 0 || float64(equal.CI.Low) != 0.5 {
		t.Errorf("equal differences: %+v", equal)
	}
	if none := Compare([]float64{0, 0, 0}, prng.New(1)); none.P != 1 {
		t.Errorf("no difference: %+v", none)
	}
}

// The number of seeds that a verdict is said to need gives it with the promised chance, and one fewer does not.
func TestSeedsNeededSuffice(t *testing.T) {
	const difference, sd, trials = 1.4, 1.0, 10_000
	needed := seedsFor(difference, sd, Alpha, 100)
	for _, n := range []int{needed - 1, needed} {
		key, found := prng.New(11).SplitN(uint64(n)), 0
		values := make([]float64, n)
		for trial := range trials {
			for i := range values {
				values[i] = difference + sd*key.NormFloat64At(uint64(trial*n+i))
			}
			if !TInterval(values).Contains(0) {
				found++
			}
		}
		got, want := float64(found)/trials, tPower(difference, sd, Alpha, n)
		if math.Abs(got-want) > 4*math.Sqrt(want*(1-want)/trials) || (want >= Power) != (n == needed) {
			t.Errorf("%d seeds find the difference with chance %.4f, want %.4f; %d are said to be needed", n, got, want, needed)
		}
	}
}
