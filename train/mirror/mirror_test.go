package mirror_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pretrain/internal/safetensors"
	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
	"pretrain/train/mirror"

	"github.com/google/go-cmp/cmp"
)

// run is a run directory with a store; open opens its mirror.
type run struct {
	t     *testing.T
	dir   string
	url   string
	store *checkpoint.Store
}

func newRun(t *testing.T, dir, url, id string) run {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if id != "" {
		write(t, filepath.Join(dir, "run.json"), id)
	}
	store, err := checkpoint.Open(vfs.OS, filepath.Join(dir, "checkpoints"), checkpoint.Options{MaxShardBytes: 4000})
	if err != nil {
		t.Fatal(err)
	}
	return run{t, dir, url, store}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (r run) open() *mirror.Mirror {
	r.t.Helper()
	m, err := mirror.Open(r.t.Context(), r.url, vfs.OS, r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { m.Close() })
	return m
}

// save makes a checkpoint of three shards.
func (r run) save(step int64) {
	r.t.Helper()
	var list []checkpoint.Tensor
	for _, name := range []string{"a", "b", "c"} {
		data := make([]byte, 4000)
		for i := range data {
			data[i] = byte(i*int(step) + int(name[0]))
		}
		list = append(list, checkpoint.Tensor{Name: name, DType: safetensors.F32, Shape: []int{1000}, Data: data})
	}
	if _, err := r.store.Save(r.t.Context(), checkpoint.Meta{Step: step}, list); err != nil {
		r.t.Fatal(err)
	}
}

func steps(t *testing.T, m *mirror.Mirror) []int64 {
	t.Helper()
	list, err := m.Steps(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestRoundTrip: what was pushed comes back to a new folder bit by bit, with the files beside it.
func TestRoundTrip(t *testing.T) {
	root := t.TempDir()
	url := "file://" + root + "/bucket?create_dir=true&no_tmp_dir=true"
	r := newRun(t, filepath.Join(root, "one", "run"), url, "me")
	write(t, filepath.Join(r.dir, "metrics.jsonl"), "{}\n")
	r.save(5)
	r.save(10)
	m := r.open()
	for _, step := range []int64{5, 10} {
		if err := m.Push(t.Context(), r.store, step); err != nil {
			t.Fatal(err)
		}
	}
	if got := steps(t, m); !slices.Equal(got, []int64{5, 10}) {
		t.Fatalf("steps %v", got)
	}

	again := newRun(t, filepath.Join(root, "two", "run"), url, "")
	if err := again.open().Pull(t.Context(), again.store, 10); err != nil {
		t.Fatal(err)
	}
	want, err := r.store.Load(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	got, err := again.store.Load(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	want.Path, got.Path = "", ""
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, name := range mirror.SideFiles {
		a, _ := os.ReadFile(filepath.Join(r.dir, name))
		b, err := os.ReadFile(filepath.Join(again.dir, name))
		if err != nil || string(a) != string(b) {
			t.Errorf("%s came back as %q, %v", name, b, err)
		}
	}
	if err := m.Keep(t.Context(), []int64{10}); err != nil || !slices.Equal(steps(t, m), []int64{10}) {
		t.Errorf("after keeping 10: %v, %v", steps(t, m), err)
	}
}

// TestGoesOn: a copy that was cut off is no checkpoint, and goes on with what is missing only.
func TestGoesOn(t *testing.T) {
	root := t.TempDir()
	r := newRun(t, filepath.Join(root, "run"), "file://"+root+"/bucket?create_dir=true&no_tmp_dir=true", "me")
	r.save(7)
	shard := func(i int) string {
		return filepath.Join(r.store.Path(7), []string{"state-00001-of-00003.safetensors", "state-00002-of-00003.safetensors", "state-00003-of-00003.safetensors"}[i])
	}
	away := filepath.Join(root, "away")
	if err := os.Rename(shard(2), away); err != nil {
		t.Fatal(err)
	}
	m := r.open()
	if err := m.Push(t.Context(), r.store, 7); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("without its last shard: %v", err)
	}
	if got := steps(t, m); got != nil {
		t.Fatalf("half a checkpoint counts as %v", got)
	}
	if err := errors.Join(os.Rename(away, shard(2)), os.Remove(shard(0))); err != nil {
		t.Fatal(err)
	}
	if err := m.Push(t.Context(), r.store, 7); err != nil { // the first is not read again
		t.Fatal(err)
	}
	if got := steps(t, m); !slices.Equal(got, []int64{7}) {
		t.Fatalf("steps %v", got)
	}
}

// TestDamage: a shard that rotted is not mirrored, and an object that did is not taken for a checkpoint.
func TestDamage(t *testing.T) {
	root := t.TempDir()
	r := newRun(t, filepath.Join(root, "run"), "file://"+root+"/bucket?create_dir=true&no_tmp_dir=true", "me")
	r.save(3)
	path := filepath.Join(r.store.Path(3), "state-00002-of-00003.safetensors")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(whole[:100])+"?"+string(whole[101:]))
	m := r.open()
	if err := m.Push(t.Context(), r.store, 3); err == nil {
		t.Fatal("a damaged shard was mirrored")
	}
	if got := steps(t, m); got != nil {
		t.Fatalf("steps %v", got)
	}
	write(t, path, string(whole))
	if err := m.Push(t.Context(), r.store, 3); err != nil {
		t.Fatal(err)
	}

	object := filepath.Join(root, "bucket", "run", "checkpoints", "step-000000003", "state-00002-of-00003.safetensors")
	if _, err := os.Stat(object); err != nil {
		t.Fatal(err)
	}
	write(t, object, string(whole[:100])+"?"+string(whole[101:]))
	again := newRun(t, filepath.Join(root, "two", "run"), r.url, "")
	var p *checkpoint.Problem
	if err := again.open().Pull(t.Context(), again.store, 3); !errors.As(err, &p) || p.Kind != checkpoint.Damaged || p.Tensor != "b" {
		t.Errorf("a damaged object: %v", err)
	}
	if list, err := again.store.List(); err != nil || list != nil {
		t.Errorf("it left %v, %v", list, err)
	}
}

// TestOtherRun: two runs whose directories have one name do not overwrite each other's mirror.
func TestOtherRun(t *testing.T) {
	root := t.TempDir()
	url := "file://" + root + "/bucket?create_dir=true&no_tmp_dir=true"
	for i, c := range []struct{ folder, id string }{{"one", "me"}, {"two", "you"}} {
		r := newRun(t, filepath.Join(root, c.folder, "run"), url, c.id)
		r.save(1)
		if err := r.open().Push(t.Context(), r.store, 1); errors.Is(err, mirror.ErrOtherRun) != (i == 1) {
			t.Errorf("%s: %v", c.folder, err)
		}
	}
}

// TestInMemory is the round trip through gocloud's in-memory driver; its buckets live as long as they are open.
func TestInMemory(t *testing.T) {
	r := newRun(t, filepath.Join(t.TempDir(), "run"), "mem://", "me")
	r.save(2)
	m := r.open()
	if err := m.Push(context.Background(), r.store, 2); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(r.store.Path(2)); err != nil {
		t.Fatal(err)
	}
	if err := m.Pull(context.Background(), r.store, 2); err != nil {
		t.Fatal(err)
	}
	if err := r.store.Verify(context.Background(), 2); err != nil {
		t.Fatal(err)
	}
}
