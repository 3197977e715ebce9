package funnel

import (
	"cmp"
	"math"
	"slices"
)

// binsPerOctave is the resolution of a histogram: neighbouring bins are 19% apart.
const binsPerOctave = 4

// Histogram counts values in bins of equal width on a logarithmic scale; it takes any range, and two of them add up. Values of
// 0 and less share a bin of their own.
type Histogram struct {
	Name string  `json:"name"`
	N    int64   `json:"n"`
	Sum  float64 `json:"sum"`
	// Zero is the number of values of 0 and less.
	Zero int64 `json:"zero,omitempty"`
	// Bins that are not empty, rising.
	Bins []Bin `json:"bins"`
}

// Bin counts the values from 2^(Index/4) up to the next bin's.
type Bin struct {
	Index int   `json:"i"`
	N     int64 `json:"n"`
}

// From is the lower end of the bin.
func (b Bin) From() float64 { return math.Exp2(float64(b.Index) / binsPerOctave) }

// Add counts a value; one that is no number counts for nothing.
func (h *Histogram) Add(v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	h.N++
	h.Sum += v
	if v <= 0 {
		h.Zero++
		return
	}
	h.bin(int(math.Floor(math.Log2(v)*binsPerOctave))).N++
}

func (h *Histogram) bin(index int) *Bin {
	at, ok := slices.BinarySearchFunc(h.Bins, index, func(b Bin, i int) int { return cmp.Compare(b.Index, i) })
	if !ok {
		h.Bins = slices.Insert(h.Bins, at, Bin{Index: index})
	}
	return &h.Bins[at]
}

func (h *Histogram) merge(o *Histogram) {
	h.N += o.N
	h.Sum += o.Sum
	h.Zero += o.Zero
	for _, b := range o.Bins {
		h.bin(b.Index).N += b.N
	}
}

// Mean of the values, 0 where there are none.
func (h *Histogram) Mean() float64 {
	if h.N == 0 {
		return 0
	}
	return h.Sum / float64(h.N)
}

// Quantile is the value below which the part q of the values lies, within the width of a bin. 0 where there are none.
func (h *Histogram) Quantile(q float64) float64 {
	left := q*float64(h.N) - float64(h.Zero)
	if left <= 0 || len(h.Bins) == 0 {
		return 0
	}
	for _, b := range h.Bins {
		if n := float64(b.N); left <= n {
			return math.Exp2((float64(b.Index) + left/n) / binsPerOctave)
		} else {
			left -= n
		}
	}
	return math.Exp2(float64(h.Bins[len(h.Bins)-1].Index+1) / binsPerOctave)
}
