package noise

import (
	"math"
	"testing"

	"pretrain/internal/prng"
)

// gradients are draws of G + N(0, Σ), Σ diagonal with the given deviations, one a token.
type gradients struct {
	mean, sd []float64
	key      prng.Key
	next     uint64
}

func newGradients(seed uint64) *gradients {
	g := &gradients{key: prng.New(seed)}
	for i := range 20 {
		g.mean = append(g.mean, 0.1*float64(i%5))
		g.sd = append(g.sd, 0.2+0.1*float64(i))
	}
	return g
}

// truth is |G|² and tr(Σ).
func (g *gradients) truth() (grad2, trace float64) {
	for i := range g.mean {
		grad2 += g.mean[i] * g.mean[i]
		trace += g.sd[i] * g.sd[i]
	}
	return grad2, trace
}

// sample draws a batch of parts, each of so many tokens.
func (g *gradients) sample(parts, tokens int) Sample {
	whole := make([]float64, len(g.mean))
	s := Sample{SmallTokens: float64(tokens), BigTokens: float64(parts * tokens)}
	for range parts {
		for i := range whole {
			// The mean of so many draws.
			v := g.mean[i] + g.sd[i]/math.Sqrt(float64(tokens))*g.key.NormFloat64At(g.next)
			g.next++
			whole[i] += v / float64(parts)
			s.Small += v * v / float64(parts)
		}
	}
	for _, v := range whole {
		s.Big += v * v
	}
	return s
}

// TestUnbiased: with a known covariance both parts come out right on average, for any sizes, within 3.5 standard errors: eight checks, so by chance one in 270 runs of other seeds.
func TestUnbiased(t *testing.T) {
	for _, c := range []struct{ parts, tokens int }{{2, 1}, {2, 16}, {8, 4}, {64, 1}} {
		g := newGradients(uint64(c.parts*100 + c.tokens))
		grad2, trace := g.truth()
		const n = 10000
		var sums, squares [2]float64
		for range n {
			s := g.sample(c.parts, c.tokens)
			for i, v := range [2]float64{s.Grad2(), s.Trace()} {
				sums[i] += v
				squares[i] += v * v
			}
		}
		for i, want := range [2]float64{grad2, trace} {
			mean := sums[i] / n
			se := math.Sqrt((squares[i]/n - mean*mean) / n)
			if math.Abs(mean-want) > 3.5*se {
				t.Errorf("%d parts of %d: estimate %d is %g on average, want %g ± %g", c.parts, c.tokens, i, mean, want, se)
			}
		}
	}
}

// TestScale: the ratio of moving averages settles at tr(Σ)/|G|², where the ratio of one batch is anywhere.
func TestScale(t *testing.T) {
	g := newGradients(1)
	grad2, trace := g.truth()
	var a Average
	if !math.IsNaN(a.Scale()) {
		t.Errorf("the scale of nothing is %g", a.Scale())
	}
	sum, n := 0.0, 0
	for i := range 1000 {
		a.Add(g.sample(8, 16))
		if i >= 100 {
			sum, n = sum+a.Scale(), n+1
		}
	}
	if got, want := sum/float64(n), trace/grad2; math.Abs(got-want) > 0.1*want {
		t.Errorf("scale %g on average, want %g", got, want)
	}
	if (Average{Grad2: -1, Trace: 1}).Scale() == (Average{Grad2: -1, Trace: 1}).Scale() {
		t.Error("a negative |G|² has a scale")
	}
}
