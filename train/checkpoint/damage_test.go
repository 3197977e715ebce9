package checkpoint_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/zeebo/xxh3"

	"pretrain/internal/safetensors"
	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
)

const (
	shard1   = "step-000000300/state-00001-of-00004.safetensors" // embed, layers.0.w
	shard2   = "step-000000300/state-00002-of-00004.safetensors" // adam.m/embed, norm
	manifest = "step-000000300/MANIFEST.json"
)

// Every kind of damage to the newest checkpoint is named, and the one before is loaded.
func TestDamageIsNamedAndPassedOver(t *testing.T) {
	flip := func(at int) func([]byte) []byte {
		return func(data []byte) []byte {
			if at < 0 {
				at += len(data)
			}
			data[at] ^= 0x10
			return data
		}
	}
	edit := func(name string, change func([]byte) []byte) func(*testing.T, *vfs.Mem) {
		return func(t *testing.T, m *vfs.Mem) { rewrite(t, m, dir+"/"+name, change) }
	}
	remove := func(name string) func(*testing.T, *vfs.Mem) {
		return func(t *testing.T, m *vfs.Mem) {
			if err := m.RemoveAll(dir + "/" + name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		damage func(*testing.T, *vfs.Mem)
		want   checkpoint.Problem // Kind, File and Tensor are compared
		says   string
	}{
		{"flipped byte in a tensor", edit(shard1, flip(-1)),
			checkpoint.Problem{Kind: checkpoint.Damaged, File: "state-00001-of-00004.safetensors", Tensor: "layers.0.w"}, "its hash is"},
		{"flipped byte in the first tensor", edit(shard2, flip(-16-1)),
			checkpoint.Problem{Kind: checkpoint.Damaged, File: "state-00002-of-00004.safetensors", Tensor: "adam.m/embed"}, "its hash is"},
		{"flipped byte in a header", edit(shard1, flip(20)),
			checkpoint.Problem{Kind: checkpoint.Damaged, File: "state-00001-of-00004.safetensors"}, "header"},
		{"missing shard", remove(shard2),
			checkpoint.Problem{Kind: checkpoint.Missing, File: "state-00002-of-00004.safetensors"}, "missing"},
		{"truncated shard", edit(shard2, func(d []byte) []byte { return d[:len(d)-17] }),
			checkpoint.Problem{Kind: checkpoint.Truncated, File: "state-00002-of-00004.safetensors", Tensor: "adam.m/embed"}, "655 bytes, 672 were written"},
		{"emptied shard", edit(shard1, func([]byte) []byte { return nil }),
			checkpoint.Problem{Kind: checkpoint.Truncated, File: "state-00001-of-00004.safetensors", Tensor: "embed"}, "0 bytes"},
		{"grown shard", edit(shard1, func(d []byte) []byte { return append(d, 0) }),
			checkpoint.Problem{Kind: checkpoint.Damaged, File: "state-00001-of-00004.safetensors"}, "only"},
		{"shards swapped", func(t *testing.T, m *vfs.Mem) {
			other, err := vfs.ReadFile(m, dir+"/step-000000200/state-00001-of-00004.safetensors")
			if err != nil {
				t.Fatal(err)
			}
			rewrite(t, m, dir+"/"+shard1, func([]byte) []byte { return other })
		}, checkpoint.Problem{Kind: checkpoint.Damaged, File: "state-00001-of-00004.safetensors", Tensor: "embed"}, "its hash is"},
		{"missing manifest", remove(manifest),
			checkpoint.Problem{Kind: checkpoint.Missing, File: "MANIFEST.json"}, "missing"},
		{"emptied manifest", edit(manifest, func([]byte) []byte { return nil }),
			checkpoint.Problem{Kind: checkpoint.Truncated, File: "MANIFEST.json"}, "0 bytes"},
		{"truncated manifest", edit(manifest, func(d []byte) []byte { return d[:len(d)/2] }),
			checkpoint.Problem{Kind: checkpoint.Truncated, File: "MANIFEST.json"}, "truncated"},
		{"edited manifest", edit(manifest, func(d []byte) []byte { return bytes.Replace(d, []byte(`"tokens"`), []byte(`"tokenz"`), 1) }),
			checkpoint.Problem{Kind: checkpoint.Damaged, File: "MANIFEST.json"}, "hash"},
		{"foreign version", edit(manifest, func(d []byte) []byte { return reseal(d, `"format_version": 1`, `"format_version": 7`) }),
			checkpoint.Problem{Kind: checkpoint.ForeignVersion, File: "MANIFEST.json"}, "version 7; this program reads \"pretrain-checkpoint\" version 1"},
		{"foreign version, sealed in another way", edit(manifest, func([]byte) []byte { return []byte(`{"format": "pretrain-checkpoint", "format_version": 9}`) }),
			checkpoint.Problem{Kind: checkpoint.ForeignVersion, File: "MANIFEST.json"}, "version 9"},
		{"foreign program", edit(manifest, func([]byte) []byte { return []byte(`{"weights": "here"}`) }),
			checkpoint.Problem{Kind: checkpoint.ForeignVersion, File: "MANIFEST.json"}, `format ""`},
		{"renamed directory", func(t *testing.T, m *vfs.Mem) {
			if err := m.Rename(dir+"/step-000000300", dir+"/step-000000301"); err != nil {
				t.Fatal(err)
			}
		}, checkpoint.Problem{Kind: checkpoint.Damaged, File: "MANIFEST.json"}, "it is of step 300"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := vfs.NewCrashableMem()
			if err := saveAll(open(t, m), 100, 200, 300); err != nil {
				t.Fatal(err)
			}
			c.damage(t, m)
			before := tree(t, m, dir)
			store := open(t, m)
			var problems []*checkpoint.Problem
			state, err := store.LoadLatest(ctx, func(p *checkpoint.Problem) { problems = append(problems, p) })
			if err != nil {
				t.Fatal(err)
			}
			if diff := differs(state, 200); diff != "" {
				t.Errorf("not the state before (-want +got):\n%s", diff)
			}
			if len(problems) != 1 {
				t.Fatalf("problems: %v", problems)
			}
			p := problems[0]
			if p.Kind != c.want.Kind || p.File != c.want.File || p.Tensor != c.want.Tensor {
				t.Errorf("%s in %q, tensor %q; want %s in %q, tensor %q", p.Kind, p.File, p.Tensor, c.want.Kind, c.want.File, c.want.Tensor)
			}
			if text := p.Error(); !strings.Contains(text, c.says) || !strings.Contains(text, p.Path) || !strings.Contains(text, p.File) {
				t.Errorf("message %q does not contain %q", text, c.says)
			}
			var verified *checkpoint.Problem
			if err := store.Verify(ctx, p.Step); !errors.As(err, &verified) || verified.Error() != p.Error() {
				t.Errorf("Verify = %v, LoadLatest reported %v", err, p)
			}
			if fmt.Sprint(before) != fmt.Sprint(tree(t, m, dir)) {
				t.Error("loading changed the disk")
			}
		})
	}
}

// reseal edits a manifest and gives it the right hash for its new content.
func reseal(data []byte, old, new string) []byte {
	mark := []byte(",\n\"manifest_xxh3_128\": \"")
	data = bytes.Replace(data, []byte(old), []byte(new), 1)
	body := data[:bytes.LastIndex(data, mark)]
	return fmt.Appendf(bytes.Clone(body), "%s%x\"\n}\n", mark, xxh3.Hash128(body).Bytes())
}

// Each bit of each file counts: flipping any is noticed.
func TestEveryByteIsGuarded(t *testing.T) {
	m := vfs.NewCrashableMem()
	store := open(t, m)
	save(t, store, 300)
	for name, content := range tree(t, m, dir) {
		stride := max(1, len(content)/400)
		for at := 0; at < len(content); at += stride {
			rewrite(t, m, name, func(data []byte) []byte {
				data[at] ^= 1 << (at % 8)
				return data
			})
			if err := store.Verify(ctx, 300); err == nil {
				t.Errorf("%s: a flipped bit of byte %d was not seen", name, at)
			}
			rewrite(t, m, name, func([]byte) []byte { return []byte(content) })
		}
	}
	if err := store.Verify(ctx, 300); err != nil {
		t.Error(err)
	}
}

func TestNoneAndNoneIntact(t *testing.T) {
	m := vfs.NewCrashableMem()
	store := open(t, m)
	if _, err := store.LoadLatest(ctx, noProblem(t)); !errors.Is(err, checkpoint.ErrNone) {
		t.Errorf("empty store: %v", err)
	}
	if _, err := store.Latest(); !errors.Is(err, checkpoint.ErrNone) {
		t.Errorf("Latest of an empty store: %v", err)
	}
	if err := saveAll(store, 100, 200); err != nil {
		t.Fatal(err)
	}
	for name := range tree(t, m, dir) {
		rewrite(t, m, name, func([]byte) []byte { return []byte("{}") })
	}
	reported := 0
	_, err := store.LoadLatest(ctx, func(*checkpoint.Problem) { reported++ })
	if !errors.Is(err, checkpoint.ErrNoneIntact) || errors.Is(err, checkpoint.ErrNone) || reported != 2 {
		t.Errorf("damaged store: %v, %d reported", err, reported)
	}
}

// A disk that does not read is passed over too, and is told from damage.
func TestUnreadable(t *testing.T) {
	m := vfs.NewCrashableMem()
	if err := saveAll(open(t, m), 100, 200); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []vfs.OpKind{vfs.OpOpen, vfs.OpRead} {
		store := open(t, vfs.WithErrors(m, func(op vfs.Op) error {
			if op.Kind == kind && strings.Contains(op.Path, "step-000000200/state-00002") {
				return syscall.EIO
			}
			return nil
		}))
		var problem *checkpoint.Problem
		state, err := store.LoadLatest(ctx, func(p *checkpoint.Problem) { problem = p })
		if err != nil || state.Meta.Step != 100 || problem.Kind != checkpoint.Unreadable || !errors.Is(problem, syscall.EIO) {
			t.Errorf("%s: %v, %v", kind, problem, err)
		}
		if _, err := store.Prune(ctx, checkpoint.Retention{Keep: 1}); err != nil {
			t.Error(err)
		}
		if got := steps(t, store); len(got) != 2 {
			t.Errorf("%s: Prune left %v: an unreadable checkpoint may be a good one", kind, got)
		}
	}
}

// The shards are plain safetensors that any tool reads.
func TestShardsAreSafetensors(t *testing.T) {
	m := vfs.NewCrashableMem()
	store := open(t, m)
	save(t, store, 100)
	found := map[string][]byte{}
	for name, content := range tree(t, m, dir) {
		if !strings.HasSuffix(name, ".safetensors") {
			continue
		}
		r, err := safetensors.NewReader(strings.NewReader(content), int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.Entries() {
			if found[e.Name], err = r.ReadTensor(e.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, tensors := stateAt(100)
	for _, want := range tensors {
		if got, ok := found[want.Name]; !ok || !bytes.Equal(got, want.Data) {
			t.Errorf("%s is missing or differs", want.Name)
		}
	}
}
