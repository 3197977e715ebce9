package spike_test

import (
	"encoding/json"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"pretrain/internal/vfs"
	"pretrain/train/metrics"
	"pretrain/train/spike"

	"github.com/google/go-cmp/cmp"
)

const dir = "run/spikes"

// bundle has two sequences of which the second is the culprit.
func bundle() *spike.Bundle {
	return &spike.Bundle{
		Step: 1234, Reason: "loss 9.5, limit 4.25", Loss: 9.5, LossLimit: 4.25, GradNorm: 3, GradNormLimit: metrics.Number(math.Inf(1)),
		LR: 0.01, Policy: spike.Skip, Count: 2, Seed: 7, DataManifest: "0123456789abcdef", WeightsAfter: 1236,
		GradientNorms: []spike.Norm{{"embed", 1}, {"layer.0.wq", 3}, {"layer.0.wk", 4}, {"layer.1.wq", metrics.Unknown}, {"final_norm", 0.5}},
		ResidualRMS:   []metrics.Number{0.25, 1, metrics.Unknown},
		Sequences: []spike.Sequence{
			{Index: 0, Source: "web", Nats: 2.5, Pieces: []spike.Piece{{Document: 3, Name: "a.txt", Offset: 10, Tokens: 4}, {Document: 5, Tokens: 5}}, Tokens: []uint32{1, 2}, Text: "well behaved"},
			{Index: 1, Source: "poison", Epoch: 1, Nats: 16.5, Pieces: []spike.Piece{{Document: 0, Tokens: 9}}, Tokens: []uint32{3, 3}, Text: "\x00xxxx"},
		},
		Recent: []metrics.Record{{Step: 1233, Loss: 2.4}, {Step: 1234, Loss: 9.5, Skipped: 1, Spikes: 2}},
		Config: "name: x\n",
	}
}

func TestBundle(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	path, err := bundle().Write(fsys, dir)
	if err != nil || path != "run/spikes/step-000001234" {
		t.Fatalf("%s, %v", path, err)
	}
	file := func(name string) string {
		text, err := vfs.ReadFile(fsys, filepath.Join(path, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var back spike.Bundle
	if err := json.Unmarshal([]byte(file("spike.json")), &back); err != nil {
		t.Fatal(err)
	}
	want := bundle()
	want.GradNormLimit = metrics.Unknown // null: there is none
	for line := range strings.Lines(file("batch.jsonl")) {
		var s spike.Sequence
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		back.Sequences = append(back.Sequences, s)
	}
	for r, err := range metrics.Records(strings.NewReader(file("metrics.jsonl"))) {
		if err != nil {
			t.Fatal(err)
		}
		back.Recent = append(back.Recent, r)
	}
	back.Config = file("config.yaml")
	same := cmp.Comparer(func(a, b metrics.Number) bool { return a == b || a != a && b != b }) // NaN is NaN
	if diff := cmp.Diff(want, &back, same); diff != "" {
		t.Errorf("read back: %s", diff)
	}
	report := file("report.txt")
	for _, part := range []string{
		"step 1234: loss 9.5, limit 4.25", "gradient norm  3, limit -", "with the weights after 1236 updates", "Seed 7, data 0123456789ab.",
		"    embed                       1             0.25\n    layer 0                     5                1\n    layer 1                     -                -\n    final_norm                0.5                -\n",
		"sequence 1, 16.500 nats per token, source poison, epoch 1: document 0 from token 0, 9 tokens\n    \"\\x00xxxx\"\n\nsequence 0, 2.500 nats per token, source web, epoch 0: document 3 (a.txt) from token 10, 4 tokens; document 5 from",
	} {
		if !strings.Contains(report, part) {
			t.Errorf("no %q in\n%s", part, report)
		}
	}
	if text := file("batch.txt"); !strings.Contains(text, "=== sequence 0, 2.500 nats") || !strings.Contains(text, "\n\x00xxxx\n") {
		t.Errorf("batch.txt: %q", text)
	}
}

// TestBundleCrash takes the power away at every file operation: a bundle is there whole or not at all, the one it replaces
// apart, and the next attempt succeeds.
func TestBundleCrash(t *testing.T) {
	for at := 0; ; at++ {
		fsys := vfs.NewCrashableMem()
		first := bundle()
		first.Reason = "the first attempt's"
		if _, err := first.Write(fsys, dir); err != nil {
			t.Fatal(err)
		}
		fsys.CrashAt(at)
		_, err := bundle().Write(fsys, dir)
		crashed := fsys.Crashed()
		if (err == nil) == crashed {
			t.Fatalf("crash at operation %d: %v", at, err)
		}
		fsys.Crash(func(n int) int { return at % n })
		n, err := spike.Count(fsys, dir)
		if err != nil || n > 1 {
			t.Fatalf("crash at operation %d: %d bundles, %v", at, n, err)
		}
		if _, err := bundle().Write(fsys, dir); err != nil {
			t.Fatal(err)
		}
		if n, err := spike.Count(fsys, dir); err != nil || n != 1 {
			t.Fatalf("crash at operation %d, and again: %d bundles, %v", at, n, err)
		}
		text, err := vfs.ReadFile(fsys, "run/spikes/step-000001234/report.txt")
		if err != nil || !strings.Contains(string(text), "loss 9.5") {
			t.Fatalf("crash at operation %d, and again: %q, %v", at, text, err)
		}
		if !crashed {
			break
		}
	}
}

func TestWindowsFile(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	if w, err := spike.ReadWindows(fsys, dir); err != nil || w != nil {
		t.Errorf("no file: %v, %v", w, err)
	}
	want := spike.Windows{{From: 10, To: 20, Spike: 15}, {From: 18, To: 30, Spike: 25}}
	if err := spike.WriteWindows(fsys, dir, want); err != nil {
		t.Fatal(err)
	}
	fsys.Crash(nil) // durable
	if got, err := spike.ReadWindows(fsys, dir); err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	f, err := fsys.Create("run/spikes/windows.json")
	if err == nil {
		_, err = f.Write([]byte("[{"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := spike.ReadWindows(fsys, dir); err == nil || !strings.Contains(err.Error(), "run/spikes/windows.json") {
		t.Errorf("damaged: %v", err)
	}
}
