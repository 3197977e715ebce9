package scaling

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"

	"pretrain/internal/chart"
	"pretrain/internal/units"
	"pretrain/train/metrics"
)

// number is one that JSON writes as null where it is not finite, as a parameter that nothing holds may become.
type number = metrics.Number

// Report is a fit with what follows from it.
type Report struct {
	*Fit
	// Source says where the points are from, Convention what N counts, Unit what the loss is in.
	Source, Convention, Unit string
	// HeldOut are predictions of the points that were not fitted.
	HeldOut []Prediction
	// Budgets are best sizes for some computes.
	Budgets []Budget
}

// Budget is the best size for a compute, with 95% intervals of the bootstrap; NaN without one.
type Budget struct {
	C float64 `json:"c"`
	Allocation
	Ratio  float64    `json:"tokens_per_parameter"`
	NRange [2]float64 `json:"-"`
	RRange [2]float64 `json:"-"`
}

// Budget is the best size for c FLOPs.
func (f *Fit) Budget(c float64) Budget {
	b := Budget{C: c, Allocation: Optimal(f.Curve, c, 0)}
	b.Ratio = b.Allocation.Ratio()
	var n, ratio []float64
	for _, curve := range f.Resamples {
		a := Optimal(curve, c, 0)
		n, ratio = append(n, a.N), append(ratio, a.Ratio())
	}
	b.NRange, b.RRange = [2]float64{math.NaN(), math.NaN()}, [2]float64{math.NaN(), math.NaN()}
	if len(n) > 0 {
		b.NRange[0], b.NRange[1] = Percentiles(len(n), func(i int) float64 { return n[i] })
		b.RRange[0], b.RRange[1] = Percentiles(len(ratio), func(i int) float64 { return ratio[i] })
	}
	return b
}

// Centre of the points: their geometric means, where the law is known best.
func (f *Fit) Centre() (n, d float64) {
	for _, p := range f.Points {
		n += math.Log(p.N) / float64(len(f.Points))
		d += math.Log(p.D) / float64(len(f.Points))
	}
	return math.Exp(n), math.Exp(d)
}

// MarshalJSON writes the parameters by their names beside "objective" and "ci", as {"E": …, "A": …, "ci": {"E": [low, high], …}}.
// The centre is that of [Sourced].
func (r *Report) MarshalJSON() ([]byte, error) {
	n, d := r.Centre()
	out := map[string]any{ // flat, as its keys are the form's
		"form": r.Form, "method": r.Method, "objective": number(r.Objective), "points": len(r.Points), "centre": map[string]float64{"n": n, "d": d},
		"residual_rms": number(r.Residual), "residual_max": number(r.Worst), "warnings": append([]string{}, r.Warnings...),
		"source": r.Source, "n_counts": r.Convention, "loss_unit": r.Unit, "resamples": len(r.Resamples),
	}
	ci := map[string][2]number{}
	for _, e := range r.Estimates {
		out[e.Name] = number(e.Value)
		if len(r.Resamples) > 0 {
			ci[e.Name] = [2]number{number(e.Low), number(e.High)}
		}
	}
	out["ci"] = ci
	if len(r.HeldOut) > 0 {
		out["holdout"] = r.HeldOut
	}
	if len(r.Budgets) > 0 {
		out["optimal"] = r.Budgets
	}
	return json.Marshal(out)
}

