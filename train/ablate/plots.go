package ablate

import (
	"math"
	"slices"

	"pretrain/internal/chart"
	"pretrain/train/metrics"
)

// plot is a drawing of the report and the name of its file.
type plot struct{ Name, SVG string }

// plots are the report's drawings.
func (r *Report) plots() []plot {
	list := []plot{{"differences.svg", r.differencesPlot()}, {"curves.svg", r.curvesPlot()}}
	if len(r.Sweeps) > 0 {
		list = append(list, plot{"sweep.svg", r.sweepPlot()})
	}
	if len(r.optima()) >= 2 {
		list = append(list, plot{"optima.svg", r.optimaPlot()})
	}
	return list
}

func (r *Report) differencesPlot() string {
	c := chart.Intervals{Title: "final bits per byte, variant − " + r.Baseline + ", 95% paired t interval", X: "← better    bits per byte    worse →"}
	for _, v := range r.Variants {
		if v.Delta == nil {
			continue
		}
		colors := map[Verdict]int{Better: 2, Worse: 1, Unstable: 1}
		color, ok := colors[v.Verdict]
		if !ok {
			color = 7
		}
		c.Rows = append(c.Rows, chart.Row{
			Name: v.Name, Mid: float64(v.Delta.Mean), Low: float64(v.Delta.CI.Low), High: float64(v.Delta.CI.High), Color: color, Note: string(v.Verdict),
		})
	}
	return c.SVG()
}

// curvesPlot has each variant's mean curve, and pale ones for the seeds.
func (r *Report) curvesPlot() string { return r.curves().SVG() }

func (r *Report) curves() chart.Lines {
	c := chart.Lines{Title: "validation over the run: mean over seeds, seeds pale", X: "tokens", Y: "bits per byte"}
	for i, v := range r.Variants {
		var mean []chart.Point // of the seeds that are done and were measured as often as the first of them
		n := 0.0
		for _, o := range v.Runs {
			var points []chart.Point
			for _, p := range o.Curve {
				points = append(points, chart.Point{X: float64(p.Tokens), Y: float64(p.BPB)})
			}
			c.Series = append(c.Series, chart.Series{Color: i, Faint: true, Points: points})
			if o.Status != Done || n > 0 && len(points) != len(mean) {
				continue
			}
			if n++; n == 1 {
				mean = slices.Clone(points)
			}
			for j, p := range points {
				mean[j].Y += (p.Y - mean[j].Y) / n
			}
		}
		c.Series = append(c.Series, chart.Series{Name: v.Name, Color: i, Points: mean})
	}
	return c
}

// sweepPlot has the final loss along the key, a line for each group.
func (r *Report) sweepPlot() string {
	c := chart.Lines{Title: "final bits per byte, mean over seeds, 95% t interval; marked: optimum", X: r.Sweeps[0].Key, Y: "bits per byte", LogX: true}
	for _, s := range r.Sweeps {
		c.LogX = c.LogX && s.Log
	}
	for i, s := range r.Sweeps {
		name := s.GroupName()
		if name == "" {
			name = s.Key
		}
		line := chart.Series{Name: name, Color: i, Dots: true}
		for _, p := range s.Points {
			point := chart.Point{X: p.Value, Y: float64(p.BPB)}
			if len(r.Sweeps) == 1 { // bars of several lines hide one another
				point.Low, point.High = float64(p.CI.Low), float64(p.CI.High)
			}
			line.Points = append(line.Points, point)
		}
		c.Series = append(c.Series, line)
		if known(s.Optimum) {
			c.Marks = append(c.Marks, chart.Mark{X: float64(s.Optimum), Name: short4(float64(s.Optimum))})
		}
	}
	return c.SVG()
}

// optima are the sweeps with an optimum whose group is one number, as it is when a width is the other key.
func (r *Report) optima() (points []chart.Point) {
	for _, s := range r.Sweeps {
		if len(s.Group) != 1 || !known(s.Optimum) {
			continue
		}
		if x, ok := s.Group[0].Value.Number(); ok {
			points = append(points, chart.Point{X: x, Y: float64(s.Optimum), Low: float64(s.CI.Low), High: float64(s.CI.High)})
		}
	}
	return points
}

func (r *Report) optimaPlot() string {
	return chart.Lines{
		Title: "optimum of " + r.Sweeps[0].Key + ", 95% t interval over seeds", X: r.Sweeps[0].Group[0].Key, Y: r.Sweeps[0].Key,
		Series: []chart.Series{{Dots: true, Points: r.optima()}},
	}.SVG()
}

func known(n metrics.Number) bool { return !math.IsNaN(float64(n)) }
