package loss

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/internal/goldenfile"
	"pretrain/model"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"pgregory.net/rapid"
)

const tokens, dim, vocab = 12, 6, 17

// inputs are hidden states, a table, targets and weights, some of which are zero.
func inputs() []any {
	weights := make([]float32, tokens)
	for i := range weights {
		weights[i] = float32(i%4) / 18
	}
	return []any{
		backendtest.NormalTensor(1, tokens, dim), backendtest.NormalTensor(2, vocab, dim),
		tensors.FromFlatDataAndDimensions(backendtest.Tokens(3, tokens, vocab), tokens), tensors.FromFlatDataAndDimensions(weights, tokens),
	}
}

// plain is the loss as its definition reads, with all logits at once.
func plain(h Head, hidden, table, targets, weights *g.Node) (loss, z *g.Node) {
	logits := g.Einsum("nd,vd->nv", hidden, table)
	if h.SoftCap > 0 {
		logits = g.MulScalar(g.Tanh(g.DivScalar(logits, h.SoftCap)), h.SoftCap)
	}
	logZ := g.Log(g.ReduceSum(g.Exp(logits), -1))
	target := g.ReduceSum(g.Mul(logits, g.OneHot(targets, vocab, dtypes.Float32)), -1)
	loss = g.ReduceAllSum(g.Mul(weights, g.Sub(logZ, target)))
	return loss, g.MulScalar(g.ReduceAllSum(g.Mul(weights, g.Square(logZ))), h.ZLoss)
}

// gpu says of a CPU that it is a GPU: the program is that for one.
type gpu struct{ compute.Backend }

func (gpu) IsCPU() bool  { return false }
func (gpu) IsCUDA() bool { return true }

// TestLoss holds value and gradients, in chunks of tokens and blocks of the vocabulary of several sizes, against automatic differentiation of the definition.
func TestLoss(t *testing.T) {
	be := backendtest.CPU(t)
	chunkings := []int{0, tokens, 6, 5, 1} // 5: chunks of 4
	blocks := []int{vocab, 5}              // of the vocabulary; the last of 5 has 2
	for _, h := range []Head{{}, {SoftCap: 2}, {ZLoss: 0.05}, {SoftCap: 3, ZLoss: 0.05}, {SoftCap: 3, ZLoss: 0.05, Numerics: model.NumericsFor(gpu{be}, model.FP32)}} {
		t.Run(fmt.Sprintf("cap %g, z %g, GPU %t", h.SoftCap, h.ZLoss, h.Numerics.GPU()), func(t *testing.T) {
			if !h.Numerics.GPU() {
				h.Numerics = model.NumericsFor(be, model.FP32)
			}
			exec := g.MustNewExec(be, func(in []*g.Node) []*g.Node {
				loss, z := plain(h, in[0], in[1], in[2], in[3])
				grads := g.Gradient(g.Add(loss, z), in[0], in[1])
				out := []*g.Node{loss, z, grads[0], grads[1]}
				for i := range len(chunkings) + len(blocks) {
					h := h
					var r Result
					if i < len(chunkings) {
						h.ChunkTokens = chunkings[i]
						r = h.Loss(in[0], in[1], in[2], in[3])
					} else {
						r = h.blocked(in[0], in[1], in[2], in[3], blocks[i-len(chunkings)])
					}
					if (r.Z == nil) != (h.ZLoss == 0) {
						panic(fmt.Errorf("a z-loss of %g has node %v", h.ZLoss, r.Z))
					}
					if r.Z == nil {
						r.Z = g.ZerosLike(r.Loss)
					}
					out = append(out, r.Loss, r.Z, r.DHidden, r.DTable)
				}
				return out
			})
			defer exec.Finalize()
			out, err := exec.Call(inputs()...)
			if err != nil {
				t.Fatal(err)
			}
			for i, c := range append(slices.Clone(chunkings), blocks...) {
				for j, what := range []string{"loss", "z-loss", "gradient of the hidden states", "gradient of the table"} {
					want, got := tensors.MustCopyFlatData[float32](out[j]), tensors.MustCopyFlatData[float32](out[4*(1+i)+j])
					if d := goldenfile.Distance(got, want); !(d <= 1e-5) {
						t.Errorf("way %d, in parts of %d: %s differs by %.2g of its largest element", i, c, what, d)
					}
				}
			}
		})
	}
}

// TestChunksInBF16: rounding the operands of products is the same however the tokens are cut.
func TestChunksInBF16(t *testing.T) {
	be := backendtest.CPU(t)
	h := Head{Numerics: model.NumericsFor(be, model.BF16), ZLoss: 0.01}
	exec := g.MustNewExec(be, func(in []*g.Node) []*g.Node {
		whole := h.Loss(in[0], in[1], in[2], in[3])
		h.ChunkTokens = 4
		cut := h.Loss(in[0], in[1], in[2], in[3])
		blocks := h.blocked(h.Numerics.Narrow(in[0]), in[1], in[2], in[3], 5)
		return []*g.Node{whole.Loss, whole.DHidden, whole.DTable, cut.Loss, cut.DHidden, cut.DTable, blocks.Loss, blocks.DHidden, blocks.DTable}
	})
	defer exec.Finalize()
	out := exec.MustCall(inputs()...)
	for i := range 6 {
		if d := goldenfile.Distance(tensors.MustCopyFlatData[float32](out[3+i]), tensors.MustCopyFlatData[float32](out[i%3])); !(d <= 1e-5) {
			t.Errorf("output %d differs by %.2g", i, d)
		}
	}
}

