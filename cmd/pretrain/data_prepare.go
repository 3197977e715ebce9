package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"pretrain/configs"
	"pretrain/data/exec"
	"pretrain/data/pipeline"
	"pretrain/data/prepare"
	"pretrain/tokenizer"
	"pretrain/train/metrics"

	"github.com/spf13/cobra"
)

func newDataPrepare(stdout, stderr io.Writer) *cobra.Command {
	var f configFlags
	var o pipeline.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use: "prepare --config NAME_OR_FILE", Short: "Turn raw text into clean, deduplicated, tokenised shards, with an account of what became of it", Args: noArgs,
		Long: `Read raw text, clean, judge and label each document, remove duplicates and what evaluation tasks hold, tokenise, and write the
shards that a run trains on (data.sources.NAME.path), with a report of what every step dropped and why.

The same command goes on where an earlier one stopped, and after a change does only what the change makes necessary. The
result does not depend on the number of workers. Several machines that share the output folder can work together: give each a rank.`,
		Example: `  pretrain data prepare --config my-data.yaml
  pretrain data prepare --config go-std --set output=prepared/go     # runs anywhere: the source of your Go installation
  pretrain data prepare --config my-data.yaml --rank 2 --ranks 8     # one of eight machines`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.config == "":
				return usagef("--config is missing: give a YAML file or one of the embedded configurations: %v", configs.PreparationNames())
			case o.Ranks < 1 || o.Rank < 0 || o.Rank >= o.Ranks:
				return usagef("--rank %d --ranks %d: want a rank from 0 to one less than ranks", o.Rank, o.Ranks)
			case o.Workers < 0:
				return usagef("--workers %d: want 1 or more, or 0 for one a core", o.Workers)
			}
			c, err := configs.LoadPreparation(f.config, f.sets)
			if err != nil {
				return err
			}
			if o.Tokenizer, err = preparationTokenizer(c.Tokenizer); err != nil {
				return err
			}
			cache, err := cacheDir()
			if err != nil {
				return err
			}
			o.CacheDir = filepath.Join(cache, "hub")
			console := metrics.NewConsole(stderr)
			bars := stageBars{console: console}
			o.Progress = func(p exec.Progress) { bars.show(p.Step, int64(p.Done), int64(p.Total), "files") }
			o.Waiting = func() { fmt.Fprintf(stderr, "another process has rank %d of %s: waiting for it\n", o.Rank, c.Output) }
			report, err := pipeline.Run(cmd.Context(), *c, o)
			bars.close()
			if err != nil {
				return fmt.Errorf("prepare data: %w", err)
			}
			if asJSON {
				return printJSON(stdout, report)
			}
			return printFunnel(stdout, report, c.Output)
		},
	}
	f.addAs(cmd, "a YAML `file`, or the name of an embedded one: "+strings.Join(configs.PreparationNames(), ", "), "output=DIR")
	cmd.Flags().IntVar(&o.Workers, "workers", 0, "files worked on at once (default one a core)")
	cmd.Flags().IntVar(&o.Rank, "rank", 0, "which share of the files to work on, from 0")
	cmd.Flags().IntVar(&o.Ranks, "ranks", 1, "number of shares the files are dealt to")
	cmd.Flags().BoolVar(&asJSON, "json", false, "end with the report as one JSON object on stdout")
	return cmd
}

// preparationTokenizer is the file that a preparation names, or one to be trained.
func preparationTokenizer(c tokenizer.Config) (prepare.Tokenizer, error) {
	if c.Path == "" {
		return trainedTokenizer{c}, nil
	}
	json, err := os.ReadFile(c.Path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.path: %w", err)
	}
	return givenTokenizer{c, json}, nil
}

// printFunnel shows what each step left of each source.
func printFunnel(w io.Writer, r *pipeline.Report, output string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range r.Sources {
		fmt.Fprintf(t, "%s\tdocuments\tMB\tdropped\n", s.Source)
		for _, step := range s.Steps {
			fmt.Fprintf(t, "  %s\t%d\t%.1f\t%s\n", step.Name, step.Out.Documents, float64(step.Out.Bytes)/1e6, step.Reasons())
		}
		fmt.Fprintf(t, "  tokens\t%d\t%.1f\t%d tokens, %d of them held out\n", s.Train.Documents+s.Validation.Documents,
			float64(s.Train.Bytes+s.Validation.Bytes)/1e6, s.Train.Tokens+s.Validation.Tokens, s.Validation.Tokens)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "shards: %s/shards\nreport: %[1]s/report/all/report.html\n", output)
	return err
}
