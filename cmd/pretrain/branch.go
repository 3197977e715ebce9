package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"pretrain/configs"
	"pretrain/internal/units"
	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
	"pretrain/train/runs"

	"github.com/spf13/cobra"
)

func newBranch(stdout, stderr io.Writer) *cobra.Command {
	var f configFlags
	var o trainOptions
	var from, plan string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "branch {--from RUN@STEP | --plan FILE} --run-dir NEW", Short: "Start a run from another run's checkpoint, with another future", Args: noArgs,
		Long: `Start a run from any checkpoint of another run, the trunk: a decay, another length or shape of it, other data from there on,
another batch size or learning rate. The trunk is not copied and not disturbed, and may go on training; the checkpoint is
pinned, so that it is never deleted.

The configuration is the trunk's, changed by --config (a patch: what it gives, it changes) and --set. It counts from the
branch's first step on, laid out as if the run had been its own from the start: lengths and fractions are of the whole run,
the trunk's part included. Before that step batches, learning rates and data are the trunk's.

STEP is a step, latest, or a number of tokens. The same command goes on with an interrupted branch.

With --plan it makes a whole family: a trunk, and decays that branch off it at several lengths, and tabulates and plots the
loss at the end of each. That measures how the loss falls with the data at the cost of about the longest run alone.`,
		Example: `  # decay a trunk of constant learning rate (--set schedule.decay.length=0%) at 20M tokens, over 10% of the whole
  pretrain branch --from runs/trunk@20Mtok --set train.tokens=22.3Mtok --set schedule.decay.length=10% --run-dir runs/decay-20M
  pretrain branch --from runs/trunk@latest --config sft.yaml --run-dir runs/sft
  pretrain branch --from runs/trunk@1000 --set batch.tokens=16384tok --run-dir runs/larger-batch
  pretrain branch --plan wsd-branches --run-dir runs/wsd-branches`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if plan != "" {
				if from != "" || f.config != "" {
					return usagef("--plan makes the trunk and its branches: want no --from and --config beside it")
				}
				return branchPlan(cmd.Context(), plan, f.sets, o.runDir, o.backend, stdout, stderr, asJSON)
			}
			o.resume, o.config, o.sets = "auto", f.config, f.sets
			draft, err := branchOff(from, o)
			if err != nil {
				return err
			}
			return trainRun(cmd.Context(), draft, o, stdout, stderr, asJSON)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the trunk's run `directory`, and the step to branch off at: RUN@1000, RUN@20Mtok, RUN@latest")
	cmd.Flags().StringVar(&f.config, "config", "", "a YAML `file` that gives what is to differ from the trunk's configuration")
	cmd.Flags().StringVar(&plan, "plan", "", "a YAML `file` that plans a trunk and its branches, or wsd-branches, an embedded one")
	cmd.Flags().StringArrayVar(&f.sets, "set", nil, "override a value, as `schedule.decay.length=10%`; may be given again")
	cmd.Flags().StringVar(&o.runDir, "run-dir", "", "where the branch lives")
	cmd.Flags().StringVar(&o.backend, "backend", "", "as in training")
	cmd.Flags().BoolVar(&o.verbose, "verbose", false, "let XLA write its own log")
	cmd.Flags().BoolVar(&asJSON, "json", false, "end with one JSON object on stdout")
	return cmd
}

// branchOff makes the branch's run directory, where it is not there yet, and reads its configuration.
func branchOff(from string, o trainOptions) (*configs.Draft, error) {
	at := strings.LastIndexByte(from, '@')
	if at < 1 || at == len(from)-1 || o.runDir == "" {
		return nil, usagef("want --from RUN@STEP and --run-dir NEW, such as --from runs/trunk@latest --run-dir runs/decay")
	}
	trunk, err := filepath.Abs(from[:at])
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(trunk); err != nil {
		return nil, usagef("--from %s: no such run", from)
	}
	dir, err := filepath.Abs(o.runDir)
	if err != nil {
		return nil, err
	}
	id, err := runs.ReadIdentity(vfs.OS, dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "config.yaml")); id == nil && err == nil {
		return nil, usagef("%s has a run already, which is no branch: choose another --run-dir", dir)
	}
	store, err := checkpoint.Open(vfs.OS, filepath.Join(trunk, "checkpoints"), checkpoint.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	var meta checkpoint.Meta
	switch {
	case id == nil:
		meta, err = findStep(store, from[at+1:])
	case id.Parent == nil:
		return nil, usagef("%s has a run already, which is no branch: choose another --run-dir", dir)
	default:
		meta, err = sameBranch(store, trunk, dir, from[at+1:], *id.Parent)
	}
	if err != nil {
		return nil, err
	}
	draft, err := configs.ReadOver(configs.Text{Name: fmt.Sprintf("%s@%d", from[:at], meta.Step), YAML: meta.Config, Run: filepath.Base(dir)}, o.config, o.sets)
	if err != nil || id != nil {
		return draft, err
	}

	// Say what is wrong before anything is written.
	old, err := pastOf(meta)
	if err != nil {
		return nil, err
	}
	r, err := follow(draft, old, meta.Step)
	if err != nil {
		return nil, err
	}
	if r.Derived.Steps <= meta.Step {
		return nil, usagef("%s is at %s already: train.tokens %s leaves the branch nothing to do; give more", from, units.Tokens(meta.Tokens), r.Run.Train.Tokens)
	}
	if err := refuse(changesOf(old, r, meta.Step, true), old, r, meta, dir, o, true); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the run directory (choose another with --run-dir): %w", err)
	}
	// Pinned before it is written down: a trunk that deletes it now is found out here.
	if err := store.Pin(checkpoint.Pin{Step: meta.Step, Name: pinName(dir)}, "the run in "+dir+" branches off here"); err != nil {
		return nil, err
	}
	trunkID, err := runs.Identify(vfs.OS, trunk, nil)
	if err != nil {
		return nil, err
	}
	_, err = runs.Identify(vfs.OS, dir, &checkpoint.Parent{
		Run: runs.ParentPath(dir, trunk), ID: trunkID.ID, Step: meta.Step, Tokens: meta.Tokens, ConfigHash: configHash(meta.Config),
	})
	return draft, err
}

