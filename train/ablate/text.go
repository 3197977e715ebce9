package ablate

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"

	"pretrain/train/metrics"
)

// Text writes the report as a table for a terminal.
func (r *Report) Text(out io.Writer) error {
	fmt.Fprintf(out, "%s\n", r.Name)
	if r.Question != "" {
		fmt.Fprintf(out, "%s\n", r.Question)
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "variant\truns\tbpb\t± sd\tvs. baseline\t95%% interval\tp (Holm)\tverdict\n")
	for _, v := range r.Variants {
		diff, interval, p := "", "", ""
		if v.Delta != nil {
			diff, interval, p = signed(v.Delta.Mean), between(v.Delta.CI), probability(v.Delta.PHolm)
		}
		fmt.Fprintf(w, "%s\t%d/%d\t%s\t%s\t%s\t%s\t%s\t%s\n", v.Name, v.Done, len(v.Runs), digits(v.BPB), digits(v.SD), diff, interval, p, v.Reason)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, line := range r.notes() {
		fmt.Fprintln(out, line)
	}
	return nil
}

// notes are what stands below the table, in every form of the report.
func (r *Report) notes() []string {
	lines := []string{
		fmt.Sprintf("bpb: bits per byte of held-out text after the last step, mean over seeds; less is better. %d seeds, paired with %s.", len(r.Seeds), r.Baseline),
		"interval: Student's, of the paired differences, for each variant by itself; p: of the paired t test, corrected for all comparisons (Holm).",
	}
	if n := r.Noise; !math.IsNaN(float64(n.SeedSD)) {
		line := fmt.Sprintf("noise floor: seeds alone move a run by %s bpb (SD, %d degrees of freedom)", digits(n.SeedSD), n.DF)
		if !math.IsNaN(float64(n.PairSD)) {
			line += fmt.Sprintf("; paired differences by %s, where unpaired runs would give %s", digits(n.PairSD), digits(n.SeedSD*math.Sqrt2))
		}
		lines = append(lines, line+".")
		if !math.IsNaN(float64(n.Detectable)) {
			lines = append(lines, fmt.Sprintf("this design finds differences from %s bpb on with %.0f%% chance.", digits(n.Detectable), 100*Power))
		}
	}
	for _, s := range r.Sweeps {
		name := s.Key
		if g := s.GroupName(); g != "" {
			name += " at " + g
		}
		lines = append(lines, name+": "+s.Note+".")
	}
	for _, t := range r.Transfers {
		name := "transfer"
		if len(t.Group) > 0 {
			name += " with " + settings(t.Group)
		}
		lines = append(lines, name+": "+t.Note+".")
	}
	for _, w := range r.Warnings {
		lines = append(lines, "note: "+w+".")
	}
	return append(lines, fmt.Sprintf("%s of training in all.", time.Duration(r.Seconds*1e9).Round(time.Second)))
}

func digits(n metrics.Number) string {
	if math.IsNaN(float64(n)) {
		return "–"
	}
	return fmt.Sprintf("%.4f", float64(n))
}

func signed(n metrics.Number) string {
	if math.IsNaN(float64(n)) {
		return "–"
	}
	return fmt.Sprintf("%+.4f", float64(n))
}

func between(i Interval) string {
	if math.IsNaN(float64(i.Low)) {
		return "–"
	}
	return signed(i.Low) + " … " + signed(i.High)
}

func probability(n metrics.Number) string {
	switch p := float64(n); {
	case math.IsNaN(p):
		return "–"
	case p < 0.001:
		return "< 0.001"
	default:
		return fmt.Sprintf("%.3f", p)
	}
}
