package generate

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/internal/prng"
	"pretrain/model"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

const vocab, window = 61, 32

// reference is generation by its definition: each token runs the whole forward pass of training over the window, and the
// host draws from the logits after sorting them.
type reference struct {
	t      *testing.T
	params []*tensors.Tensor
	exec   *g.Exec
}

// tiny is the first of the decoders, loaded once.
func tiny(t *testing.T) (*Generator, *reference) {
	t.Helper()
	tinyOnce.Do(func() { tinyGenerator, tinyReference = load(t, backendtest.CPU(t), decoders["mup, tied"]) })
	ref := *tinyReference
	ref.t = t
	return tinyGenerator, &ref
}

var (
	tinyOnce      sync.Once
	tinyGenerator *Generator
	tinyReference *reference
)

// load is a tiny model of random weights: a generator and the reference for it.
func load(t *testing.T, be compute.Backend, c model.Config) (*Generator, *reference) {
	t.Helper()
	c.VocabSize, c.MaxSeqLen, c.DimModelBase, c.DocumentMask = vocab, window, 8, true
	c = c.Resolve()
	decoder := model.Decoder{Config: c, Numerics: model.NumericsFor(be, model.FP32), Remat: model.RematNone}
	s, err := New(be, decoder)
	if err != nil {
		t.Fatal(err)
	}
	r := &reference{t: t}
	for i, p := range c.Params() {
		r.params = append(r.params, backendtest.NormalTensor(uint64(i), p.Shape...))
	}
	r.params = append(r.params, tensors.FromScalar(float32(0))) // a state has more after the parameters
	r.exec, err = g.NewExec(be, func(inputs []*g.Node) *g.Node {
		w := model.Weights{}
		for i, p := range c.Params() {
			w[p.Name] = inputs[1+i]
		}
		h, _ := decoder.Hidden(w, model.Input{Tokens: inputs[0]})
		return decoder.Logits(w, h)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

// logits are those of the token that follows seen.
func (r *reference) logits(seen []uint32) []float64 {
	tokens := make([]int32, window)
	for i, token := range seen {
		tokens[i] = int32(token)
	}
	args := []any{tensors.FromFlatDataAndDimensions(tokens, 1, window)}
	for _, p := range r.params[:len(r.params)-1] {
		args = append(args, p)
	}
	out, err := r.exec.Call(args...)
	if err != nil {
		r.t.Fatal(err)
	}
	all, err := tensors.CopyFlatData[float32](out[0])
	if err != nil {
		r.t.Fatal(err)
	}
	logits := make([]float64, vocab)
	for i := range logits {
		logits[i] = float64(all[(len(seen)-1)*vocab+i])
	}
	return logits
}

// draw picks a token as transformers does: penalty, temperature, top-k, top-p, min-p on the sorted probabilities.
func (o Sampling) draw(logits []float64, text []uint32, u float64) uint32 {
	l := slices.Clone(logits)
	if o.RepetitionPenalty != 0 {
		for i := range l {
			if slices.Contains(text, uint32(i)) {
				if l[i] > 0 {
					l[i] /= o.RepetitionPenalty
				} else {
					l[i] *= o.RepetitionPenalty
				}
			}
		}
	}
	best := slices.Index(l, slices.Max(l))
	if o.Temperature == 0 {
		return uint32(best)
	}
	p, order := make([]float64, len(l)), make([]int, len(l))
	for i := range l {
		p[i], order[i] = math.Exp((l[i]-l[best])/o.Temperature), i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[b], p[a]) })
	if o.TopK > 0 {
		for _, i := range order[min(o.TopK, len(order)):] {
			p[i] = 0
		}
	}
	total, sum := 0.0, 0.0
	for _, x := range p {
		total += x
	}
	for _, i := range order {
		if o.TopP > 0 && sum >= o.TopP*total {
			p[i] = 0
		}
		sum += p[i]
	}
	total = 0
	for i, x := range p {
		if x < o.MinP {
			p[i] = 0
		}
		total += p[i]
	}
	u *= total
	for i, x := range p {
		if u -= x; u < 0 {
			return uint32(i)
		}
	}
	return uint32(best)
}

// next continues a text, the whole window for every token.
func (r *reference) next(q Request) []uint32 {
	text := slices.Clone(q.Prompt)
	for i := range q.MaxTokens {
		seen := text
		if len(seen) > window {
			keep := window/2 + 1 + (len(seen)-window-1)%(window-window/2)
			seen = seen[len(seen)-keep:]
		}
		u := float64(q.Key.Uint64At(uint64(i))>>40) * 0x1p-24
		token := q.draw(r.logits(seen), text, u)
		if slices.Contains(q.Stop, token) {
			break
		}
		text = append(text, token)
	}
	return text[len(q.Prompt):]
}

func generated(t *testing.T, s *Generator, r *reference, requests ...Request) [][]uint32 {
	t.Helper()
	out, err := s.Generate(context.Background(), r.params, requests)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func prompt(seed uint64, n int) []uint32 {
	var p []uint32
	for _, token := range backendtest.Tokens(seed, n, vocab) {
		p = append(p, uint32(token))
	}
	return p
}

// shapes are decoders that differ in what a cache could get wrong.
var decoders = map[string]model.Config{
	"mup, tied":        {DModel: 16, NumLayers: 2, NumHeads: 2, HeadDim: 8},
	"gqa, untied":      {DModel: 16, NumLayers: 2, NumHeads: 4, NumKVHeads: 2, HeadDim: 4, TieEmbeddings: new(bool)},
	"standard, qknorm": {DModel: 16, NumLayers: 2, NumHeads: 2, HeadDim: 8, QKNorm: true, Parameterization: model.Standard},
	"sliding window":   {DModel: 16, NumLayers: 2, NumHeads: 4, NumKVHeads: 1, HeadDim: 4, SlidingWindow: 5, LogitSoftCap: 20, RopeScaling: 2},
}

// TestGreedy: with the cache a text is, token for token, what the whole forward pass gives; for prompts of different
// lengths in one batch, one of them longer than the window, and for texts that fill the window several times.
func TestGreedy(t *testing.T) {
	for name, c := range decoders {
		t.Run(name, func(t *testing.T) {
			s, ref := load(t, backendtest.CPU(t), c)
			if name == "mup, tied" {
				s, ref = tiny(t)
			}
			var requests []Request
			for i, n := range []int{1, 2, 7, window, window + 1, 3 * window} {
				requests = append(requests, Request{Prompt: prompt(uint64(i), n), MaxTokens: []int{80, 3, 40}[i%3]})
			}
			for i, got := range generated(t, s, ref, requests...) {
				if want := ref.next(requests[i]); !slices.Equal(got, want) {
					t.Errorf("prompt of %d tokens:\n got %v\nwant %v", len(requests[i].Prompt), got, want)
				}
				if n := len(slices.Compact(slices.Sorted(slices.Values(got)))); n < 2 {
					t.Errorf("prompt of %d tokens: only %d different tokens: this proves little", len(requests[i].Prompt), n)
				}
			}
		})
	}
}

// TestSampling: every way to draw picks the token that the reference picks from sorted probabilities with the same uniform
// number; rows of a batch do not disturb one another.
func TestSampling(t *testing.T) {
	s, ref := tiny(t)
	ways := []Sampling{
		{Temperature: 1}, {Temperature: 3}, {Temperature: 4, TopK: 5}, {Temperature: 4, TopK: 1}, {Temperature: 4, TopK: 1000},
		{Temperature: 3, TopP: 0.7}, {Temperature: 3, TopP: 0.001}, {Temperature: 4, MinP: 0.2}, {Temperature: 4, TopK: 20, TopP: 0.8, MinP: 0.1},
		{RepetitionPenalty: 1.5}, {Temperature: 2, RepetitionPenalty: 3, TopP: 0.95}, {},
	}
	var requests []Request
	for i, way := range ways {
		requests = append(requests, Request{Prompt: prompt(uint64(i), 4), MaxTokens: 40, Sampling: way, Key: prng.New(7).SplitN(uint64(i))})
	}
	for i, got := range generated(t, s, ref, requests...) {
		if want := ref.next(requests[i]); !slices.Equal(got, want) {
			t.Errorf("%+v:\n got %v\nwant %v", ways[i], got, want)
		}
	}
	// Without filters another program runs.
	if got, want := generated(t, s, ref, requests[0])[0], ref.next(requests[0]); !slices.Equal(got, want) {
		t.Errorf("alone:\n got %v\nwant %v", got, want)
	}
	other := requests[0]
	other.Key = prng.New(8)
	if slices.Equal(generated(t, s, ref, other)[0], generated(t, s, ref, requests[0])[0]) {
		t.Error("two keys give one text")
	}
}

// TestFrequencies: the first token of 20,000 rows with keys of their own fits the softmax by the chi-squared test.
func TestFrequencies(t *testing.T) {
	s, ref := tiny(t)
	const n, temperature = 20_000, 6
	requests := make([]Request, n)
	for i := range requests {
		requests[i] = Request{Prompt: []uint32{5, 9}, MaxTokens: 1, Sampling: Sampling{Temperature: temperature}, Key: prng.New(3).SplitN(uint64(i))}
	}
	counts := make([]float64, vocab)
	for _, text := range generated(t, s, ref, requests...) {
		counts[text[0]]++
	}
	logits := ref.logits([]uint32{5, 9})
	total, chi := 0.0, 0.0
	for _, l := range logits {
		total += math.Exp(l / temperature)
	}
	rare, rareWant := 0.0, 0.0
	for i, l := range logits {
		want := n * math.Exp(l/temperature) / total
		if want < 5 { // too few for the test's approximation
			rare, rareWant = rare+counts[i], rareWant+want
			continue
		}
		chi += (counts[i] - want) * (counts[i] - want) / want
	}
	if rareWant > 0 {
		chi += (rare - rareWant) * (rare - rareWant) / rareWant
	}
	if chi > 102.7 { // the 99.95th percentile with 60 degrees of freedom
		t.Errorf("chi-squared %.1f for counts %v", chi, counts)
	}
}

// TestStops: a stop token ends its row alone and is not in the text; limits differ from row to row.
func TestStops(t *testing.T) {
	s, ref := tiny(t)
	a, b := Request{Prompt: prompt(1, 3), MaxTokens: 70}, Request{Prompt: prompt(2, 5), MaxTokens: 20}
	texts := generated(t, s, ref, a, b)
	stop := texts[0][6]
	a.Stop = []uint32{vocab + 100, stop}
	got := generated(t, s, ref, a, b, Request{Prompt: []uint32{1}})
	if want := texts[0][:slices.Index(texts[0], stop)]; !slices.Equal(got[0], want) {
		t.Errorf("stopped: %v, want %v", got[0], want)
	}
	if !slices.Equal(got[1], texts[1]) || len(got[2]) != 0 {
		t.Errorf("beside a stopped row: %v, %v", got[1], got[2])
	}
}

// TestStream: the tokens come in order, in several parts, and a row ends when it is told to.
func TestStream(t *testing.T) {
	s, ref := tiny(t)
	requests := []Request{{Prompt: prompt(1, 3), MaxTokens: 90}, {Prompt: prompt(2, 5), MaxTokens: 90}}
	want := generated(t, s, ref, requests...)
	got, calls := make([][]uint32, 2), 0
	err := s.Stream(context.Background(), ref.params, requests, func(i int, tokens []uint32) bool {
		got[i] = append(got[i], tokens...)
		calls++
		return i == 0 || len(got[i]) < 2
	})
	if err != nil || !slices.Equal(got[0], want[0]) || calls < 4 {
		t.Errorf("%v in %d calls, %v; want %v", got[0], calls, err, want[0])
	}
	if n := len(got[1]); n < 2 || n > 4 || !slices.Equal(got[1], want[1][:n]) {
		t.Errorf("told to end after two tokens: %v of %v", got[1], want[1])
	}
}

// TestGoBackend: GoMLX's own backend, which has no dynamic slices, gives the same texts.
func TestGoBackend(t *testing.T) {
	be, err := compute.NewWithConfig("go")
	if err != nil {
		t.Fatal(err)
	}
	defer be.Finalize()
	s, ref := load(t, be, decoders["gqa, untied"])
	requests := []Request{
		{Prompt: prompt(1, 3), MaxTokens: 40},
		{Prompt: prompt(2, 9), MaxTokens: 20, Sampling: Sampling{Temperature: 3, TopK: 9, TopP: 0.9, MinP: 0.01, RepetitionPenalty: 1.2}, Key: prng.New(1)},
	}
	for i, got := range generated(t, s, ref, requests...) {
		if want := ref.next(requests[i]); !slices.Equal(got, want) {
			t.Errorf("row %d:\n got %v\nwant %v", i, got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	s, ref := tiny(t)
	for name, q := range map[string]Request{
		"empty prompt": {MaxTokens: 1}, "foreign token": {Prompt: []uint32{vocab}, MaxTokens: 1}, "many stops": {Prompt: []uint32{1}, Stop: make([]uint32, MaxStops+1)},
	} {
		if _, err := s.Generate(context.Background(), ref.params, []Request{q}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Generate(ctx, ref.params, []Request{{Prompt: []uint32{1}, MaxTokens: 5}}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
