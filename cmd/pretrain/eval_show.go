package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"pretrain/internal/chart"
	"pretrain/internal/section"
	"pretrain/train/eval"

	"github.com/spf13/cobra"
)

// printSection writes a section as text: its title, notes and table.
func printSection(w io.Writer, s section.Section) error {
	fmt.Fprintf(w, "%s\n\n", s.Title)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(s.Columns, "\t"))
	for _, row := range s.Rows {
		fmt.Fprintln(table, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, n := range s.Notes {
		fmt.Fprintln(w, n)
	}
	return nil
}

// evalRow is one measurement of a report: a source's bits per byte, or a metric of a task.
type evalRow struct {
	name, metric string
	eval.Estimate
	count int
	note  string
}

func evalRows(r eval.Report) []evalRow {
	var rows []evalRow
	for _, name := range slices.Sorted(maps.Keys(r.Sources)) {
		s := r.Sources[name]
		rows = append(rows, evalRow{name, "bpb", eval.Estimate{Value: s.BPB, CI: s.CI}, len(s.Documents), fmt.Sprintf("%.4f nats per token, %s tokens", s.Loss, si(s.Tokens))})
	}
	for _, t := range r.Tasks {
		note := fmt.Sprintf("%d-shot", t.Shots)
		if t.Cut > 0 {
			note += fmt.Sprintf(", %d with their context cut", t.Cut)
		}
		if t.LeftOut > 0 {
			note += fmt.Sprintf(", %d left out: a choice is empty or longer than the window", t.LeftOut)
		}
		for _, m := range slices.Sorted(maps.Keys(t.Metrics)) {
			rows = append(rows, evalRow{t.Task, string(m), t.Metrics[m], t.Count, note})
		}
	}
	return rows
}

func evalSection(r eval.Report) section.Section {
	s := section.Section{
		Title:   fmt.Sprintf("Evaluation after step %d (%s tokens)", r.Step, si(r.TrainTokens)),
		Columns: []string{"what", "metric", "value", "95% interval", "n", ""},
		Notes: []string{
			fmt.Sprintf("bpb: bits per byte of the original text, in windows of the model's length, %d tokens from one to the next. acc: by the summed log-likelihood; acc_norm: per character. n: documents or items, which the intervals are over (bootstrap).", r.Stride),
			fmt.Sprintf("%s tokens in %.1f s: %s tokens/s, MFU %.0f%%.", si(r.Scored), r.Seconds, si(int64(r.TokensPerSecond)), 100*r.MFU),
		},
	}
	for _, row := range evalRows(r) {
		s.Rows = append(s.Rows, []string{row.name, row.metric, fmt.Sprintf("%.4f", row.Value), intervalText(row.CI), fmt.Sprint(row.count), row.note})
	}
	return s
}

func intervalText(ci *eval.Interval) string {
	if ci == nil {
		return "-"
	}
	return fmt.Sprintf("%.4f … %.4f", ci.Low, ci.High)
}

// evalChart has the intervals of bits per byte and of shares; what is in other units does not fit its axis.
func evalChart(r eval.Report) string {
	c := chart.Intervals{Title: fmt.Sprintf("evaluation after step %d, 95%% bootstrap intervals", r.Step), X: "bits per byte, or share of items"}
	for _, row := range evalRows(r) {
		if row.metric == string(eval.TargetNats) {
			continue
		}
		line := chart.Row{Name: row.name, Mid: row.Value, Low: row.Value, High: row.Value, Note: fmt.Sprintf("%s %.4f", row.metric, row.Value)}
		if row.CI != nil {
			line.Low, line.High = row.CI.Low, row.CI.High
		}
		if row.metric != "bpb" {
			line.Color = 1
		}
		c.Rows = append(c.Rows, line)
	}
	return c.SVG()
}

func newEvalCompare(stdout io.Writer) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "compare A B", Short: "Compare two reports of pretrain eval, item by item",
		Long: `Compare two reports of pretrain eval: B minus A, over the documents and items that both have measured, with the 95% interval of a
paired bootstrap. Items differ among each other far more than models do on an item; pairing takes that out, so differences show
that the two intervals by themselves would hide.`,
		Example: "  pretrain eval compare runs/a/eval/step-000000635.json runs/b/eval/step-000000635.json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("eval compare %s: want two reports, such as runs/a/eval/step-000000635.json and runs/b/eval/step-000000635.json", strings.Join(args, " "))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			a, err := eval.ReadReport(args[0])
			if err != nil {
				return err
			}
			b, err := eval.ReadReport(args[1])
			if err != nil {
				return err
			}
			list := eval.Compare(a, b)
			if len(list) == 0 {
				return fmt.Errorf("%s and %s have no document or item in common", args[0], args[1])
			}
			if asJSON {
				return printJSON(stdout, struct {
					A           string            `json:"a"`
					B           string            `json:"b"`
					Differences []eval.Difference `json:"differences"`
				}{args[0], args[1], list})
			}
			return printSection(stdout, compareSection(args[0], args[1], list))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as one JSON object")
	return cmd
}

func compareSection(a, b string, list []eval.Difference) section.Section {
	s := section.Section{
		Title:   fmt.Sprintf("A %s, B %s", a, b),
		Columns: []string{"what", "metric", "A", "B", "B − A", "95% interval", "pairs", "better"},
		Notes:   []string{"intervals: paired bootstrap over documents or items. No name under better: the interval holds 0."},
	}
	for _, d := range list {
		better := map[int]string{1: "B", -1: "A"}[d.Better()]
		s.Rows = append(s.Rows, []string{d.Name, string(d.Metric), fmt.Sprintf("%.4f", d.A), fmt.Sprintf("%.4f", d.B), fmt.Sprintf("%+.4f", d.Value), intervalText(d.CI), fmt.Sprint(d.Pairs), better})
	}
	return s
}
