package checkpoint_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
)

func TestPrune(t *testing.T) {
	all := []int64{100, 200, 300, 400, 500, 600, 700, 800}
	damage := func(t *testing.T, m *vfs.Mem, step string) {
		rewrite(t, m, dir+"/step-000000"+step+"/state-00001-of-00004.safetensors", func(d []byte) []byte { return append(d, 1) })
	}
	for _, c := range []struct {
		name   string
		keep   checkpoint.Retention
		before func(*testing.T, *vfs.Mem, *checkpoint.Store)
		want   []int64
		err    error
	}{
		{name: "count", keep: checkpoint.Retention{Keep: 3}, want: []int64{600, 700, 800}},
		{name: "at least one", keep: checkpoint.Retention{}, want: []int64{800}},
		{name: "more than there are", keep: checkpoint.Retention{Keep: 9}, want: all},
		{name: "steps", keep: checkpoint.Retention{Keep: 1, EverySteps: 250}, want: []int64{300, 500, 800}},                 // 250, 500, 750
		{name: "tokens", keep: checkpoint.Retention{Keep: 1, EveryTokens: 1_000_000}, want: []int64{300, 500, 800}},         // 4096 a step: 245, 489, 733
		{name: "both", keep: checkpoint.Retention{Keep: 1, EverySteps: 400, EveryTokens: 1 << 40}, want: []int64{400, 800}}, // no such token count
		{name: "asked for", keep: checkpoint.Retention{Keep: 1, At: []int64{200, 450}}, want: []int64{200, 800}},
		{name: "pinned", keep: checkpoint.Retention{Keep: 1}, want: []int64{200, 800}, before: func(t *testing.T, _ *vfs.Mem, s *checkpoint.Store) {
			for _, pin := range []checkpoint.Pin{{Step: 200, Name: "a.b-c_1"}, {Step: 200}, {Step: 300, Name: "x"}} {
				if err := s.Pin(pin, "why"); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Unpin(checkpoint.Pin{Step: 300, Name: "x"}); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "newest damaged", keep: checkpoint.Retention{Keep: 2}, want: []int64{600, 700, 800},
			before: func(t *testing.T, m *vfs.Mem, _ *checkpoint.Store) { damage(t, m, "800") }},
		{name: "newest kept ones damaged", keep: checkpoint.Retention{Keep: 1}, want: []int64{600, 700, 800},
			before: func(t *testing.T, m *vfs.Mem, _ *checkpoint.Store) { damage(t, m, "800"); damage(t, m, "700") }},
		{name: "manifest missing: older damage goes, newer stays", keep: checkpoint.Retention{Keep: 6}, want: []int64{100, 300, 400, 500, 600, 700, 800},
			before: func(t *testing.T, m *vfs.Mem, _ *checkpoint.Store) {
				for _, step := range []string{"200", "800"} {
					if err := m.Remove(dir + "/step-000000" + step + "/MANIFEST.json"); err != nil {
						t.Fatal(err)
					}
				}
			}},
		{name: "foreign ones are not ours to delete", keep: checkpoint.Retention{Keep: 1}, want: []int64{100, 800},
			before: func(t *testing.T, m *vfs.Mem, _ *checkpoint.Store) {
				rewrite(t, m, dir+"/step-000000100/MANIFEST.json", func(d []byte) []byte { return reseal(d, `"format_version": 1`, `"format_version": 2`) })
			}},
		{name: "all damaged", keep: checkpoint.Retention{Keep: 1}, want: all, err: checkpoint.ErrNoneIntact,
			before: func(t *testing.T, m *vfs.Mem, _ *checkpoint.Store) {
				for _, step := range []string{"100", "200", "300", "400", "500", "600", "700", "800"} {
					damage(t, m, step)
				}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := vfs.NewCrashableMem()
			store := open(t, m)
			if err := saveAll(store, all...); err != nil {
				t.Fatal(err)
			}
			if c.before != nil {
				c.before(t, m, store)
			}
			for range 2 { // the second finds nothing to do
				removed, err := store.Prune(ctx, c.keep)
				if !errors.Is(err, c.err) {
					t.Fatal(err)
				}
				left := steps(t, store)
				if diff := cmp.Diff(c.want, left); diff != "" {
					t.Fatalf("left (-want +got):\n%s", diff)
				}
				for _, step := range removed {
					if slices.Contains(left, step) {
						t.Errorf("step %d is said to be removed", step)
					}
				}
			}
		})
	}
}

// The choice must not drift: pruning after each save leaves the same as pruning once at the end.
func TestPruneIsStable(t *testing.T) {
	keep := checkpoint.Retention{Keep: 2, EverySteps: 30, EveryTokens: 70 * 4096}
	often, once := open(t, vfs.NewCrashableMem()), open(t, vfs.NewCrashableMem())
	for step := int64(7); step < 400; step += 7 {
		save(t, often, step)
		save(t, once, step)
		if _, err := often.Prune(ctx, keep); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := once.Prune(ctx, keep); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(steps(t, once), steps(t, often)); diff != "" {
		t.Errorf("(-once +often):\n%s", diff)
	}
}

func TestPins(t *testing.T) {
	m := vfs.NewCrashableMem()
	save(t, open(t, m), 100)
	store, err := checkpoint.Open(m, dir, checkpoint.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	pin := checkpoint.Pin{Step: 100, Name: "anneal-10n"}
	for range 2 {
		if err := store.Pin(pin, "runs/anneal-10n"); err != nil {
			t.Fatal(err)
		}
	}
	m.Crash(nil)
	if got, err := store.Pins(); err != nil || !cmp.Equal(got, []checkpoint.Pin{pin}) {
		t.Errorf("after a crash: %v, %v", got, err)
	}
	if err := store.Pin(checkpoint.Pin{Step: 200}, ""); !errors.Is(err, checkpoint.ErrNone) {
		t.Errorf("pin of a step that does not exist: %v", err)
	}
	for _, name := range []string{"a/b", "..", ".x", "a b"} {
		if err := store.Pin(checkpoint.Pin{Step: 100, Name: name}, ""); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	if got, _ := store.Pins(); len(got) != 1 {
		t.Errorf("refused pins stayed: %v", got)
	}
	for range 2 {
		if err := store.Unpin(pin); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := store.Pins(); len(got) != 0 {
		t.Errorf("after Unpin: %v", got)
	}

	// A misspelled pin stops deletion rather than being passed over.
	if f, err := m.Create(dir + "/pins/stpe-100"); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	if _, err := open(t, m).Prune(ctx, checkpoint.Retention{Keep: 1}); err == nil || !strings.Contains(err.Error(), "stpe-100") {
		t.Errorf("Prune with a misspelled pin: %v", err)
	}
}

// A branch in another process pins while the trunk is about to delete: at every operation of the
// deletion, the pin either holds or is refused. Pruning goes on without the pinned one, rewinding cannot.
func TestPinRace(t *testing.T) {
	pinRace(t, 100, func(s *checkpoint.Store, _ func() bool) error {
		_, err := s.Prune(ctx, checkpoint.Retention{Keep: 1})
		return err
	})
	pinRace(t, 200, func(s *checkpoint.Store, kept func() bool) error {
		removed, err := s.Rewind(ctx, 100)
		if kept() != (err != nil) || kept() != (len(removed) == 0) {
			t.Errorf("rewound: removed %v, kept %v, %v", removed, kept(), err)
		}
		return nil
	})
}

func pinRace(t *testing.T, step int64, drop func(_ *checkpoint.Store, kept func() bool) error) {
	t.Helper()
	for at := 0; ; at++ {
		m := vfs.NewCrashableMem()
		if err := saveAll(open(t, m), 100, 200); err != nil {
			t.Fatal(err)
		}
		branch, err := checkpoint.Open(m, dir, checkpoint.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		var pinned error
		ops := -1
		store := open(t, vfs.WithErrors(m, func(vfs.Op) error {
			if ops >= 0 {
				if ops++; ops == at+1 {
					pinned = branch.Pin(checkpoint.Pin{Step: step, Name: "b"}, "")
				}
			}
			return nil
		}))
		ops = 0
		kept := func() bool { return slices.Contains(steps(t, store), step) }
		if err := drop(store, kept); err != nil {
			t.Fatal(err)
		}
		if ops <= at {
			return
		}
		if pinned == nil && !kept() {
			t.Fatalf("operation %d: pinned and deleted", at)
		}
		if pinned != nil && !errors.Is(pinned, checkpoint.ErrNone) {
			t.Fatalf("operation %d: %v", at, pinned)
		}
	}
}

func TestRewind(t *testing.T) {
	m := vfs.NewCrashableMem()
	store := open(t, m)
	if err := saveAll(store, 100, 200, 300, 400); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Rewind(ctx, 250); err == nil {
		t.Error("rewound to a step that was never saved")
	}
	pin := checkpoint.Pin{Step: 300}
	if err := store.Pin(pin, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Rewind(ctx, 200); err == nil || !strings.Contains(err.Error(), "pinned") {
		t.Errorf("rewound over a pin: %v", err)
	}
	if got := steps(t, store); len(got) != 4 {
		t.Errorf("refused, yet left %v", got)
	}
	if err := store.Unpin(pin); err != nil {
		t.Fatal(err)
	}
	removed, err := store.Rewind(ctx, 200)
	if diff := cmp.Diff([]int64{400, 300}, removed); diff != "" || err != nil {
		t.Errorf("removed, error %v:\n%s", err, diff)
	}
	if diff := cmp.Diff([]int64{100, 200}, steps(t, store)); diff != "" {
		t.Error(diff)
	}
}
