package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"pretrain/configs"
	"pretrain/internal/chart"
	"pretrain/internal/units"
	"pretrain/internal/vfs"
	"pretrain/train/metrics"
	"pretrain/train/runs"
)

// treeReport is what a family of runs comes to.
type treeReport struct {
	Name         string      `json:"name"`
	Dir          string      `json:"dir"`
	NonEmbedding int64       `json:"non_embedding"` // N, parameters besides the embedding
	Points       []treePoint `json:"points"`
	// TreeTokens are what the trunk and its branches train on, CosineTokens what one run for each length does, whether it was
	// made or not.
	TreeTokens   int64 `json:"tree_tokens"`
	CosineTokens int64 `json:"cosine_tokens"`
	// Saves is how many times the tokens, and so the compute, the cosine runs take.
	Saves   float64 `json:"saves"`
	Seconds float64 `json:"seconds"` // of the runs that this command made
}

// treePoint is a length of training.
type treePoint struct {
	At         float64  `json:"at"` // where the decay branches off, in tokens per parameter
	ForkStep   int64    `json:"fork_step"`
	ForkTokens int64    `json:"fork_tokens"`
	Tokens     int64    `json:"tokens"` // of the whole run, trunk and decay
	Decay      treeRun  `json:"decay"`
	Cosine     *treeRun `json:"cosine,omitempty"`
}

// treeRun is what a run of the family ended with.
type treeRun struct {
	Run     string         `json:"run"`
	ValLoss metrics.Number `json:"val_loss"` // nats per token
	ValBPB  metrics.Number `json:"val_bpb"`
}

// treeMaker makes the runs of a plan, each in a process of its own.
type treeMaker struct {
	tree    *configs.Tree
	dir     string
	backend string
	stderr  io.Writer
}

// branchPlan makes the runs of a plan, or the rest of them, and reports.
func branchPlan(ctx context.Context, plan string, sets []string, runDir, backend string, stdout, stderr io.Writer, asJSON bool) error {
	tree, err := configs.LoadTree(plan, sets)
	if err != nil {
		return err
	}
	if runDir == "" {
		runDir = filepath.Join("runs", tree.Name)
	}
	dir, err := filepath.Abs(runDir)
	if err != nil {
		return err
	}
	m := treeMaker{tree: tree, dir: dir, backend: backend, stderr: stderr}
	if err := m.keepPlan(); err != nil {
		return err
	}
	report, err := m.make(ctx)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	plot, err := m.plot(report)
	if err != nil {
		return err
	}
	if err := errors.Join(writeFile(filepath.Join(dir, "tree.json"), append(text, '\n')), writeFile(filepath.Join(dir, "tree.svg"), []byte(plot))); err != nil {
		return err
	}
	if asJSON {
		return printJSON(stdout, report)
	}
	return report.print(stdout)
}

// keepPlan writes the trunk's configuration into the folder, or refuses a folder with another's.
func (m *treeMaker) keepPlan() error {
	path := filepath.Join(m.dir, "trunk.yaml")
	now := m.tree.Trunk.YAML(false)
	old, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := vfs.MkdirAllSync(vfs.OS, m.dir); err != nil {
			return err
		}
		return writeFile(path, now)
	case err != nil:
		return err
	case bytes.Equal(old, now):
		return nil
	}
	list, err := configs.Differences(configs.Text{Name: path, YAML: string(old)}, configs.Text{Name: "the plan", YAML: string(now)})
	if err != nil {
		return err
	}
	var changed []string
	for _, d := range list {
		changed = append(changed, fmt.Sprintf("%s: %s → %s", d.Key, d.Old, d.New))
	}
	return usagef("%s has the runs of another plan; go on with that one, or choose another --run-dir:\n  %s", m.dir, strings.Join(changed, "\n  "))
}

// make trains what is not finished yet.
func (m *treeMaker) make(ctx context.Context) (*treeReport, error) {
	begin := time.Now()
	t := m.tree
	r := &treeReport{Name: t.Name, Dir: m.dir, NonEmbedding: t.Trunk.Run.Model.Count().NonEmbedding, TreeTokens: t.Trunk.Derived.Tokens}
	if _, err := m.child(ctx, "trunk", "--config", filepath.Join(m.dir, "trunk.yaml")); err != nil {
		return nil, err
	}
	for _, f := range t.Forks {
		p := treePoint{At: f.At, ForkStep: f.Step, ForkTokens: f.Tokens, Tokens: f.Decay.Derived.Tokens}
		var err error
		p.Decay, err = m.child(ctx, f.Decay.Run.Name, "branch", "--from", fmt.Sprintf("%s@%d", filepath.Join(m.dir, "trunk"), f.Step),
			"--set", fmt.Sprint("train.tokens=", f.Decay.Run.Train.Tokens), "--set", fmt.Sprint("schedule.decay.length=", f.Decay.Run.Schedule.Decay.Length))
		if err != nil {
			return nil, err
		}
		r.TreeTokens += p.Tokens - p.ForkTokens
		r.CosineTokens += p.Tokens
		if t.Cosine {
			config := filepath.Join(m.dir, f.Cosine.Run.Name+".yaml")
			if err := writeFile(config, f.Cosine.YAML(false)); err != nil {
				return nil, err
			}
			cosine, err := m.child(ctx, f.Cosine.Run.Name, "--config", config)
			if err != nil {
				return nil, err
			}
			p.Cosine = &cosine
		}
		r.Points = append(r.Points, p)
	}
	r.Saves = float64(r.CosineTokens) / float64(r.TreeTokens)
	r.Seconds = time.Since(begin).Seconds()
	return r, nil
}

