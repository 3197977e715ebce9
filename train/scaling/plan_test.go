package scaling

import (
	"math"
	"strings"
	"testing"

	"pretrain/internal/gpu"
	"pretrain/model"
	"pretrain/train/mesh"
)

// TestShapeFor: presets are found, everything between is hit within some percent, in shapes that a tensor core and eight devices
// take whole.
func TestShapeFor(t *testing.T) {
	for name := range model.Presets {
		m := model.Config{Preset: name, VocabSize: 122880}.Resolve()
		if got := ShapeFor(m.FLOPsPerToken().Total(), 122880, 4096); got.Preset != name {
			t.Errorf("preset %s: got %q", name, got.Preset)
		}
	}
	for flops := 1e8; flops < 5e12; flops *= 1.7 {
		s := ShapeFor(flops, 32768, 2048)
		m := s.Model
		if err := m.Validate(); err != nil {
			t.Errorf("%.3g: %v", flops, err)
		}
		if off := m.FLOPsPerToken().Total() / flops; math.Abs(off-1) > nearPreset {
			t.Errorf("%.3g: the shape has %.3f times the FLOPs", flops, off)
		}
		if s.Preset != "" {
			continue
		}
		if ratio := float64(m.DModel) / float64(m.NumLayers) / aspect(float64(m.Count().NonEmbedding)); ratio < 0.6 || ratio > 1.7 {
			t.Errorf("%.3g: width %d over layers %d", flops, m.DModel, m.NumLayers)
		}
		if m.DModel%64 != 0 || m.DFF%32 != 0 || m.NumHeads*m.HeadDim != m.DModel || m.DModel >= 4096 && (m.NumHeads%8 != 0 || m.NumKVHeads != 8) {
			t.Errorf("%.3g: %+v", flops, m)
		}
	}
}

func TestMemory(t *testing.T) {
	m := model.Config{Preset: "minicpm-2.4b"}.Resolve()
	whole, cut := EstimateMemory(m, mesh.Config{Data: 1, FSDP: 1, Tensor: 1}, 1), EstimateMemory(m, mesh.Config{Data: 1, FSDP: 8, Tensor: 1}, 1)
	if n := float64(m.Count().Total); whole.Weights != 4*n || whole.Optimizer != 8*n || whole.Gradients != 4*n || cut.Weights != n/2 {
		t.Errorf("whole %+v, cut %+v", whole, cut)
	}
	if more := EstimateMemory(m, mesh.Config{Data: 1, FSDP: 1, Tensor: 1}, 4); more.Activations != 4*whole.Activations || more.Total <= whole.Total {
		t.Errorf("four sequences: %+v, one: %+v", more, whole)
	}
	for _, c := range []struct {
		devices int
		bytes   float64
		want    mesh.Config
	}{
		{1, 80e9, mesh.Config{Data: 1, FSDP: 1, Tensor: 1}},  // 44 GB of state, gradients included
		{8, 80e9, mesh.Config{Data: 8, FSDP: 1, Tensor: 1}},  // data parallel is all it takes
		{8, 24e9, mesh.Config{Data: 2, FSDP: 4, Tensor: 1}},  // as few devices to a copy as fit
		{6, 24e9, mesh.Config{Data: 2, FSDP: 3, Tensor: 1}},  // all are used, whatever their number
		{16, 16e9, mesh.Config{Data: 2, FSDP: 8, Tensor: 1}}, // more of them
	} {
		grid, sequences, memory, err := FitMesh(m, c.devices, c.bytes, 64)
		if err != nil || grid != c.want || sequences < 1 || memory.Total > usable*c.bytes {
			t.Errorf("%d devices of %v bytes: %+v, %d sequences, %v bytes, %v; want %+v", c.devices, c.bytes, grid, sequences, memory.Total, err, c.want)
		}
	}
	if _, _, _, err := FitMesh(m, 1, 24e9, 1); err == nil || !strings.Contains(err.Error(), "do not hold a model of 2.72B parameters") {
		t.Errorf("one small device: %v", err)
	}
}

func request(t *testing.T) Request {
	t.Helper()
	h100, err := gpu.ByKey("h100")
	if err != nil {
		t.Fatal(err)
	}
	return Request{GPUs: 300, GPU: h100, Days: 60, MFU: 0.4, Vocab: 122880, SeqLen: 4096, Law: Published[0]}
}

