package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write testdata anew from what the program does now; say why in the commit")

// golden returns the lines of a file of testdata, which -update writes first.
func golden(t *testing.T, name string, now []string) []string {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(strings.Join(now, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// The first 20 losses of a tiny run are what they were when they were written down, on the CPU plugin and on the pure-Go
// backend, which computes without XLA. In fp32 and at a small learning rate: the curve then stays the same to 1e-6 with
// other compiler optimisations, while in bf16 a last bit grows to percents.
func TestGoldenLosses(t *testing.T) {
	for _, backend := range []string{"cpu", "go"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			env := append(os.Environ(), "PWD="+dir)
			set := func(key, value string) {
				if key != "XLA_FLAGS" { // the compiler as users have it
					env = append(env, key+"="+value)
				}
			}
			if err := setUp(dir, set); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("pretrain", "--config", "tiny.yaml", "--run-dir", "run", "--backend", backend,
				"--set", "train.tokens=2560tok", "--set", "schedule.peak_lr=0.002", "--set", "sample.tokens=0tok")
			cmd.Dir, cmd.Env = dir, env
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			records, err := readMetrics(filepath.Join(dir, "run"))
			if err != nil || len(records) != 20 {
				t.Fatalf("%d steps, want 20 (%v)", len(records), err)
			}
			var now []string
			for _, r := range records {
				now = append(now, fmt.Sprintf("%d %.7g", r.Step, float64(r.Loss)))
			}
			want := now
			if backend == "cpu" || !*update {
				want = golden(t, "losses_cpu.txt", now)
			}
			for i, line := range want {
				_, text, _ := strings.Cut(line, " ")
				loss, err := strconv.ParseFloat(text, 64)
				if err != nil {
					t.Fatal(err)
				}
				if got := float64(records[i].Loss); !(math.Abs(got-loss) < 1e-4*loss) {
					t.Errorf("step %d: loss %v, want %v", i, got, loss)
				}
			}
		})
	}
}

// The command line is an interface: what scripts use does not change by accident.
func TestCommandLine(t *testing.T) {
	var now []string
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		now = append(now, cmd.UseLine())
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			now = append(now, fmt.Sprintf("  --%s %s (%s)", f.Name, f.Value.Type(), f.DefValue))
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(io.Discard, io.Discard))
	if diff := cmp.Diff(golden(t, "cli.txt", now), now); diff != "" {
		t.Errorf("the command line changed (-before +now); if it should, go test -update:\n%s", diff)
	}
}

// Each command tells what it does, has a text of help without a stray quote, and refuses what it does not know.
func TestHelp(t *testing.T) {
	var walk func(*cobra.Command, []string)
	walk = func(cmd *cobra.Command, path []string) {
		if cmd.Short == "" {
			t.Errorf("%v: no short help", path)
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if name, usage := pflag.UnquoteUsage(f); usage == "" || strings.Contains(name, " ") || strings.Contains(usage, "`") {
				t.Errorf("%v --%s: bad help %q %q", path, f.Name, name, usage)
			}
		})
		var stdout, stderr bytes.Buffer
		if code := Main(t.Context(), append(path, "--help"), &stdout, &stderr); code != 0 || !strings.Contains(stdout.String(), "Usage:") {
			t.Errorf("%v --help: code %d, %s%s", path, code, stdout.String(), stderr.String())
		}
		stderr.Reset()
		if code := Main(t.Context(), append(path, "--no-such-flag"), io.Discard, &stderr); code != exitUsage || !strings.Contains(stderr.String(), "no-such-flag") {
			t.Errorf("%v --no-such-flag: code %d, %s", path, code, stderr.String())
		}
		stderr.Reset()
		if code := Main(t.Context(), append(path, "no-such-argument"), io.Discard, &stderr); code != exitUsage || !strings.Contains(stderr.String(), "no-such-argument") {
			t.Errorf("%v no-such-argument: code %d, %s", path, code, stderr.String())
		}
		for _, sub := range cmd.Commands() {
			walk(sub, append(path[:len(path):len(path)], sub.Name()))
		}
	}
	walk(newRoot(io.Discard, io.Discard), nil)
}