// child trains a run of the family to its end, in a process of its own: it gives back all its memory, and takes nobody along if
// it dies. A finished one says so at once.
func (m *treeMaker) child(ctx context.Context, name string, args ...string) (treeRun, error) {
	args = append(args, "--run-dir", filepath.Join(m.dir, name), "--json")
	if m.backend != "" {
		args = append(args, "--backend", m.backend)
	}
	c, err := trainer(ctx, args...)
	if err != nil {
		return treeRun{}, err
	}
	fmt.Fprintf(m.stderr, "\n%s\n", name)
	var stdout bytes.Buffer
	c.Stdout, c.Stderr = &stdout, m.stderr
	err = c.Run()
	if ctx.Err() != nil {
		return treeRun{}, ctx.Err()
	}
	if err != nil {
		return treeRun{}, fmt.Errorf("run %s (see above; the same command tries it again): %w", name, err)
	}
	var done result
	if err := json.Unmarshal(stdout.Bytes(), &done); err != nil {
		return treeRun{}, fmt.Errorf("run %s: its result: %w", name, err)
	}
	return treeRun{name, done.ValLoss, done.ValBPB}, nil
}

// plot draws the loss at the end of each length over its tokens, and the trunk's on the way.
func (m *treeMaker) plot(r *treeReport) (string, error) {
	trunk := chart.Series{Name: "trunk, constant rate", Color: 7, Faint: true}
	for record, err := range runs.Records(vfs.OS, filepath.Join(m.dir, "trunk")) {
		if err != nil {
			return "", err
		}
		if record.Eval != nil && record.Tokens >= r.Points[0].ForkTokens/2 { // the fall from random weights would flatten the rest
			trunk.Points = append(trunk.Points, chart.Point{X: float64(record.Tokens), Y: float64(record.ValLoss)})
		}
	}
	decays := chart.Series{Name: "branches, at their end", Color: 0, Dots: true}
	cosines := chart.Series{Name: "cosine runs", Color: 1, Dots: true}
	for _, p := range r.Points {
		decays.Points = append(decays.Points, chart.Point{X: float64(p.Tokens), Y: float64(p.Decay.ValLoss)})
		if p.Cosine != nil {
			cosines.Points = append(cosines.Points, chart.Point{X: float64(p.Tokens), Y: float64(p.Cosine.ValLoss)})
		}
	}
	series := []chart.Series{trunk, decays}
	if len(cosines.Points) > 0 {
		series = append(series, cosines)
	}
	return chart.Lines{Title: r.Name + ": loss over data", X: "tokens trained on", Y: "validation loss, nats per token", LogX: true, Series: series}.SVG(), nil
}

// print writes the table.
func (r *treeReport) print(stdout io.Writer) error {
	fmt.Fprintln(stdout)
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	cosine := r.Points[0].Cosine != nil
	head := "tokens/N\tbranches off at\ttokens\tval loss\tbpb\t"
	if cosine {
		head += "cosine's val loss\tdifference\t"
	}
	fmt.Fprintln(w, head)
	for _, p := range r.Points {
		fmt.Fprintf(w, "%v\t%v\t%v\t%.4f\t%.4f\t", p.At, units.Tokens(p.ForkTokens), units.Tokens(p.Tokens), float64(p.Decay.ValLoss), float64(p.Decay.ValBPB))
		if cosine {
			fmt.Fprintf(w, "%.4f\t%+.4f\t", float64(p.Cosine.ValLoss), float64(p.Decay.ValLoss-p.Cosine.ValLoss))
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stdout, "\nN = %s parameters besides the embedding. The tree trained %s tokens; a cosine run for each length takes %s, %.1f times as many.\n%s\n",
		si(r.NonEmbedding), si(r.TreeTokens), si(r.CosineTokens), r.Saves, filepath.Join(r.Dir, "tree.svg"))
	return err
}
