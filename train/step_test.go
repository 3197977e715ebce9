package train

import (
	"encoding/binary"
	"math"
	"strings"
	"sync"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/internal/prng"
	"pretrain/model"
	"pretrain/train/feed"
	"pretrain/train/loss"
	"pretrain/train/mesh"
	"pretrain/train/optim"
	"pretrain/train/spike"

	"github.com/google/go-cmp/cmp"
)

const tinyVocab, tinySeqLen = 29, 8

// tiny is a model that compiles in a second.
func tiny() model.Config {
	return model.Config{VocabSize: tinyVocab, DModel: 16, DFF: 24, NumLayers: 1, NumHeads: 2, HeadDim: 8, DimModelBase: 8, MaxSeqLen: tinySeqLen, DocumentMask: true}.Resolve()
}

func newProgram(t testing.TB, m model.Config, precision model.Precision, o optim.Config) *Program {
	t.Helper()
	be := backendtest.CPU(t)
	n := model.NumericsFor(be, precision)
	p, err := NewProgram(mesh.One(be), model.Decoder{Config: m, Numerics: n, Remat: model.RematNone}, loss.Head{Numerics: n}, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var shared struct {
	sync.Once
	program *Program
}

// tinyProgram is AdamW on the tiny model in float32, compiled once for all tests.
func tinyProgram(t testing.TB) *Program {
	t.Helper()
	shared.Do(func() { shared.program = newProgram(t, tiny(), model.FP32, optim.Default()) })
	if shared.program == nil {
		t.Fatal("no program")
	}
	return shared.program
}

func initState(t testing.TB, p *Program, seed uint64) *State {
	t.Helper()
	s, err := Init(p.mesh, p.Layout(), prng.New(seed).Split("init"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func snapshot(t testing.TB, s *State) []HostTensor {
	t.Helper()
	host, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// differing names the tensors in which two snapshots are not equal bit for bit.
func differing(a, b []HostTensor) []string {
	var names []string
	for i := range a {
		if a[i].Name != b[i].Name || string(a[i].Data) != string(b[i].Data) {
			names = append(names, a[i].Name)
		}
	}
	return names
}

func float(t HostTensor, i int) float64 {
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:])))
}

// randomBatch has sequences of two documents each, all targets counted.
func randomBatch(seed uint64, sequences int) *feed.Batch {
	b := feed.NewBatch(sequences, tinySeqLen)
	copy(b.Tokens, backendtest.Tokens(seed, len(b.Tokens), tinyVocab))
	for i := range b.Weights {
		b.Weights[i] = 1 / float32(len(b.Weights))
		at := int32(i % tinySeqLen)
		b.Segments[i], b.Positions[i] = 1, at
		if at >= 5 {
			b.Segments[i], b.Positions[i] = 2, at-5
		}
	}
	return b
}

func step(t testing.TB, p *Program, s *State, lr float64, batches ...*feed.Batch) StepMetrics {
	t.Helper()
	m, err := p.Step(s, batches, lr, spike.None)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// cut splits a batch of 4 sequences in micro-batches.
func cut(b *feed.Batch, sequences int) []*feed.Batch {
	var parts []*feed.Batch
	for from := 0; from < b.Sequences; from += sequences {
		n, m := from*b.SeqLen, (from+sequences)*b.SeqLen
		parts = append(parts, &feed.Batch{
			Sequences: sequences, SeqLen: b.SeqLen, Tokens: b.Tokens[n+from : m+from+sequences],
			Weights: b.Weights[n:m], Segments: b.Segments[n:m], Positions: b.Positions[n:m],
		})
	}
	return parts
}

// TestStepsAreDeterministic: two runs from one key are equal bit for bit after steps of one micro-batch and of two.
func TestStepsAreDeterministic(t *testing.T) {
	p := tinyProgram(t)
	run := func() ([]HostTensor, []StepMetrics) {
		s := initState(t, p, 1)
		var all []StepMetrics
		for range 3 {
			all = append(all, step(t, p, s, 0.01, randomBatch(1, 2)), step(t, p, s, 0.01, cut(randomBatch(2, 4), 2)...))
		}
		return snapshot(t, s), all
	}
	first, metrics := run()
	second, again := run()
	if d := differing(first, second); d != nil || !cmp.Equal(metrics, again) {
		t.Errorf("two runs differ in %v; metrics %v and %v", d, metrics, again)
	}
	if metrics[4].Loss >= metrics[0].Loss || metrics[5].Loss >= metrics[1].Loss || metrics[0].GradNorm == 0 {
		t.Errorf("nothing was learnt: %v", metrics)
	}
	if got := binary.LittleEndian.Uint32(named(t, first, countUpdates).Data); got != 6 {
		t.Errorf("%d updates counted, want 6", got)
	}
}

func named(t testing.TB, host []HostTensor, name string) HostTensor {
	t.Helper()
	for _, h := range host {
		if h.Name == name {
			return h
		}
	}
	t.Fatalf("no %s", name)
	return HostTensor{}
}

// TestAccumulationIsTheWholeBatch: with plain SGD, whose update is linear in the gradient, micro-batches give the weights
// that the whole batch gives.
func TestAccumulationIsTheWholeBatch(t *testing.T) {
	o := optim.Default()
	o.Kind, o.Momentum = optim.SGD, 0
	p := newProgram(t, tiny(), model.FP32, o)
	defer p.Finalize()
	run := func(sequences int) (StepMetrics, []HostTensor) {
		s := initState(t, p, 2)
		m := step(t, p, s, 0.1, cut(randomBatch(9, 4), sequences)...)
		return m, snapshot(t, s)
	}
	want, wantState := run(4)
	m, state := run(1)
	for _, c := range [][2]float32{{m.Loss, want.Loss}, {m.GradNorm, want.GradNorm}} {
		if math.Abs(float64(c[0]/c[1]-1)) > 1e-6 {
			t.Errorf("in micro-batches %+v, whole %+v", m, want)
		}
	}
	for i, h := range state {
		if !strings.HasPrefix(h.Name, "param/") {
			continue
		}
		var diff, size float64
		for j := range len(h.Data) / 4 {
			diff, size = max(diff, math.Abs(float(h, j)-float(wantState[i], j))), max(size, math.Abs(float(h, j)))
		}
		if diff > 1e-6*size {
			t.Errorf("%s is off by %.2g of its largest element", h.Name, diff/size)
		}
	}
}

// TestNonFiniteUpdateIsRefused: a loss or gradient that is not finite leaves every tensor as it was, bit for bit, and is
// counted; the next sound step goes on.
func TestNonFiniteUpdateIsRefused(t *testing.T) {
	p := tinyProgram(t)
	for name, spoil := range map[string]float32{"NaN": float32(math.NaN()), "infinity": float32(math.Inf(1)), "overflow": math.MaxFloat32} {
		for _, sequences := range []int{2, 4} { // two micro-batches, and one
			s := initState(t, p, 3)
			step(t, p, s, 0.01, cut(randomBatch(1, 4), sequences)...)
			before := snapshot(t, s)
			bad := randomBatch(2, 4)
			bad.Weights[len(bad.Weights)-1] = spoil
			m := step(t, p, s, 0.01, cut(bad, sequences)...)
			after := snapshot(t, s)
			if d := differing(before, after); !m.Skipped || len(d) != 1 || d[0] != countSkipped {
				t.Errorf("%s, %d sequences: metrics %+v, changed %v", name, sequences, m, d)
			}
			if got := binary.LittleEndian.Uint32(named(t, after, countSkipped).Data); got != 1 {
				t.Errorf("%s: %d skips counted", name, got)
			}
			if m := step(t, p, s, 0.01, cut(randomBatch(3, 4), sequences)...); m.Skipped || math.IsNaN(float64(m.Loss)) {
				t.Errorf("%s: the step after: %+v", name, m)
			}
			if d := differing(after, snapshot(t, s)); len(d) < len(after)-1 {
				t.Errorf("%s: the step after changed only %v", name, d)
			}
		}
	}
}

// TestBF16FollowsFP32: over five steps the loss in bf16 stays within 1% of that in float32, and is not the same.
func TestBF16FollowsFP32(t *testing.T) {
	low := newProgram(t, tiny(), model.BF16, optim.Default())
	defer low.Finalize()
	high := tinyProgram(t)
	a, b := initState(t, low, 4), initState(t, high, 4)
	same := true
	for i := range uint64(5) {
		batch := randomBatch(i%2, 4)
		x, y := step(t, low, a, 0.01, batch), step(t, high, b, 0.01, batch)
		if math.Abs(float64(x.Loss/y.Loss-1)) > 0.01 {
			t.Errorf("step %d: loss %g in bf16, %g in fp32", i, x.Loss, y.Loss)
		}
		same = same && x.Loss == y.Loss
	}
	if same {
		t.Error("bf16 and fp32 give the same losses: is bf16 on?")
	}
}
