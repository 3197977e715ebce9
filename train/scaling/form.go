package scaling

import (
	"math"
)

// Form is the shape of a law.
type Form string

// The forms.
const (
	Additive   Form = "chinchilla" // [Law]
	KaplanForm Form = "kaplan"     // [Kaplan]
)

// Forms that [Fit] knows.
var Forms = []Form{Additive, KaplanForm}

// parametric is how a form is fitted. Its vector θ is chosen such that all its values are of order one and none is bounded: A, B,
// E, N_c and D_c are logarithms, and sizes are in units of the points' geometric means, which takes most of the degeneracy
// between A and α, and between B and β, away.
type parametric struct {
	names []string
	// exponents are the places in θ of the two exponents.
	exponents [2]int
	// logLoss is log L at x = log N, y = log D, and its gradient in θ.
	logLoss func(theta []float64, x, y float64, grad []float64) float64
	// starts are the grid that the fit begins from; x and y are the points' mean log N and log D.
	starts func(x, y float64) [][]float64
	// values are θ in the user's units, in the order of names.
	values func(theta []float64, x, y float64) []float64
	curve  func(values []float64) Curve
}

var forms = map[Form]parametric{
	Additive: {
		names: []string{"E", "A", "B", "alpha", "beta"}, exponents: [2]int{3, 4},
		// θ = (e, a, b, α, β): log L = log(exp(e) + exp(a − α·x) + exp(b − β·y)).
		logLoss: func(t []float64, x, y float64, grad []float64) float64 {
			u, v := t[1]-t[3]*x, t[2]-t[4]*y
			top := max(t[0], u, v)
			e, p, q := math.Exp(t[0]-top), math.Exp(u-top), math.Exp(v-top)
			sum := e + p + q
			grad[0], grad[1], grad[2] = e/sum, p/sum, q/sum
			grad[3], grad[4] = -x*grad[1], -y*grad[2]
			return top + math.Log(sum)
		},
		// The grid of Hoffmann et al., appendix D.3: it is of A and B in single parameters and tokens.
		starts: func(x, y float64) [][]float64 {
			var list [][]float64
			for _, alpha := range []float64{0, 0.5, 1, 1.5, 2} {
				for _, beta := range []float64{0, 0.5, 1, 1.5, 2} {
					for _, e := range []float64{-1, -0.5, 0, 0.5, 1} {
						for a := 0.0; a <= 25; a += 5 {
							for b := 0.0; b <= 25; b += 5 {
								list = append(list, []float64{e, a - alpha*x, b - beta*y, alpha, beta})
							}
						}
					}
				}
			}
			return list
		},
		values: func(t []float64, x, y float64) []float64 {
			return []float64{math.Exp(t[0]), math.Exp(t[1] + t[3]*x), math.Exp(t[2] + t[4]*y), t[3], t[4]}
		},
		curve: func(v []float64) Curve { return Law{E: v[0], A: v[1], B: v[2], Alpha: v[3], Beta: v[4]} },
	},
	KaplanForm: {
		names: []string{"N_c", "D_c", "alpha_N", "alpha_D"}, exponents: [2]int{2, 3},
		// θ = (n, d, α_N, α_D): log L = α_D · log(exp(α_N/α_D·(n − x)) + exp(d − y)).
		logLoss: func(t []float64, x, y float64, grad []float64) float64 {
			u, v := t[2]/t[3]*(t[0]-x), t[1]-y
			top := max(u, v)
			p, q := math.Exp(u-top), math.Exp(v-top)
			lse := top + math.Log(p+q)
			p, q = p/(p+q), q/(p+q)
			grad[0], grad[1] = t[2]*p, t[3]*q
			grad[2], grad[3] = p*(t[0]-x), lse-p*u
			return t[3] * lse
		},
		starts: func(x, y float64) [][]float64 {
			var list [][]float64
			for _, alphaN := range []float64{0.05, 0.1, 0.2, 0.4} {
				for _, alphaD := range []float64{0.05, 0.1, 0.2, 0.4} {
					for n := 10.0; n <= 35; n += 5 {
						for d := 10.0; d <= 35; d += 5 {
							list = append(list, []float64{n - x, d - y, alphaN, alphaD})
						}
					}
				}
			}
			return list
		},
		values: func(t []float64, x, y float64) []float64 {
			return []float64{math.Exp(t[0] + x), math.Exp(t[1] + y), t[2], t[3]}
		},
		curve: func(v []float64) Curve { return Kaplan{NC: v[0], DC: v[1], AlphaN: v[2], AlphaD: v[3]} },
	},
}
