package train

import (
	"math"
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
	"github.com/google/go-cmp/cmp/cmpopts"
)

// meshModel comes out even over every grid of eight.
func meshModel() model.Config {
	return model.Config{VocabSize: 64, DModel: 32, DFF: 64, NumLayers: 1, NumHeads: 4, HeadDim: 8, NumKVHeads: 2, DimModelBase: 8, MaxSeqLen: 16, DocumentMask: true, TieEmbeddings: new(bool)}.Resolve()
}

func meshProgram(t testing.TB, devices int, c mesh.Config) *Program {
	t.Helper()
	be := backendtest.Devices(t, devices)
	m, err := mesh.New(be, c)
	if err != nil {
		t.Fatal(err)
	}
	n := model.NumericsFor(be, model.FP32)
	p, err := NewProgram(m, model.Decoder{Config: meshModel(), Numerics: n, Remat: model.RematNone}, loss.Head{Numerics: n, ChunkTokens: 64}, optim.Default())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Finalize)
	return p
}

// repeatingBatch has something to learn in it: each sequence counts up from a number, two documents in each.
func repeatingBatch(step uint64, m model.Config, sequences int) *feed.Batch {
	b := feed.NewBatch(sequences, m.MaxSeqLen)
	random := prng.New(3).SplitN(step)
	for i := range sequences {
		start := random.Uint64At(uint64(i))
		for j := range m.MaxSeqLen + 1 {
			b.Tokens[i*(m.MaxSeqLen+1)+j] = int32((start + uint64(j*(i%3+1))) % uint64(m.VocabSize))
		}
		for j := range m.MaxSeqLen {
			at := i*m.MaxSeqLen + j
			b.Weights[at] = 1 / float32(sequences*m.MaxSeqLen)
			b.Segments[at], b.Positions[at] = int32(1+j/10), int32(j%10)
		}
	}
	return b
}

// meshLosses trains on batches of eight sequences, whole or in parts, and returns the losses.
func meshLosses(t *testing.T, p *Program, s *State, steps int, micro int) []float64 {
	t.Helper()
	var losses []float64
	for step := range steps {
		b := repeatingBatch(uint64(step), p.decoder.Config, 8)
		batches := []*feed.Batch{b}
		if micro > 1 {
			batches = cut(b, 8/micro)
		}
		m, err := p.Step(s, batches, 0.01, spike.None)
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, float64(m.Loss))
	}
	return losses
}

// TestMeshLosses: fifty steps on every kind of grid, cut into micro-batches or not, give one device's losses, and weights
// that go back to one device and on from there.
func TestMeshLosses(t *testing.T) {
	one := meshProgram(t, 1, mesh.Default())
	start := initState(t, one, 1)
	host := snapshot(t, start)
	want := meshLosses(t, one, start, 50, 1)
	if !(want[49] < want[0]-1) {
		t.Fatalf("nothing is learnt: %.3f to %.3f", want[0], want[49])
	}
	for _, c := range []struct {
		mesh.Config
		micro int
	}{
		{mesh.Config{Data: 4, FSDP: 1, Tensor: 1}, 1},
		{mesh.Config{Data: 1, FSDP: 4, Tensor: 1}, 1},
		{mesh.Config{Data: 1, FSDP: 1, Tensor: 2}, 1},
		{mesh.Config{Data: 2, FSDP: 2, Tensor: 1}, 1},
		{mesh.Config{Data: 1, FSDP: 2, Tensor: 2}, 2},
		{mesh.Config{Data: 2, FSDP: 2, Tensor: 2}, 1},
	} {
		t.Run(c.String(), func(t *testing.T) {
			p := meshProgram(t, c.Data*c.FSDP*c.Tensor, c.Config)
			s, err := Restore(p.mesh, p.Layout(), host)
			if err != nil {
				t.Fatal(err)
			}
			if names := differing(host, snapshot(t, s)); names != nil {
				t.Fatalf("cutting and joining changed %v", names)
			}
			got := meshLosses(t, p, s, 49, c.micro)
			back, err := Restore(one.mesh, one.Layout(), snapshot(t, s))
			if err != nil {
				t.Fatal(err)
			}
			m, err := one.Step(back, []*feed.Batch{repeatingBatch(49, one.decoder.Config, 8)}, 0.01, spike.None)
			if err != nil {
				t.Fatal(err)
			}
			for i, loss := range append(got, float64(m.Loss)) {
				if !(math.Abs(loss-want[i]) <= 1e-3) {
					t.Fatalf("step %d: loss %.6f, on one device %.6f", i, loss, want[i])
				}
			}
		})
	}
}

// TestMeshMemory: under FSDP each device holds its share of parameters and optimizer state, and the compiled step takes no
// more than that; gains and counters, which are copied, are all that is over.
func TestMeshMemory(t *testing.T) {
	for _, n := range []int{1, 2, 4, 8} {
		p := meshProgram(t, n, mesh.Config{Data: 1, FSDP: n, Tensor: 1})
		s := initState(t, p, 1)
		copied, whole := int64(0), p.Layout().Bytes()
		for _, spec := range p.Layout().Specs {
			if spec.Rule == nil {
				copied += spec.Shape.ByteSize()
			}
		}
		for d := range n {
			own := int64(0)
			for _, tensor := range s.on(d) {
				own += tensor.Shape().ByteSize()
			}
			if want := (whole-copied)/int64(n) + copied; own != want || copied*20 > whole {
				t.Errorf("device %d of %d holds %d bytes of a state of %d (%d of them copied), want %d", d, n, own, whole, copied, want)
			}
		}
		s.Finalize()
	}
}

// TestMeshDiagnose: what a batch does to a model is the same however many devices look at it.
func TestMeshDiagnose(t *testing.T) {
	batches := cut(repeatingBatch(0, meshModel(), 8), 4)
	diagnose := func(p *Program) Diagnosis {
		d, err := p.Diagnose(initState(t, p, 1), batches)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	want := diagnose(meshProgram(t, 1, mesh.Default()))
	got := diagnose(meshProgram(t, 4, mesh.Config{Data: 1, FSDP: 2, Tensor: 2}))
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(1e-4, 1e-6)); diff != "" {
		t.Error(diff)
	}
}
