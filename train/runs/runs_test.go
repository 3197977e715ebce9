package runs_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pretrain/internal/atomicfile"
	"pretrain/internal/safetensors"
	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
	"pretrain/train/runs"
)

func write(t *testing.T, fsys vfs.FS, path, text string) {
	t.Helper()
	if err := vfs.MkdirAllSync(fsys, filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	err := atomicfile.WriteFile(fsys, path, func(w io.Writer) error { _, err := io.WriteString(w, text); return err })
	if err != nil {
		t.Fatal(err)
	}
}

// makeRun makes a run directory with records from one step to another, whose loss tells the run; parent may be "".
func makeRun(t *testing.T, fsys vfs.FS, dir, parent string, from, to int64, loss float64) {
	t.Helper()
	var p *checkpoint.Parent
	if parent != "" {
		id, err := runs.ReadIdentity(fsys, parent)
		if err != nil {
			t.Fatal(err)
		}
		p = &checkpoint.Parent{Run: runs.ParentPath(dir, parent), ID: id.ID, Step: from, Tokens: 10 * from}
	}
	if _, err := runs.Identify(fsys, dir, p); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for step := from; step < to; step++ {
		eval := ""
		if step%2 == 1 {
			eval = fmt.Sprintf(`,"val_loss":%v,"val_bpb":1`, loss+math.Abs(float64(step)-7)/10) // the lowest after 8 steps
		}
		fmt.Fprintf(&text, `{"step":%d,"tokens":%d,"loss":%v,"phase":"stable"%s}`+"\n", step, 10*(step+1), loss, eval)
	}
	write(t, fsys, filepath.Join(dir, "metrics.jsonl"), text.String())
	write(t, fsys, filepath.Join(dir, "config.yaml"), "name: "+filepath.Base(dir)+"\n")
}

// losses is the loss of each step of a run's history.
func losses(t *testing.T, fsys vfs.FS, dir string) (list []float64) {
	t.Helper()
	for r, err := range runs.History(fsys, dir) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Step != int64(len(list)) {
			t.Fatalf("%s: step %d is record %d", dir, r.Step, len(list))
		}
		list = append(list, float64(r.Loss))
	}
	return list
}

func TestHistory(t *testing.T) {
	m := vfs.NewCrashableMem()
	makeRun(t, m, "/w/runs/trunk", "", 0, 6, 1)
	makeRun(t, m, "/w/runs/decay", "/w/runs/trunk", 4, 9, 2)
	makeRun(t, m, "/w/runs/deep/twig", "/w/runs/decay", 5, 7, 3)
	makeRun(t, m, "/w/runs/early", "/w/runs/decay", 4, 5, 4) // branches where its parent did, and sees nothing of it
	for dir, want := range map[string][]float64{
		"/w/runs/trunk": {1, 1, 1, 1, 1, 1}, "/w/runs/decay": {1, 1, 1, 1, 2, 2, 2, 2, 2}, "/w/runs/deep/twig": {1, 1, 1, 1, 2, 3, 3},
		"/w/runs/early": {1, 1, 1, 1, 4},
	} {
		if got := losses(t, m, dir); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", dir, got, want)
		}
	}
	for r := range runs.History(m, "/w/runs/decay") { // ends when told to
		if r.Step == 2 {
			break
		}
	}
	if err := m.Rename("/w/runs", "/w/moved"); err != nil {
		t.Fatal(err)
	}
	if got := losses(t, m, "/w/moved/deep/twig"); len(got) != 7 {
		t.Errorf("moved: %v", got)
	}
	if err := m.Rename("/w/moved/trunk", "/w/moved/stem"); err != nil {
		t.Fatal(err)
	}
	for _, err := range runs.History(m, "/w/moved/decay") {
		if err == nil || !strings.Contains(err.Error(), "the trunk that /w/moved/decay branched off from") {
			t.Errorf("without its trunk: %v", err)
		}
	}
}

// A circle of damaged files ends.
func TestHistoryCircle(t *testing.T) {
	m := vfs.NewCrashableMem()
	write(t, m, "/a/run.json", `{"id":"a","parent":{"run":".","step":5}}`)
	n := 0
	for _, err := range runs.History(m, "/a") {
		if n++; err == nil || !strings.Contains(err.Error(), "a circle?") {
			t.Fatal(err)
		}
	}
	if n != 1 {
		t.Errorf("%d errors", n)
	}
}

