package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"pretrain/configs"
	"pretrain/internal/vfs"
	"pretrain/train/metrics"
	"pretrain/train/runs"

	"github.com/spf13/cobra"
)

func newRuns(stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{Use: "runs", Short: "Look at run directories", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newRunsTree(stdout))
	return cmd
}

func newRunsTree(stdout io.Writer) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "tree [DIR]", Short: "Draw the family of runs: what branched off where, with which changes, and what came of it",
		Long: `Draw the runs in a folder (default runs) and below it: each with its tokens and steps, the phase of the learning rate it is in, its
last and its lowest validation loss, and under it its branches, with the step they branched off at and the values of the
configuration that they changed. Folders that were moved or renamed together still belong together.`,
		Example: "  pretrain runs tree runs\n  pretrain runs tree --json | jq '.runs[] | {dir, best_val_loss}'",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return noArgs(cmd, args[1:])
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "runs"
			if len(args) > 0 {
				dir = args[0]
			}
			family, err := readFamily(dir)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(stdout, family)
			}
			return family.draw(stdout)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as one JSON object")
	return cmd
}

// family is what runs tree found.
type family struct {
	Dir  string   `json:"dir"`
	Runs []member `json:"runs"` // sorted by folder
}

// member is a run of a family.
type member struct {
	Dir         string         `json:"dir"` // below the family's
	ID          string         `json:"id,omitempty"`
	Step        int64          `json:"step"`
	Tokens      int64          `json:"tokens"`
	Phase       string         `json:"phase"`
	ValLoss     metrics.Number `json:"val_loss"`
	BestValLoss metrics.Number `json:"best_val_loss"`
	BestStep    int64          `json:"best_step"`
	Finished    bool           `json:"finished"`
	Trunk       *trunk         `json:"trunk,omitempty"`
	Problem     string         `json:"problem,omitempty"`
}

// trunk is where a member branched off and what it changed.
type trunk struct {
	Dir     string   `json:"dir"`   // below the family's, if Found; else as the branch names it
	Found   bool     `json:"found"` // in the family
	Step    int64    `json:"step"`
	Tokens  int64    `json:"tokens"`
	Changes []change `json:"changes"`

	at int // the place among the family's runs; -1 if not found
}

type change struct {
	Key string `json:"key"`
	Old string `json:"old"`
	New string `json:"new"`
}

func readFamily(dir string) (*family, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	list, err := runs.Scan(vfs.OS, root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("%s: no such folder: give the one that holds the runs", dir)
	}
	if err != nil {
		return nil, err
	}
	f := &family{Dir: root, Runs: []member{}}
	for _, r := range list {
		name, err := filepath.Rel(root, r.Dir)
		if err != nil {
			return nil, err
		}
		m := member{
			Dir: name, ID: r.ID, Step: r.Step, Tokens: r.Tokens, Phase: r.Phase, ValLoss: r.ValLoss, BestValLoss: r.BestValLoss, BestStep: r.BestStep,
		}
		if done, err := readResult(r.Dir); err == nil && done != nil { // one that cannot be read is none
			m.Finished = done.Step == r.Step
		}
		if r.Problem != nil {
			m.Problem = r.Problem.Error()
		}
		if p := r.Parent; p != nil {
			m.Trunk = &trunk{Dir: p.Run, Found: r.Trunk >= 0, Step: p.Step, Tokens: p.Tokens, Changes: []change{}, at: r.Trunk}
			if r.Trunk >= 0 {
				if m.Trunk.Dir, err = filepath.Rel(root, list[r.Trunk].Dir); err != nil {
					return nil, err
				}
			}
			if m.Trunk.Changes, err = changes(r); err != nil {
				m.Problem = err.Error()
			}
		}
		f.Runs = append(f.Runs, m)
	}
	return f, nil
}

// changes are what a branch's configuration has otherwise than its trunk's.
func changes(r runs.Run) ([]change, error) {
	list := []change{}
	if r.TrunkConfig == "" || r.Config == "" {
		return list, nil
	}
	differences, err := configs.Differences(
		configs.Text{Name: fmt.Sprintf("trunk@%d", r.Parent.Step), YAML: r.TrunkConfig},
		configs.Text{Name: filepath.Join(r.Dir, "config.yaml"), YAML: r.Config},
	)
	for _, d := range differences {
		list = append(list, change{d.Key, d.Old, d.New})
	}
	return list, err
}

// draw draws the family as a tree: a row of figures for each run, and below it what it changed.
func (f *family) draw(stdout io.Writer) error {
	if len(f.Runs) == 0 {
		_, err := fmt.Fprintf(stdout, "no runs in %s\n", f.Dir)
		return err
	}
	children := map[int][]int{}
	for i, r := range f.Runs {
		at := -1
		if r.Trunk != nil {
			at = r.Trunk.at
		}
		children[at] = append(children[at], i)
	}
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "run\tsteps\ttokens\tphase\tval loss\tlowest\t")
	below := [][]string{nil} // the lines under each row of the table, which shall not widen its columns
	var walk func(at int, indent string)
	walk = func(at int, indent string) {
		for n, i := range children[at] {
			r, mark, next := f.Runs[i], "├─ ", indent+"│  "
			switch {
			case at < 0:
				mark, next = "", ""
			case n+1 == len(children[at]):
				mark, next = "└─ ", indent+"   "
			}
			state := ""
			if !r.Finished {
				state = "not finished"
			}
			fmt.Fprintf(w, "%s%s%s\t%d\t%s\t%s\t%s\t%s\t%s\n", indent, mark, r.title(), r.Step, si(r.Tokens), r.Phase, lossText(r.ValLoss), lossText(r.BestValLoss), state)
			stem := "   "
			if len(children[i]) > 0 {
				stem = "│  "
			}
			var lines []string
			for _, text := range r.details() {
				lines = append(lines, next+stem+text)
			}
			below = append(below, lines)
			walk(i, next)
		}
	}
	walk(-1, "")
	if err := w.Flush(); err != nil {
		return err
	}
	for i, row := range strings.Split(strings.TrimSuffix(table.String(), "\n"), "\n") {
		for _, line := range append([]string{row}, below[i]...) {
			if _, err := fmt.Fprintln(stdout, strings.TrimRight(line, " ")); err != nil {
				return err
			}
		}
	}
	return nil
}

// title is a run's folder and where it branched off.
func (m member) title() string {
	switch {
	case m.Trunk == nil:
		return m.Dir
	case m.Trunk.Found:
		return fmt.Sprintf("%s @%d", m.Dir, m.Trunk.Step)
	}
	return fmt.Sprintf("%s (of %s@%d, which is not here)", m.Dir, m.Trunk.Dir, m.Trunk.Step)
}

// details are what a branch changed, a line each, and what could not be read.
func (m member) details() (lines []string) {
	if m.Trunk != nil {
		for _, c := range m.Trunk.Changes {
			lines = append(lines, fmt.Sprintf("%s: %s → %s", c.Key, cmp.Or(c.Old, "not given"), cmp.Or(c.New, "not given")))
		}
	}
	if m.Problem != "" {
		lines = append(lines, "problem: "+m.Problem)
	}
	return lines
}

func lossText(n metrics.Number) string {
	if math.IsNaN(float64(n)) {
		return "-"
	}
	return fmt.Sprintf("%.4f", float64(n))
}
