package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"pretrain/configs"
	"pretrain/data/synth"
	"pretrain/train/metrics"

	"github.com/spf13/cobra"
)

func newDataSynth(stdout, stderr io.Writer) *cobra.Command {
	var f configFlags
	var prepare string
	var topicsOnly, asJSON bool
	cmd := &cobra.Command{
		Use: "synth --config FILE", Short: "Let a larger model write training text about the topics of your documents", Args: noArgs,
		Long: `Cluster documents by topic, and ask a larger model, behind any OpenAI-compatible endpoint, to write new texts about the topics
that are chosen: in several formats, for several audiences, each inspired by an extract of a document.

Answers are kept as they come: the same command goes on where an earlier one stopped, and nothing is paid for twice. The texts
are OUTPUT/documents.jsonl, a source for pretrain data prepare like any other; --prepare runs it at once, so that they pass the
same cleaning, decontamination and deduplication as everything else.`,
		Example: `  pretrain data synth --config synth.yaml --topics-only               # look at topics.json, then set topics.choose or topics.skip
  pretrain data synth --config synth.yaml --set endpoint.max_cost=5
  pretrain data synth --config synth.yaml --prepare prepare.yaml      # whose sources have the output's documents.jsonl`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.config == "" {
				return usagef("--config is missing: give a YAML file; its keys are in docs/synth-config.md")
			}
			c, err := configs.LoadSynthesis(f.config, f.sets)
			if err != nil {
				return err
			}
			o := synth.Options{Key: os.Getenv(c.Endpoint.KeyEnv), TopicsOnly: topicsOnly}
			console := metrics.NewConsole(stderr)
			var bar *metrics.Progress
			o.Progress = func(r synth.Result) {
				if bar == nil {
					bar = console.Progress("ask "+c.Endpoint.Model, int64(r.Prompts-r.Cached), "answers")
				}
				bar.Add(1)
			}
			r, err := synth.Run(cmd.Context(), *c, o)
			if bar != nil {
				bar.Close()
			}
			if err != nil {
				return fmt.Errorf("make synthetic text: %w", err)
			}
			if asJSON {
				err = printJSON(stdout, r)
			} else {
				err = printSynth(stdout, r, c, topicsOnly)
			}
			if err != nil || prepare == "" || topicsOnly {
				return err
			}
			next := newDataPrepare(stdout, stderr)
			next.SetArgs([]string{"--config", prepare})
			next.SilenceErrors, next.SilenceUsage = true, true
			return next.ExecuteContext(cmd.Context())
		},
	}
	f.addAs(cmd, "a YAML `file`", "output=DIR")
	cmd.Flags().StringVar(&prepare, "prepare", "", "afterwards prepare the data of this `file`, as pretrain data prepare --config does")
	cmd.Flags().BoolVar(&topicsOnly, "topics-only", false, "find the topics and ask nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as one JSON object")
	return cmd
}

// printSynth shows what was found and made.
func printSynth(w io.Writer, r *synth.Result, c *synth.Config, topicsOnly bool) error {
	for _, t := range r.Topics {
		fmt.Fprintf(w, "topic %d: %d documents: %s\n", t.Number, t.Documents, t.Name())
	}
	if topicsOnly {
		_, err := fmt.Fprintf(w, "topics: %s\n", filepath.Join(c.Output, synth.TopicsName))
		return err
	}
	notes := []string{fmt.Sprintf("%d answered before", r.Cached), fmt.Sprintf("%d retries", r.Retries)}
	if r.CutOff > 0 {
		notes = append(notes, fmt.Sprintf("%d cut off at max_tokens and not used", r.CutOff))
	}
	if r.Empty > 0 {
		notes = append(notes, fmt.Sprintf("%d empty and not used", r.Empty))
	}
	if r.Unasked > 0 {
		notes = append(notes, fmt.Sprintf("%d not asked: max_cost was reached", r.Unasked))
	}
	fmt.Fprintf(w, "%d prompts: %d asked (%s)\n", r.Prompts, r.Asked, strings.Join(notes, ", "))
	fmt.Fprintf(w, "tokens: %d in, %d out; cost %.4f\n", r.Usage.Input, r.Usage.Output, r.Cost)
	_, err := fmt.Fprintf(w, "documents: %d in %s\n", r.Documents, filepath.Join(c.Output, synth.DocumentsName))
	return err
}
