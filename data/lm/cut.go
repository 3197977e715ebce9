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
	Documents int64   `json:"documents"` // that decided it
}

// Cuts are the cuts by language. "" has those of all languages together, for languages with too few documents to tell.
type Cuts map[string]Cut

// minDocuments is how many documents of a language its percentiles are taken from at least.
const minDocuments = 50

// Distribution counts documents by language and perplexity, in steps of 1%. Distributions of parts add up, in any order.
type Distribution map[string]map[int]int64

// steps is the number of them in a factor of e.
const steps = 100

// Add counts a document. Infinite perplexities, of texts without units, do not count.
func (d Distribution) Add(language string, perplexity float64) {
	if math.IsInf(perplexity, 0) || math.IsNaN(perplexity) || perplexity <= 0 {
		return
	}
	d.of(language)[int(math.Floor(steps*math.Log(perplexity)))]++
}

func (d Distribution) of(language string) map[int]int64 {
	if d[language] == nil {
		d[language] = map[int]int64{}
	}
	return d[language]
}

// Merge adds the counts of another part.
func (d Distribution) Merge(o Distribution) {
	for language, counts := range o {
		to := d.of(language)
		for step, n := range counts {
			to[step] += n
		}
	}
}

// Cuts takes the percentiles, exact to a step.
func (d Distribution) Cuts(p Percentiles) Cuts {
	cuts, all := Cuts{}, Distribution{}
	for language, counts := range d {
		all.Merge(Distribution{"": counts})
		if c := newCut(counts, p); c.Documents >= minDocuments {
			cuts[language] = c
		}
	}
	cuts[""] = newCut(all[""], p)
	return cuts
}

func newCut(counts map[int]int64, p Percentiles) Cut {
	c := Cut{Middle: math.Inf(1), Tail: math.Inf(1)}
	for _, n := range counts {
		c.Documents += n
	}
	seen := int64(0)
	for _, step := range slices.Sorted(maps.Keys(counts)) {
		begin := math.Exp(float64(step) / steps)
		if float64(seen) >= float64(p.Head)*float64(c.Documents) {
			c.Middle = min(c.Middle, begin)
		}
		if float64(seen) >= float64(p.Middle)*float64(c.Documents) {
			c.Tail = min(c.Tail, begin)
		}
		seen += counts[step]
	}
	if c.Documents == 0 || math.IsInf(c.Tail, 1) {
		c.Tail = math.MaxFloat64 // JSON knows no infinity
	}
	c.Middle = min(c.Middle, c.Tail)
	return c
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
