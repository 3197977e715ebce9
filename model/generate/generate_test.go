package generate

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/internal/prng"
	"pretrain/model"

	"github.com/gomlx/gomlx/core/tensors"
	"pgregory.net/rapid"
)

// TestDrawGreedy: temperature 0 takes the first of the largest, whatever the number.
func TestDrawGreedy(t *testing.T) {
	for _, u := range []float64{0, 0.5, 0.999} {
		if got := draw([]float32{-1, 3, 2, 3}, 0, u); got != 1 {
			t.Errorf("u %g: %d", u, got)
		}
	}
}

// TestDrawIsTheInverseDistribution: for u within a token's share of the softmax that token is drawn, at any temperature and
// however large the logits; so a token of no probability never is.
func TestDrawIsTheInverseDistribution(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		logits := rapid.SliceOfN(rapid.Float32Range(-8, 8), 1, 12).Draw(t, "logits")
		shift := rapid.SampledFrom([]float32{0, 1000, -1000}).Draw(t, "shift")
		temperature := rapid.Float64Range(0.2, 3).Draw(t, "temperature")
		u := rapid.Float64Range(0, 0.999999).Draw(t, "u")
		shifted := make([]float32, len(logits))
		for i, l := range logits {
			shifted[i] = l + shift
		}
		got := draw(shifted, temperature, u)
		total, before := 0.0, 0.0
		for i, l := range shifted {
			w := math.Exp((float64(l) - float64(shift)) / temperature)
			total += w
			if i < got {
				before += w
			}
		}
		own := math.Exp((float64(shifted[got]) - float64(shift)) / temperature)
		const slack = 1e-9
		if u < before/total-slack || u > (before+own)/total+slack {
			t.Fatalf("drew %d, whose share is [%g, %g), for %g", got, before/total, (before+own)/total, u)
		}
	})
	if got := draw([]float32{0, float32(math.Inf(-1)), 0}, 1, 0.5); got != 2 {
		t.Errorf("drew %d at the edge of a token of no probability", got)
	}
}

// TestDrawFrequencies: 20,000 draws of a stream fit softmax(logits/temperature) by the chi-squared test.
func TestDrawFrequencies(t *testing.T) {
	logits := []float32{1, 0, -1, 2, 0.5}
	const n, temperature = 20_000, 0.8
	counts := make([]float64, len(logits))
	key := prng.New(3).Split("sample")
	for i := range uint64(n) {
		counts[draw(logits, temperature, key.Float64At(i))]++
	}
	total, chi := 0.0, 0.0
	for _, l := range logits {
		total += math.Exp(float64(l) / temperature)
	}
	for i, l := range logits {
		want := n * math.Exp(float64(l)/temperature) / total
		chi += (counts[i] - want) * (counts[i] - want) / want
	}
	if chi > 18.5 { // the 99.9th percentile with 4 degrees of freedom
		t.Errorf("chi-squared %.1f for counts %v", chi, counts)
	}
}

const vocab, window = 23, 8

// generator is a tiny model of random weights.
func generator(t *testing.T) (*Generator, []*tensors.Tensor) {
	t.Helper()
	be := backendtest.CPU(t)
	m := model.Config{VocabSize: vocab, DModel: 8, NumLayers: 1, NumHeads: 2, HeadDim: 4, DimModelBase: 8, MaxSeqLen: window, DocumentMask: true}.Resolve()
	s, err := New(be, model.Decoder{Config: m, Numerics: model.NumericsFor(be, model.FP32), Remat: model.RematNone})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Finalize)
	var params []*tensors.Tensor
	for i, p := range m.Params() {
		params = append(params, backendtest.NormalTensor(uint64(i), p.Shape...))
	}
	return s, append(params, tensors.FromScalar(float32(0))) // a state has more after the parameters
}

func TestContinue(t *testing.T) {
	s, params := generator(t)
	ctx := context.Background()
	next := func(prompt []uint32, o Options) []uint32 {
		t.Helper()
		out, err := s.Continue(ctx, params, prompt, o)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	greedy := Options{Tokens: 20, Stop: -1}
	warm := Options{Tokens: 20, Stop: -1, Temperature: 1, Key: prng.New(1)}
	prompt := []uint32{3, 1, 4}

	text := next(prompt, greedy)
	if len(text) != 20 || !slices.Equal(text, next(prompt, greedy)) {
		t.Errorf("greedy: %v, then %v", text, next(prompt, greedy))
	}
	// One token at a time is the same text as long as the window holds it.
	for i := range window - len(prompt) {
		if got := next(slices.Concat(prompt, text[:i]), Options{Tokens: 1, Stop: -1}); got[0] != text[i] {
			t.Errorf("token %d is %d alone, %d in a row", i, got[0], text[i])
		}
	}
	sampled := next(prompt, warm)
	if !slices.Equal(sampled, next(prompt, warm)) {
		t.Error("the same key gives two texts")
	}
	other := warm
	other.Key = prng.New(2)
	if slices.Equal(sampled, next(prompt, other)) {
		t.Error("two keys give one text")
	}
	// The prompt is left as it was, also where it has room to append.
	roomy := append(make([]uint32, 0, 64), prompt...)
	next(roomy, greedy)
	if full := roomy[:cap(roomy)]; full[len(prompt)] != 0 {
		t.Errorf("the prompt's memory was written to: %v", full)
	}
	if got := next(prompt, Options{Tokens: 0, Stop: -1}); len(got) != 0 {
		t.Errorf("no tokens asked for: %v", got)
	}

	// The stop token ends the text and is not in it.
	first := slices.Index(text, text[4])
	stop := greedy
	stop.Stop = int64(text[4])
	if got := next(prompt, stop); !slices.Equal(got, text[:first]) {
		t.Errorf("stopped at %d: %v of %v", text[4], got, text)
	}
}

// TestWindow: a text that outgrows the window is continued from its newer part alone, as if the window had been halved
// each time that it was full.
func TestWindow(t *testing.T) {
	s, params := generator(t)
	next := func(prompt []uint32) uint32 {
		t.Helper()
		out, err := s.Continue(context.Background(), params, prompt, Options{Tokens: 1, Stop: -1})
		if err != nil {
			t.Fatal(err)
		}
		return out[0]
	}
	var text []uint32
	for _, token := range backendtest.Tokens(9, 4*window, vocab) {
		text = append(text, uint32(token))
	}
	seen, told := 0, 0
	for n := 1; n <= len(text); n++ {
		if seen == window {
			seen = window / 2
		}
		seen++
		got := next(text[:n])
		if want := next(text[n-seen : n]); got != want {
			t.Errorf("%d tokens give %d, their last %d give %d", n, got, seen, want)
		}
		if n > window && got != next(text[n-seen+1:n]) {
			told++
		}
	}
	if told < 3 {
		t.Errorf("only %d texts can tell one token more in the window from one less", told)
	}
}

func TestContinueErrors(t *testing.T) {
	s, params := generator(t)
	if _, err := s.Continue(context.Background(), params, nil, Options{Tokens: 1}); err == nil {
		t.Error("an empty prompt was continued")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if out, err := s.Continue(ctx, params, []uint32{1}, Options{Tokens: 5, Stop: -1}); !errors.Is(err, context.Canceled) || len(out) != 0 {
		t.Errorf("cancelled: %v, %v", out, err)
	}
}
