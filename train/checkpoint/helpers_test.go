package checkpoint_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pretrain/internal/safetensors"
	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
)

const dir = "/run/checkpoints"

// smallShards makes the state of stateAt take three files.
var smallShards = checkpoint.Options{MaxShardBytes: 1 << 10}

// stateAt returns the state of a step; another variant differs from it in meta and tensors.
func stateAt(step int64, variant ...int) (checkpoint.Meta, []checkpoint.Tensor) {
	rng := rand.New(rand.NewPCG(uint64(step), uint64(len(variant))))
	random := func(n int) []byte {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		return data
	}
	meta := checkpoint.Meta{
		Step: step, Tokens: step * 4096,
		Config: "name: test\nmodel: {num_layers: 2}\n", ConfigHash: "c0", DataManifestHash: "d0", TokenizerHash: "70",
		Versions:  map[string]string{"pretrain": "v0", "gomlx": "v0.28.2"},
		CreatedAt: time.Date(2026, 11, 23, 20, 0, 0, 123456789, time.UTC),
		Loop: checkpoint.LoopState{
			LossEMA: rng.Float64() * 10, BestValLoss: math.Inf(1), SkippedUpdates: int64(len(variant)), TrainSeconds: 1.5, DataWaitSeconds: 0.25,
		},
		Parent: &checkpoint.Parent{Run: "runs/trunk", Step: 7},
	}
	tensors := []checkpoint.Tensor{
		{Name: "embed", DType: safetensors.F32, Shape: []int{16, 8}, Data: random(512)},
		{Name: "layers.0.w", DType: safetensors.F32, Shape: []int{8, 16}, Data: random(512)},
		{Name: "adam.m/embed", DType: safetensors.F32, Shape: []int{16, 8}, Data: random(512)},
		{Name: "norm", DType: safetensors.BF16, Shape: []int{8}, Data: random(16)},
		{Name: "large", DType: safetensors.F32, Shape: []int{20, 20}, Data: random(1600)},
		{Name: "step", DType: safetensors.I64, Data: binary.LittleEndian.AppendUint64(nil, uint64(step))},
		{Name: "empty", DType: safetensors.F32, Shape: []int{0, 8}},
	}
	return meta, tensors
}

func open(t testing.TB, fsys vfs.FS) *checkpoint.Store {
	t.Helper()
	store, err := checkpoint.Open(fsys, dir, smallShards)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func save(t testing.TB, store *checkpoint.Store, step int64, variant ...int) {
	t.Helper()
	meta, tensors := stateAt(step, variant...)
	if _, err := store.Save(context.Background(), meta, tensors); err != nil {
		t.Fatal(err)
	}
}

// differs compares a loaded state with that of a step, bit for bit; "" if they are equal.
func differs(got *checkpoint.State, step int64, variant ...int) string {
	meta, tensors := stateAt(step, variant...)
	return differsFrom(got, meta, tensors)
}

func differsFrom(got *checkpoint.State, meta checkpoint.Meta, tensors []checkpoint.Tensor) string {
	meta.FormatVersion = checkpoint.FormatVersion
	equal := cmp.Options{
		cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }),
		cmp.Transformer("nil", func(shape []int) string { return fmt.Sprint(shape) }),
		cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) }),
	}
	return cmp.Diff(meta, got.Meta, equal) + cmp.Diff(tensors, got.Tensors, equal)
}

// noProblem fails the test if a damaged checkpoint is found.
func noProblem(t testing.TB) func(*checkpoint.Problem) {
	return func(p *checkpoint.Problem) {
		t.Helper()
		t.Errorf("unexpected problem: %v", p)
	}
}

// tree returns every file below a directory with its content.
func tree(t testing.TB, fsys vfs.FS, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	var walk func(string)
	walk = func(path string) {
		entries, err := fsys.ReadDir(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			name := filepath.Join(path, e.Name())
			if e.IsDir() {
				walk(name)
				continue
			}
			data, err := vfs.ReadFile(fsys, name)
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(data)
		}
	}
	if info, err := fsys.Stat(root); err == nil && info.Mode()&fs.ModeDir != 0 {
		walk(root)
	}
	return files
}

// rewrite replaces a file's content.
func rewrite(t testing.TB, fsys vfs.FS, name string, edit func([]byte) []byte) {
	t.Helper()
	data, err := vfs.ReadFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Create(name)
	if err == nil {
		_, err = f.Write(edit(data))
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func steps(t testing.TB, store *checkpoint.Store) []int64 {
	t.Helper()
	list, err := store.List()
	if err != nil {
		t.Fatal(err)
	}
	return list
}
