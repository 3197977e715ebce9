package eval

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Rung is one model of a ladder.
type Rung struct {
	Name string `json:"name"`
	// Scale is what the ladder climbs: parameters, tokens or compute.
	Scale float64 `json:"scale"`
	// Rate is the pass rate, RatioRK the mean of r/K.
	Rate    Estimate `json:"rate"`
	RatioRK float64  `json:"ratio_rk"`
	// Accuracy is the share of items that greedy decoding passes: what a usual evaluation shows.
	Accuracy Estimate `json:"accuracy"`
	Trials   []Trial  `json:"trials"`
}

// Law is the fit of log(−log rate) = log c − α·log scale (2310.03262), weighted by the rates' intervals.
type Law struct {
	Alpha float64 `json:"alpha"`
	C     float64 `json:"c"`
	// Points that could be fitted: those whose rate is neither 0 nor 1.
	Points int `json:"points"`
	// Misfit is χ² of the line, P its chance if the law holds; unknown (1) with two points.
	Misfit float64 `json:"misfit"`
	P      float64 `json:"p"`
	// Bend is the coefficient of the square of log scale when the line is given one: below 0 the rate rises ever faster than the
	// law, above 0 it falls behind.
	Bend    float64 `json:"bend"`
	Verdict string  `json:"verdict"`
}

// Predict is the rate that the law gives at a scale.
func (l Law) Predict(scale float64) float64 {
	return math.Exp(-l.C * math.Pow(scale, -l.Alpha))
}

// F is log(−log rate), which is linear in log scale under the law.
func F(rate float64) float64 { return math.Log(-math.Log(rate)) }

// significance below which a misfit counts.
const significance = 0.05

// FitLaw fits the law to a ladder and says where a jump of the accuracy lies.
func FitLaw(ladder []Rung) Law {
	var xs, ys, ws []float64
	zeros := 0 // rungs that a usual evaluation shows as 0 and sampling does not
	for _, r := range ladder {
		if r.Rate.Value <= 0 || r.Rate.Value >= 1 || r.Rate.CI == nil {
			continue
		}
		if r.Accuracy.Value == 0 {
			zeros++
		}
		sd := math.Abs(F(max(r.Rate.CI.Low, 1e-12))-F(min(r.Rate.CI.High, 1-1e-12))) / (2 * 1.96)
		xs, ys, ws = append(xs, math.Log(r.Scale)), append(ys, F(r.Rate.Value)), append(ws, 1/max(sd, 1e-6))
	}
	l := Law{Points: len(xs), P: 1}
	line, ok := leastSquares(xs, ys, ws, 2)
	if !ok {
		l.Verdict = fmt.Sprintf("%d of %d models have a rate between 0 and 1: too few for a line; sample more, or take more models", len(xs), len(ladder))
		return l
	}
	l.C, l.Alpha = math.Exp(line[0]), -line[1]
	if len(xs) == 2 {
		l.Verdict = "two models make a line whatever they are: take more"
		return l
	}
	for i := range xs {
		e := (ys[i] - line[0] - line[1]*xs[i]) * ws[i]
		l.Misfit += e * e
	}
	l.P = distuv.ChiSquared{K: float64(len(xs) - 2)}.Survival(l.Misfit)
	if curve, ok := leastSquares(xs, ys, ws, 3); ok {
		l.Bend = curve[2]
	}
	switch {
	case l.P >= significance && zeros > 0:
		l.Verdict = fmt.Sprintf("a jump is in the metric: the pass rate follows the law (misfit p %.2g) where the accuracy of %d of the models is 0", l.P, zeros)
	case l.P >= significance:
		l.Verdict = fmt.Sprintf("no jump: the pass rate follows the law (misfit p %.2g)", l.P)
	case l.Bend < 0:
		l.Verdict = fmt.Sprintf("a jump is in the model: the pass rate itself rises faster than the law (misfit p %.2g)", l.P)
	default:
		l.Verdict = fmt.Sprintf("the pass rate itself falls behind the law (misfit p %.2g): growth slows", l.P)
	}
	return l
}

// leastSquares fits a polynomial of so many coefficients with weights 1/sd; false with too few different points.
func leastSquares(xs, ys, ws []float64, n int) ([]float64, bool) {
	if len(xs) < n {
		return nil, false
	}
	a, b := mat.NewDense(len(xs), n, nil), mat.NewVecDense(len(xs), nil)
	for i, x := range xs {
		for j := range n {
			a.Set(i, j, ws[i]*math.Pow(x, float64(j)))
		}
		b.SetVec(i, ws[i]*ys[i])
	}
	var qr mat.QR
	qr.Factorize(a)
	var c mat.VecDense
	if err := qr.SolveVecTo(&c, false, b); err != nil {
		return nil, false
	}
	return c.RawVector().Data, true
}
