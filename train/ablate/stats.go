package ablate

import (
	"cmp"
	"math"
	"slices"
	"sort"

	"gonum.org/v1/gonum/integrate/quad"
	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"pretrain/internal/prng"
	"pretrain/train/metrics"
)

// Alpha is the error rate of the verdicts: the chance that an ablation in which nothing differs calls any variant better or
// worse. Intervals have the confidence 1 − Alpha, each for itself.
const Alpha = 0.05

// Power is the chance of finding a difference at which the number of further seeds is computed.
const Power = 0.8

// Interval is a confidence interval.
type Interval struct {
	Low  metrics.Number `json:"low"`
	High metrics.Number `json:"high"`
}

var unknown = Interval{metrics.Unknown, metrics.Unknown}

// Contains reports whether x lies in the interval.
func (i Interval) Contains(x float64) bool { return float64(i.Low) <= x && x <= float64(i.High) }

// Comparison is the difference of a variant to the baseline: variant minus baseline, seed by seed. Less is better in all
// that is compared here.
type Comparison struct {
	// Pairs is the number of seeds with both runs.
	Pairs int `json:"pairs"`
	// Mean and SD of the differences. SD has Pairs−1 degrees of freedom.
	Mean metrics.Number `json:"mean"`
	SD   metrics.Number `json:"sd"`
	// CI is Student's paired interval, Mean ± t(0.975, Pairs−1)·SD/√Pairs: the one to read. With two to five seeds it is
	// wide, because so few differences say little about their own spread, and it covers what it promises as long as they
	// are roughly normal (Student 1908).
	CI Interval `json:"ci95"`
	// Bootstrap is the percentile interval over resampled seeds (Efron 1979), for comparison: with n seeds it uses n−1 of n
	// parts of the variance and no t quantile, so at three seeds it covers about 3/4 of the time instead of 95%. It is
	// exact, over all nⁿ resamples, up to six seeds; above that over ten thousand.
	Bootstrap Interval `json:"bootstrap95"`
	// P is the two-sided p-value of the paired t test; PHolm is after Holm's correction over all variants.
	P     metrics.Number `json:"p"`
	PHolm metrics.Number `json:"p_holm"`
}

// Compare makes the comparison of paired differences. What needs two pairs is unknown with fewer.
func Compare(differences []float64, key prng.Key) Comparison {
	c := Comparison{Pairs: len(differences), Mean: metrics.Unknown, SD: metrics.Unknown, CI: unknown, Bootstrap: unknown, P: metrics.Unknown, PHolm: metrics.Unknown}
	if len(differences) == 0 {
		return c
	}
	c.Mean = metrics.Number(stat.Mean(differences, nil))
	if len(differences) < 2 {
		return c
	}
	sd := stat.StdDev(differences, nil)
	c.SD, c.CI = metrics.Number(sd), TInterval(differences)
	c.Bootstrap = bootstrap(differences, key)
	c.P = metrics.Number(pValue(float64(c.Mean), sd, len(differences)))
	return c
}

// TInterval is Student's interval of the mean. With fewer than two values it is unknown.
func TInterval(values []float64) Interval {
	n := float64(len(values))
	if n < 2 {
		return unknown
	}
	mean, sd := stat.MeanStdDev(values, nil)
	half := tQuantile(1-Alpha/2, n-1) * sd / math.Sqrt(n)
	return Interval{metrics.Number(mean - half), metrics.Number(mean + half)}
}

func tQuantile(p, df float64) float64 {
	return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: df}.Quantile(p)
}

// pValue of the two-sided paired t test. Differences that are all equal leave no doubt: 1 if they are 0, else 0.
func pValue(mean, sd float64, n int) float64 {
	switch {
	case mean == 0:
		return 1
	case sd == 0:
		return 0
	}
	t := math.Abs(mean) / (sd / math.Sqrt(float64(n)))
	return 2 * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(n - 1)}.CDF(-t)
}

// exhaustive is the largest number of values whose bootstrap is enumerated: 6⁶ = 46,656 resamples.
const exhaustive = 6

