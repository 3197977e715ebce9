package scaling

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"pretrain/internal/prng"
	"pretrain/internal/units"
)

// Profile is the loss over the model's size at one compute (an IsoFLOP profile, Hoffmann et al., approach 2).
type Profile struct {
	// C is the compute in FLOPs, the geometric mean of its points'.
	C float64 `json:"c"`
	// N and D of the lowest point of a parabola in log N, and the loss there.
	Allocation
	// Points of the profile.
	Points []Point `json:"points"`
}

// IsoFLOP is how the best size and length grow with compute: N = NScale·C^NExponent, D = DScale·C^DExponent.
type IsoFLOP struct {
	// Profiles with a minimum inside, by rising compute.
	Profiles []Profile
	// NExponent and DExponent are the slopes of log N and log D over log C.
	NExponent, DExponent Estimate
	NScale, DScale       float64
	Warnings             []string
}

// sameCompute is by how much the computes of one profile may differ.
const sameCompute = 1.1

// RunIsoFLOP makes the profiles of points whose compute agrees within 10%, takes the lowest point of each, and fits a line
// through them. The bootstrap draws points within each profile,
// and leaves out a profile that has no minimum then.
func RunIsoFLOP(points []Point, o Options) (*IsoFLOP, error) {
	if err := check(points, 3); err != nil {
		return nil, err
	}
	sorted := slices.Clone(points)
	slices.SortStableFunc(sorted, func(a, b Point) int { return cmp.Compare(a.Compute(), b.Compute()) })
	var groups [][]Point
	for _, p := range sorted {
		if n := len(groups); n > 0 && p.Compute() <= sameCompute*groups[n-1][0].Compute() {
			groups[n-1] = append(groups[n-1], p)
		} else {
			groups = append(groups, []Point{p})
		}
	}
	f := &IsoFLOP{}
	few := 0
	for _, g := range groups {
		if len(distinct(g, func(p Point) float64 { return p.N })) < 3 {
			few++
			continue
		}
		p, err := profile(g)
		if err != nil {
			f.Warnings = append(f.Warnings, err.Error())
			continue
		}
		f.Profiles = append(f.Profiles, p)
	}
	if few > 0 {
		f.Warnings = append(f.Warnings, fmt.Sprintf("%d computes are left out that have fewer than three sizes", few))
	}
	if len(f.Profiles) < 2 {
		return nil, fmt.Errorf("%d computes with a minimum inside their sizes: want two or more with three sizes each, the best of them not at an end: %s", len(f.Profiles), strings.Join(f.Warnings, "; "))
	}
	n, d, nScale, dScale := line(f.Profiles)
	f.NExponent, f.DExponent = Estimate{"N_exponent", n, math.NaN(), math.NaN()}, Estimate{"D_exponent", d, math.NaN(), math.NaN()}
	f.NScale, f.DScale = nScale, dScale
	if len(f.Profiles) == 2 {
		f.Warnings = append(f.Warnings, "two computes only: a line through two points has no error to tell")
	}
	f.bootstrap(o)
	return f, nil
}

// profile finds the lowest point of a parabola in log N.
func profile(points []Point) (Profile, error) {
	p := Profile{Points: points}
	var logC, x, y []float64
	for _, pt := range points {
		logC, x, y = append(logC, math.Log(pt.Compute())), append(x, math.Log(pt.N)), append(y, pt.Loss)
	}
	p.C = math.Exp(stat.Mean(logC, nil))
	mean := stat.Mean(x, nil)
	design, target := mat.NewDense(len(x), 3, nil), mat.NewVecDense(len(y), y)
	for i := range x {
		x[i] -= mean
		design.SetRow(i, []float64{1, x[i], x[i] * x[i]})
	}
	var c mat.VecDense
	if err := c.SolveVec(design, target); err != nil {
		return p, fmt.Errorf("%.3g FLOPs: no parabola: %w", p.C, err)
	}
	bottom := -c.AtVec(1) / (2 * c.AtVec(2))
	if !(c.AtVec(2) > 0) || bottom < slices.Min(x) || bottom > slices.Max(x) {
		return p, fmt.Errorf("%.3g FLOPs: no interior minimum: the loss falls to an end of the sizes tried (%s to %s)", p.C, units.Short(math.Exp(slices.Min(x)+mean)), units.Short(math.Exp(slices.Max(x)+mean)))
	}
	p.N = math.Exp(bottom + mean)
	p.D = p.C / (6 * p.N)
	p.Loss = c.AtVec(0) + bottom*(c.AtVec(1)+bottom*c.AtVec(2))
	return p, nil
}

// line is the least-squares line of log N over log C; that of log D = log C − log N − log 6 follows from it.
func line(profiles []Profile) (nExponent, dExponent, nScale, dScale float64) {
	var c, n []float64
	for _, p := range profiles {
		c, n = append(c, math.Log(p.C)), append(n, math.Log(p.N))
	}
	intercept, slope := stat.LinearRegression(c, n, nil, false)
	return slope, 1 - slope, math.Exp(intercept), math.Exp(-intercept) / 6
}

func (f *IsoFLOP) bootstrap(o Options) {
	key := prng.New(o.Seed).Split("bootstrap")
	var slopes []float64
	draws := uint64(0)
	for range o.Bootstrap {
		var drawn []Profile
		for _, p := range f.Profiles {
			points := make([]Point, len(p.Points))
			for j := range points {
				points[j] = p.Points[int(key.Float64At(draws)*float64(len(points)))]
				draws++
			}
			if q, err := profile(points); err == nil {
				drawn = append(drawn, q)
			}
		}
		if len(drawn) >= 2 {
			slope, _, _, _ := line(drawn)
			slopes = append(slopes, slope)
		}
	}
	switch {
	case o.Bootstrap == 0:
	case len(slopes) < o.Bootstrap/2:
		f.Warnings = append(f.Warnings, fmt.Sprintf("no interval: only %d of %d resamples leave two computes a minimum inside", len(slopes), o.Bootstrap))
	default:
		f.NExponent.Low, f.NExponent.High = Percentiles(len(slopes), func(i int) float64 { return slopes[i] })
		f.DExponent.Low, f.DExponent.High = 1-f.NExponent.High, 1-f.NExponent.Low
	}
}

// Optimal is the best size and length for a compute of c FLOPs, its loss unknown.
func (f *IsoFLOP) Optimal(c float64) Allocation {
	return Allocation{N: f.NScale * math.Pow(c, f.NExponent.Value), D: f.DScale * math.Pow(c, f.DExponent.Value), Loss: math.NaN()}
}

// MarshalJSON writes the exponents with their intervals, and the profiles.
func (f *IsoFLOP) MarshalJSON() ([]byte, error) {
	ci := map[string][2]float64{}
	for _, e := range []Estimate{f.NExponent, f.DExponent} {
		if !math.IsNaN(e.Low) {
			ci[e.Name] = [2]float64{e.Low, e.High}
		}
	}
	return json.Marshal(struct {
		Form      string                `json:"form"`
		NExponent float64               `json:"N_exponent"`
		DExponent float64               `json:"D_exponent"`
		NScale    float64               `json:"N_scale"`
		DScale    float64               `json:"D_scale"`
		CI        map[string][2]float64 `json:"ci"`
		Profiles  []Profile             `json:"profiles"`
		Warnings  []string              `json:"warnings"`
	}{"isoflop", f.NExponent.Value, f.DExponent.Value, f.NScale, f.DScale, ci, f.Profiles, append([]string{}, f.Warnings...)})
}
