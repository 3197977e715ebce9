package train

import (
	"errors"
	"math"
	"slices"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/model"
	"pretrain/train/loss"
	"pretrain/train/mesh"
	"pretrain/train/optim"

	"pgregory.net/rapid"
)

// TestFit holds the search against trying every size, for any memory that does not shrink with the micro-batch, and counts how
// often it asks: compiling takes seconds to minutes.
func TestFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfNDistinct(rapid.Int64Range(1, 1<<12), 1, 24, rapid.ID).Draw(t, "sizes")
		slices.Sort(sizes)
		fixed, slope := rapid.Int64Range(0, 1<<30).Draw(t, "fixed"), rapid.Int64Range(0, 1<<24).Draw(t, "slope")
		step := rapid.Int64Range(1, 1<<28).Draw(t, "step") // buffers are rounded up
		limit := rapid.Int64Range(1, 1<<36).Draw(t, "largest that compiles")
		usable := rapid.Int64Range(1, 1<<36).Draw(t, "usable")
		memory := func(n int64) int64 { return (fixed + n*slope) / step * step }
		asked := map[int64]bool{}
		got, bytes, err := Fit(sizes, usable, func(n int64) (int64, error) {
			if asked[n] {
				t.Fatalf("%d is compiled twice", n)
			}
			asked[n] = true
			if memory(n) > limit {
				return 0, errors.New("RESOURCE_EXHAUSTED: out of memory")
			}
			return memory(n), nil
		})
		want := int64(0)
		for _, n := range sizes {
			if memory(n) <= min(usable, limit) {
				want = n
			}
		}
		switch {
		case want == 0 && !errors.Is(err, ErrNoRoom):
			t.Fatalf("%d of %v, error %v: none fits", got, sizes, err)
		case want > 0 && (err != nil || got != want || bytes != memory(want)):
			t.Fatalf("%d sequences, %d bytes, %v; want %d, %d", got, bytes, err, want, memory(want))
		}
		if step == 1 && limit >= memory(sizes[len(sizes)-1]) && len(asked) > 4 {
			t.Fatalf("%d of %d sizes are compiled though memory grows linearly", len(asked), len(sizes))
		}
	})
	broken := errors.New("broken")
	if _, _, err := Fit([]int64{1, 2}, 1, func(int64) (int64, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Errorf("another error: %v", err)
	}
	if _, _, err := Fit(nil, 1, nil); err == nil {
		t.Error("nothing fits")
	}
}

// TestRematTakesLess: each way to recompute takes less memory than the one before, of twelve layers and a batch beside which weights
// are nothing.
func TestRematTakesLess(t *testing.T) {
	be := backendtest.CPU(t)
	n := model.NumericsFor(be, model.FP32)
	m := meshModel()
	m.NumLayers, m.MaxSeqLen = 12, 64
	last := int64(math.MaxInt64)
	for _, remat := range model.Remats {
		p, err := NewProgram(mesh.One(be), model.Decoder{Config: m, Numerics: n, Remat: remat}, loss.Head{Numerics: n}, optim.Default())
		if err != nil {
			t.Fatal(err)
		}
		peak, err := p.Peak(32, m.MaxSeqLen, 1)
		if p.Finalize(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes", remat, peak)
		if peak >= last {
			t.Errorf("remat %s takes %d bytes, the one before %d", remat, peak, last)
		}
		last = peak
	}
}

// TestPeakGrows: more sequences take more memory, the state beside them.
func TestPeakGrows(t *testing.T) {
	p := meshProgram(t, 1, mesh.Default())
	params, optimizer := p.StateBytes()
	last := params + optimizer
	for _, n := range []int{2, 4, 8} {
		peak, err := p.Peak(n, meshModel().MaxSeqLen, 2)
		if err != nil {
			t.Fatal(err)
		}
		if peak <= last {
			t.Errorf("%d sequences take %d bytes, less %d", n, peak, last)
		}
		last = peak
	}
}
