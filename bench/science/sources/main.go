// Command sources draws what an ablation did to each source: bits per byte of its held-out text, against the baseline's under the
// same seeds, with 95% intervals; and prints the same as a table in Markdown.
//
//	pretrain ablate --config schemes --set data.root=DIR --out OUT
//	go run ./bench/science/sources -report OUT/report.json -svg docs/science/schemes.svg
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"

	"pretrain/internal/chart"
	"pretrain/train/ablate"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "sources:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("sources", flag.ContinueOnError)
	flags.SetOutput(stderr)
	report := flags.String("report", "report.json", "the ablation's `file`")
	svg := flags.String("svg", "", "the drawing's `file`; none by default")
	if err := flags.Parse(args); err != nil {
		return err
	}
	text, err := os.ReadFile(*report)
	if err != nil {
		return err
	}
	var r ablate.Report
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("%s: %w", *report, err)
	}
	base := r.Variant(r.Baseline)
	if base == nil || len(r.Sources) == 0 {
		return fmt.Errorf("%s: no baseline with several sources", *report)
	}
	fmt.Fprintf(stdout, "| source | %s, bpb |", r.Baseline)
	rule := "|---|---|"
	for _, v := range r.Variants {
		if v.Name != r.Baseline {
			fmt.Fprintf(stdout, " %s, difference |", v.Name)
			rule += "---|"
		}
	}
	fmt.Fprintln(stdout, "\n"+rule)
	drawing := chart.Intervals{Title: r.Name + ": bits per byte against " + r.Baseline, X: "difference in bits per byte, 95% interval (left is better)"}
	for _, source := range r.Sources {
		fmt.Fprintf(stdout, "| %s | %.4f |", source, float64(base.Sources[source].BPB))
		drawing.Rows = append(drawing.Rows, heading(source))
		color := 0
		for _, v := range r.Variants {
			m := v.Sources[source]
			if v.Name == r.Baseline || m == nil || m.Delta == nil {
				continue
			}
			mean, low, high := float64(m.Delta.Mean), float64(m.Delta.CI.Low), float64(m.Delta.CI.High)
			words := fmt.Sprintf("%+.4f (%+.4f … %+.4f)", mean, low, high)
			fmt.Fprintf(stdout, " %s |", words)
			drawing.Rows = append(drawing.Rows, chart.Row{Name: v.Name, Mid: mean, Low: low, High: high, Color: color, Note: words})
			color++
		}
		fmt.Fprintln(stdout)
	}
	if *svg == "" {
		return nil
	}
	return os.WriteFile(*svg, []byte(drawing.SVG()), 0o644)
}

// heading is a row with a name only.
func heading(name string) chart.Row {
	nan := math.NaN()
	return chart.Row{Name: name, Mid: nan, Low: nan, High: nan}
}
