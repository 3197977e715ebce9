package scaling

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"

	"pretrain/internal/units"
)

// warn finds what the points cannot tell.
func (f *Fit) warn(p *problem, optimum []float64) {
	add := func(format string, args ...any) { f.Warnings = append(f.Warnings, fmt.Sprintf(format, args...)) }
	sizes, lengths := distinct(f.Points, func(p Point) float64 { return p.N }), distinct(f.Points, func(p Point) float64 { return p.D })
	if len(sizes) < 3 {
		add("%d different N: a power law of N with a floor has three unknowns and wants three sizes or more", len(sizes))
	}
	if len(lengths) < 3 {
		add("%d different D: a power law of D with a floor has three unknowns and wants three lengths or more", len(lengths))
	}
	if r := stat.Correlation(p.x, p.y, nil); math.Abs(r) > 0.97 && len(sizes) > 1 {
		add("N and D go together (correlation %.3f of their logarithms): what size gains cannot be told from what data gains; vary D at equal N", r)
	}
	if n := len(f.Points); n < 2*len(f.Estimates) {
		add("%d points for %d parameters: intervals of so few are too narrow", n, len(f.Estimates))
	}
	f.warnExponents(p, optimum, add)
	if law, ok := f.Curve.(Law); ok {
		least := slices.MinFunc(f.Points, func(a, b Point) int { return cmp.Compare(a.Loss, b.Loss) })
		if law.E < 0.02*least.Loss {
			add("E is %.2g, next to nothing: the floor is not reached, and A and B take its place", law.E)
		}
	}
	f.warnAllocation(sizes, add)
}

// warnExponents looks whether each exponent is fixed by the points: whether the law fits about as well with another one.
func (f *Fit) warnExponents(p *problem, optimum []float64, add func(string, ...any)) {
	for _, place := range p.form.exponents {
		e := f.Estimates[slices.IndexFunc(f.Estimates, func(e Estimate) bool { return e.Name == p.form.names[place] })]
		switch {
		case e.Value <= 0:
			add("%s is %.3g: the loss does not fall with it at all", e.Name, e.Value)
			continue
		case !math.IsNaN(e.Low) && e.High-e.Low > e.Value:
			add("%s is not identified: its 95%% interval, %.3g to %.3g, is wider than its value", e.Name, e.Low, e.High)
			continue
		}
		for _, factor := range []float64{0.5, 2} {
			if ratio := p.profile(optimum, place, factor*e.Value) / f.Objective; f.worse(ratio) < chi2 {
				add("%s is not identified: with it at %.3g instead of %.3g the other parameters make up for it (objective %.3g times as large)",
					e.Name, factor*e.Value, e.Value, ratio)
				break
			}
		}
	}
}

// chi2 is the 95th percentile of χ² with one degree of freedom: how much of twice the log-likelihood an exponent may cost.
const chi2 = 3.841

// worse is how much of twice the log-likelihood an objective that is ratio times as large costs: that of errors with an unknown
// scale, normal ones for squares, Laplace's for the Huber loss, which beyond its tiny δ is the absolute error.
func (f *Fit) worse(ratio float64) float64 {
	free := float64(len(f.Points) - len(f.Estimates))
	if f.Method == Huber {
		free *= 2
	}
	return free * math.Log(ratio)
}

// profile is the least objective with one place of θ held.
func (p *problem) profile(optimum []float64, place int, value float64) float64 {
	q := *p
	q.fixed = place
	start := slices.Clone(optimum)
	start[place] = value
	_, objective := q.descend(start, 2000, 20)
	return objective
}

// warnAllocation looks whether the best size for the largest compute that was spent lies among the sizes that were tried: beyond
// them the law is an extrapolation.
func (f *Fit) warnAllocation(sizes []float64, add func(string, ...any)) {
	most := 0.0
	for _, p := range f.Points {
		most = max(most, 6*p.N*p.D)
	}
	best := Optimal(f.Curve, most, 0)
	if low, high := sizes[0], sizes[len(sizes)-1]; best.N < low || best.N > high {
		add("the points have no interior minimum: at the largest compute among them, %.3g FLOPs, the law's best size is %s, outside the sizes tried (%s to %s); best sizes and ratios are extrapolated",
			most, units.Short(best.N), units.Short(low), units.Short(high))
	}
}

// distinct values of the points, rising.
func distinct(points []Point, value func(Point) float64) []float64 {
	var list []float64
	for _, p := range points {
		list = append(list, value(p))
	}
	slices.Sort(list)
	return slices.Compact(list)
}
