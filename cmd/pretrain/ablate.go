package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"pretrain/configs"
	"pretrain/train/ablate"

	"github.com/spf13/cobra"
)

// ablateOptions are what the command line says about an ablation.
type ablateOptions struct {
	config      string
	overrides   configs.AblationOverrides
	out         string
	backend     string
	jobs        int
	rank, ranks int
	dryRun      bool
	reportOnly  bool
	asJSON      bool
}

func newAblate(stdout, stderr io.Writer) *cobra.Command {
	var o ablateOptions
	cmd := &cobra.Command{
		Use: "ablate --config NAME_OR_FILE", Short: "Compare variants of a small run over several seeds, with intervals and a verdict each", Args: noArgs,
		Long: `Train every variant of an ablation under every seed, each run in a folder of its own, and say which variants are better or
worse than the baseline, by how much, and with what certainty. Without --config it lists the ready ablations.

The same command goes on where an earlier one stopped: finished runs are skipped, interrupted ones resumed, failed ones
tried again, up to three times. Several processes, on one machine or on several that share the folder, can work on one ablation: each
takes the runs that nobody else has. With --ranks each takes its own share of them.`,
		Example: `  pretrain ablate --config learning-rate
  pretrain ablate --config learning-rate --set data.path=DIR --seeds 5 --tokens 2Mtok --out ablations/mine
  pretrain ablate --config my.yaml --out DIR --rank 2 --ranks 8     # one of eight machines
  pretrain ablate --config my.yaml --out DIR --report-only`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.config == "" {
				return listAblations(stdout)
			}
			return runAblation(cmd.Context(), o, stdout, stderr)
		},
	}
	cmd.Flags().StringVar(&o.config, "config", "", "a YAML `file`, or the name of a ready ablation")
	cmd.Flags().StringArrayVar(&o.overrides.Sets, "set", nil, "override a value of all runs, as `data.path=DIR`; may be given again")
	cmd.Flags().StringVar(&o.overrides.Seeds, "seeds", "", "how many seeds, or a list as `[1,2,3]` (default: the file's)")
	cmd.Flags().StringVar(&o.overrides.Tokens, "tokens", "", "tokens of each run, as `2Mtok` (default: the file's)")
	cmd.Flags().StringVar(&o.out, "out", "", "where runs and report go (default runs/ablations/NAME)")
	cmd.Flags().IntVar(&o.jobs, "jobs", 1, "runs at the same time; more than one gains only where one leaves the machine idle")
	cmd.Flags().IntVar(&o.rank, "rank", 0, "which share of the runs to make, from 0")
	cmd.Flags().IntVar(&o.ranks, "ranks", 1, "number of shares the runs are dealt to")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "list the runs with their commands and tokens, and train nothing")
	cmd.Flags().BoolVar(&o.reportOnly, "report-only", false, "make the report from what is there, and train nothing")
	cmd.Flags().StringVar(&o.backend, "backend", "", "as in training")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "end with the report as one JSON object on stdout")
	return cmd
}

func listAblations(stdout io.Writer) error {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, name := range configs.AblationNames() {
		a, err := configs.LoadAblation(name, configs.AblationOverrides{})
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%d runs\t%s\n", name, len(a.Variants)*len(a.Seeds), a.Question)
	}
	return w.Flush()
}

// ablation is an ablation under way.
type ablation struct {
	*configs.Ablation
	options ablateOptions
	dir     string
	runs    []ablate.Run
	stderr  io.Writer
}

func runAblation(ctx context.Context, o ablateOptions, stdout, stderr io.Writer) error {
	switch {
	case o.jobs < 1:
		return usagef("--jobs %d: want 1 or more", o.jobs)
	case o.ranks < 1 || o.rank < 0 || o.rank >= o.ranks:
		return usagef("--rank %d --ranks %d: want a rank from 0 to one less than ranks", o.rank, o.ranks)
	case o.dryRun && o.reportOnly:
		return usagef("--dry-run and --report-only: want one of them")
	}
	o.overrides.Files = !o.dryRun && !o.reportOnly
	config, err := configs.LoadAblation(o.config, o.overrides)
	if err != nil {
		return err
	}
	if config.Halving.On() && o.ranks > 1 {
		return usagef("--ranks %d: with halving the runs of a rung must all be there to judge it; share the folder without --ranks instead", o.ranks)
	}
	if o.out == "" {
		o.out = filepath.Join("runs", "ablations", config.Name)
	}
	a := &ablation{Ablation: config, options: o, stderr: stderr}
	if a.dir, err = filepath.Abs(o.out); err != nil {
		return err
	}
	a.runs = ablate.Layout(config.Config.Expand(), config.Seeds, func(i int) int64 { return config.Variants[i].Resolved.Derived.Steps })
	if o.dryRun {
		return a.list(stdout)
	}
	if err := a.sameConfiguration(); err != nil {
		return err
	}
	var failed int
	if !o.reportOnly {
		if failed, err = a.train(ctx); err != nil {
			return err
		}
	}
	report, err := a.report()
	if err != nil {
		return err
	}
	if err := a.write(report); err != nil {
		return err
	}
	if o.asJSON {
		err = printJSON(stdout, report)
	} else {
		err = errors.Join(report.Text(stdout), a.where(stdout))
	}
	if err == nil && failed > 0 {
		return fmt.Errorf("%d runs failed (see above): the same command tries them again, up to %d times in all", failed, ablate.MaxAttempts)
	}
	return err
}

