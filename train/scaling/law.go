// Package scaling fits scaling laws, how the loss of a model falls with its size and its data, and plans runs by them.
//
// The law is that of Hoffmann et al. (Chinchilla, 2203.15556, approach 3), L(N, D) = E + A/N^α + B/D^β, fitted by their recipe or
// by MiniCPM's (2404.06395, §4.5); that of Kaplan et al. (2001.08361) and Hoffmann's IsoFLOP profiles are there too.
//
// What N counts is the caller's choice and changes the conclusion: with embeddings or without, the best ratio of tokens to
// parameters of small models differs severalfold. Figures of different conventions must not meet in one fit.
package scaling

import "math"

// Point is what one run measured.
type Point struct {
	// N is the number of parameters, D that of the tokens trained on. Both above 0.
	N float64 `json:"n"`
	D float64 `json:"d"`
	// Loss at the run's end, above 0. Its unit, nats per token or bits per byte, is that of E, A and B.
	Loss float64 `json:"loss"`
	// C is the training compute in FLOPs; 0: 6·N·D.
	C float64 `json:"c,omitempty"`
	// Name of the run or row, for messages.
	Name string `json:"name,omitempty"`
}

// Compute is the training compute in FLOPs.
func (p Point) Compute() float64 {
	if p.C > 0 {
		return p.C
	}
	return 6 * p.N * p.D
}

// Curve predicts the loss of a model of n parameters trained on d tokens.
type Curve interface {
	Loss(n, d float64) float64
}

// Law is L(N, D) = E + A/N^Alpha + B/D^Beta (Hoffmann et al., 2203.15556, eq. 2).
type Law struct {
	// E is the loss that no size and no data get below.
	E float64 `json:"E"`
	// A and Alpha are the price of a finite model, B and Beta that of finite data. A and B depend on the units of N and D, and
	// are nearly degenerate with the exponents: of two fits compare curves or exponents, not A and B.
	A     float64 `json:"A"`
	B     float64 `json:"B"`
	Alpha float64 `json:"alpha"`
	Beta  float64 `json:"beta"`
}

// Loss of n parameters on d tokens.
func (l Law) Loss(n, d float64) float64 {
	return l.E + l.A*math.Pow(n, -l.Alpha) + l.B*math.Pow(d, -l.Beta)
}

// Kaplan is L(N, D) = ((NC/N)^(AlphaN/AlphaD) + DC/D)^AlphaD (Kaplan et al., 2001.08361, eq. 1.5). It has no floor: with N and D
// the loss goes to 0.
type Kaplan struct {
	NC     float64 `json:"N_c"`
	DC     float64 `json:"D_c"`
	AlphaN float64 `json:"alpha_N"`
	AlphaD float64 `json:"alpha_D"`
}

// Loss of n parameters on d tokens.
func (k Kaplan) Loss(n, d float64) float64 {
	return math.Pow(math.Pow(k.NC/n, k.AlphaN/k.AlphaD)+k.DC/d, k.AlphaD)
}

// Allocation is a way to spend compute.
type Allocation struct {
	// N parameters and D tokens, and the loss that is predicted for them.
	N    float64 `json:"n"`
	D    float64 `json:"d"`
	Loss float64 `json:"loss"`
}

// Ratio is the number of tokens per parameter.
func (a Allocation) Ratio() float64 { return a.D / a.N }

// Optimal is the size that a compute of c FLOPs is best spent on: the least loss with 6·N·D + 2·N·inference = c, where inference
// is the number of tokens that the model is expected to read and write in its life, 2·N FLOPs each (the budget's form of Sardana
// and Frankle, 2401.00448). With inference 0 it is the training optimum; for a [Law] that has the closed form of Hoffmann et al.,
// eq. 4.
func Optimal(curve Curve, c, inference float64) Allocation {
	at := func(logN float64) Allocation {
		n := math.Exp(logN)
		d := (c - 2*n*inference) / (6 * n)
		return Allocation{n, d, curve.Loss(n, d)}
	}
	// No size can be larger than one that sees a single token; the loss has one minimum between.
	low, high := 0.0, math.Log(c/(6+2*inference))
	const golden = 0.6180339887498949
	a, b := at(high-golden*(high-low)), at(low+golden*(high-low))
	for range 100 {
		if a.Loss < b.Loss {
			high, b = math.Log(b.N), a
			a = at(high - golden*(high-low))
		} else {
			low, a = math.Log(a.N), b
			b = at(low + golden*(high-low))
		}
	}
	return at((low + high) / 2)
}
