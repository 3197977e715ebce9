package lm

import (
	"maps"
	"math"
	"slices"

	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// Bucket is a part of the documents of a language by perplexity.
type Bucket string

// CCNet's buckets.
const (
	Head   Bucket = "head"   // like the reference set
	Middle Bucket = "middle" // less so
	Tail   Bucket = "tail"   // unlike it
)

// Percentiles are where the buckets are cut. Start from [DefaultPercentiles].
type Percentiles struct {
	// Head is the part of a language's documents, by ascending perplexity, that is its head. Default 30% (CCNet).
	Head units.Fraction `yaml:"head" json:"head"`
	// Middle is where its middle ends; the rest is its tail. Default 60% (CCNet).
	Middle units.Fraction `yaml:"middle" json:"middle"`
}

// DefaultPercentiles are CCNet's: 30% and 60%.
func DefaultPercentiles() Percentiles { return Percentiles{0.3, 0.6} }

// Validate reports every problem at once, as joined [problem.Problem] errors.
func (p Percentiles) Validate() error {
	var l problem.List
	l.Check(p.Head >= 0 && p.Head <= p.Middle && p.Middle <= 1, "head", p.Head, "0%% to middle (%v), which is at most 100%%", p.Middle)
	return l.Err()
}

// Cut is the perplexities at which the buckets of a language begin: head below Middle, middle below Tail.
type Cut struct {
	Middle    float64 `json:"middle"`
	Tail      float64 `json:"tail"`
	Documents int     `json:"documents"` // of the sample
}

// Cuts are the cuts by language. "" has those of all languages together, for languages with too few documents to tell.
type Cuts map[string]Cut

// minSample is how many documents of a language its percentiles are taken from at least.
const minSample = 50

// NewCuts takes the percentiles of a sample of perplexities by language. Infinite ones, of texts without units, do not count.
func NewCuts(sample map[string][]float64, p Percentiles) Cuts {
	cuts := Cuts{}
	var all []float64
	for _, language := range slices.Sorted(maps.Keys(sample)) {
		values := slices.DeleteFunc(slices.Clone(sample[language]), func(x float64) bool { return math.IsInf(x, 0) || math.IsNaN(x) })
		all = append(all, values...)
		if len(values) >= minSample {
			cuts[language] = newCut(values, p)
		}
	}
	cuts[""] = newCut(all, p)
	return cuts
}

func newCut(values []float64, p Percentiles) Cut {
	slices.Sort(values)
	return Cut{Middle: percentile(values, float64(p.Head)), Tail: percentile(values, float64(p.Middle)), Documents: len(values)}
}

// percentile is the value below which the part p of sorted values lies: of the two around that place, by linear interpolation, as numpy's.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.Inf(1)
	}
	at := p * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// Of is the bucket of a perplexity. A text without units, whose perplexity is infinite, is in the tail.
func (c Cuts) Of(language string, perplexity float64) Bucket {
	cut, ok := c[language]
	if !ok {
		cut = c[""]
	}
	switch {
	case perplexity < cut.Middle:
		return Head
	case perplexity < cut.Tail:
		return Middle
	}
	return Tail
}
