package scaling

import (
	"fmt"
	"math"
	"slices"

	"pretrain/internal/prng"
)

// Options of a fit.
type Options struct {
	// Form of the law. Default: Additive.
	Form Form
	// Method. Default: Huber.
	Method Method
	// Bootstrap is the number of resamples for the intervals; 0: none. Besiroglu et al. take 4000; 1000 place the ends of a 95%
	// interval to about a tenth of its width.
	Bootstrap int
	// Seed of the resampling.
	Seed uint64
}

// Estimate is a parameter of the law.
type Estimate struct {
	Name  string
	Value float64
	// Low and High are the 2.5th and 97.5th percentile of the bootstrap over points; NaN without one.
	Low, High float64
}

// Fit is a law that was fitted.
type Fit struct {
	Form      Form
	Method    Method
	Estimates []Estimate
	// Objective at the optimum: the sum over points of the Huber loss, or of squared residuals.
	Objective float64
	// Points that were fitted.
	Points []Point
	// Curve is the law.
	Curve Curve
	// Resamples has the law of each bootstrap resample.
	Resamples []Curve
	// Residual is the root mean square of log L − log L̂, Worst its largest absolute value: relative errors.
	Residual, Worst float64
	// Warnings say what the reader must know before believing the rest.
	Warnings []string
}

// Value of a parameter by its name; NaN if the form has none of that name.
func (f *Fit) Value(name string) float64 {
	for _, e := range f.Estimates {
		if e.Name == name {
			return e.Value
		}
	}
	return math.NaN()
}

// Run fits the law to points.
func Run(points []Point, o Options) (*Fit, error) {
	if o.Form == "" {
		o.Form = Additive
	}
	if o.Method == "" {
		o.Method = Huber
	}
	form, ok := forms[o.Form]
	if !ok {
		return nil, fmt.Errorf("unknown form %q: want one of %v", o.Form, Forms)
	}
	if !slices.Contains(Methods, o.Method) {
		return nil, fmt.Errorf("unknown method %q: want one of %v", o.Method, Methods)
	}
	if err := check(points, len(form.names)); err != nil {
		return nil, err
	}
	p := newProblem(o.Form, o.Method, points)
	best := p.minimize(form.starts(p.meanX, p.meanY))
	f := &Fit{Form: o.Form, Method: o.Method, Objective: best.objective, Points: points}
	values := form.values(best.theta, p.meanX, p.meanY)
	f.Curve = form.curve(values)
	for i, name := range form.names {
		if math.IsInf(values[i], 0) || math.IsNaN(values[i]) {
			return nil, fmt.Errorf("these losses follow no such law: at its optimum %s is %v; see that N, D and loss are in their columns, and in the same units in all points", name, values[i])
		}
		f.Estimates = append(f.Estimates, Estimate{name, values[i], math.NaN(), math.NaN()})
	}
	for _, pt := range points {
		r := math.Log(pt.Loss / f.Curve.Loss(pt.N, pt.D))
		f.Residual += r * r / float64(len(points))
		f.Worst = max(f.Worst, math.Abs(r))
	}
	f.Residual = math.Sqrt(f.Residual)
	f.bootstrap(p, best.theta, o)
	f.warn(p, best.theta)
	return f, nil
}

func (p Point) positive() bool {
	for _, v := range []float64{p.N, p.D, p.Loss} {
		if !(v > 0) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

// check refuses points that no law can be fitted to.
func check(points []Point, parameters int) error {
	for i, p := range points {
		if !p.positive() {
			return fmt.Errorf("point %d (%s): N %v, D %v, loss %v: want numbers above 0", i+1, p.Name, p.N, p.D, p.Loss)
		}
	}
	if len(points) < parameters {
		return fmt.Errorf("%d points for %d parameters: want more runs than parameters, of several sizes and lengths", len(points), parameters)
	}
	alike := func(value func(Point) float64) bool {
		return !slices.ContainsFunc(points, func(p Point) bool { return value(p) != value(points[0]) })
	}
	if alike(func(p Point) float64 { return p.N }) {
		return fmt.Errorf("all points have N %g, which says nothing of how the loss falls with it: want three sizes or more", points[0].N)
	}
	if alike(func(p Point) float64 { return p.D }) {
		return fmt.Errorf("all points have D %g, which says nothing of how the loss falls with it: want three lengths or more", points[0].D)
	}
	return nil
}

// bootstrap refits to points drawn with replacement, each from the optimum of all points.
func (f *Fit) bootstrap(p *problem, optimum []float64, o Options) {
	if o.Bootstrap <= 0 {
		return
	}
	n := len(p.x)
	key := prng.New(o.Seed).Split("bootstrap")
	values := make([][]float64, o.Bootstrap)
	parallel(o.Bootstrap, func(i int) {
		indices := make([]int, n)
		for j := range indices {
			indices[j] = int(key.Float64At(uint64(i)*uint64(n)+uint64(j)) * float64(n))
		}
		theta, _ := p.pick(indices).descend(optimum, 500, 5)
		values[i] = p.form.values(theta, p.meanX, p.meanY)
	})
	for _, v := range values {
		f.Resamples = append(f.Resamples, p.form.curve(v))
	}
	for j := range f.Estimates {
		e := &f.Estimates[j]
		e.Low, e.High = Percentiles(len(values), func(i int) float64 { return values[i][j] })
	}
}

// Percentiles are the 2.5th and the 97.5th of n values, interpolated (type 7 of Hyndman and Fan 1996).
func Percentiles(n int, value func(i int) float64) (low, high float64) {
	sorted := make([]float64, n)
	for i := range sorted {
		sorted[i] = value(i)
	}
	slices.Sort(sorted)
	at := func(p float64) float64 {
		x := p * float64(n-1)
		i := min(int(x), max(0, n-2))
		j := min(i+1, n-1)
		return sorted[i] + (x-float64(i))*(sorted[j]-sorted[i])
	}
	return at(0.025), at(0.975)
}

// Interval of a quantity that follows from the law, over the bootstrap's resamples; NaN without any.
func (f *Fit) Interval(quantity func(Curve) float64) (low, high float64) {
	if len(f.Resamples) == 0 {
		return math.NaN(), math.NaN()
	}
	return Percentiles(len(f.Resamples), func(i int) float64 { return quantity(f.Resamples[i]) })
}