// TestTheQuestion: 300 GPUs, two months, a trillion tokens.
func TestTheQuestion(t *testing.T) {
	r := request(t)
	r.Tokens = 1e12
	p, err := Make(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := 300 * 60 * 86400 * 0.4 * 989.5e12; !near(p.Available, want, 1e-12) || !near(p.Training, p.Available, 0.03) {
		t.Errorf("%v FLOPs of %v, want %v", p.Training, p.Available, want)
	}
	if !near(p.Hours, 1440, 0.03) || !near(p.GPUHours, 300*p.Hours, 1e-12) || !near(p.Cost, 2.5*p.GPUHours, 1e-12) || !near(p.Energy, 700e-6*p.GPUHours, 1e-12) {
		t.Errorf("%v hours, %v GPU-hours, $%v, %v MWh", p.Hours, p.GPUHours, p.Cost, p.Energy)
	}
	if !near(p.D, 1e12, 1e-3) || p.D != float64(p.Steps*p.BatchSize) || p.BatchSize > maxBatch || !near(p.Warmup+p.Stable+p.Decay, p.D, 1e-12) {
		t.Errorf("%v tokens in %d steps of %d; phases %v %v %v", p.D, p.Steps, p.BatchSize, p.Warmup, p.Stable, p.Decay)
	}
	if m := p.Mesh; m.Data*m.FSDP*m.Tensor != 300 || p.Sequences%int64(m.Data*m.FSDP*p.MicroBatch) != 0 || p.Memory.Total > r.GPU.Bytes() {
		t.Errorf("mesh %+v, %d sequences, %v bytes", m, p.Sequences, p.Memory.Total)
	}
	if n := float64(p.NonEmbedding); n < 9e10 || n > 1.05e11 {
		t.Errorf("%v parameters", n)
	}
	// From the size found back to the tokens.
	r.Tokens, r.Params = 0, float64(p.NonEmbedding)
	back, err := Make(r)
	if err != nil || !near(back.D, 1e12, 0.04) || !near(float64(back.NonEmbedding), r.Params, 0.03) {
		t.Errorf("back: %v tokens, %v", back.D, err)
	}
}

// TestGiven: a size and a batch that are given are kept, whatever the vocabulary adds.
func TestGiven(t *testing.T) {
	r := request(t)
	r.GPUs, r.Tokens, r.Batch = 4, 1e9, 32_768
	for _, n := range []float64{1e7, 5e7, 3e8, 1e9} {
		r.Params = n
		p, err := Make(r)
		if err != nil || !near(float64(p.NonEmbedding), n, 0.11) || p.BatchSize != 32_768 {
			t.Errorf("%v parameters: %d, batch %d, %v", n, p.NonEmbedding, p.BatchSize, err)
		}
	}
	// As many GPUs as make a larger batch than the law wants are told so.
	r.GPUs, r.Params, r.Batch = 4096, 1e9, 0
	if p, err := Make(r); err != nil || !strings.Contains(strings.Join(p.Notes, "\n"), "every GPU takes a sequence at least") {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestByTheLaw: with neither tokens nor size the plan is the law's best, and a model that must be paid for in use is smaller.
func TestByTheLaw(t *testing.T) {
	r := request(t)
	p, err := Make(r)
	if err != nil || !near(p.N, p.Best.N, 0.05) || p.Loss > p.Best.Loss+3e-3 {
		t.Fatalf("%v parameters, best %v, %v", p.N, p.Best.N, err)
	}
	r.Inference = 1e13
	served, err := Make(r)
	if err != nil || served.N > 0.8*p.N || served.BestServed.N > 0.8*served.Best.N || !near(served.BestServed.N, served.N, 0.05) {
		t.Errorf("%v parameters with inference, %v without, %v", served.N, p.N, err)
	}
	if total := served.Training + served.FLOPsPerToken/3*r.Inference; !near(total, served.Available, 0.01) || !near(served.BestServed.D, served.D, 0.05) {
		t.Errorf("training and inference take %v FLOPs of %v", total, served.Available)
	}
}

// TestSensitivity: more MFU is a lower loss, and intervals of the exponents lie around the best size.
func TestSensitivity(t *testing.T) {
	p, err := Make(request(t))
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]Variation{}
	for _, v := range p.Sensitivity {
		by[v.What] = v
	}
	if len(by) != len(p.Sensitivity) || len(by) != 9 {
		t.Fatalf("%d variations of %d", len(by), len(p.Sensitivity))
	}
	for _, v := range p.Sensitivity {
		if !near(v.Ratio, v.D/v.N, 1e-12) || !(v.Loss > 0) {
			t.Errorf("%+v", v)
		}
	}
	if a, b := p.Sensitivity[0], p.Sensitivity[1]; !(a.Loss > p.Best.Loss && p.Best.Loss > b.Loss) {
		t.Errorf("loss %v with less MFU, %v with more, %v between", a.Loss, b.Loss, p.Best.Loss)
	}
	// A law with another exponent goes through the same centre.
	l := p.Law.with(0.3, 0.4)
	if a, b := l.Loss(p.Law.CentreN, p.Law.CentreD), p.Law.Loss(p.Law.CentreN, p.Law.CentreD); !near(a, b, 1e-12) {
		t.Errorf("%v at the centre, %v with other exponents", b, a)
	}
}

// TestParseFit: what a report writes is read back.
func TestParseFit(t *testing.T) {
	f, err := Run(toPoints(readGolden(t).Noisy.Points), Options{Bootstrap: 20})
	if err != nil {
		t.Fatal(err)
	}
	text, err := (&Report{Fit: f, Source: "here", Unit: nats, Convention: NonEmbedding.String()}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseFit(text)
	n, d := f.Centre()
	if err != nil || got.Law != f.Curve || got.Counts != NonEmbedding || got.Unit != nats || got.AlphaRange != [2]float64{f.Estimates[3].Low, f.Estimates[3].High} || got.CentreN != n || got.CentreD != d {
		t.Errorf("%+v, %v; want %+v", got, err, f.Curve)
	}
	for _, bad := range []string{"", "{}", `{"form":"kaplan","E":1,"A":1,"B":1,"alpha":1,"beta":1}`, `{"form":"chinchilla","E":1,"A":1,"B":1,"alpha":-1,"beta":1}`} {
		if _, err := ParseFit([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}