// bootstrap is the percentile interval of the mean. Quantiles interpolate linearly between order statistics (type 7 of
// Hyndman and Fan 1996, NumPy's default).
func bootstrap(values []float64, key prng.Key) Interval {
	n := len(values)
	resamples := 10_000
	if n <= exhaustive {
		resamples = int(math.Round(math.Pow(float64(n), float64(n))))
	}
	means := make([]float64, resamples)
	for i := range means {
		sum, code := 0.0, i
		for j := range n {
			pick := code % n
			if code /= n; n > exhaustive {
				pick = int(key.Float64At(uint64(i*n+j)) * float64(n))
			}
			sum += values[pick]
		}
		means[i] = sum / float64(n)
	}
	slices.Sort(means)
	at := func(p float64) metrics.Number {
		x := p * float64(len(means)-1)
		i := min(int(x), len(means)-2)
		return metrics.Number(means[i] + (x-float64(i))*(means[i+1]-means[i]))
	}
	return Interval{at(Alpha / 2), at(1 - Alpha/2)}
}

// holm corrects p-values for being several (Holm 1979): the i-th smallest of m, counted from 0, is multiplied by m−i, and
// none is below the one before it. It bounds the chance of any false verdict whatever the p-values' dependence; here they
// depend, as all comparisons share the baseline's runs.
func holm(ps []float64) []float64 {
	order := make([]int, len(ps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(ps[a], ps[b]) })
	adjusted, least := make([]float64, len(ps)), 0.0
	for rank, i := range order {
		least = max(least, min(1, ps[i]*float64(len(ps)-rank)))
		adjusted[i] = least
	}
	return adjusted
}

// pooledSD is the standard deviation within groups: √(Σ sum of squares / Σ(n−1)), with its degrees of freedom; unknown
// where no group has two values.
func pooledSD(groups [][]float64) (sd float64, df int) {
	sum := 0.0
	for _, g := range groups {
		if len(g) >= 2 {
			sum += stat.Variance(g, nil) * float64(len(g)-1)
			df += len(g) - 1
		}
	}
	if df == 0 {
		return math.NaN(), 0
	}
	return math.Sqrt(sum / float64(df)), df
}

// tPower is the chance that the two-sided t test at level alpha, of n pairs whose differences have standard deviation sd,
// finds a true mean difference: P(|T| > c) of the noncentral t with n−1 degrees of freedom and noncentrality
// difference·√n/sd, integrated over the distribution of the estimated standard deviation.
func tPower(difference, sd, alpha float64, n int) float64 {
	if n < 2 {
		return 0
	}
	df := float64(n - 1)
	c := tQuantile(1-alpha/2, df)
	shift := math.Abs(difference) * math.Sqrt(float64(n)) / sd
	chi2 := distuv.ChiSquared{K: df}
	low, high := math.Sqrt(chi2.Quantile(1e-12)/df), math.Sqrt(chi2.Quantile(1-1e-12)/df)
	return quad.Fixed(func(s float64) float64 { // s = estimated over true standard deviation
		return 2 * df * s * chi2.Prob(df*s*s) * (distuv.UnitNormal.CDF(shift-c*s) + distuv.UnitNormal.CDF(-shift-c*s))
	}, low, high, 100, nil, 0)
}

// seedsFor is the smallest number of pairs that finds a difference with the wanted power; 0 if it is more than most.
func seedsFor(difference, sd, alpha float64, most int) int {
	enough := func(n int) bool { return tPower(difference, sd, alpha, n) >= Power }
	if difference == 0 || !enough(most) {
		return 0
	}
	return sort.Search(most, enough) // power grows with n
}

// detectable is the smallest difference that n pairs find with the wanted power; unknown below two pairs.
func detectable(sd, alpha float64, n int) float64 {
	if n < 2 || math.IsNaN(sd) {
		return math.NaN()
	}
	low, high := 0.0, 1.0
	for tPower(high, 1, alpha, n) < Power {
		high *= 2
	}
	for range 50 {
		if mid := (low + high) / 2; tPower(mid, 1, alpha, n) < Power {
			low = mid
		} else {
			high = mid
		}
	}
	return high * sd
}
