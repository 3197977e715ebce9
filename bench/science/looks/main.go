// Command looks draws what a run's looks at its optimizer found (metrics.looks): MiniCPM's Fig. 7 and 8, of a decay.
//
//	go run ./bench/science/looks -svg docs/science/looks.svg RUN
//
// The table has the means over the run's phases, and over the last quarter of the decay.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"pretrain/internal/chart"
	"pretrain/internal/vfs"
	"pretrain/train/metrics"
	"pretrain/train/runs"
)

// quantities are what is drawn and tabulated of a look, all of the whole model.
var quantities = []struct {
	name string
	log  bool
	of   func(*metrics.Record) metrics.Number
}{
	{"learning rate", true, func(r *metrics.Record) metrics.Number { return r.LR }},
	{"|ΔW|/|W|", true, func(r *metrics.Record) metrics.Number { return r.Looks.UpdateRatio["all"] }},
	{"curvature", true, func(r *metrics.Record) metrics.Number { return r.Looks.Curvature }},
	{"cosine of gradients", false, func(r *metrics.Record) metrics.Number { return r.Looks.GradCosine }},
	{"slope along the update", false, func(r *metrics.Record) metrics.Number { return r.Looks.Slope }},
	{"gradient norm", false, func(r *metrics.Record) metrics.Number { return r.GradNorm }},
}

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "looks:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("looks", flag.ContinueOnError)
	flags.SetOutput(stderr)
	svg := flags.String("svg", "looks.svg", "the `file` to draw")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("want one run directory")
	}
	var looked []metrics.Record
	for r, err := range runs.Records(vfs.OS, flags.Arg(0)) {
		if err != nil {
			return err
		}
		if r.Looks != nil && r.LR > 0 { // at 0 there is no update to look along
			looked = append(looked, r)
		}
	}
	if len(looked) == 0 {
		return fmt.Errorf("%s has no looks: train it with --set metrics.looks=true", flags.Arg(0))
	}
	if err := table(stdout, looked); err != nil {
		return err
	}
	return os.WriteFile(*svg, []byte(draw(looked)), 0o644)
}

// table has the mean of each quantity over each phase.
func table(w io.Writer, looked []metrics.Record) error {
	var names []string
	groups := map[string][]metrics.Record{}
	for _, r := range looked {
		if groups[r.Phase] == nil {
			names = append(names, r.Phase)
		}
		groups[r.Phase] = append(groups[r.Phase], r)
	}
	last := groups[names[len(names)-1]]
	names, groups["its last quarter"] = append(names, "its last quarter"), last[len(last)*3/4:]
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\t"+strings.Join(names, "\t"))
	for _, q := range quantities {
		fmt.Fprint(t, q.name)
		for _, name := range names {
			var sum float64
			for i := range groups[name] {
				sum += float64(q.of(&groups[name][i]))
			}
			fmt.Fprintf(t, "\t%.3g", sum/float64(len(groups[name])))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// draw has what changes by factors in the upper half, relative to the first look, and the rest in the lower.
func draw(looked []metrics.Record) string {
	const width, height = 720, 340
	factors := chart.Lines{Title: "Through the decay, relative to the first look", X: "step", Y: "factor", LogY: true, Width: width, Height: height}
	rest := chart.Lines{Title: "Cosine of successive gradients, and slope along the update", X: "step", Y: "", Width: width, Height: height}
	for i := range looked {
		if i > 0 && looked[i].Phase != looked[i-1].Phase {
			mark := chart.Mark{X: float64(looked[i].Step), Name: looked[i].Phase}
			factors.Marks, rest.Marks = append(factors.Marks, mark), append(rest.Marks, mark)
		}
	}
	for i, q := range quantities[:5] {
		s := chart.Series{Name: q.name, Color: i, NoLine: !q.log}
		first := float64(q.of(&looked[0]))
		for j := range looked {
			p := chart.Point{X: float64(looked[j].Step), Y: float64(q.of(&looked[j]))}
			if q.log {
				p.Y /= first
			}
			s.Points = append(s.Points, p)
		}
		if q.log {
			factors.Series = append(factors.Series, s)
		} else {
			rest.Series = append(rest.Series, s)
		}
	}
	lower := strings.Replace(rest.SVG(), "<svg", fmt.Sprintf(`<svg y="%d"`, height), 1)
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d">%s%s</svg>`, width, 2*height, width, 2*height, factors.SVG(), lower) + "\n"
}
