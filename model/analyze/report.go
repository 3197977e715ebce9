package analyze

import (
	"math"
	"slices"
	"sort"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
)

// Report is what was measured of a model's layers.
type Report struct {
	// Tokens that were measured.
	Tokens int     `json:"tokens"`
	Layers []Layer `json:"layers"`
	// Points are the residual stream before the first layer, after it, …, after the last: layers+1.
	Points []Point `json:"points"`
	// Angular[i][j] is the angular distance between points i and j, arccos(cos)/π averaged over tokens (2403.17887): 0 same
	// direction, 0.5 orthogonal. Removing layers i…j−1 replaces point j by point i.
	Angular [][]float64 `json:"angular"`
	// Bins name the parts that a split of a layer has, in order.
	Bins Bins `json:"bins"`
}

// Layer is one layer.
type Layer struct {
	// Influence is 1 − the mean cosine between the layer's input and output.
	Influence float64 `json:"influence"`
	Cosine    Stats   `json:"cosine"`
	// Attention and FeedForward are the layer's two sublayers, each from its own input to its own output.
	Attention   Stats `json:"attention"`
	FeedForward Stats `json:"feed_forward"`
	// The mean cosine of the layer on parts of the tokens; see Bins.
	ByPosition   []float64 `json:"by_position"`
	ByFrequency  []float64 `json:"by_frequency"`
	ByDifficulty []float64 `json:"by_difficulty"`
}

// Point is the residual stream between two layers.
type Point struct {
	// RMS of the elements.
	RMS float64 `json:"rms"`
	// EffectiveRank is exp of the entropy of the singular values, as shares of their sum, of the tokens' vectors less their
	// mean (Roy and Vetterli 2007): 1 to d_model; 0 where they could not be found.
	EffectiveRank float64 `json:"effective_rank"`
}

// Stats are the mean and quantiles over tokens.
type Stats struct {
	Mean float64 `json:"mean"`
	Q01  float64 `json:"q01"`
	Q05  float64 `json:"q05"`
	Q10  float64 `json:"q10"`
	Q50  float64 `json:"q50"`
	Q90  float64 `json:"q90"`
}

// Bins are upper bounds of the parts: quarters of the window, of the tokens by how often the token was seen among those measured,
// and of the tokens by the loss of the prediction made there.
type Bins struct {
	Position   []float64 `json:"position"`
	Frequency  []float64 `json:"frequency"`
	Difficulty []float64 `json:"difficulty_nats"`
}

const parts = 4

// Report sums up. At least four tokens must have been measured.
func (l *Layers) Report() Report {
	layers, n := l.decoder.NumLayers, len(l.tokens)
	r := Report{Tokens: n}
	for _, sums := range l.angles {
		row := make([]float64, len(sums))
		for j, sum := range sums {
			row[j] = sum / float64(n)
		}
		r.Angular = append(r.Angular, row)
	}
	counts := map[int32]int{}
	for _, t := range l.tokens {
		counts[t.id]++
	}
	values := func(of func(tokenInfo) float64) []float64 {
		v := make([]float64, n)
		for i, t := range l.tokens {
			v[i] = of(t)
		}
		return v
	}
	position, pBounds := split(values(func(t tokenInfo) float64 { return float64(t.position) }))
	frequency, fBounds := split(values(func(t tokenInfo) float64 { return float64(counts[t.id]) }))
	difficulty, dBounds := split(values(func(t tokenInfo) float64 { return float64(t.nats) }))
	r.Bins = Bins{pBounds, fBounds, dBounds}
	for i := range layers {
		whole := l.cosines[2*layers+i]
		layer := Layer{
			Cosine: stats(whole), Attention: stats(l.cosines[2*i]), FeedForward: stats(l.cosines[2*i+1]),
			ByPosition: means(whole, position, len(pBounds)), ByFrequency: means(whole, frequency, len(fBounds)), ByDifficulty: means(whole, difficulty, len(dBounds)),
		}
		layer.Influence = 1 - layer.Cosine.Mean
		r.Layers = append(r.Layers, layer)
	}
	for p := range l.squares {
		r.Points = append(r.Points, Point{
			RMS: math.Sqrt(l.squares[p] / float64(n)), EffectiveRank: effectiveRank(l.sums[p], l.grams[p], n),
		})
	}
	return r
}

// split puts values into four parts of about equal size: the part of each, and each part's largest value. Equal values stay
// together, so there may be fewer.
func split(values []float64) (part []int, bounds []float64) {
	sorted := slices.Sorted(slices.Values(values))
	for i := range parts {
		bounds = append(bounds, sorted[(i+1)*len(sorted)/parts-1])
	}
	bounds = slices.Compact(bounds)
	part = make([]int, len(values))
	for i, v := range values {
		part[i] = sort.SearchFloat64s(bounds, v)
	}
	return part, bounds
}

// means of the values in each part.
func means(values []float32, part []int, parts int) []float64 {
	sums, counts := make([]float64, parts), make([]float64, parts)
	for i, v := range values {
		sums[part[i]] += float64(v)
		counts[part[i]]++
	}
	for i := range sums {
		sums[i] /= counts[i]
	}
	return sums
}

func stats(values []float32) Stats {
	sorted := make([]float64, len(values))
	for i, v := range values {
		sorted[i] = float64(v)
	}
	slices.Sort(sorted)
	q := func(p float64) float64 { return stat.Quantile(p, stat.LinInterp, sorted, nil) }
	return Stats{stat.Mean(sorted, nil), q(0.01), q(0.05), q(0.10), q(0.50), q(0.90)}
}

// effectiveRank of n vectors of the given sum [D] and sum of outer products [D, D].
func effectiveRank(sum, gram []float64, n int) float64 {
	d := len(sum)
	covariance := mat.NewSymDense(d, nil)
	for i := range d {
		for j := i; j < d; j++ {
			covariance.SetSym(i, j, gram[i*d+j]/float64(n)-sum[i]*sum[j]/float64(n)/float64(n))
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(covariance, false) {
		return 0
	}
	singular := eigen.Values(nil)
	total := 0.0
	for i, v := range singular {
		singular[i] = math.Sqrt(max(v, 0)) // rounding leaves some just below 0
		total += singular[i]
	}
	entropy := 0.0
	for _, s := range singular {
		if p := s / total; p > 0 {
			entropy -= p * math.Log(p)
		}
	}
	return math.Exp(entropy)
}
