package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"pretrain/configs"
	"pretrain/internal/prng"
	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
	"pretrain/train/metrics"

	"github.com/spf13/cobra"
)

// verification is what verify-resume found.
type verification struct {
	Kills int `json:"kills"` // the run was killed so many times, of them
	// while it started (opened its data, loaded its state, compiled), made a step, saved, validated:
	Starting int `json:"starting"`
	Stepping int `json:"stepping"`
	MidSave  int `json:"mid_save"`
	MidEval  int `json:"mid_eval"`
	NoResume int `json:"no_resume"` // so many before it had its first checkpoint
	// Difference is the first thing that differs, "" if nothing does.
	Difference string  `json:"difference"`
	Steps      int64   `json:"steps"`
	Seconds    float64 `json:"seconds"`
}

func newVerifyResume(stdout, stderr io.Writer) *cobra.Command {
	var f configFlags
	var kills int
	var seed uint64
	var dir, backendSpec string
	var asJSON, short bool
	cmd := &cobra.Command{
		Use: "verify-resume --config NAME_OR_FILE", Short: "Kill a run at random moments and prove that it ends as if nothing had happened", Args: noArgs,
		Long: `Train a configuration twice: once straight, once killed (SIGKILL) at random moments and resumed each time. In turn it is
killed anywhere, while saving, in a step, while validating and while starting, which includes compiling. Then every
tensor of the last checkpoint is compared, bit by bit, and every record of metrics.jsonl. The first difference is reported, and the
exit code is 1.

With --short it is killed 5 times, enough to see each of these moments once: for every change. The default of 20, or more,
is for a new machine, device or backend.`,
		Example: `  pretrain verify-resume --short --config quickstart --set train.tokens=200ktok --set checkpoint.every='10 steps'
  pretrain verify-resume --kills 100 --config quickstart --set train.tokens=400ktok --set checkpoint.every='10 steps'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := f.load(configs.Load)
			if err != nil {
				return err
			}
			if short && cmd.Flags().Changed("kills") {
				return usagef("--short is --kills %d: give one of them", len(aims))
			}
			if short {
				kills = len(aims)
			}
			if kills < 1 {
				return usagef("--kills %d: want 1 or more", kills)
			}
			if dir == "" {
				dir, err = os.MkdirTemp("", "verify-resume-")
			} else {
				err = os.MkdirAll(dir, 0o755)
			}
			if err != nil {
				return err
			}
			v := verifier{args: f.args(backendSpec), dir: dir, random: prng.New(seed).Split("kills"), stderr: stderr, steps: r.Derived.Steps, evalEvery: r.Derived.EvalEvery}
			found, err := v.verify(cmd.Context(), kills)
			if err != nil {
				return err
			}
			found.Steps = r.Derived.Steps
			if asJSON {
				err = printJSON(stdout, found)
			} else {
				fmt.Fprintf(stdout, "%d steps, killed %d times: %d while starting, %d in a step, %d while saving, %d while validating; %d before the first checkpoint\n",
					found.Steps, found.Kills, found.Starting, found.Stepping, found.MidSave, found.MidEval, found.NoResume)
			}
			if err == nil && found.Difference != "" {
				return fmt.Errorf("the resumed run differs from the uninterrupted one: %s (both are in %s)", found.Difference, dir)
			}
			if !asJSON {
				fmt.Fprintln(stdout, "weights, optimizer state and metrics are those of the uninterrupted run, bit for bit")
			}
			return errors.Join(err, os.RemoveAll(dir))
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&kills, "kills", 20, "how often to kill the run")
	cmd.Flags().BoolVar(&short, "short", false, "kill it 5 times, once at each of these moments")
	cmd.Flags().Uint64Var(&seed, "seed", 1, "of the moments")
	cmd.Flags().StringVar(&dir, "dir", "", "where both runs live (default: a temporary folder, removed if they agree)")
	cmd.Flags().StringVar(&backendSpec, "backend", "", "as in training")
	cmd.Flags().BoolVar(&asJSON, "json", false, "end with one JSON object on stdout")
	return cmd
}

// verifier runs the program itself as a child.
type verifier struct {
	args   []string
	dir    string
	random prng.Key
	stderr io.Writer

	steps, evalEvery int64
	whole            time.Duration // what the run takes from start to end
	pace             pace
}

func (v *verifier) run(name string) string { return filepath.Join(v.dir, name) }

// start starts a run of the configuration; its output goes to a log beside the run directory.
func (v *verifier) start(ctx context.Context, name string) (*exec.Cmd, error) {
	c, err := self(ctx, append(v.args, "--run-dir", v.run(name))...)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(v.run(name)+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	c.Stdout, c.Stderr = log, log
	return c, c.Start()
}

// finish runs the configuration to its end.
func (v *verifier) finish(ctx context.Context, name string) error {
	c, err := v.start(ctx, name)
	if err != nil {
		return err
	}
	if err := c.Wait(); err != nil {
		log, _ := os.ReadFile(v.run(name) + ".log")
		return fmt.Errorf("the %s run failed: %w\n%s", name, err, bytes.TrimSpace(log[max(0, len(log)-2000):]))
	}
	return nil
}

func (v *verifier) verify(ctx context.Context, kills int) (found verification, err error) {
	begin := time.Now()
	fmt.Fprintf(v.stderr, "training straight through\n")
	timing := v.observe("straight")
	if err := v.finish(ctx, "straight"); err != nil {
		return found, err
	}
	v.whole, v.pace = time.Since(begin), timing()
	for try := uint64(0); found.Kills < kills; try++ {
		started := time.Now()
		when, err := v.killOnce(ctx, aims[try%uint64(len(aims))], v.random.Float64At(try))
		if err != nil {
			return found, err
		}
		switch when {
		case "": // it ended first; it was faster, its data being prepared: begin again, and kill earlier
			v.whole = min(v.whole/2, time.Since(started))
			if err := os.RemoveAll(v.run("killed")); err != nil {
				return found, err
			}
			continue
		case starting:
			found.Starting++
		case stepping:
			found.Stepping++
		case saving:
			found.MidSave++
		case validating:
			found.MidEval++
		}
		found.Kills++
		step, err := v.latest("killed")
		if errors.Is(err, checkpoint.ErrNone) {
			found.NoResume++
		}
		fmt.Fprintf(v.stderr, "kill %d, %s: step %d is saved\n", found.Kills, when, step)
	}
	if err := v.finish(ctx, "killed"); err != nil {
		return found, err
	}
	found.Difference, err = v.compare(ctx)
	found.Seconds = time.Since(begin).Seconds()
	return found, err
}

// latest is the newest saved step of a run.
func (v *verifier) latest(name string) (int64, error) {
	store, err := checkpoint.Open(vfs.OS, filepath.Join(v.run(name), "checkpoints"), checkpoint.Options{ReadOnly: true})
	if err != nil {
		return 0, err
	}
	return store.Latest()
}

// compare names the first difference between the two runs.
func (v *verifier) compare(ctx context.Context) (string, error) {
	var states [2]*checkpoint.State
	for i, name := range []string{"straight", "killed"} {
		store, err := checkpoint.Open(vfs.OS, filepath.Join(v.run(name), "checkpoints"), checkpoint.Options{ReadOnly: true})
		if err != nil {
			return "", err
		}
		if states[i], err = store.LoadLatest(ctx, func(p *checkpoint.Problem) { fmt.Fprintln(v.stderr, "warning:", p) }); err != nil {
			return "", err
		}
	}
	a, b := states[0], states[1]
	if a.Meta.Step != b.Meta.Step || len(a.Tensors) != len(b.Tensors) {
		return fmt.Sprintf("step %d with %d tensors, and step %d with %d", a.Meta.Step, len(a.Tensors), b.Meta.Step, len(b.Tensors)), nil
	}
	for i, t := range a.Tensors {
		if o := b.Tensors[i]; t.Name != o.Name || !bytes.Equal(t.Data, o.Data) {
			at := 0
			for at < min(len(t.Data), len(o.Data)) && t.Data[at] == o.Data[at] {
				at++
			}
			return fmt.Sprintf("tensor %s, from byte %d of %d", t.Name, at, len(t.Data)), nil
		}
	}
	straight, err := v.records("straight")
	if err != nil {
		return "", err
	}
	killed, err := v.records("killed")
	if err != nil {
		return "", err
	}
	for i := range max(len(straight), len(killed)) {
		if i >= len(straight) || i >= len(killed) || straight[i] != killed[i] {
			return fmt.Sprintf("record %d of metrics.jsonl (%d and %d records)", i, len(straight), len(killed)), nil
		}
	}
	return "", nil
}

// records are a run's metrics without what is measured in time, a line each.
func (v *verifier) records(name string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(v.run(name), "metrics.jsonl"))
	if err != nil {
		return nil, err
	}
	var lines []string
	for record, err := range metrics.Records(strings.NewReader(string(text))) {
		if err != nil {
			return nil, err
		}
		line, err := json.Marshal(record.Deterministic())
		if err != nil {
			return nil, err
		}
		lines = append(lines, string(line))
	}
	return lines, nil
}