// TestMaskedTokens: a target of weight 0 has no say, bit for bit, whatever it is.
func TestMaskedTokens(t *testing.T) {
	be := backendtest.CPU(t)
	h := Head{Numerics: model.NumericsFor(be, model.FP32), ChunkTokens: 4}
	exec := g.MustNewExec(be, func(in []*g.Node) []*g.Node {
		r := h.Loss(in[0], in[1], in[2], in[3])
		return []*g.Node{r.Loss, r.DHidden, r.DTable}
	})
	defer exec.Finalize()
	args := inputs()
	before := exec.MustCall(args...)
	other := backendtest.Tokens(3, tokens, vocab)
	for i := 0; i < tokens; i += 4 { // the weights that are 0
		other[i] = (other[i] + 5) % vocab
	}
	args[2] = tensors.FromFlatDataAndDimensions(other, tokens)
	after := exec.MustCall(args...)
	for i := range before {
		if !before[i].Equal(after[i]) {
			t.Errorf("output %d changed with a masked target", i)
		}
	}
	for i, v := range tensors.MustCopyFlatData[float32](after[1]) {
		if token := i / dim; token%4 == 0 && v != 0 {
			t.Errorf("masked token %d has gradient %g", token, v)
		}
	}
}

// TestPerToken sums to the loss, and a uniform model has ln V everywhere.
func TestPerToken(t *testing.T) {
	be := backendtest.CPU(t)
	h := Head{Numerics: model.NumericsFor(be, model.FP32), ChunkTokens: 5, SoftCap: 2}
	onGPU := h
	onGPU.Numerics = model.NumericsFor(gpu{be}, model.FP32)
	exec := g.MustNewExec(be, func(in []*g.Node) []*g.Node {
		loss, _ := plain(h, in[0], in[1], in[2], in[3])
		nats, best := h.Greedy(in[0], in[1], in[2])
		natsGPU, bestGPU := onGPU.Greedy(in[0], in[1], in[2])
		return []*g.Node{
			loss, g.ReduceAllSum(g.Mul(in[3], h.PerToken(in[0], in[1], in[2]))),
			h.PerToken(g.ZerosLike(in[0]), in[1], in[2]),
			nats, natsGPU, best, bestGPU,
		}
	})
	defer exec.Finalize()
	out := exec.MustCall(inputs()...)
	want, got := tensors.ToScalar[float32](out[0]), tensors.ToScalar[float32](out[1])
	if d := goldenfile.Distance([]float32{got}, []float32{want}); d > 1e-5 {
		t.Errorf("per-token losses sum to %g, the loss is %g", got, want)
	}
	if d := goldenfile.Distance(tensors.MustCopyFlatData[float32](out[4]), tensors.MustCopyFlatData[float32](out[3])); d > 1e-5 || !out[5].Equal(out[6]) {
		t.Errorf("as for a GPU losses differ by %g, the likeliest tokens are %v, not %v", d, out[6], out[5])
	}
	uniform := tensors.MustCopyFlatData[float32](out[2])
	if len(uniform) != tokens {
		t.Errorf("%d losses for %d tokens", len(uniform), tokens)
	}
	for i, v := range uniform {
		if math.Abs(float64(v)-math.Log(vocab)) > 1e-6 {
			t.Errorf("token %d: loss %g of a uniform model, want ln %d", i, v, vocab)
		}
	}
}

// TestChunks: chunks follow each other without gaps, none is larger than allowed, all but the last are of one size, and
// there are at most twice as many as necessary.
func TestChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := Head{ChunkTokens: rapid.IntRange(0, 600).Draw(t, "chunk")}
		tokens, vocab := rapid.IntRange(1, 5000).Draw(t, "tokens"), rapid.IntRange(1, 200_000).Draw(t, "vocab")
		most := h.ChunkTokens
		if most == 0 {
			most = AutoChunkBytes / (4 * vocab)
		}
		var sizes []int
		at := 0
		for start, size := range h.chunks(tokens, vocab) {
			if start != at || size < 1 || size > most {
				t.Fatalf("chunk %d is [%d, +%d), after %d, at most %d", len(sizes), start, size, at, most)
			}
			at += size
			sizes = append(sizes, size)
		}
		if at != tokens {
			t.Fatalf("%d of %d tokens", at, tokens)
		}
		for _, s := range sizes[:len(sizes)-1] {
			if s != sizes[0] {
				t.Fatalf("sizes %v", sizes)
			}
		}
		if fewest := (tokens + most - 1) / most; len(sizes) > 2*fewest {
			t.Fatalf("%d chunks where %d would do", len(sizes), fewest)
		}
	})
	count := 0
	for _, size := range (Head{}).chunks(4096, 122_753) {
		if size != 512 {
			t.Errorf("a chunk of %d tokens with MiniCPM's vocabulary", size)
		}
		count++
	}
	if count != 8 {
		t.Errorf("%d chunks", count)
	}
}
