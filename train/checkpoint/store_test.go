package checkpoint_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"pretrain/internal/safetensors"
	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
	"pretrain/train/spike"
)

func Example() {
	store, err := checkpoint.Open(vfs.NewCrashableMem(), "run/checkpoints", checkpoint.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	tensors := []checkpoint.Tensor{{Name: "w", DType: safetensors.U8, Shape: []int{3}, Data: []byte{1, 2, 3}}}
	path, err := store.Save(context.Background(), checkpoint.Meta{Step: 1000}, tensors)
	fmt.Println(path, err)
	state, err := store.LoadLatest(context.Background(), func(p *checkpoint.Problem) { fmt.Println("passed over:", p) })
	fmt.Println(state.Meta.Step, state.Tensors[0].Data, err)
	// Output:
	// run/checkpoints/step-000001000 <nil>
	// 1000 [1 2 3] <nil>
}

func TestSaveIsIdempotent(t *testing.T) {
	m := vfs.NewCrashableMem()
	store := open(t, m)
	save(t, store, 100)
	before := tree(t, m, dir)
	m.ResetOps()
	meta, tensors := stateAt(100)
	meta.CreatedAt = meta.CreatedAt.Add(1e9)
	meta.Loop.TrainSeconds++
	if path, err := store.Save(ctx, meta, tensors); err != nil || path != store.Path(100) {
		t.Fatal(path, err)
	}
	if ops := m.Ops(); len(ops) != 1 || ops[0].Kind != vfs.OpSyncDir {
		t.Errorf("the same state again did %v", ops)
	}
	if diff := cmp.Diff(before, tree(t, m, dir)); diff != "" {
		t.Error(diff)
	}

	// A damaged one is written again.
	rewrite(t, m, dir+"/step-000000100/state-00001-of-00004.safetensors", func(d []byte) []byte { return d[1:] })
	save(t, store, 100)
	if diff := cmp.Diff(before, tree(t, m, dir)); diff != "" {
		t.Errorf("after the repair:\n%s", diff)
	}
}

func TestSaveRefuses(t *testing.T) {
	store := open(t, vfs.NewCrashableMem())
	for want, change := range map[string]func(*checkpoint.Meta, *[]checkpoint.Tensor){
		"negative":                      func(m *checkpoint.Meta, _ *[]checkpoint.Tensor) { m.Step = -1 },
		"no tensors":                    func(_ *checkpoint.Meta, t *[]checkpoint.Tensor) { *t = nil },
		"two tensors are named":         func(_ *checkpoint.Meta, t *[]checkpoint.Tensor) { (*t)[1].Name = (*t)[0].Name },
		"cannot be a tensor's name":     func(_ *checkpoint.Meta, t *[]checkpoint.Tensor) { (*t)[1].Name = "__metadata__" },
		`dtype "F3" is not supported`:   func(_ *checkpoint.Meta, t *[]checkpoint.Tensor) { (*t)[0].DType = "F3" },
		"is 512 bytes, but its data":    func(_ *checkpoint.Meta, t *[]checkpoint.Tensor) { (*t)[0].Data = nil },
		"configuration is not valid UT": func(m *checkpoint.Meta, _ *[]checkpoint.Tensor) { m.Config = "\xff" },
	} {
		meta, tensors := stateAt(1)
		change(&meta, &tensors)
		_, err := store.Save(ctx, meta, tensors)
		if !errors.Is(err, checkpoint.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want %q", err, want)
		}
	}
	if got := steps(t, store); len(got) != 0 {
		t.Errorf("saved anyway: %v", got)
	}
}

func TestReadOnly(t *testing.T) {
	m := vfs.NewCrashableMem()
	save(t, open(t, m), 100)
	if err := m.MkdirAll(dir + "/.tmp-step-000000200"); err != nil { // the trunk may be writing it now
		t.Fatal(err)
	}
	m.ResetOps()
	store, err := checkpoint.Open(m, dir, checkpoint.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.LoadLatest(ctx, noProblem(t)); err != nil {
		t.Error(err)
	}
	meta, tensors := stateAt(200)
	_, saveErr := store.Save(ctx, meta, tensors)
	_, pruneErr := store.Prune(ctx, checkpoint.Retention{})
	_, rewindErr := store.Rewind(ctx, 0)
	for _, err := range []error{saveErr, pruneErr, rewindErr} {
		if !errors.Is(err, checkpoint.ErrReadOnly) {
			t.Errorf("error = %v", err)
		}
	}
	if ops := m.Ops(); len(ops) != 0 {
		t.Errorf("a read-only store did %v", ops)
	}
	if absent, err := checkpoint.Open(m, "/nowhere", checkpoint.Options{ReadOnly: true}); err != nil || len(steps(t, absent)) != 0 {
		t.Errorf("a folder that is missing: %v", err)
	}
}

// A full or failing disk at any operation leaves the older checkpoints: a restart finds them without
// litter, and a second try of the same process works.
func TestSaveErrors(t *testing.T) {
	for kind := vfs.OpCreate; kind <= vfs.OpSyncDir; kind++ {
		for skip, done := 0, false; !done; skip++ {
			for _, restart := range []bool{false, true} {
				m := vfs.NewCrashableMem()
				if err := saveAll(open(t, m), 100, 200); err != nil {
					t.Fatal(err)
				}
				armed, seen := false, 0
				store := open(t, vfs.WithErrors(m, func(op vfs.Op) error {
					if armed && op.Kind == kind {
						if seen++; seen > skip {
							return syscall.ENOSPC
						}
					}
					return nil
				}))
				armed = true
				meta, tensors := stateAt(200, 1) // replaces: the longest way
				_, err := store.Save(ctx, meta, tensors)
				if done = err == nil; done {
					break
				}
				if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "step-000000200") {
					t.Errorf("%s %d: %v", kind, skip, err)
				}
				armed = false
				if restart {
					store = open(t, m)
					state, err := store.LoadLatest(ctx, noProblem(t))
					if err != nil || differs(state, 200) != "" && differs(state, 200, 1) != "" {
						t.Errorf("%s %d: %v", kind, skip, err)
					}
				} else if _, err := store.Save(ctx, meta, tensors); err != nil {
					t.Errorf("%s %d: second try: %v", kind, skip, err)
				} else if state, err := store.Load(ctx, 200); err != nil || differs(state, 200, 1) != "" {
					t.Errorf("%s %d: after the second try: %v", kind, skip, err)
				}
				if entries, _ := m.ReadDir(dir); len(entries) != 2 {
					t.Errorf("%s %d: litter: %v", kind, skip, entries)
				}
			}
		}
	}
}

// A replacement that fails between its two renames is taken back at once, for the process lives on.
func TestFailedReplacementIsTakenBack(t *testing.T) {
	m := vfs.NewCrashableMem()
	save(t, open(t, m), 100)
	renames := 0
	store := open(t, vfs.WithErrors(m, func(op vfs.Op) error {
		if op.Kind == vfs.OpRename {
			if renames++; renames == 2 {
				return syscall.EIO
			}
		}
		return nil
	}))
	meta, tensors := stateAt(100, 1)
	if _, err := store.Save(ctx, meta, tensors); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if state, err := store.Load(ctx, 100); err != nil || differs(state, 100) != "" {
		t.Errorf("the old version is not back: %v", err)
	}
}

// A full disk is given back what the attempt took.
func TestFullDiskIsCleared(t *testing.T) {
	m := vfs.NewCrashableMem()
	store := open(t, vfs.WithErrors(m, func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite && strings.HasSuffix(op.Path, "MANIFEST.json") {
			return syscall.ENOSPC
		}
		return nil
	}))
	meta, tensors := stateAt(100)
	if _, err := store.Save(ctx, meta, tensors); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if files := tree(t, m, dir); len(files) != 0 {
		t.Errorf("left: %v", slices.Collect(maps.Keys(files)))
	}
}

