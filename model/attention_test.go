package model

import (
	"math"
	"slices"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/internal/goldenfile"

	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

type attentionCase struct {
	name            string
	kvHeads, window int
	segments        []int32
}

// views are the case's for q [2, H, 7, E].
func (c attentionCase) views(q *g.Node, block int) []view {
	var segments *g.Node
	if c.segments != nil {
		segments = constant(q, c.segments, 2, 7)
	}
	return views(q.Graph(), 7, block, c.window, segments)
}

var attentionCases = []attentionCase{
	{"causal", 4, 0, nil},
	{"grouped queries", 2, 0, nil},
	{"one key head", 1, 0, nil},
	{"window", 4, 3, nil},
	{"window of one", 4, 1, nil},
	{"window wider than the sequence", 2, 100, nil},
	{"documents", 4, 0, twoDocuments},
	{"documents, window, grouped queries", 2, 2, twoDocuments},
}

// naive is attention as its definition reads, in float64.
func naive(q, k, v []float32, batch, heads, kvHeads, seqLen, dim int, sees func(b, i, j int) bool) []float32 {
	out := make([]float32, len(q))
	for b := range batch {
		for h := range heads {
			at := func(x []float32, heads, head, i, e int) float64 { return float64(x[((b*heads+head)*seqLen+i)*dim+e]) }
			kv := h / (heads / kvHeads)
			for i := range seqLen {
				weights, total := make([]float64, seqLen), 0.0
				for j := range seqLen {
					if !sees(b, i, j) {
						continue
					}
					score := 0.0
					for e := range dim {
						score += at(q, heads, h, i, e) * at(k, kvHeads, kv, j, e)
					}
					weights[j] = math.Exp(score / math.Sqrt(float64(dim)))
					total += weights[j]
				}
				for e := range dim {
					sum := 0.0
					for j, w := range weights {
						if w > 0 {
							sum += w / total * at(v, kvHeads, kv, j, e)
						}
					}
					out[((b*heads+h)*seqLen+i)*dim+e] = float32(sum)
				}
			}
		}
	}
	return out
}

func TestAttendIsTheDefinition(t *testing.T) {
	const batch, heads, seqLen, dim = 2, 4, 7, 6
	for _, c := range attentionCases {
		t.Run(c.name, func(t *testing.T) {
			blocks := []int{7, 3} // one; the last of three has one query
			exec := g.MustNewExec(backendtest.CPU(t), func(q, k, v *g.Node) (outs []*g.Node) {
				for _, block := range blocks {
					o, _ := fp32.attend(q, k, v, c.views(q, block))
					outs = append(outs, o)
				}
				return outs
			})
			defer exec.Finalize()
			q, k, v := normal(11, batch, heads, seqLen, dim), normal(12, batch, c.kvHeads, seqLen, dim), normal(13, batch, c.kvHeads, seqLen, dim)
			got := exec.MustCall(q, k, v)
			flat := tensors.MustCopyFlatData[float32]
			want := naive(flat(q), flat(k), flat(v), batch, heads, c.kvHeads, seqLen, dim, func(b, i, j int) bool {
				return j <= i && (c.window == 0 || i-j < c.window) && (c.segments == nil || c.segments[b*seqLen+i] == c.segments[b*seqLen+j])
			})
			for i, block := range blocks {
				if d := goldenfile.Distance(flat(got[i]), want); d > 1e-6 {
					t.Errorf("blocks of %d: differs by %.2g", block, d)
				}
			}
		})
	}
}

// TestHiddenTokensHaveNoInfluence changes one token and looks where the hidden states change: exactly in the later
// positions of its document, within reach of the window, and bit for bit nowhere else.
func TestHiddenTokensHaveNoInfluence(t *testing.T) {
	const seqLen, vocab = 16, 31
	segments := []int32{1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3}
	positions := []int32{0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4}
	for _, c := range []struct {
		name         string
		documents    bool
		window, deep int // deep layers widen a window's reach: each adds window-1
		numerics     Numerics
	}{
		{"causal", false, 0, 1, fp32},
		{"documents", true, 0, 1, fp32},
		{"documents in bf16", true, 0, 1, NumericsFor(backendtest.CPU(t), BF16)},
		{"window", false, 3, 2, fp32},
		{"window and documents", true, 2, 1, fp32},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := Config{VocabSize: vocab, DModel: 16, NumLayers: c.deep, NumHeads: 2, HeadDim: 8, MaxSeqLen: seqLen, DocumentMask: c.documents, SlidingWindow: c.window}.Resolve()
			m := Decoder{Config: config, Numerics: c.numerics, Remat: RematNone}
			params := config.Params()
			exec := g.MustNewExec(backendtest.CPU(t), func(in []*g.Node) *g.Node {
				w := Weights{}
				for i, p := range params {
					w[p.Name] = g.MulScalar(in[1+i], 0.3) // attention that is not all on one key
				}
				h, _ := m.Hidden(w, Input{Tokens: in[0], Segments: constant(in[0], segments, 1, seqLen), Positions: constant(in[0], positions, 1, seqLen)})
				return h
			})
			defer exec.Finalize()
			tokens := backendtest.Tokens(5, seqLen, vocab)
			hidden := func(tokens []int32) []float32 {
				args := []any{tensors.FromFlatDataAndDimensions(tokens, 1, seqLen)}
				for i, p := range params {
					args = append(args, normal(uint64(200+i), p.Shape...))
				}
				return tensors.MustCopyFlatData[float32](exec.MustCall(args...)[0])
			}
			before := hidden(tokens)
			for place := range seqLen {
				other := slices.Clone(tokens)
				other[place] = (other[place] + 1) % vocab
				after := hidden(other)
				for i := range seqLen {
					reach := seqLen
					if c.window > 0 {
						reach = c.deep * (c.window - 1)
					}
					want := i >= place && i-place <= reach && (!c.documents || segments[i] == segments[place])
					changed := !slices.Equal(before[i*16:(i+1)*16], after[i*16:(i+1)*16])
					// Rounded to bf16 a small influence can vanish; a forbidden one must not be there in any precision.
					if changed != want && (changed || c.numerics == fp32) {
						t.Errorf("changing token %d: hidden state %d changed %v, want %v", place, i, changed, want)
					}
				}
			}
		})
	}
}

