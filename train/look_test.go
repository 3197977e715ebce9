package train

import (
	"context"
	"math"
	"testing"

	"pretrain/model"
	"pretrain/train/feed"
	"pretrain/train/spike"

	"github.com/gomlx/gomlx/core/tensors"
)

var noLimits = spike.Limits{Loss: math.Inf(1), GradNorm: math.Inf(1)}

// flat is everything of a list of tensors, one after the other.
func flat(t *testing.T, list []*tensors.Tensor) []float64 {
	t.Helper()
	var all []float64
	for _, x := range list {
		values, err := tensors.CopyFlatData[float32](x)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			all = append(all, float64(v))
		}
	}
	return all
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

func nearly(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 2e-3*math.Abs(want)) {
		t.Errorf("%s: %g, want %g", what, got, want)
	}
}

// TestNoiseSamples: a batch's sample has the squared norms of the whole's gradient and of its parts', each the mean over its
// tokens, and the groups are parts of the whole.
func TestNoiseSamples(t *testing.T) {
	p := tinyProgram(t)
	s := initState(t, p, 1)
	defer s.Finalize()
	b := randomBatch(5, 4)
	whole, err := p.Gradient(s, b.Split(2))
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Finalize()
	grad := flat(t, whole.sums[1:])
	small := 0.0
	for _, part := range b.Split(2) {
		alone := *part
		alone.Weights = make([]float32, len(part.Weights))
		for i, w := range part.Weights {
			alone.Weights[i] = 2 * w // the mean over its own tokens
		}
		g, err := p.Gradient(s, []*feed.Batch{&alone})
		if err != nil {
			t.Fatal(err)
		}
		if g.Noise != nil {
			t.Error("one part shows noise")
		}
		v := flat(t, g.sums[1:])
		small += dot(v, v) / 2
		g.Finalize()
	}
	all := whole.Noise[allGroups]
	nearly(t, "small", all.Small, small)
	nearly(t, "big", all.Big, dot(grad, grad))
	if all.SmallTokens != 2*tinySeqLen || all.BigTokens != 4*tinySeqLen {
		t.Errorf("tokens %+v", all)
	}
	sum := 0.0
	for _, role := range []model.Role{model.Embedding, model.Hidden, model.Gain, model.Output} {
		sum += whole.Noise[role.String()].Small
	}
	nearly(t, "groups together", sum, all.Small)
}

// TestLookAlong: two steps with a look end where two plain steps do, and what the look says of them is what their gradients and
// weights say on the host.
func TestLookAlong(t *testing.T) {
	p := tinyProgram(t)
	plain, looked := initState(t, p, 1), initState(t, p, 1)
	defer plain.Finalize()
	defer looked.Finalize()
	batches := [2]*feed.Batch{randomBatch(5, 4), randomBatch(6, 4)}
	n := p.layout.NumParams()
	var weights, grads [2][]float64
	for i, b := range batches {
		weights[i] = flat(t, plain.Tensors[:n])
		g, err := p.Gradient(plain, []*feed.Batch{b})
		if err != nil {
			t.Fatal(err)
		}
		grads[i] = flat(t, g.sums[1:])
		g.Finalize()
		step(t, p, plain, 0.01, b)
	}
	_, seen, before, err := p.lookStep(looked, batches[:1], 0.01, noLimits, nil, true)
	if err != nil || seen.looks != nil || before == nil {
		t.Fatalf("first step: %+v, %v, %v", seen, before, err)
	}
	_, seen, none, err := p.lookStep(looked, batches[1:], 0.01, noLimits, before, false)
	if err != nil || seen.looks == nil || none != nil {
		t.Fatalf("second step: %+v, %v, %v", seen, none, err)
	}
	before.finalize()
	got, want := flat(t, looked.Tensors[:n]), flat(t, plain.Tensors[:n])
	for i := range got {
		if math.Abs(got[i]-want[i]) > 1e-4 { // Adam divides by |g|: rounding of a small one is a part of the step of 0.01
			t.Fatalf("weight %d: %g after steps with a look, %g without", i, got[i], want[i])
		}
	}
	v := make([]float64, len(got))
	largest := 0.0
	for i := range v {
		v[i] = weights[1][i] - weights[0][i]
		largest = max(largest, math.Abs(v[i]))
	}
	l := seen.looks
	length := math.Sqrt(dot(v, v))
	slope, second := dot(grads[1], v)/length, (dot(grads[1], v)-dot(grads[0], v))/length/length
	nearly(t, "cosine", float64(l.GradCosine), dot(grads[0], grads[1])/math.Sqrt(dot(grads[0], grads[0])*dot(grads[1], grads[1])))
	nearly(t, "slope", float64(l.Slope), slope)
	nearly(t, "second derivative", float64(l.Second), second)
	nearly(t, "curvature", float64(l.Curvature), math.Abs(second)/math.Pow(1+slope*slope, 1.5))
	nearly(t, "largest update", float64(l.MaxUpdate), largest)
	nearly(t, "update ratio", float64(l.UpdateRatio[allGroups]), length/math.Sqrt(dot(weights[0], weights[0])))
}

// TestLooksOfARun: looks are filed with the second of their two steps, and the averages of the noise stay with the run.
func TestLooksOfARun(t *testing.T) {
	sink := &recorder{stopAfter: -1}
	r := tinyRun(t, sink, newStore(t), documents{count: 50})
	defer func() { r.State.Finalize() }()
	r.LookEvery = 4
	if err := r.Train(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, rec := range sink.records {
		if want := rec.Step > 4 && rec.Step%4 == 1; (rec.Looks != nil) != want {
			t.Errorf("step %d has a look: %v", rec.Step, !want)
		} else if want && (len(rec.Looks.NoiseScale) < 4 || !(rec.Looks.UpdateRatio[allGroups] > 0)) {
			t.Errorf("step %d: %+v", rec.Step, rec.Looks)
		}
	}
	if len(r.Loop.Noise) < 4 {
		t.Errorf("averages %v", r.Loop.Noise)
	}
}
