package checkpoint_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
)

var rewriteGolden = flag.Bool("rewrite", false, "rewrite the golden files in testdata")

var ctx = context.Background()

// crashes runs change with a crash at its every operation, each once with the loss of all that is not
// synced and then with several random parts of it kept. prepare makes the store anew; look sees
// what a restart finds, and whether change had returned without an error.
func crashes(t *testing.T, prepare, change func(*checkpoint.Store) error, look func(t *testing.T, fsys *vfs.Mem, before map[string]string, done bool)) {
	const partial = 5
	for at, done := 0, false; !done; at++ {
		for seed := range partial + 1 {
			m := vfs.NewCrashableMem()
			store := open(t, m)
			if err := prepare(store); err != nil {
				t.Fatal(err)
			}
			m.Crash(nil) // what prepare did must be durable
			store = open(t, m)
			before := tree(t, m, dir)
			m.CrashAt(at)
			err := change(store)
			if (err != nil) != m.Crashed() {
				t.Fatalf("crash at %d: %v", at, err)
			}
			done = err == nil
			var pick func(int) int
			if seed > 0 {
				pick = rand.New(rand.NewPCG(uint64(seed), uint64(at))).IntN
			}
			m.Crash(pick)
			t.Run(fmt.Sprintf("op%d/seed%d", at, seed), func(t *testing.T) { look(t, m, before, done) })
			if t.Failed() {
				return
			}
		}
	}
}

func saveAll(store *checkpoint.Store, list ...int64) error {
	for _, step := range list {
		meta, tensors := stateAt(step)
		if _, err := store.Save(ctx, meta, tensors); err != nil {
			return err
		}
	}
	return nil
}

// unhidden drops the files in hidden directories.
func unhidden(files map[string]string) map[string]string {
	maps.DeleteFunc(files, func(name, _ string) bool { return strings.Contains(name, "/.") })
	return files
}

func TestCrashWhileSaving(t *testing.T) {
	crashes(t,
		func(s *checkpoint.Store) error { return saveAll(s, 100, 200) },
		func(s *checkpoint.Store) error { return saveAll(s, 300) },
		func(t *testing.T, fsys *vfs.Mem, before map[string]string, done bool) {
			store := open(t, fsys)
			state, err := store.LoadLatest(ctx, noProblem(t))
			if err != nil {
				t.Fatal(err)
			}
			if done && state.Meta.Step != 300 || state.Meta.Step < 200 {
				t.Fatalf("loaded step %d, save ended: %v", state.Meta.Step, done)
			}
			if diff := differs(state, state.Meta.Step); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
			after := tree(t, fsys, dir)
			for name := range after {
				if strings.Contains(name, "/.") {
					t.Errorf("left over: %s", name)
				}
			}
			maps.DeleteFunc(after, func(name, _ string) bool { return strings.Contains(name, "step-000000300/") })
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("other checkpoints were touched:\n%s", diff)
			}
		})
}

// A second save of a step with another state leaves one of the two, whole.
func TestCrashWhileReplacing(t *testing.T) {
	crashes(t,
		func(s *checkpoint.Store) error { return saveAll(s, 100, 200) },
		func(s *checkpoint.Store) error {
			meta, tensors := stateAt(200, 1)
			_, err := s.Save(ctx, meta, tensors)
			return err
		},
		func(t *testing.T, fsys *vfs.Mem, _ map[string]string, done bool) {
			state, err := open(t, fsys).LoadLatest(ctx, noProblem(t))
			if err != nil {
				t.Fatal(err)
			}
			replaced := differs(state, 200, 1) == ""
			if !replaced && (done || differs(state, 200) != "") {
				t.Errorf("replaced: %v, save ended: %v, step %d", replaced, done, state.Meta.Step)
			}
		})
}