// sameBranch is the meta of the checkpoint that the branch in dir began with, if that is the one asked for.
func sameBranch(store *checkpoint.Store, trunk, dir, step string, p checkpoint.Parent) (checkpoint.Meta, error) {
	meta, err := store.Meta(p.Step)
	if err != nil {
		return meta, fmt.Errorf("the checkpoint that %s branched off at (to go on without it: pretrain --config %s --run-dir %s): %w",
			dir, filepath.Join(dir, "config.yaml"), dir, err)
	}
	same := step == "latest"
	if !same {
		asked, err := findStep(store, step)
		same = err == nil && asked.Step == p.Step
	}
	if runs.ParentDir(dir, p) != trunk || !same {
		return meta, usagef("%s is a branch of %s@%d: choose another --run-dir", dir, runs.ParentDir(dir, p), p.Step)
	}
	return meta, nil
}

// findStep is the meta of the checkpoint that is meant by a step, a number of tokens, or latest.
func findStep(store *checkpoint.Store, text string) (checkpoint.Meta, error) {
	if text == "latest" {
		step, err := store.Latest()
		if err != nil {
			return checkpoint.Meta{}, err
		}
		return store.Meta(step)
	}
	list, err := metas(store)
	if err != nil {
		return checkpoint.Meta{}, err
	}
	count := func(m checkpoint.Meta) int64 { return m.Step }
	want, err := strconv.ParseInt(text, 10, 64)
	inTokens := err != nil
	if inTokens {
		tokens, err := units.ParseTokens(text)
		if err != nil {
			return checkpoint.Meta{}, usagef("%s@%s: want a step after the @, a number of tokens such as 20Mtok, or latest", filepath.Dir(store.Dir()), text)
		}
		want, count = int64(tokens), func(m checkpoint.Meta) int64 { return m.Tokens }
	}
	nearest := slices.MinFunc(list, func(a, b checkpoint.Meta) int {
		return cmp.Compare(math.Abs(float64(count(a)-want)), math.Abs(float64(count(b)-want)))
	})
	batch := int64(1)
	if inTokens { // tokens come in whole batches: the last one before, or the first one that reaches so many
		r, err := pastOf(nearest)
		if err != nil {
			return checkpoint.Meta{}, err
		}
		batch = r.Plan.TokensBefore(nearest.Step+1) - nearest.Tokens
	}
	if off := count(nearest) - want; -batch < off && off < batch {
		return nearest, nil
	}
	return checkpoint.Meta{}, usagef("%s has no checkpoint at %s: the nearest is of step %d, at %d tokens", store.Dir(), text, nearest.Step, nearest.Tokens)
}

// metas are those of all checkpoints that can be read, of at least one.
func metas(store *checkpoint.Store) (list []checkpoint.Meta, err error) {
	steps, err := store.List()
	if err != nil {
		return nil, err
	}
	var problems error
	for _, step := range steps {
		m, err := store.Meta(step)
		if err != nil {
			problems = errors.Join(problems, err)
			continue
		}
		list = append(list, m)
	}
	if len(list) == 0 {
		return nil, errors.Join(fmt.Errorf("%s: %w", store.Dir(), checkpoint.ErrNone), problems)
	}
	return list, nil
}

// pinName is the name of a branch's pin: that of its directory, in the letters a pin may have.
func pinName(dir string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, filepath.Base(dir))
	return "branch-" + name[:min(len(name), 60)] + "-" + configHash(dir)
}
