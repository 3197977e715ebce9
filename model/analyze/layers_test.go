package analyze

import (
	"math"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/model"

	"github.com/gomlx/gomlx/core/tensors"
)

const seqLen = 8

// decoder is tiny; its embeddings are ±1, so that every token's vector has the same length.
func decoder(t *testing.T, layers int) (model.Decoder, map[string][]float32, func() []*tensors.Tensor) {
	t.Helper()
	c := model.Config{VocabSize: 16, DModel: 8, NumLayers: layers, NumHeads: 1, HeadDim: 8, DimModelBase: 8, MaxSeqLen: seqLen}.Resolve()
	d := model.Decoder{Config: c, Numerics: model.NumericsFor(backendtest.CPU(t), model.FP32)}
	w := map[string][]float32{}
	for i, p := range c.Params() {
		w[p.Name] = backendtest.Normal(uint64(i), int(p.Size()))
		if p.Role == model.Gain {
			for j := range w[p.Name] {
				w[p.Name][j] = 1
			}
		}
	}
	for i, v := range w["embed"] {
		w["embed"][i] = float32(math.Copysign(1, float64(v)))
	}
	return d, w, func() []*tensors.Tensor {
		var list []*tensors.Tensor
		for _, p := range c.Params() {
			list = append(list, tensors.FromFlatDataAndDimensions(w[p.Name], p.Shape...))
		}
		return list
	}
}

// batch has sequences of one token each, repeated, so that attention returns the token's own value; the last position is padding.
func batch(sequences int) Batch {
	b := Batch{Sequences: sequences, SeqLen: seqLen}
	for i := range sequences {
		for j := range seqLen {
			b.Tokens = append(b.Tokens, int32(i%16))
			b.Counted = append(b.Counted, j < seqLen-1)
			b.Nats = append(b.Nats, float32(i*seqLen+j))
		}
	}
	return b
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: %g, want %g", what, got, want)
	}
}

// TestIdentityAndNegation: a layer that does nothing has cosine 1, one that turns everything round −1, exactly for every token.
func TestIdentityAndNegation(t *testing.T) {
	d, w, params := decoder(t, 2)
	clear(w["layer.0.wo"])
	clear(w["layer.0.w_down"])
	clear(w["layer.1.w_down"])
	identity := func(name string, scale float64) {
		clear(w[name])
		for i := range d.DModel {
			w[name][i*d.DModel+i] = float32(scale)
		}
	}
	// x + s·Wo·Wv·x/rms = −x for Wv = 1, Wo = −2·rms/s. Embeddings have rms = scale_emb.
	identity("layer.1.wv", 1)
	identity("layer.1.wo", -2*d.ScaleEmb/(d.ScaleDepth/math.Sqrt(float64(d.NumLayers))))
	l, err := NewLayers(backendtest.CPU(t), d)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Finalize()
	if err := l.Add(params(), batch(6)); err != nil {
		t.Fatal(err)
	}
	r := l.Report()
	if r.Tokens != 6*(seqLen-1) {
		t.Errorf("%d tokens, want those that are no padding", r.Tokens)
	}
	for i, want := range []float64{1, -1} {
		got := r.Layers[i]
		near(t, "mean cosine", got.Cosine.Mean, want, 1e-5)
		near(t, "quantile 1%", got.Cosine.Q01, want, 1e-5)
		near(t, "quantile 90%", got.Cosine.Q90, want, 1e-5)
		near(t, "influence", got.Influence, 1-want, 1e-5)
		near(t, "attention", got.Attention.Mean, want, 1e-5)
		near(t, "feed-forward", got.FeedForward.Mean, 1, 1e-5)
		for _, parts := range [][]float64{got.ByPosition, got.ByFrequency, got.ByDifficulty} {
			for _, v := range parts {
				near(t, "part", v, want, 1e-5)
			}
		}
	}
	near(t, "angle of the identity", r.Angular[0][1], 0, 1e-3) // arccos is steep at 1: √(2·1e-7)/π
	near(t, "angle of the negation", r.Angular[1][2], 1, 1e-3)
	near(t, "angle of both", r.Angular[2][0], 1, 1e-3)
	for _, p := range r.Points {
		near(t, "rms", p.RMS, d.ScaleEmb, 1e-3)
	}
	if n := len(r.Bins.Position); n != 4 || r.Bins.Position[3] != seqLen-2 {
		t.Errorf("parts by position: %v", r.Bins.Position)
	}
	if n := len(r.Bins.Frequency); n != 1 || r.Bins.Frequency[0] != seqLen-1 { // every token is seen as often
		t.Errorf("parts by frequency: %v", r.Bins.Frequency)
	}
}

