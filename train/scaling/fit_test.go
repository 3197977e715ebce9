package scaling

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// golden is bench/golden/data/scaling.json, what SciPy makes of the same points (bench/golden/scaling.py).
type golden struct {
	Law     Law
	Noisy   goldenFits
	Outlier goldenFits
	Kaplan  goldenFits
	IsoFLOP struct {
		Points    [][3]float64
		Optima    []float64
		NExponent float64 `json:"N_exponent"`
		NScale    float64 `json:"N_scale"`
	}
	Optima []struct{ C, Inference, N, Loss float64 }
}

type goldenFits struct {
	Points       [][3]float64
	Huber        map[string]float64
	LeastSquares map[string]float64 `json:"least_squares"`
}

func readGolden(t *testing.T) golden {
	t.Helper()
	text, err := os.ReadFile("../../bench/golden/data/scaling.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func toPoints(rows [][3]float64) []Point {
	var points []Point
	for i, r := range rows {
		points = append(points, Point{N: r[0], D: r[1], Loss: r[2], Name: fmt.Sprint("row ", i+1)})
	}
	return points
}

func near(a, b, relative float64) bool { return math.Abs(a-b) <= relative*math.Abs(b) }

// TestAgainstSciPy: the same optimum as SciPy finds by other means, for both methods and forms, with and without an outlier.
func TestAgainstSciPy(t *testing.T) {
	g := readGolden(t)
	for _, c := range []struct {
		name   string
		points [][3]float64
		want   map[string]float64
		o      Options
	}{
		{"huber", g.Noisy.Points, g.Noisy.Huber, Options{}},
		{"least squares", g.Noisy.Points, g.Noisy.LeastSquares, Options{Method: LeastSquares}},
		{"huber, outlier", g.Outlier.Points, g.Outlier.Huber, Options{}},
		{"least squares, outlier", g.Outlier.Points, g.Outlier.LeastSquares, Options{Method: LeastSquares}},
		{"kaplan", g.Kaplan.Points, g.Kaplan.Huber, Options{Form: KaplanForm}},
	} {
		f, err := Run(toPoints(c.points), c.o)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if f.Objective > c.want["objective"]*(1+1e-7) {
			t.Errorf("%s: objective %.10g, SciPy reaches %.10g", c.name, f.Objective, c.want["objective"])
		}
		for _, e := range f.Estimates {
			if want := c.want[e.Name]; !near(e.Value, want, 2e-3) {
				t.Errorf("%s: %s %v, SciPy has %v", c.name, e.Name, e.Value, want)
			}
		}
	}
}

// TestExact: points without noise give the law back.
func TestExact(t *testing.T) {
	g := readGolden(t)
	points := toPoints(g.Noisy.Points)
	for i, p := range points {
		points[i].Loss = g.Law.Loss(p.N, p.D)
	}
	for _, m := range Methods {
		f, err := Run(points, Options{Method: m})
		if err != nil {
			t.Fatal(err)
		}
		if l := f.Curve.(Law); !near(l.E, g.Law.E, 1e-3) || !near(l.Alpha, g.Law.Alpha, 1e-3) || !near(l.Beta, g.Law.Beta, 1e-3) {
			t.Errorf("%s: %+v, want %+v", m, l, g.Law)
		}
		if len(f.Warnings) > 0 {
			t.Errorf("%s: warns without reason: %q", m, f.Warnings)
		}
	}
}

// TestGradient holds the analytic gradients to differences.
func TestGradient(t *testing.T) {
	g := readGolden(t)
	for _, form := range Forms {
		for _, m := range Methods {
			p := newProblem(form, m, toPoints(g.Noisy.Points))
			theta := slices.Clone(p.form.starts(p.meanX, p.meanY)[1])
			for i := range theta {
				theta[i] += 0.3 + 0.01*float64(i)
			}
			grad, scratch := make([]float64, len(theta)), make([]float64, len(theta))
			p.at(theta, grad, scratch)
			for i := range theta {
				const h = 1e-6
				up, down := slices.Clone(theta), slices.Clone(theta)
				up[i] += h
				down[i] -= h
				want := (p.at(up, nil, scratch) - p.at(down, nil, scratch)) / (2 * h)
				if math.Abs(grad[i]-want) > 1e-5*(math.Abs(want)+1e-3) {
					t.Errorf("%s, %s: derivative by %s %v, differences give %v", form, m, p.form.names[i], grad[i], want)
				}
			}
		}
	}
}

// TestBootstrap: repeatable by the seed, and in order; noise of 0.2% keeps the truth inside.
func TestBootstrap(t *testing.T) {
	g := readGolden(t)
	fit := func(seed uint64) *Fit {
		f, err := Run(toPoints(g.Noisy.Points), Options{Method: LeastSquares, Bootstrap: 200, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a, b, other := fit(1), fit(1), fit(2)
	if !slices.Equal(a.Estimates, b.Estimates) {
		t.Error("the same seed gives other intervals")
	}
	if slices.Equal(a.Estimates, other.Estimates) {
		t.Error("another seed gives the same intervals")
	}
	for name, truth := range map[string]float64{"E": g.Law.E, "alpha": g.Law.Alpha, "beta": g.Law.Beta} {
		i := slices.IndexFunc(a.Estimates, func(e Estimate) bool { return e.Name == name })
		if e := a.Estimates[i]; !(e.Low < e.Value && e.Value < e.High && e.Low < truth && truth < e.High) {
			t.Errorf("%s: %v in %v to %v, truth %v", name, e.Value, e.Low, e.High, truth)
		}
	}
	if b := a.Budget(1e21); !(b.NRange[0] < b.N && b.N < b.NRange[1] && b.RRange[0] < b.Ratio && b.Ratio < b.RRange[1]) {
		t.Errorf("budget %+v lies outside of its intervals", b)
	}
}

// TestHoldOut: what is held out is not fitted, and the law predicts it.
func TestHoldOut(t *testing.T) {
	g := readGolden(t)
	points := toPoints(g.Noisy.Points)
	fitted, held := HoldOutLargest(points)
	if len(fitted) != 24 || len(held) != 6 || held[0].N != 2e9 {
		t.Fatalf("%d fitted, %d held out", len(fitted), len(held))
	}
	f, err := Run(fitted, Options{Bootstrap: 50})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.Predict(held) {
		if math.Abs(p.Error) > 0.01 || !(float64(p.Low) <= p.Predicted && p.Predicted <= float64(p.High)) {
			t.Errorf("%+v", p)
		}
	}
	if fitted, held = HoldOut(points, 3); len(fitted) != 27 || held[2].Compute() != 6*2e9*6e10 {
		t.Errorf("%d fitted, held out %v", len(fitted), held)
	}
}

// TestJSON: what is not known, without a bootstrap or where nothing holds a parameter, is null.
func TestJSON(t *testing.T) {
	fitted, held := HoldOutLargest(toPoints(readGolden(t).Noisy.Points))
	f, err := Run(fitted, Options{})
	if err != nil {
		t.Fatal(err)
	}
	f.Estimates[1].Value = math.Inf(1)
	text, err := (&Report{Fit: f, HeldOut: f.Predict(held), Budgets: []Budget{f.Budget(1e20)}}).MarshalJSON()
	if err != nil || !strings.Contains(string(text), `"A":null`) || !strings.Contains(string(text), `"low":null`) || !strings.Contains(string(text), `"ci":{}`) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestWarnings: each thing that points cannot tell is said, and only then.
func TestWarnings(t *testing.T) {
	law := readGolden(t).Law
	grid := func(sizes, lengths []float64) (points []Point) {
		for i, n := range sizes {
			for j, d := range lengths {
				wiggle := 1 + 2e-3*math.Sin(float64(7*i+3*j))
				points = append(points, Point{N: n, D: d, Loss: law.Loss(n, d) * wiggle})
			}
		}
		return points
	}
	var diagonal []Point // tokens in proportion to parameters
	for i := range 12 {
		n := 1e7 * math.Pow(2, float64(i))
		diagonal = append(diagonal, Point{N: n, D: 20 * n, Loss: law.Loss(n, 20*n) * (1 + 1e-3*math.Sin(float64(5*i)))})
	}
	for _, c := range []struct {
		name   string
		points []Point
		want   string // "" for none
	}{
		{"good", grid([]float64{2e7, 6e7, 2e8, 6e8, 2e9}, []float64{4e8, 1e9, 3e9, 8e9, 2e10, 6e10}), ""},
		{"two sizes", grid([]float64{1e8, 1e9}, []float64{4e8, 1e9, 3e9, 8e9}), "2 different N"},
		{"two lengths", grid([]float64{2e7, 6e7, 2e8, 6e8}, []float64{1e9, 3e9}), "2 different D"},
		{"diagonal", diagonal, "N and D go together"},
		{"close sizes", grid([]float64{1e9, 1.05e9, 1.1e9, 1.15e9}, []float64{4e8, 1e9, 3e9, 8e9}), "alpha is not identified"},
		{"all too small", grid([]float64{2e6, 4e6, 8e6}, []float64{4e8, 4e9, 4e10, 4e11, 4e12}), "no interior minimum"},
	} {
		f, err := Run(c.points, Options{})
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Join(f.Warnings, "\n")
		if c.want == "" && all != "" || !strings.Contains(all, c.want) {
			t.Errorf("%s: want %q, got:\n%s", c.name, c.want, all)
		}
	}
}

// TestRefuses: what cannot be fitted is an error that says why.
func TestRefuses(t *testing.T) {
	good := []Point{{N: 1, D: 1, Loss: 1}, {N: 2, D: 2, Loss: 1}}
	line := func(n, d float64) (points []Point) { // n and d are by how much each of six points is larger than the one before
		for k := range 6 {
			i := float64(k)
			points = append(points, Point{N: 1e6 * math.Pow(n, i), D: 1e7 * math.Pow(d, i), Loss: 3 - i/10})
		}
		return points
	}
	var cliff []Point // all lengths but the shortest are as good: no power of D falls like that
	for i := range 12 {
		p := Point{N: math.Pow(10, 7+float64(i/4)), D: math.Pow(10, 8+float64(i%4)), Loss: 2.2 - float64(i/4)/10}
		if i%4 == 0 {
			p.Loss = 4
		}
		cliff = append(cliff, p)
	}
	for want, f := range map[string]func() error{
		"2 points for 5 parameters": func() error { _, err := Run(good, Options{}); return err },
		"all points have N 1e+06":   func() error { _, err := Run(line(1, 2), Options{}); return err },
		"all points have D 1e+07":   func() error { _, err := Run(line(2, 1), Options{}); return err },
		"follow no such law":        func() error { _, err := Run(cliff, Options{}); return err },
		"unknown form":              func() error { _, err := Run(good, Options{Form: "x"}); return err },
		"unknown method":            func() error { _, err := Run(good, Options{Method: "x"}); return err },
		"want numbers above 0":      func() error { _, err := Run([]Point{{N: 1, D: math.NaN(), Loss: 1}}, Options{}); return err },
		"0 computes":                func() error { _, err := RunIsoFLOP([]Point{good[0], good[1], good[1]}, Options{}); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// BenchmarkFit is a fit of 240 points, as many as Chinchilla's, without a bootstrap.
func BenchmarkFit(b *testing.B) {
	law := Law{1.8, 480, 2000, 0.35, 0.366}
	var points []Point
	for i := range 16 {
		for j := range 15 {
			n, d := 4e7*math.Pow(1.5, float64(i)), 3e8*math.Pow(1.5, float64(j))
			points = append(points, Point{N: n, D: d, Loss: law.Loss(n, d) * (1 + 5e-3*math.Sin(float64(i*i+7*j)))})
		}
	}
	for b.Loop() {
		if _, err := Run(points, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
