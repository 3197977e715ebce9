package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"pretrain/data/label"
	"pretrain/internal/units"
	"pretrain/train/metrics"

	"github.com/spf13/cobra"
)

// labelFlags choose labelled examples.
type labelFlags struct {
	input  []string
	fields label.Fields
	skip   bool
}

func (l *labelFlags) add(cmd *cobra.Command) {
	l.fields = label.DefaultFields()
	f := cmd.Flags()
	f.StringArrayVar(&l.input, "input", nil, "a `file` of labelled examples, one JSON object a line (.jsonl, .gz, .zst), or a folder of them; may be given again")
	f.StringVar(&l.fields.Text, "text-field", l.fields.Text, "the `key` of the text")
	f.StringVar(&l.fields.Label, "label-field", l.fields.Label, "the `key` of the label: a text, a number, true or false")
	f.BoolVar(&l.skip, "skip-unlabelled", false, "leave out records without a label instead of stopping at them")
}

func (l *labelFlags) check() error {
	if len(l.input) == 0 {
		return usagef("--input is missing: give a file of labelled examples, one JSON object a line")
	}
	return nil
}

func newDataTrainClassifier(stdout, stderr io.Writer) *cobra.Command {
	var l labelFlags
	var out string
	var asJSON bool
	t := label.DefaultTraining()
	cmd := &cobra.Command{
		Use: "train-classifier --input FILE --out FILE", Short: "Train a classifier of documents from labelled examples", Args: noArgs,
		Long: `Train a linear classifier over hashed word and character n-grams, in the manner of fastText, from labelled examples: quality,
educational value, topic, sensitive content. It is measured on a part of the examples that is kept out of training.

The model goes into a preparation's labels, where each document gets the probability of a label as an attribute.`,
		Example: `  pretrain data train-classifier --input edu.jsonl.zst --out edu.label
  pretrain data train-classifier --input toxic.jsonl --label-field is_toxic --min-chars 3 --max-chars 5 --out toxic.label
  pretrain data train-classifier --input topics/ --out topics.label --json | jq .accuracy`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := l.check(); err != nil {
				return err
			}
			if out == "" {
				return usagef("--out is missing: give the file to write the model to, such as edu.label")
			}
			if err := t.Validate(); err != nil {
				return usageError{err}
			}
			console := metrics.NewConsole(stderr)
			bars := stageBars{console: console}
			m, err := label.Train(cmd.Context(), label.ReadExamples(cmd.Context(), l.input, l.fields, l.skip), t, func(p label.Progress) {
				stage := "read examples"
				if p.Epoch > 0 {
					stage = fmt.Sprintf("epoch %d", p.Epoch)
				}
				bars.show(stage, int64(p.Examples), int64(p.Of), "examples")
			})
			bars.close()
			if err == nil {
				err = m.Save(out)
			}
			if err != nil {
				return fmt.Errorf("train a classifier: %w", err)
			}
			if asJSON {
				return printJSON(stdout, trainedClassifier{Model: out, Key: m.Key(), Examples: m.Examples(), Labels: m.Labels(), Holdout: m.Holdout()})
			}
			fmt.Fprintf(stdout, "%s: trained on %d examples of %d labels\n", out, m.Examples(), len(m.Labels()))
			if h := m.Holdout(); h != nil {
				return printScores(stdout, h, "examples kept out of training")
			}
			return nil
		},
	}
	l.add(cmd)
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "the `file` to write the model to")
	f.IntVar(&t.WordNGrams, "word-ngrams", t.WordNGrams, "the longest n-gram of words")
	f.IntVar(&t.MinChars, "min-chars", t.MinChars, "the shortest n-gram of a word's characters; 0: none")
	f.IntVar(&t.MaxChars, "max-chars", t.MaxChars, "the longest n-gram of a word's characters; 0: none")
	f.IntVar(&t.Buckets, "buckets", t.Buckets, "weights for each label that n-grams are hashed to")
	f.IntVar(&t.MaxTokens, "max-tokens", t.MaxTokens, "look at the first `n` tokens of a text")
	f.IntVar(&t.Epochs, "epochs", t.Epochs, "passes over the examples")
	f.Float64Var(&t.LearningRate, "lr", t.LearningRate, "learning rate")
	f.Var(fractionFlag{&t.Holdout}, "holdout", "`part` of the examples to measure on instead of training")
	f.Uint64Var(&t.Seed, "seed", t.Seed, "of the order of the examples")
	f.BoolVar(&asJSON, "json", false, "as one JSON object")
	return cmd
}

// trainedClassifier is what train-classifier --json says.
type trainedClassifier struct {
	Model    string        `json:"model"`
	Key      string        `json:"key"`
	Examples int           `json:"examples"`
	Labels   []string      `json:"labels"`
	Holdout  *label.Scores `json:"holdout,omitempty"`
}

// fractionFlag is a flag such as 10%.
type fractionFlag struct{ *units.Fraction }

func (f fractionFlag) String() string {
	if f.Fraction == nil {
		return ""
	}
	return f.Fraction.String()
}
func (f fractionFlag) Set(s string) error { return f.UnmarshalText([]byte(s)) }
func (f fractionFlag) Type() string       { return "fraction" }

// printScores shows how well labels are recognised.
func printScores(w io.Writer, s *label.Scores, on string) error {
	fmt.Fprintf(w, "%d %s: accuracy %.1f%%, macro F1 %.3f\n", s.Examples, on, 100*s.Accuracy, s.MacroF1)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "label\texamples\tpredicted\tprecision\trecall\tF1\t")
	for _, l := range s.Labels {
		fmt.Fprintf(t, "%s\t%d\t%d\t%.3f\t%.3f\t%.3f\t\n", l.Label, l.Examples, l.Predicted, l.Precision, l.Recall, l.F1)
	}
	return t.Flush()
}
