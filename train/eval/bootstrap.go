package eval

import (
	"math"
	"slices"

	"pretrain/internal/prng"

	"gonum.org/v1/gonum/stat"
)

// Interval is a confidence interval of 95%.
type Interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// resamples of a bootstrap: the ends of a 95% interval are then order statistics 25 and 975, whose own noise is some 4% of
// its width.
const resamples = 1000

// bootstrapKey is the one stream of all bootstraps: the same measurements give the same interval.
var bootstrapKey = prng.New(0).Split("bootstrap")

// Ratio is the percentile interval of Σnum/Σden over resampled units, which are independent of each other: documents, or
// items (Efron 1979). Nil with fewer than two units. A ratio of sums, not a mean of ratios, is what bits per byte are.
func Ratio(num, den []float64) *Interval {
	n := len(num)
	if n < 2 {
		return nil
	}
	values := make([]float64, resamples)
	for i := range values {
		key, up, down := bootstrapKey.SplitN(uint64(i)), 0.0, 0.0
		for j := range n {
			pick := int(key.Float64At(uint64(j)) * float64(n))
			up, down = up+num[pick], down+den[pick]
		}
		values[i] = up / down
	}
	slices.Sort(values)
	low, high := stat.Quantile(0.025, stat.LinInterp, values, nil), stat.Quantile(0.975, stat.LinInterp, values, nil)
	if math.IsNaN(low) || math.IsNaN(high) { // units without any bytes
		return nil
	}
	return &Interval{low, high}
}

// Mean is [Ratio] for plain values.
func Mean(values []float64) Estimate {
	ones := make([]float64, len(values))
	for i := range ones {
		ones[i] = 1
	}
	return Estimate{stat.Mean(values, nil), Ratio(values, ones)}
}

// share is [Mean] for values of 0 and 1. Where all are alike a bootstrap has no width; the interval is then that of Clopper and Pearson
// (1934): of n items none of which is right, 0 … 1 − 0.025^(1/n).
func share(values []float64) Estimate {
	e := Mean(values)
	if e.CI != nil && (e.Value == 0 || e.Value == 1) {
		possible := math.Pow(0.025, 1/float64(len(values)))
		*e.CI = Interval{possible, 1}
		if e.Value == 0 {
			*e.CI = Interval{0, 1 - possible}
		}
	}
	return e
}

// Estimate is a mean and its interval.
type Estimate struct {
	Value float64   `json:"value"`
	CI    *Interval `json:"ci95,omitempty"` // nil with fewer than two values
}
