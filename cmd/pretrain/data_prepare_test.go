package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/xxh3"
)

// rawData writes raw sources, good and bad, and prepare.yaml, which prepares them into out.
func rawData(t *testing.T, dir string) {
	t.Helper()
	if err := writeCorpus(filepath.Join(dir, "text"), 1); err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 400 {
		fmt.Fprintf(&lines, `{"id": "d%d", "text": "Document %d of %d. %s"}`+"\n", i, i, r.IntN(1e9), strings.Repeat(fmt.Sprintf("word%d ", i%9), i%40))
	}
	lines.WriteString("no JSON\n")
	config := `
output: out
sources:
  text: {path: text}
  web: {path: web}
tokenizer: {vocab_size: 300}
quality: {gopher: {mode: off}, repetition: {mode: off}, fineweb: {mode: off}}
`
	for name, content := range map[string]string{"web/a.jsonl": lines.String(), "web/b.jsonl": `{"text": "last"}`, "prepare.yaml": config} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// prepareCommand is `pretrain data prepare` in dir.
func prepareCommand(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command("pretrain", append([]string{"data", "prepare", "--config", "prepare.yaml"}, args...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PWD="+dir)
	return cmd
}

// tree has the hash of every file below a folder, locks left out.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".lock") {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files[rel] = fmt.Sprintf("%d %016x", len(b), xxh3.Hash(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// One worker, two, sixteen, and three processes that share the work write the same bytes.
func TestPrepareWorkers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rawData(t, dir)
	var want map[string]string
	for _, workers := range []string{"1", "2", "16"} {
		if out, err := prepareCommand(dir, "--workers", workers, "--set", "output=out"+workers).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		got := tree(t, filepath.Join(dir, "out"+workers))
		if want == nil {
			want = got
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s workers write other bytes (-one +%s):\n%s", workers, workers, diff)
		}
	}
	var ranks []*exec.Cmd
	for i := range 3 {
		cmd := prepareCommand(dir, "--rank", fmt.Sprint(i), "--ranks", "3", "--set", "output=ranks")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ranks = append(ranks, cmd)
	}
	for i, cmd := range ranks {
		if err := cmd.Wait(); err != nil {
			t.Errorf("rank %d: %v", i, err)
		}
	}
	if diff := cmp.Diff(want, tree(t, filepath.Join(dir, "ranks"))); diff != "" {
		t.Errorf("three ranks write other bytes (-one +three):\n%s", diff)
	}
}

// Killed at 50 random moments, and run again: the same bytes, nothing twice, nothing lost, nothing left over.
func TestPrepareKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rawData(t, dir)
	begin := time.Now()
	if out, err := prepareCommand(dir, "--set", "output=whole").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	took := time.Since(begin)
	want := tree(t, filepath.Join(dir, "whole"))
	r := rand.New(rand.NewPCG(uint64(begin.UnixNano()), 0)) // other moments each time
	check := func() {
		t.Helper()
		if out, err := prepareCommand(dir).CombinedOutput(); err != nil {
			t.Fatalf("after a kill: %v\n%s", err, out)
		}
		if diff := cmp.Diff(want, tree(t, filepath.Join(dir, "out"))); diff != "" {
			t.Fatalf("after a kill (-whole +killed):\n%s", diff)
		}
	}
	killed := 0
	for killed < 50 {
		cmd := prepareCommand(dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(r.Int64N(int64(took))), func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			killed++
		}
		kill.Stop()
		if r.IntN(5) == 0 { // else several kills on top of each other
			check()
			if err := os.RemoveAll(filepath.Join(dir, "out")); err != nil {
				t.Fatal(err)
			}
		}
	}
	check()
}
