package train

import (
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"pretrain/internal/vfs"
	"pretrain/model"
	"pretrain/train/checkpoint"
	"pretrain/train/feed"
	"pretrain/train/optim"
	"pretrain/train/spike"
)

// TestCostOfASave: on a model of the quickstart's size a save keeps the loop for less than one step, the copy from the device, and
// takes at most 1.2 times the state of the host's memory until it is on the disk.
func TestCostOfASave(t *testing.T) {
	m := model.Config{DModel: 192, NumLayers: 4, VocabSize: 4096, MaxSeqLen: 256}.Resolve()
	p := newProgram(t, m, model.BF16, optim.Default())
	defer p.Finalize()
	s := initState(t, p, 1)
	b := repeatingBatch(1, m, 16)
	var steps, copies [3]time.Duration
	for i := range steps {
		if i == 0 { // the first compiles
			step(t, p, s, 0.001, b)
		}
		start := time.Now()
		if _, err := p.Step(s, []*feed.Batch{b}, 0.001, spike.None); err != nil {
			t.Fatal(err)
		}
		steps[i] = time.Since(start)
		start = time.Now()
		snapshot(t, s)
		copies[i] = time.Since(start)
	}
	if shortest := min(steps[0], steps[1], steps[2]); min(copies[0], copies[1], copies[2]) > shortest {
		t.Errorf("a copy of the state takes %v, a step %v", copies, steps)
	}

	store, err := checkpoint.Open(vfs.OS, filepath.Join(t.TempDir(), "checkpoints"), checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	host := snapshot(t, s)
	if _, err := store.Save(t.Context(), checkpoint.Meta{Step: 1}, toCheckpoint(host)); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	// All that was allocated, whether freed meanwhile or not: what was there at one time is less.
	share := float64(after.TotalAlloc-before.TotalAlloc) / float64(p.Layout().Bytes())
	if share > 1.2 {
		t.Errorf("a save allocates %.2f times the state", share)
	}
	t.Logf("steps %v, copies %v, memory %.3f of the state's %d bytes", steps, copies, share, p.Layout().Bytes())
}