// variant of a run.
func (a *ablation) variant(run ablate.Run) configs.AblationVariant {
	for _, v := range a.Variants {
		if v.Name == run.Variant {
			return v
		}
	}
	return configs.AblationVariant{} // not reached: runs are made from the variants
}

// args are the arguments that train a run.
func (a *ablation) args(run ablate.Run) []string {
	sets := append(a.variant(run).Sets, fmt.Sprintf("seed=%d", run.Seed))
	f := configFlags{config: a.Base, sets: sets}
	return append(f.args(a.options.backend), "--run-dir", filepath.Join(a.dir, run.Dir()))
}

// mine reports whether this process's rank makes the i-th run.
func (a *ablation) mine(i int) bool { return i%a.options.ranks == a.options.rank }

// list writes the runs, as --dry-run wants them.
func (a *ablation) list(stdout io.Writer) error {
	type planned struct {
		ablate.Run
		Tokens  int64    `json:"tokens"`
		Command []string `json:"command"`
	}
	var list []planned
	for i, run := range a.runs {
		if a.mine(i) {
			list = append(list, planned{run, a.variant(run).Resolved.Derived.Tokens, append([]string{"pretrain"}, a.args(run)...)})
		}
	}
	if a.options.asJSON {
		return printJSON(stdout, list)
	}
	var tokens int64
	for _, p := range list {
		tokens += p.Tokens
		fmt.Fprintf(stdout, "%s seed %d: %d steps, %s tokens\n  %s\n", p.Variant, p.Seed, p.Steps, si(p.Tokens), shellWords(p.Command))
	}
	fmt.Fprintf(stdout, "\n%d runs of %d variants, %s tokens in all\n", len(list), len(a.Variants), si(tokens))
	return nil
}

// sameConfiguration refuses a folder whose runs were begun with other values: their numbers would stand under the names of
// these.
func (a *ablation) sameConfiguration() error {
	var changed []string
	for _, run := range a.runs {
		dir := filepath.Join(a.dir, run.Dir())
		state, err := ablate.ReadState(dir)
		if err != nil {
			return fmt.Errorf("run %s: %w", dir, err)
		}
		want := a.variant(run).Configuration(run.Seed)
		if state.Config == "" || state.Config == want {
			continue
		}
		differences, err := compareText(state.Config, want)
		if err != nil {
			return fmt.Errorf("run %s: %w", dir, err)
		}
		for _, d := range differences {
			changed = append(changed, fmt.Sprintf("%s: %s: %s there, %s now", run.Dir(), d.Key, d.Old, d.New))
		}
	}
	if len(changed) == 0 {
		return nil
	}
	more := ""
	if len(changed) > 10 {
		changed, more = changed[:10], "\n  and others"
	}
	return usagef("%s has runs of another configuration; choose another --out, or delete those runs:\n  %s%s", a.dir, strings.Join(changed, "\n  "), more)
}

// compareText lists the values in which two resolved configurations differ. The older may lack keys that are new since.
func compareText(old, new string) ([]configs.Difference, error) {
	var both [2]*configs.Resolved
	for i, text := range []string{old, new} {
		file, err := os.CreateTemp("", "pretrain-*.yaml")
		if err != nil {
			return nil, err
		}
		defer os.Remove(file.Name())
		_, err = file.WriteString(text)
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
		if both[i], err = configs.LoadWithoutFiles(file.Name(), nil); err != nil {
			return nil, err
		}
	}
	return configs.Compare(both[0], both[1], 0), nil
}

// report reads the folder.
func (a *ablation) report() (*ablate.Report, error) {
	outcomes, err := ablate.Collect(a.dir, a.runs)
	if err != nil {
		return nil, err
	}
	analysis := ablate.Analysis{Config: a.Config, Outcomes: outcomes}
	base := a.BaselineVariant()
	for _, v := range a.Variants {
		analysis.Variants = append(analysis.Variants, v.Variant)
		analysis.Orders = append(analysis.Orders, v.Order(base))
	}
	return analysis.Report(), nil
}

// write writes the report's files.
func (a *ablation) write(r *ablate.Report) error {
	if err := os.MkdirAll(a.dir, 0o755); err != nil {
		return fmt.Errorf("make the ablation's folder (choose another with --out): %w", err)
	}
	files, err := r.Files()
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := writeFile(filepath.Join(a.dir, f.Name), f.Content); err != nil {
			return err
		}
	}
	return nil
}

func (a *ablation) where(stdout io.Writer) error {
	_, err := fmt.Fprintf(stdout, "\n%s: report.html, report.md, report.json; each run in runs/VARIANT/seed-N\n", a.dir)
	return err
}