func TestCancel(t *testing.T) {
	m := vfs.NewCrashableMem()
	store := open(t, m)
	save(t, store, 100)
	before := tree(t, m, dir)
	stop, cancel := context.WithCancel(ctx)
	cancelling := open(t, vfs.WithErrors(m, func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite {
			cancel()
		}
		return nil
	}))
	meta, tensors := stateAt(200)
	if _, err := cancelling.Save(stop, meta, tensors); !errors.Is(err, context.Canceled) {
		t.Errorf("Save = %v", err)
	}
	if _, err := store.LoadLatest(stop, noProblem(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("LoadLatest = %v", err)
	}
	if diff := cmp.Diff(before, tree(t, m, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z./\p{L}"<]{1,12}`), 1, 9, rapid.ID).Draw(rt, "names")
		meta := checkpoint.Meta{
			Step:     rapid.Int64Range(0, math.MaxInt64).Draw(rt, "step"),
			Tokens:   rapid.Int64().Draw(rt, "tokens"),
			Config:   rapid.String().Draw(rt, "config"),
			Versions: rapid.MapOfN(rapid.String(), rapid.String(), 1, 3).Draw(rt, "versions"),
			Loop: checkpoint.LoopState{
				LossEMA:     rapid.Float64().Draw(rt, "loss"),
				BestValLoss: rapid.SampledFrom([]float64{math.Inf(1), math.Inf(-1), math.NaN(), math.Copysign(0, -1), 5e-324}).Draw(rt, "best"),
				Spikes: spike.State{
					History: spike.History{{Step: 5, Loss: rapid.Float32().Draw(rt, "spike loss"), GradNorm: 0.5}, {Step: 6, Spike: true}},
					Windows: spike.Windows{{From: 3, To: 9, Spike: 6}}, Count: rapid.Int64().Draw(rt, "spikes"),
				},
			},
		}
		meta.CreatedAt = time.Unix(rapid.Int64Range(0, 4e9).Draw(rt, "time"), 5).UTC()
		var tensors []checkpoint.Tensor
		for _, name := range names {
			info := safetensors.Info{
				DType: rapid.SampledFrom([]safetensors.DType{safetensors.F32, safetensors.BF16, safetensors.I64, safetensors.U8}).Draw(rt, "dtype"),
				Shape: rapid.SliceOfN(rapid.IntRange(0, 5), 0, 3).Draw(rt, "shape"),
			}
			n, err := info.Bytes()
			if err != nil {
				rt.Fatal(err)
			}
			tensors = append(tensors, checkpoint.Tensor{Name: name, DType: info.DType, Shape: info.Shape, Data: rapid.SliceOfN(rapid.Byte(), int(n), int(n)).Draw(rt, "data")})
		}
		m := vfs.NewCrashableMem()
		store, err := checkpoint.Open(m, dir, checkpoint.Options{MaxShardBytes: rapid.Int64Range(1, 500).Draw(rt, "shard")})
		if err != nil {
			rt.Fatal(err)
		}
		if _, err := store.Save(ctx, meta, tensors); err != nil {
			rt.Fatal(err)
		}
		m.Crash(nil)
		state, err := store.LoadLatest(ctx, func(p *checkpoint.Problem) { rt.Fatal(p) })
		if err != nil {
			rt.Fatal(err)
		}
		if diff := differsFrom(state, meta, tensors); diff != "" {
			rt.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// Steps order checkpoints, not the clock, which may have been set back by years between two of them.
func TestClockSetBack(t *testing.T) {
	store := open(t, vfs.NewCrashableMem())
	for i, year := range []int{2030, 2026, 1970, 2026} {
		meta, tensors := stateAt(int64(i+1) * 100)
		meta.CreatedAt = time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
		if _, err := store.Save(ctx, meta, tensors); err != nil {
			t.Fatal(err)
		}
	}
	if removed, err := store.Prune(ctx, checkpoint.Retention{Keep: 2}); err != nil || !slices.Equal(removed, []int64{100, 200}) {
		t.Errorf("removed %v, %v", removed, err)
	}
	state, err := store.LoadLatest(ctx, noProblem(t))
	if err != nil || state.Meta.Step != 400 {
		t.Errorf("loaded %+v, %v", state, err)
	}
}

// LoadUpTo passes over what is newer without a word, and over what is damaged with one.
func TestLoadUpTo(t *testing.T) {
	m := vfs.NewCrashableMem()
	store := open(t, m)
	if err := saveAll(store, 100, 200, 300); err != nil {
		t.Fatal(err)
	}
	for last, want := range map[int64]int64{100: 100, 199: 100, 200: 200, 299: 200, 1000: 300} {
		if state, err := store.LoadUpTo(ctx, last, noProblem(t)); err != nil || differs(state, want) != "" {
			t.Errorf("up to %d: %v", last, err)
		}
	}
	if _, err := store.LoadUpTo(ctx, 99, noProblem(t)); !errors.Is(err, checkpoint.ErrNone) {
		t.Errorf("up to 99: %v", err)
	}
	rewrite(t, m, dir+"/step-000000200/MANIFEST.json", func([]byte) []byte { return nil })
	reported := 0
	state, err := store.LoadUpTo(ctx, 250, func(*checkpoint.Problem) { reported++ })
	if err != nil || state.Meta.Step != 100 || reported != 1 {
		t.Errorf("with step 200 damaged: %v, %d reported", err, reported)
	}
}

// A random history of saves, deletions and partial crashes never loses what was acknowledged.
func TestHistory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		m := vfs.NewCrashableMem()
		store := open(t, m)
		var acknowledged, first int64
		for step := int64(1); step <= 12; step++ {
			m.CrashAt(rapid.IntRange(0, 80).Draw(rt, "crash at"))
			meta, tensors := stateAt(step)
			_, err := store.Save(ctx, meta, tensors)
			if err == nil {
				acknowledged = step
				if step >= 5 && first == 0 {
					first = step
				}
				_, err = store.Prune(ctx, checkpoint.Retention{Keep: 2, EverySteps: 5})
			}
			if err == nil {
				m.CrashAt(-1)
				continue
			}
			m.Crash(rng.IntN)
			store = open(t, m)
			state, err := store.LoadLatest(ctx, func(p *checkpoint.Problem) { rt.Fatal(p) })
			if err != nil && (acknowledged > 0 || !errors.Is(err, checkpoint.ErrNone)) {
				rt.Fatal(err)
			}
			if err == nil && (state.Meta.Step < acknowledged || differs(state, state.Meta.Step) != "") {
				rt.Fatalf("loaded step %d, %d was acknowledged", state.Meta.Step, acknowledged)
			}
			// The first at or after step 5 is kept forever; one that was not acknowledged may be it.
			if first > 0 && !slices.ContainsFunc(steps(t, store), func(s int64) bool { return s >= 5 && s <= first }) {
				rt.Fatalf("the checkpoint of the interval, at most %d, is gone: %v", first, steps(t, store))
			}
		}
	})
}

// The memory of a save and of a load, beyond the tensors themselves.
func TestMemory(t *testing.T) {
	const size = 64 << 20
	data := make([]byte, size/4)
	rand.NewChaCha8([32]byte{}).Read(data)
	var tensors []checkpoint.Tensor
	for i := range 4 {
		tensors = append(tensors, checkpoint.Tensor{Name: fmt.Sprint(i), DType: safetensors.F32, Shape: []int{len(data) / 4}, Data: data})
	}
	store, err := checkpoint.Open(vfs.OS, filepath.Join(t.TempDir(), "checkpoints"), checkpoint.Options{MaxShardBytes: size / 2})
	if err != nil {
		t.Fatal(err)
	}
	allocated := func(do func() error) float64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := do(); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc-before.TotalAlloc) / size
	}
	for _, c := range []struct {
		name  string
		limit float64 // of everything allocated, freed or not, as a fraction of the state
		do    func() error
	}{
		{"save", 0.02, func() error { _, err := store.Save(ctx, checkpoint.Meta{Step: 1}, tensors); return err }},
		{"save again", 0.04, func() error { _, err := store.Save(ctx, checkpoint.Meta{Step: 1}, tensors); return err }},
		{"verify", 0.04, func() error { return store.Verify(ctx, 1) }},
		{"load", 1.04, func() error { _, err := store.Load(ctx, 1); return err }},
	} {
		if got := allocated(c.do); got > c.limit {
			t.Errorf("%s allocated %.3f of the state's size; the limit is %.2f", c.name, got, c.limit)
		}
	}
}
