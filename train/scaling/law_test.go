package scaling

import (
	"math"
	"testing"
)

// TestMiniCPMRatios: the six rows of MiniCPM's Fig. 10 give the tokens per parameter that they imply at 1e21 FLOPs. The printed
// figures have two digits, so that the paper's own ratios, from unrounded fits, are up to 7% off these.
func TestMiniCPMRatios(t *testing.T) {
	for _, row := range []struct {
		name                    string
		a, alpha, b, beta, e    float64
		ratio, published, digit float64
	}{
		{"code", 3.32e-2, 0.37, 2.17e-1, 0.34, 0.17, 193.7, 194.93, 0.1},
		{"B", 8.08e-2, 0.26, 2.97e-1, 0.18, 0.27, 176.9, 166.04, 0.1},
		{"C", 5.14e-2, 0.35, 3.90e-1, 0.18, 0.40, 879, 833.95, 1},
		{"D", 7.54e-2, 0.30, 2.92e-1, 0.30, 0.25, 91.2, 95.60, 0.1},
		{"E", 1.53e-1, 0.19, 3.76e-1, 0.17, 0.35, 105.8, 112.79, 0.1},
		{"average", 7.15e-2, 0.29, 3.00e-1, 0.23, 0.31, 183.9, 191.87, 0.1},
	} {
		best := Optimal(perGiga(row.e, row.a, row.b, row.alpha, row.beta), 1e21, 0)
		if got := best.Ratio(); math.Abs(got-row.ratio) > row.digit/2*1.01 {
			t.Errorf("%s: %v tokens per parameter, want %v", row.name, got, row.ratio)
		}
		if !near(row.ratio, row.published, 0.07) {
			t.Errorf("%s: the recomputed ratio %v is further from the published %v than rounding explains", row.name, row.ratio, row.published)
		}
	}
}

// TestOptimal: the search agrees with the closed form, with SciPy's where inference is paid for, and with the published optima at
// Chinchilla's compute (both recomputed from their laws).
func TestOptimal(t *testing.T) {
	for _, p := range Published {
		l, c := p.Law, 5.76e23
		g := math.Pow(l.Alpha*l.A/(l.Beta*l.B), 1/(l.Alpha+l.Beta))
		n := g * math.Pow(c/6, l.Beta/(l.Alpha+l.Beta)) // Hoffmann et al., eq. 4
		if best := Optimal(l, c, 0); !near(best.N, n, 1e-5) || !near(6*best.N*best.D, c, 1e-12) || best.Loss != l.Loss(best.N, best.D) {
			t.Errorf("%s: %+v, the closed form has N %v", p.Name, best, n)
		}
	}
	for name, want := range map[string]Allocation{"chinchilla": {3.22e10, 2.98e12, 1.931}, "epoch": {7.22e10, 1.33e12, 1.974}} {
		for _, p := range Published {
			if got := Optimal(p.Law, 5.76e23, 0); p.Name == name && (!near(got.N, want.N, 2e-3) || !near(got.D, want.D, 2e-3) || !near(got.Loss, want.Loss, 3e-4)) {
				t.Errorf("%s: %+v, want %+v", name, got, want)
			}
		}
	}
	g := readGolden(t)
	for _, want := range g.Optima {
		if got := Optimal(g.Law, want.C, want.Inference); !near(got.N, want.N, 1e-3) || !near(got.Loss, want.Loss, 1e-9) {
			t.Errorf("%v FLOPs, %v tokens of inference: %+v, SciPy has %+v", want.C, want.Inference, got, want)
		}
	}
}

func TestIsoFLOP(t *testing.T) {
	g := readGolden(t)
	points := toPoints(g.IsoFLOP.Points)
	f, err := RunIsoFLOP(points, Options{Bootstrap: 200})
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Profiles) != len(g.IsoFLOP.Optima) || !near(f.NExponent.Value, g.IsoFLOP.NExponent, 1e-6) || !near(f.NScale, g.IsoFLOP.NScale, 1e-4) {
		t.Fatalf("N = %v·C^%v from %d profiles, want %+v", f.NScale, f.NExponent, len(f.Profiles), g.IsoFLOP.NExponent)
	}
	for i, p := range f.Profiles {
		if !near(p.N, g.IsoFLOP.Optima[i], 1e-6) {
			t.Errorf("%v FLOPs: N %v, want %v", p.C, p.N, g.IsoFLOP.Optima[i])
		}
	}
	if e := f.NExponent; !(e.Low < e.Value && e.Value < e.High) {
		t.Errorf("exponent %+v lies outside of its interval", e)
	}
	if a := f.Optimal(1e20); !near(6*a.N*a.D, 1e20, 1e-9) {
		t.Errorf("N and D of %+v do not make the compute", a)
	}
	// A profile whose best size is the last one tried is said, and left out.
	cut := points[:0:0]
	for i, p := range points {
		if i >= 5 || i < 3 {
			cut = append(cut, p)
		}
	}
	cut[2].Loss = cut[0].Loss - 1
	f, err = RunIsoFLOP(cut, Options{})
	if err != nil || len(f.Profiles) != 3 || len(f.Warnings) != 1 {
		t.Errorf("%d profiles, warnings %q, %v", len(f.Profiles), f.Warnings, err)
	}
}