func TestParentPath(t *testing.T) {
	for _, c := range [][3]string{
		{"/w/runs/a", "/w/runs/b", "../b"}, {"/w/runs/a", "/w/b", "../../b"}, {"/w/a/b", "/w/a", ".."}, {"/x/a", "/w/b", "/w/b"},
	} {
		got := runs.ParentPath(c[0], c[1])
		if got != c[2] || runs.ParentDir(c[0], checkpoint.Parent{Run: got}) != c[1] {
			t.Errorf("from %s to %s: %s, and back %s", c[0], c[1], got, runs.ParentDir(c[0], checkpoint.Parent{Run: got}))
		}
	}
}

// An identity is given once and survives a crash at any moment after.
func TestIdentity(t *testing.T) {
	m := vfs.NewCrashableMem()
	first, err := runs.Identify(m, "/r", &checkpoint.Parent{Run: "../t", Step: 3})
	if err != nil || len(first.ID) != 16 || first.Created.IsZero() {
		t.Fatal(first, err)
	}
	m.Crash(func(int) int { return 0 }) // nothing that was not synced is left
	again, err := runs.Identify(m, "/r", nil)
	if err != nil || again.ID != first.ID || *again.Parent != *first.Parent {
		t.Errorf("%+v, %v", again, err)
	}
	if other, err := runs.Identify(m, "/s", nil); err != nil || other.ID == first.ID {
		t.Error(other, err)
	}
	for text, want := range map[string]string{"{": "/bad/run.json: unexpected end", `{"id":"x","parent":{"step":1}}`: "no run directory"} {
		write(t, m, "/bad/run.json", text)
		if _, err := runs.ReadIdentity(m, "/bad"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestScan(t *testing.T) {
	m := vfs.NewCrashableMem()
	makeRun(t, m, "/w/trunk", "", 0, 10, 1)
	makeRun(t, m, "/w/decay", "/w/trunk", 4, 6, 2)
	makeRun(t, m, "/w/decay/inside", "/w/decay", 6, 6, 3)
	makeRun(t, m, "/w/gone", "", 0, 1, 4)
	makeRun(t, m, "/w/orphan", "/w/gone", 1, 2, 5)
	write(t, m, "/w/old/config.yaml", "name: old\n")
	write(t, m, "/w/old/metrics.jsonl", "{\"step\":0,\"tokens\":10,\"val_loss\":null,\"val_bpb\":null}\nno record\n{}\n")
	write(t, m, "/w/notes/config.yaml", "no run")
	store, err := checkpoint.Open(m, "/w/trunk/checkpoints", checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Save(context.Background(), checkpoint.Meta{Step: 4, Config: "name: at four\n"}, []checkpoint.Tensor{{Name: "w", DType: safetensors.F32, Shape: []int{1}, Data: make([]byte, 4)}})
	if err != nil {
		t.Fatal(err)
	}
	// The trunk is renamed, and another run has the place of the orphan's.
	if err := m.Rename("/w/trunk", "/w/stem"); err != nil {
		t.Fatal(err)
	}
	if err := m.RemoveAll("/w/gone"); err != nil {
		t.Fatal(err)
	}
	makeRun(t, m, "/w/gone", "", 0, 1, 6)

	list, err := runs.Scan(m, "/w")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list {
		trunk := "-"
		if r.Trunk >= 0 {
			trunk = list[r.Trunk].Dir
		}
		got = append(got, fmt.Sprintf("%s of %s: step %d, %d tokens, %q, %.1f, lowest %.1f after %d, %q, problem %v",
			r.Dir, trunk, r.Step, r.Tokens, r.Phase, float64(r.ValLoss), float64(r.BestValLoss), r.BestStep, r.TrunkConfig, r.Problem != nil))
	}
	want := []string{
		`/w/decay of /w/stem: step 6, 60 tokens, "stable", 2.2, lowest 2.2 after 6, "name: at four\n", problem false`,
		`/w/decay/inside of /w/decay: step 6, 60 tokens, "", NaN, lowest NaN after 0, "", problem false`,
		`/w/gone of -: step 1, 10 tokens, "stable", NaN, lowest NaN after 0, "", problem false`,
		`/w/old of -: step 1, 10 tokens, "", NaN, lowest NaN after 0, "", problem true`,
		`/w/orphan of -: step 2, 20 tokens, "stable", 5.6, lowest 5.6 after 2, "", problem false`,
		`/w/stem of -: step 10, 100 tokens, "stable", 1.2, lowest 1.0 after 8, "", problem false`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
