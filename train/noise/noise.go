// Package noise estimates the gradient noise scale of McCandlish et al., "An Empirical Model of Large-Batch Training"
// (1812.06162, App. A.1): B_simple = tr(Σ)/|G|², the batch size at which the noise of the gradient is as large as the gradient.
// Far below it a batch twice as large saves almost half the steps, far above it almost none.
//
// Everything is counted in one unit, here tokens: Σ is the covariance of one token's gradient.
package noise

import "math"

// Sample is what a batch tells: squared norms of gradients of means over few and over many tokens.
type Sample struct {
	// Small is the mean, over the batch's parts, of the squared norm of a part's gradient; Big that of the whole batch's.
	Small, Big float64
	// SmallTokens and BigTokens are the tokens of a part and of the batch.
	SmallTokens, BigTokens float64
}

// Grad2 is an unbiased estimate of |G|², the squared norm of the true gradient; it can be negative. E|g_B|² = |G|² + tr(Σ)/B
// holds at both sizes; Grad2 and Trace are the solution.
func (s Sample) Grad2() float64 {
	return (s.BigTokens*s.Big - s.SmallTokens*s.Small) / (s.BigTokens - s.SmallTokens)
}

// Trace is an unbiased estimate of tr(Σ), the variance of one token's gradient.
func (s Sample) Trace() float64 {
	return (s.Small - s.Big) / (1/s.SmallTokens - 1/s.BigTokens)
}

// Average is a moving average of the two parts of a scale. The ratio of the averages is the estimate: single ratios are biased and
// of infinite variance, as Grad2 comes near 0. The zero value is ready.
type Average struct {
	Grad2 float64 `json:"grad2"`
	Trace float64 `json:"trace"`
}

// keep is the part of an average that a new sample leaves: a memory of about ten samples.
const keep = 0.9

// Add takes a sample in. The first has all the weight.
func (a *Average) Add(s Sample) {
	if *a == (Average{}) {
		*a = Average{s.Grad2(), s.Trace()}
		return
	}
	a.Grad2 = keep*a.Grad2 + (1-keep)*s.Grad2()
	a.Trace = keep*a.Trace + (1-keep)*s.Trace()
}

// Scale is B_simple in tokens; NaN where the averages are not both positive: the gradient drowns in noise.
func (a Average) Scale() float64 {
	if a.Grad2 <= 0 || a.Trace < 0 {
		return math.NaN()
	}
	return a.Trace / a.Grad2
}
