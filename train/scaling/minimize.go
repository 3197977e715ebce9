package scaling

import (
	"cmp"
	"math"
	"runtime"
	"slices"
	"sync"

	"gonum.org/v1/gonum/optimize"
	"gonum.org/v1/gonum/stat"
)

// HuberDelta is where the Huber loss of the Chinchilla recipe turns from squares to absolute values (Hoffmann et al., D.3): at an
// error of a thousandth of the loss, so nearly all points count by their absolute error.
const HuberDelta = 1e-3

// Method is what a fit minimises.
type Method string

// The methods.
const (
	Huber        Method = "huber"         // Σ Huber_δ(log L − log L̂): Chinchilla's. Outliers count little
	LeastSquares Method = "least-squares" // Σ (L − L̂)²: MiniCPM's, as scipy.optimize.curve_fit does it
)

// Methods that [Fit] knows.
var Methods = []Method{Huber, LeastSquares}

// problem is a fit's objective over θ.
type problem struct {
	form   parametric
	method Method
	// x and y are log N and log D less their means, loss the measured loss and logLoss its logarithm.
	x, y, loss, logLoss []float64
	meanX, meanY        float64
	// fixed holds one place of θ at a value, for profiles; −1: none.
	fixed int
}

func newProblem(form Form, method Method, points []Point) *problem {
	p := &problem{form: forms[form], method: method, fixed: -1}
	for _, pt := range points {
		p.x, p.y = append(p.x, math.Log(pt.N)), append(p.y, math.Log(pt.D))
		p.loss, p.logLoss = append(p.loss, pt.Loss), append(p.logLoss, math.Log(pt.Loss))
	}
	p.meanX, p.meanY = stat.Mean(p.x, nil), stat.Mean(p.y, nil)
	for i := range p.x {
		p.x[i] -= p.meanX
		p.y[i] -= p.meanY
	}
	return p
}

// pick is the problem of some of the points, in the same units of θ.
func (p *problem) pick(indices []int) *problem {
	q := *p
	q.x, q.y, q.loss, q.logLoss = nil, nil, nil, nil
	for _, i := range indices {
		q.x, q.y = append(q.x, p.x[i]), append(q.y, p.y[i])
		q.loss, q.logLoss = append(q.loss, p.loss[i]), append(q.logLoss, p.logLoss[i])
	}
	return &q
}

// at is the objective at θ; grad, if it is not nil, takes its gradient. scratch has a place for each parameter.
func (p *problem) at(theta, grad, scratch []float64) float64 {
	for i := range grad {
		grad[i] = 0
	}
	sum := 0.0
	for i := range p.x {
		value := p.form.logLoss(theta, p.x[i], p.y[i], scratch)
		var slope float64 // of the term by log L̂
		if p.method == Huber {
			r := value - p.logLoss[i]
			if math.Abs(r) <= HuberDelta {
				sum += r * r / 2
				slope = r
			} else {
				sum += HuberDelta * (math.Abs(r) - HuberDelta/2)
				slope = math.Copysign(HuberDelta, r)
			}
		} else {
			value = math.Exp(value)
			r := value - p.loss[i]
			sum += r * r
			slope = 2 * r * value
		}
		for j := range grad {
			grad[j] += slope * scratch[j]
		}
	}
	if p.fixed >= 0 && grad != nil {
		grad[p.fixed] = 0
	}
	return sum
}

// descend follows L-BFGS from a start. Where the Huber loss has corners its line search gives up early, so it is begun anew,
// without its memory, until that gains nothing.
func (p *problem) descend(start []float64, iterations, restarts int) (theta []float64, objective float64) {
	n := len(start)
	scratch, last, grad := make([]float64, n), make([]float64, n), make([]float64, n)
	last[0] = math.NaN()
	value := 0.0
	scale := p.scale()
	evaluate := func(theta []float64) {
		if !slices.Equal(theta, last) {
			value = p.at(theta, grad, scratch)
			copy(last, theta)
		}
	}
	functions := optimize.Problem{
		Func: func(theta []float64) float64 {
			evaluate(theta)
			return value * scale
		},
		Grad: func(g, theta []float64) {
			evaluate(theta)
			for i := range g {
				g[i] = grad[i] * scale
			}
		},
	}
	settings := optimize.Settings{
		MajorIterations: iterations, GradientThreshold: 1e-9,
		Converger: &optimize.FunctionConverge{Absolute: 1e-12, Relative: 1e-12, Iterations: 10},
	}
	theta, objective = slices.Clone(start), p.at(start, nil, scratch)
	for range restarts {
		r, err := optimize.Minimize(functions, theta, &settings, &optimize.LBFGS{Store: 2 * n})
		if r == nil || math.IsNaN(r.F) || err != nil && r.F/scale >= objective { // an error is a line search that found nothing better
			break
		}
		gain := objective - r.F/scale
		if gain > 0 {
			theta, objective = slices.Clone(r.X), r.F/scale
		}
		if gain < 1e-10*objective {
			break
		}
	}
	return theta, objective
}

// scale brings the objective near one a point, so that the tolerances of the search mean the same for both methods.
func (p *problem) scale() float64 {
	if p.method == Huber {
		return 1 / (HuberDelta * HuberDelta * float64(len(p.x)))
	}
	return 1e4 / float64(len(p.x))
}

// solution is where a descent ended.
type solution struct {
	theta     []float64
	objective float64
}

// minimize descends from the most promising starts of the grid a little, and from the best of these on to the end. On Chinchilla's
// points, and on those of the tests, these 400 end where all 4500 do, to ten digits, in a seventh of the time.
func (p *problem) minimize(starts [][]float64) solution {
	const promising, finalists = 400, 16
	found := make([]solution, len(starts))
	scratch := make([]float64, len(p.form.names))
	for i, theta := range starts {
		found[i] = solution{theta, p.at(theta, nil, scratch)}
	}
	for _, stage := range []struct{ keep, iterations, restarts int }{{promising, 30, 1}, {finalists, 2000, 20}} {
		found = slices.DeleteFunc(found, func(s solution) bool { return math.IsNaN(s.objective) })
		slices.SortStableFunc(found, func(a, b solution) int { return cmp.Compare(a.objective, b.objective) })
		found = found[:min(stage.keep, len(found))]
		parallel(len(found), func(i int) {
			found[i].theta, found[i].objective = p.descend(found[i].theta, stage.iterations, stage.restarts)
		})
	}
	return slices.MinFunc(found, func(a, b solution) int { return cmp.Compare(a.objective, b.objective) })
}

// parallel calls f for 0 to n−1 on all cores.
func parallel(n int, f func(int)) {
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
}
