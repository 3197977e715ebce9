package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"pretrain/internal/plugin"
	"pretrain/train/eval/sandbox"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test binary the program, too: a script's `pretrain` is a process of its own. The others run a
// program under conditions that a script cannot make.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"pretrain": main, "filesize": fileSize, "mortal": mortal, "briefly": briefly})
}

// TestScript runs the scripts. Each begins in a folder with tiny.yaml and the corpus it names, text, with an empty home
// and a cache of its own; besides testscript's commands it has those of script_command_test.go.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error { return setUp(env.WorkDir, env.Setenv) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "signals": signals, "waitfor": waitFor, "random": random, "keys": keys, "learns": learns, "agree": agree, "prunes": prunes, "samerun": sameRun, "nearrun": nearRun,
			"lines": lines, "truncate": truncate, "unhex": unhex, "prepared": prepared, "smalldisk": smallDisk, "poison": poison, "flip": flip, "fill": fill, "chatserver": chatServer,
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "mounts":
				return canMount(), nil
			case "confines": // runs a program in the sandbox
				_, err := sandbox.Run(context.Background(), "pass", sandbox.Default())
				return err == nil, nil
			}
			return false, fmt.Errorf("no condition %s", name)
		},
	})
}

// scriptEnv are the environment variables that setUp sets.
var scriptEnv = []string{"HOME", "PRETRAIN_CACHE", "PJRT_PLUGIN_LIBRARY_PATH", "GOMLX_BACKEND", "PRETRAIN_PEAK_FLOPS", "XLA_FLAGS"}

// setUp fills a work folder and its environment.
func setUp(dir string, setenv func(key, value string)) error {
	config, err := os.ReadFile("testdata/tiny.yaml")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "tiny.yaml"), config, 0o644); err != nil {
		return err
	}
	if err := writeCorpus(filepath.Join(dir, "text"), 1); err != nil {
		return err
	}
	library, err := plugin.Default()
	if err != nil {
		return err
	}
	cpu, err := library.Find(plugin.CPU)
	if err != nil {
		return fmt.Errorf("%w: run make setup", err)
	}
	for i, value := range []string{
		filepath.Join(dir, "home"), filepath.Join(dir, "cache"), filepath.Dir(cpu.Path),
		"cpu",                                // also on a machine with a GPU
		"1e12",                               // spares measuring the peak
		"--xla_backend_optimization_level=0", // compiling is most of a tiny run's time, and optimising most of that
	} {
		setenv(scriptEnv[i], value)
	}
	return nil
}

// writeCorpus writes 60 text files of about 4 kB, the same ones for the same seed: sentences with a simple grammar, so
// that a model of any size soon learns something.
func writeCorpus(dir string, seed uint64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 0))
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	for i := range 60 {
		var b bytes.Buffer
		for range 100 {
			fmt.Fprintf(&b, "the %s %s %s %s %d %s.\n", pick("quick", "lazy", "small", "old"), pick("fox", "dog", "crow", "whale"),
				pick("sees", "likes", "follows"), pick("some", "about", "at least"), r.IntN(1000), pick("trees", "rivers", "friends"))
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d.txt", i)), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