// TestDocumentsStandAlone: a document masked off in the middle of a sequence is computed as one that stands alone.
func TestDocumentsStandAlone(t *testing.T) {
	const vocab = 31
	config := Config{VocabSize: vocab, DModel: 16, NumLayers: 1, NumHeads: 2, HeadDim: 8, MaxSeqLen: 9, DocumentMask: true}.Resolve()
	m := Decoder{Config: config, Numerics: fp32, Remat: RematNone}
	params := config.Params()
	tokens := backendtest.Tokens(6, 9, vocab)
	exec := g.MustNewExec(backendtest.CPU(t), func(in []*g.Node) []*g.Node {
		w := Weights{}
		for i, p := range params {
			w[p.Name] = in[i]
		}
		packed, _ := m.Hidden(w, Input{
			Tokens:   constant(in[0], tokens, 1, 9),
			Segments: constant(in[0], []int32{1, 1, 1, 1, 2, 2, 2, 2, 2}, 1, 9), Positions: constant(in[0], []int32{0, 1, 2, 3, 0, 1, 2, 3, 4}, 1, 9),
		})
		alone, _ := m.Hidden(w, Input{Tokens: constant(in[0], tokens[4:], 1, 5)})
		return []*g.Node{g.SliceAxis(packed, 0, g.AxisRange(4)), alone}
	})
	defer exec.Finalize()
	var args []any
	for i, p := range params {
		args = append(args, normal(uint64(300+i), p.Shape...))
	}
	out := exec.MustCall(args...)
	if d := goldenfile.Distance(tensors.MustCopyFlatData[float32](out[0]), tensors.MustCopyFlatData[float32](out[1])); d > 1e-5 {
		t.Errorf("differs by %.2g", d)
	}
}

// TestRotary holds the tables against the definition in float64: pair (e, e+E/2) turned by position/scaling·theta^(-2e/E).
func TestRotary(t *testing.T) {
	const seqLen, dim, theta, scaling = 300, 8, 10000.0, 2.0
	exec := g.MustNewExec(backendtest.CPU(t), func(x *g.Node) *g.Node {
		positions := make([]int32, seqLen)
		for i := range positions {
			positions[i] = int32(7 * i)
		}
		return newRotary(constant(x, positions, seqLen), dim, theta, scaling).turn(x)
	})
	defer exec.Finalize()
	x := normal(14, 1, 1, seqLen, dim)
	got, in := tensors.MustCopyFlatData[float32](exec.MustCall(x)[0]), tensors.MustCopyFlatData[float32](x)
	want := make([]float32, len(in))
	for i := range seqLen {
		for e := range dim / 2 {
			sin, cos := math.Sincos(float64(7*i) / scaling * math.Pow(theta, -2*float64(e)/dim))
			a, b := float64(in[i*dim+e]), float64(in[i*dim+e+dim/2])
			want[i*dim+e], want[i*dim+e+dim/2] = float32(a*cos-b*sin), float32(b*cos+a*sin)
		}
	}
	if d := goldenfile.Distance(got, want); d > 1e-4 { // an angle of 1000 has 6e-5 of rounding in float32
		t.Errorf("differs by %.2g", d)
	}
	if !slices.Equal(got[:dim], in[:dim]) {
		t.Errorf("position 0 is turned: %v from %v", got[:dim], in[:dim])
	}
}
