package ablate

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"

	"pretrain/train/metrics"
)

// TransferReport is how well the best value at the smallest width serves the largest.
type TransferReport struct {
	// Group has the values of keys other than the tuned one and the width.
	Group []Setting `json:"group,omitempty"`
	// From and To are the smallest and the largest width.
	From float64 `json:"from"`
	To   float64 `json:"to"`
	// Predicted is the optimum at From, Found that at To with its interval.
	Predicted metrics.Number `json:"predicted"`
	Found     metrics.Number `json:"found"`
	CI        Interval       `json:"ci95"`
	// Slope of the logarithm of the optimum over that of the width, each seed's line by itself: 0 where the optimum does not
	// move, −1 where it is inverse to the width. SlopeCI is Student's interval over seeds.
	Slope   metrics.Number `json:"slope"`
	SlopeCI Interval       `json:"slope_ci95"`
	// Cost in bits per byte at the largest width of using the smallest one's optimum instead of its own, by the parabolas;
	// CostCI is Student's interval over seeds.
	Cost   metrics.Number `json:"cost"`
	CostCI Interval       `json:"cost_ci95"`
	Note   string         `json:"note"`
}

// transfers makes a transfer report for each group of sweeps that differ in the width only.
func transfers(sweeps []Sweep, c Transfer) []TransferReport {
	type family struct {
		group  []Setting
		widths []float64
		sweeps []*Sweep
	}
	var families []family
	for i := range sweeps {
		s := &sweeps[i]
		var width float64
		var group []Setting
		for _, g := range s.Group {
			if g.Key != c.Width {
				group = append(group, g)
			} else if w, ok := g.Value.Number(); ok {
				width = w
			}
		}
		if width <= 0 || !s.Log {
			continue
		}
		at := slices.IndexFunc(families, func(f family) bool { return slices.EqualFunc(f.group, group, sameSetting) })
		if at < 0 {
			at, families = len(families), append(families, family{group: group})
		}
		f := &families[at]
		i, _ := slices.BinarySearchFunc(f.widths, width, cmp.Compare)
		f.widths, f.sweeps = slices.Insert(f.widths, i, width), slices.Insert(f.sweeps, i, s)
	}
	var out []TransferReport
	for _, f := range families {
		if len(f.widths) >= 2 {
			t := transfer(f.widths, f.sweeps)
			t.Group = f.group
			out = append(out, t)
		}
	}
	return out
}

func transfer(widths []float64, sweeps []*Sweep) TransferReport {
	small, large := sweeps[0], sweeps[len(sweeps)-1]
	t := TransferReport{
		From: widths[0], To: widths[len(widths)-1], Predicted: small.Optimum, Found: large.Optimum, CI: large.CI,
		Slope: metrics.Unknown, SlopeCI: unknown, Cost: metrics.Unknown, CostCI: unknown,
	}
	var slopes, costs []float64
	for seed := range large.seeds {
		var xs, ys []float64
		for i, s := range sweeps {
			if seed < len(s.seeds) && s.seeds[seed].c > 0 {
				xs, ys = append(xs, math.Log(widths[i])), append(ys, s.seeds[seed].bottom())
			}
		}
		if len(xs) == len(sweeps) {
			_, slope := stat.LinearRegression(xs, ys, nil, false)
			slopes = append(slopes, slope)
		}
		// The prediction is the mean over seeds: one tunes on the small model with all of them.
		if p := large.seeds[seed]; p.c > 0 && !math.IsNaN(float64(small.Optimum)) {
			costs = append(costs, p.at(math.Log(float64(small.Optimum)))-p.at(p.bottom()))
		}
	}
	t.Slope, t.SlopeCI = mean(slopes), TInterval(slopes)
	t.Cost, t.CostCI = mean(costs), TInterval(costs)
	switch {
	case math.IsNaN(float64(t.Predicted)):
		t.Note = fmt.Sprintf("no optimum at width %s: %s", short4(t.From), small.Note)
	case math.IsNaN(float64(t.Found)):
		t.Note = fmt.Sprintf("no optimum at width %s to compare with: %s", short4(t.To), large.Note)
	default:
		t.Note = fmt.Sprintf("tuned at width %s: %s; found at width %s: %s, %.2f times as much; using the former costs %.4f bpb there",
			short4(t.From), short4(float64(t.Predicted)), short4(t.To), short4(float64(t.Found)), float64(t.Found/t.Predicted), float64(t.Cost))
		if !math.IsNaN(float64(t.Slope)) {
			t.Note += fmt.Sprintf("; optimum ~ width^%.2f", float64(t.Slope))
			if !math.IsNaN(float64(t.SlopeCI.Low)) {
				t.Note += fmt.Sprintf(" (95%%: %.2f to %.2f)", float64(t.SlopeCI.Low), float64(t.SlopeCI.High))
			}
		}
	}
	return t
}