// TestBatches: what is measured does not depend on how the text is cut into batches, and splits by difficulty are means of the
// tokens they name.
func TestBatches(t *testing.T) {
	d, _, params := decoder(t, 3)
	measure := func(batches ...Batch) (*Layers, Report) {
		l, err := NewLayers(backendtest.CPU(t), d)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Finalize)
		for _, b := range batches {
			if err := l.Add(params(), b); err != nil {
				t.Fatal(err)
			}
		}
		return l, l.Report()
	}
	whole := batch(4)
	copy(whole.Tokens, backendtest.Tokens(3, len(whole.Tokens), 16))
	half := func(from, to int) Batch {
		return Batch{Sequences: 2, SeqLen: seqLen, Tokens: whole.Tokens[from:to], Counted: whole.Counted[from:to], Nats: whole.Nats[from:to]}
	}
	l, one := measure(whole)
	_, two := measure(half(0, 2*seqLen), half(2*seqLen, 4*seqLen))
	for i := range one.Layers {
		near(t, "cosine", two.Layers[i].Cosine.Mean, one.Layers[i].Cosine.Mean, 1e-5)
	}
	for i := range one.Points {
		near(t, "rms", two.Points[i].RMS, one.Points[i].RMS, 1e-4*one.Points[i].RMS)
		near(t, "effective rank", two.Points[i].EffectiveRank, one.Points[i].EffectiveRank, 1e-2)
		for j := range one.Points {
			near(t, "angle", two.Angular[i][j], one.Angular[i][j], 1e-4)
		}
	}
	// Nats rise with the place in the batch, so the hardest quarter is the last seven tokens.
	sum, n := 0.0, len(l.tokens)
	for _, c := range l.cosines[2*3+1][n-7:] {
		sum += float64(c) / 7
	}
	near(t, "hardest quarter", one.Layers[1].ByDifficulty[3], sum, 1e-6)
}

// TestEffectiveRank: k directions of equal variance have rank k; with unequal ones it is exp of the shares' entropy.
func TestEffectiveRank(t *testing.T) {
	const d = 6
	rank := func(vectors ...[d]float64) float64 {
		sum, gram := make([]float64, d), make([]float64, d*d)
		for _, v := range vectors {
			for i := range d {
				sum[i] += v[i]
				for j := range d {
					gram[i*d+j] += v[i] * v[j]
				}
			}
		}
		return effectiveRank(sum, gram, len(vectors))
	}
	near(t, "three axes", rank([d]float64{1}, [d]float64{-1}, [d]float64{0, 1}, [d]float64{0, -1}, [d]float64{0, 0, 1}, [d]float64{0, 0, -1}), 3, 1e-6)
	near(t, "one axis off the origin", rank([d]float64{1, 5, 5}, [d]float64{-1, 5, 5}), 1, 1e-6)
	p, q := 2./3, 1./3
	near(t, "two axes, twice as long", rank([d]float64{2}, [d]float64{-2}, [d]float64{0, 1}, [d]float64{0, -1}), math.Exp(-p*math.Log(p)-q*math.Log(q)), 1e-6)
}