func TestCrashWhilePruning(t *testing.T) {
	keep := checkpoint.Retention{Keep: 2, EverySteps: 300}
	crashes(t,
		func(s *checkpoint.Store) error {
			if err := saveAll(s, 100, 200, 300, 400, 500, 600, 700); err != nil {
				return err
			}
			return s.Pin(checkpoint.Pin{Step: 200, Name: "anneal"}, "runs/anneal")
		},
		func(s *checkpoint.Store) error { _, err := s.Prune(ctx, keep); return err },
		func(t *testing.T, fsys *vfs.Mem, before map[string]string, done bool) {
			store := open(t, fsys)
			list := steps(t, store)
			for _, step := range []int64{200, 300, 600, 700} {
				if !slices.Contains(list, step) {
					t.Errorf("step %d is gone; %v are left", step, list)
				}
			}
			if done && len(list) != 4 {
				t.Errorf("after pruning: %v", list)
			}
			for _, step := range list {
				if err := store.Verify(ctx, step); err != nil {
					t.Error(err)
				}
			}
			after := tree(t, fsys, dir)
			for name, data := range unhidden(after) {
				if before[name] != data {
					t.Errorf("%s was touched", name)
				}
			}
		})
}

func TestCrashWhileRewinding(t *testing.T) {
	crashes(t,
		func(s *checkpoint.Store) error { return saveAll(s, 100, 200, 300, 400) },
		func(s *checkpoint.Store) error { _, err := s.Rewind(ctx, 200); return err },
		func(t *testing.T, fsys *vfs.Mem, _ map[string]string, done bool) {
			store := open(t, fsys)
			list := steps(t, store)
			if want := []int64{100, 200, 300, 400}; !slices.Equal(list, want[:len(list)]) || len(list) < 2 || done && len(list) > 2 {
				t.Errorf("left: %v, rewind ended: %v", list, done)
			}
			if _, err := store.LoadLatest(ctx, noProblem(t)); err != nil {
				t.Error(err)
			}
		})
}

// A crash in the clearing up after a crash.
func TestCrashWhileOpening(t *testing.T) {
	for at := 0; ; at++ {
		m := vfs.NewCrashableMem()
		store := open(t, m)
		if err := saveAll(store, 100, 200); err != nil {
			t.Fatal(err)
		}
		// As a crash may leave it: a cut save, a cut deletion, and a replacement cut between its two renames.
		for from, to := range map[string]string{"step-000000200": ".old-step-000000200", "step-000000100": ".trash-step-000000100"} {
			if err := m.Rename(dir+"/"+from, dir+"/"+to); err != nil {
				t.Fatal(err)
			}
		}
		save(t, store, 300)
		if err := m.Rename(dir+"/step-000000300", dir+"/.tmp-step-000000300"); err != nil {
			t.Fatal(err)
		}
		if err := m.SyncDir(dir); err != nil {
			t.Fatal(err)
		}
		m.CrashAt(at)
		_, err := checkpoint.Open(m, dir, smallShards)
		if err != nil && !errors.Is(err, vfs.ErrCrashed) {
			t.Fatal(err)
		}
		m.Crash(rand.New(rand.NewPCG(1, uint64(at))).IntN)
		store = open(t, m)
		state, lerr := store.LoadLatest(ctx, noProblem(t))
		if lerr != nil || differs(state, 200) != "" {
			t.Fatalf("crash at %d: %v", at, lerr)
		}
		if entries, _ := m.ReadDir(dir); len(entries) != 1 {
			t.Fatalf("crash at %d: %v", at, entries)
		}
		if err == nil {
			return
		}
	}
}

// The order of file operations of a save, so that a lost fsync is a diff.
func TestSaveOperations(t *testing.T) {
	m := vfs.NewCrashableMem()
	store := open(t, m)
	save(t, store, 100)
	if _, err := store.Prune(ctx, checkpoint.Retention{Keep: 1}); err != nil {
		t.Fatal(err)
	}
	save(t, store, 200)
	if _, err := store.Prune(ctx, checkpoint.Retention{Keep: 1}); err != nil {
		t.Fatal(err)
	}
	save(t, store, 200, 1)
	var log strings.Builder
	for _, op := range m.Ops() {
		fmt.Fprintln(&log, op)
	}
	const golden = "testdata/save.ops"
	if *rewriteGolden {
		if err := os.WriteFile(golden, []byte(log.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), log.String()); diff != "" {
		t.Errorf("operations (-want +got); run with -rewrite if meant:\n%s", diff)
	}
}
