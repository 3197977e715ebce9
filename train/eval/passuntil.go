package eval

import (
	"context"
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// PassUntil measures success rates far below one in the number of items (Hu et al., "Predicting Emergent Abilities with Infinite
// Resolution Evaluation", 2310.03262): an item is sampled until it has passed so often, or to a bound.
type PassUntil struct {
	// Passes is r, where sampling an item stops. 2 or more: with 1 there is no unbiased estimate. The relative error is about 1/√r.
	Passes int
	// Draws is the most of an item: rates well below 1/Draws show as 0.
	Draws int
	// Batch is the most draws at a time.
	Batch int
}

// Trial is what became of an item.
type Trial struct {
	ID     string `json:"id"`
	Passes int    `json:"passes"`
	// Draws up to and with the last pass that counts, or all of them.
	Draws int `json:"draws"`
	// Reached says that sampling stopped at the wanted number of passes; else it came to the bound.
	Reached bool `json:"reached"`
}

// Run samples an item. draw says of n draws, from number first on, which passed; a draw is a function of its number, so that the
// outcome does not depend on how draws are batched.
func (p PassUntil) Run(ctx context.Context, id string, draw func(ctx context.Context, first, n int) ([]bool, error)) (Trial, error) {
	if p.Passes < 2 || p.Draws < 1 || p.Batch < 1 {
		return Trial{}, fmt.Errorf("PassUntil: %d passes in %d draws, %d at a time: want 2 passes or more, and draws", p.Passes, p.Draws, p.Batch)
	}
	t := Trial{ID: id}
	// Few at first, as an easy item needs no more; two sizes only, as each is a program to compile.
	for n := min(p.Batch, 4*p.Passes); t.Draws < p.Draws; n = p.Batch {
		passed, err := draw(ctx, t.Draws, min(n, p.Draws-t.Draws))
		if err != nil {
			return t, err
		}
		for _, ok := range passed {
			t.Draws++
			if ok {
				t.Passes++
			}
			if t.Passes == p.Passes {
				t.Reached = true
				return t, nil
			}
		}
	}
	return t, nil
}

// Rate is the unbiased estimate of the chance to pass: (r−1)/(K−1) (Haldane 1945) where sampling stopped at the r-th pass, after K
// draws, and passes/draws where it came to the bound. (With a bound it is unbiased but for the choice between the two: the bias is
// below 1/Draws.)
func (t Trial) Rate() float64 {
	if t.Reached {
		return float64(t.Passes-1) / float64(t.Draws-1)
	}
	return t.RatioRK()
}

// RatioRK is r/K, the paper's estimate. It is the most likely rate, and too high on average: by about 1/r of it.
func (t Trial) RatioRK() float64 { return float64(t.Passes) / float64(t.Draws) }

// Variance estimates that of Rate: p(1−p)/(K−2) (Best 1974) and p(1−p)/K; with no pass that of one in K, as 0 would claim certainty.
func (t Trial) Variance() float64 {
	p, n := t.Rate(), float64(t.Draws)
	if t.Reached {
		return p * (1 - p) / max(n-2, 1)
	}
	p = max(p, 1/n)
	return p * (1 - p) / n
}

// Interval is the exact one of 95% (Clopper and Pearson 1934, and its counterpart for sampling to r passes): it holds the truth in at
// least 95% of cases.
func (t Trial) Interval() Interval {
	r, k := float64(t.Passes), float64(t.Draws)
	ci := Interval{0, 1}
	if t.Passes > 0 {
		ci.Low = distuv.Beta{Alpha: r, Beta: k - r + 1}.Quantile(0.025)
	}
	if b := k - r; t.Reached && b > 0 { // K ≥ k means that k−1 draws had at most r−1 passes
		ci.High = distuv.Beta{Alpha: r, Beta: b}.Quantile(0.975)
	} else if !t.Reached && b > 0 {
		ci.High = distuv.Beta{Alpha: r + 1, Beta: b}.Quantile(0.975)
	}
	return ci
}

// MeanRate is the pass rate of a set of items, the mean over them, and its interval: of the sampling alone, for these items. It is
// taken on the logarithm, so that it stays above 0; a single item's is exact.
func MeanRate(trials []Trial) Estimate {
	if len(trials) == 1 {
		ci := trials[0].Interval()
		return Estimate{trials[0].Rate(), &ci}
	}
	var sum, variance float64
	n := float64(len(trials))
	for _, t := range trials {
		sum += t.Rate() / n
		variance += t.Variance() / n / n
	}
	if sum == 0 {
		return Estimate{0, &Interval{0, 1.96 * math.Sqrt(variance)}}
	}
	spread := math.Exp(1.96 * math.Sqrt(variance) / sum)
	return Estimate{sum, &Interval{sum / spread, min(1, sum*spread)}}
}