// Text writes the report for a terminal.
func (r *Report) Text(out io.Writer) error {
	formula := map[Form]string{Additive: "L(N, D) = E + A/N^alpha + B/D^beta", KaplanForm: "L(N, D) = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D"}[r.Form]
	method := map[Method]string{Huber: fmt.Sprintf("Huber loss of log L, δ %g", HuberDelta), LeastSquares: "least squares of L"}[r.Method]
	fmt.Fprintf(out, "%s\n%d points of %s; %s\n\n", formula, len(r.Points), r.Source, method)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, e := range r.Estimates {
		fmt.Fprintf(w, "%s\t%.5g\t%s\n", e.Name, e.Value, interval(e.Low, e.High, "95%%: %.4g to %.4g"))
	}
	fmt.Fprintf(w, "objective\t%.6g\t\n", r.Objective)
	fmt.Fprintf(w, "residuals\t%.2f%% rms, %.2f%% at most\t\n", 100*r.Residual, 100*r.Worst)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nloss in %s; N counts %s\n", r.Unit, r.Convention)
	if len(r.HeldOut) > 0 {
		fmt.Fprintln(out, "\nheld out, not fitted:")
		w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "run\tN\tD\tloss\tpredicted\terror\t")
		for _, p := range r.HeldOut {
			fmt.Fprintf(w, "%s\t%s\t%s\t%.4f\t%.4f%s\t%+.2f%%\t\n", p.Name, units.Short(p.N), units.Short(p.D), p.Point.Loss, p.Predicted, interval(float64(p.Low), float64(p.High), " (%.4f to %.4f)"), 100*p.Error)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if len(r.Budgets) > 0 {
		fmt.Fprintln(out, "\nbest size for a training compute:")
		w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "FLOPs\tN\t\tD\ttokens per parameter\t\tloss")
		for _, b := range r.Budgets {
			sizes := ""
			if !math.IsNaN(b.NRange[0]) {
				sizes = fmt.Sprintf("(%s to %s)", units.Short(b.NRange[0]), units.Short(b.NRange[1]))
			}
			fmt.Fprintf(w, "%.3g\t%s\t%s\t%s\t%.3g\t%s\t%.4f\n", b.C, units.Short(b.N), sizes, units.Short(b.D), b.Ratio, interval(b.RRange[0], b.RRange[1], "(%.3g to %.3g)"), b.Loss)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return warnings(out, r.Warnings)
}

// Text writes the profiles' optima and the line through them.
func (f *IsoFLOP) Text(out io.Writer) error {
	fmt.Fprintln(out, "lowest point of a parabola in log N at each compute:")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FLOPs\tN\tD\ttokens per parameter\tloss")
	for _, p := range f.Profiles {
		fmt.Fprintf(w, "%.3g\t%s\t%s\t%.3g\t%.4f\n", p.C, units.Short(p.N), units.Short(p.D), p.Ratio(), p.Loss)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, l := range []struct {
		name  string
		scale float64
		slope Estimate
	}{{"N", f.NScale, f.NExponent}, {"D", f.DScale, f.DExponent}} {
		fmt.Fprintf(out, "%s = %.4g · C^%.4f%s\n", l.name, l.scale, l.slope.Value, interval(l.slope.Low, l.slope.High, " (95%%: %.3f to %.3f)"))
	}
	return warnings(out, f.Warnings)
}

// interval formats two numbers; "" where they are unknown.
func interval(low, high float64, format string) string {
	if math.IsNaN(low) {
		return ""
	}
	return fmt.Sprintf(format, low, high)
}

func warnings(out io.Writer, list []string) error {
	for _, w := range list {
		if _, err := fmt.Fprintf(out, "note: %s.\n", w); err != nil {
			return err
		}
	}
	return nil
}

// Plot draws the points and the law over D, a line for each N, and the held-out points with their predicted lines.
func (r *Report) Plot() string {
	c := chart.Lines{Title: "loss over data, by size: dots measured, lines the law's", X: "D, tokens", Y: "loss, " + r.Unit, LogX: true}
	all := slices.Clone(r.Points)
	held := map[float64]bool{}
	for _, p := range r.HeldOut {
		all = append(all, p.Point)
		held[p.N] = true
	}
	lengths := distinct(all, func(p Point) float64 { return p.D })
	low, high := math.Log(lengths[0]), math.Log(lengths[len(lengths)-1])
	for i, n := range distinct(all, func(p Point) float64 { return p.N }) {
		name := "N = " + units.Short(n)
		if held[n] {
			name += ", held out"
		}
		line, dots := chart.Series{Name: name, Color: i}, chart.Series{Color: i, NoLine: true}
		for j := range 41 {
			d := math.Exp(low + (high-low)*float64(j)/40)
			line.Points = append(line.Points, chart.Point{X: d, Y: r.Curve.Loss(n, d)})
		}
		for _, p := range all {
			if p.N == n {
				dots.Points = append(dots.Points, chart.Point{X: p.D, Y: p.Loss})
			}
		}
		c.Series = append(c.Series, line, dots)
	}
	return c.SVG()
}
