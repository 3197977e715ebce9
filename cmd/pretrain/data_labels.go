package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"pretrain/data/label"
	"pretrain/internal/units"
	"pretrain/train/ablate"

	"github.com/spf13/cobra"
)

func newDataLabels(stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{Use: "labels", Short: "Judge the labels of documents", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newDataLabelsEval(stdout))
	return cmd
}

func newDataLabelsEval(stdout io.Writer) *cobra.Command {
	var l labelFlags
	var model, attribute, value, ablation, variant string
	var asJSON bool
	threshold := units.Fraction(0.5)
	cmd := &cobra.Command{
		Use: "eval --input FILE {--model FILE | --attribute NAME}", Short: "How right a label is on a labelled sample, and what an ablation says it is worth", Args: noArgs,
		Long: `Compare a labeller with a sample that was labelled by someone better: precision and recall of each label, and what thresholds on
a probability would choose. The labeller is a model, or the attribute that documents carry already: a rule's, an external
labeller's, a perplexity bucket.

--ablation adds what it is worth to train on what the label chooses: the differences in bits per byte of held-out text that
pretrain ablate measured, with their intervals.`,
		Example: `  pretrain data labels eval --input sample.jsonl --model edu.label --value 1
  pretrain data labels eval --input tagged.jsonl.zst --attribute label.edu --value 1 --threshold 70%
  pretrain data labels eval --input sample.jsonl --model edu.label --ablation ablations/edu/report.json --variant edu-70`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := l.check(); err != nil {
				return err
			}
			if (model == "") == (attribute == "") {
				return usagef("give one of --model FILE and --attribute NAME")
			}
			examples := label.ReadExamples(cmd.Context(), l.input, l.fields, l.skip)
			var r labelReport
			var err error
			if model != "" {
				m, lerr := label.Load(model)
				if lerr != nil {
					return lerr
				}
				if value != "" && !slices.Contains(m.Labels(), value) {
					return usagef("--value %s: %s has the labels %s", value, model, strings.Join(m.Labels(), ", "))
				}
				r.Evaluation, err = m.Evaluate(examples, value)
			} else {
				r.Evaluation, err = label.EvaluateAttribute(examples, attribute, value, float64(threshold))
			}
			if err != nil {
				return fmt.Errorf("evaluate labels: %w", err)
			}
			if ablation != "" {
				if r.Worth, err = readWorth(ablation, variant); err != nil {
					return err
				}
			}
			if asJSON {
				return printJSON(stdout, r)
			}
			return r.print(stdout)
		},
	}
	l.add(cmd)
	f := cmd.Flags()
	f.StringVar(&model, "model", "", "a `file` that pretrain data train-classifier wrote")
	f.StringVar(&attribute, "attribute", "", "the `name` of an attribute of the records, such as label.edu or lm.bucket")
	f.StringVar(&value, "value", "", "the label `value` to find: thresholds on its probability are shown, and high numbers of an attribute stand for it")
	f.Var(fractionFlag{&threshold}, "threshold", "the `number` from which on an attribute stands for --value")
	f.StringVar(&ablation, "ablation", "", "the report.json of an ablation that trains on what the label chooses")
	f.StringVar(&variant, "variant", "", "the ablation's `variant` to show (default all)")
	f.BoolVar(&asJSON, "json", false, "as one JSON object")
	return cmd
}

// labelReport is what labels eval says.
type labelReport struct {
	*label.Evaluation
	Worth *worth `json:"worth,omitempty"`
}

// worth is what an ablation says about training on what a label chooses.
type worth struct {
	Ablation string         `json:"ablation"`
	Baseline string         `json:"baseline"`
	Seeds    int            `json:"seeds"`
	Variants []variantWorth `json:"variants"`
}

type variantWorth struct {
	Name string `json:"name"`
	// Delta is variant minus baseline in bits per byte: below 0 is better. nil where nothing can be compared.
	Delta   *ablate.Comparison `json:"delta"`
	Verdict ablate.Verdict     `json:"verdict"`
	Reason  string             `json:"reason"`
}

func readWorth(path, variant string) (*worth, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--ablation: %w", err)
	}
	var report ablate.Report
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, fmt.Errorf("--ablation %s: not the report.json of pretrain ablate: %w", path, err)
	}
	w := &worth{Ablation: report.Name, Baseline: report.Baseline, Seeds: len(report.Seeds)}
	var names []string
	for _, v := range report.Variants {
		names = append(names, v.Name)
		if v.Name != report.Baseline && (variant == "" || v.Name == variant) {
			w.Variants = append(w.Variants, variantWorth{v.Name, v.Delta, v.Verdict, v.Reason})
		}
	}
	if len(w.Variants) == 0 {
		return nil, usagef("--variant %s: %s compares %s with its baseline %s", variant, path, strings.Join(names, ", "), report.Baseline)
	}
	return w, nil
}

func (r labelReport) print(w io.Writer) error {
	if err := printScores(w, &r.Scores, "labelled examples"); err != nil {
		return err
	}
	if r.Value != "" {
		fmt.Fprintf(w, "\nthresholds on %q (area under the ROC curve %.3f):\n", r.Value, r.AUC)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(t, "at least\tchosen\tprecision\trecall\t")
		for _, p := range r.Curve {
			fmt.Fprintf(t, "%.0f%%\t%.1f%%\t%.3f\t%.3f\t\n", 100*p.Threshold, 100*p.Chosen, p.Precision, p.Recall)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if r.Worth == nil {
		return nil
	}
	fmt.Fprintf(w, "\nworth in the ablation %s, bits per byte less than %s (%d seeds):\n", r.Worth.Ablation, r.Worth.Baseline, r.Worth.Seeds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range r.Worth.Variants {
		if v.Delta == nil {
			fmt.Fprintf(t, "%s\tunknown\t\t%s: %s\n", v.Name, v.Verdict, v.Reason)
			continue
		}
		fmt.Fprintf(t, "%s\t%+.4f\t95%% [%+.4f, %+.4f]\t%s: %s\n", v.Name, -float64(v.Delta.Mean), -float64(v.Delta.CI.High), -float64(v.Delta.CI.Low), v.Verdict, v.Reason)
	}
	return t.Flush()
}
