package train

import (
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/internal/goldenfile"
	"pretrain/model"
	"pretrain/train/feed"
	"pretrain/train/loss"
	"pretrain/train/mesh"
	"pretrain/train/optim"
	"pretrain/train/spike"

	"github.com/goccy/go-yaml"
	"github.com/gomlx/compute"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// golden is one case of bench/golden: an independent PyTorch implementation's weights, batch, logits and gradients.
type golden struct {
	Model model.Config `yaml:"model"`
	ZLoss float64      `yaml:"z_loss"`
	AdamW *struct {
		LR          float64    `yaml:"lr"`
		ClipNorm    float64    `yaml:"clip_norm"`
		Steps       int        `yaml:"steps"`
		Betas       [2]float64 `yaml:"betas"`
		Eps         float64    `yaml:"eps"`
		WeightDecay float64    `yaml:"weight_decay"`
	} `yaml:"adamw"`
	goldenfile.File `yaml:"-"`
}

func loadGolden(t testing.TB, name string) golden {
	t.Helper()
	gold := golden{File: goldenfile.Load(t, filepath.Join("..", "bench", "golden", "data", name+".safetensors"))}
	if err := yaml.Unmarshal([]byte(gold.Config), &gold); err != nil {
		t.Fatal(err)
	}
	return gold
}

// weights are the case's parameters as a training state; slots and counters start at zero.
func (gold golden) state(t testing.TB, be compute.Backend, l Layout) *State {
	t.Helper()
	host := make([]HostTensor, len(l.Specs))
	for i, spec := range l.Specs {
		host[i] = HostTensor{TensorSpec: spec, Data: make([]byte, spec.Shape.ByteSize())}
		if name, ok := strings.CutPrefix(spec.Name, "param/"); ok {
			for j, v := range gold.F32[name] {
				binary.LittleEndian.PutUint32(host[i].Data[4*j:], math.Float32bits(v))
			}
		}
	}
	s, err := Restore(mesh.One(be), l, host)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// batch makes the training batch of stored tokens and targets, [B, T] each.
func (gold golden) batch(tokens, targets []int32) *feed.Batch {
	seqLen := gold.Model.MaxSeqLen
	b := &feed.Batch{SeqLen: seqLen, Sequences: len(tokens) / seqLen, Segments: gold.I32["segments"]}
	total := float32(0)
	for _, m := range gold.F32["mask"] {
		total += m
	}
	for s := range b.Sequences {
		row := tokens[s*seqLen : (s+1)*seqLen]
		b.Tokens = append(append(b.Tokens, row...), targets[(s+1)*seqLen-1])
		position := int32(0)
		for i := range row {
			if i > 0 && b.Segments[s*seqLen+i] != b.Segments[s*seqLen+i-1] {
				position = 0
			}
			b.Positions = append(b.Positions, position)
			position++
		}
	}
	for _, m := range gold.F32["mask"] {
		b.Weights = append(b.Weights, m/total)
	}
	return b
}

var goldenCases = []string{
	"mup_tied", "mup_untied_gqa", "llama_standard_untied", "llama_tied_gqa", "masked_documents", "zloss_softcap_qknorm", "sliding_window",
}

// TestParity holds logits, loss and every gradient against PyTorch in float32. That recomputing changes nothing is for the
// model's own tests; the case with the most in it is tried here, too.
func TestParity(t *testing.T) {
	be := backendtest.CPU(t)
	for _, name := range goldenCases {
		gold := loadGolden(t, name)
		remats := []model.Remat{model.RematNone}
		if name == "masked_documents" {
			remats = model.Remats
		}
		for _, remat := range remats {
			t.Run(name+"/"+string(remat), func(t *testing.T) { checkParity(t, be, gold, remat) })
		}
	}
}

func checkParity(t *testing.T, be compute.Backend, gold golden, remat model.Remat) {
	const tolerance = 1e-4
	n := model.NumericsFor(be, model.FP32)
	decoder := model.Decoder{Config: gold.Model.Resolve(), Numerics: n, Remat: remat}
	// A chunk smaller than the batch, so that the chunked loss is what is checked.
	head := loss.Head{Numerics: n, SoftCap: gold.Model.LogitSoftCap, ZLoss: gold.ZLoss, ChunkTokens: 16}
	p, err := NewProgram(mesh.One(be), decoder, head, optim.Default())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Finalize()
	state := gold.state(t, be, p.Layout())
	b := gold.batch(gold.I32["tokens"], gold.I32["targets"])
	names := p.Layout().Groups

	exec := g.MustNewExec(be, func(inputs []*g.Node) []*g.Node {
		micro, params := p.micro(inputs, nil), inputs[len(p.batchValues()):]
		lossTerms, grads := p.gradients(micro, params)
		hidden, _ := decoder.Hidden(p.weights(params), micro.Input)
		return append([]*g.Node{decoder.Logits(p.weights(params), hidden), lossTerms}, grads...)
	})
	defer exec.Finalize()
	args := p.batchArgs([]*feed.Batch{b}, 0)
	for _, w := range state.Tensors[:len(names)] {
		args = append(args, w)
	}
	out, err := exec.Call(args...)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, got *tensors.Tensor, want []float32) {
		t.Helper()
		if d := goldenfile.Distance(tensors.MustCopyFlatData[float32](got), want); !(d <= tolerance) {
			t.Errorf("%s differs from PyTorch by %.2g of its largest element, more than %g", what, d, tolerance)
		}
	}
	check("logits", out[0], gold.F32["logits"])
	terms := tensors.MustCopyFlatData[float32](out[1])
	if d := goldenfile.Distance(terms[:1], gold.F32["loss"]); d > tolerance {
		t.Errorf("loss %v, PyTorch %v", terms[0], gold.F32["loss"])
	}
	if gold.ZLoss > 0 {
		if d := goldenfile.Distance(terms[1:], gold.F32["z_loss"]); d > tolerance {
			t.Errorf("z-loss %v, PyTorch %v", terms[1], gold.F32["z_loss"])
		}
	}
	for i, gr := range names {
		check("gradient of "+gr.Param.Name, out[2+i], gold.F32["grad."+gr.Param.Name])
	}
}

// TestAdamWTenSteps holds the whole step (loss, gradient, clip, update) against PyTorch over ten steps, with the batch
// whole and cut into micro-batches.
func TestAdamWTenSteps(t *testing.T) {
	be := backendtest.CPU(t)
	for _, name := range []string{"mup_tied", "llama_standard_untied"} {
		for _, micro := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s/%d", name, micro), func(t *testing.T) {
				gold := loadGolden(t, name)
				o := optim.Default()
				o.ClipNorm, o.Betas, o.Eps, o.WeightDecay = gold.AdamW.ClipNorm, gold.AdamW.Betas, gold.AdamW.Eps, gold.AdamW.WeightDecay
				n := model.NumericsFor(be, model.FP32)
				p, err := NewProgram(mesh.One(be), model.Decoder{Config: gold.Model.Resolve(), Numerics: n, Remat: model.RematNone}, loss.Head{Numerics: n}, o)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Finalize()
				state := gold.state(t, be, p.Layout())
				size := len(gold.I32["adamw.tokens"]) / gold.AdamW.Steps
				for step := range gold.AdamW.Steps {
					part := func(k string) []int32 { return gold.I32["adamw."+k][step*size : (step+1)*size] }
					whole := &feed.Batch{Sequences: size / gold.Model.MaxSeqLen, SeqLen: gold.Model.MaxSeqLen}
					for i := range whole.Sequences {
						T := whole.SeqLen
						whole.Tokens = append(append(whole.Tokens, part("tokens")[i*T:(i+1)*T]...), part("targets")[(i+1)*T-1])
					}
					for range size {
						whole.Weights = append(whole.Weights, 1/float32(size))
					}
					m, err := p.Step(state, split(whole, micro), gold.AdamW.LR, spike.None)
					if err != nil {
						t.Fatal(err)
					}
					for _, c := range []struct {
						what      string
						got, want float32
					}{{"loss", m.Loss, gold.F32["adamw.loss"][step]}, {"gradient norm", m.GradNorm, gold.F32["adamw.grad_norm"][step]}} {
						if goldenfile.Distance([]float32{c.got}, []float32{c.want}) > 1e-4 {
							t.Errorf("step %d: %s %v, PyTorch %v", step, c.what, c.got, c.want)
						}
					}
					if step == 0 || step == gold.AdamW.Steps-1 {
						for i, gr := range p.Layout().Groups {
							want := gold.F32[fmt.Sprintf("adamw%d.%s", step+1, gr.Param.Name)]
							if d := goldenfile.Distance(tensors.MustCopyFlatData[float32](state.Tensors[i]), want); d > 1e-4 {
								t.Errorf("after step %d %s differs from PyTorch's by %.2g of its largest element", step, gr.Param.Name, d)
							}
						}
					}
				}
			})
		}
	}
}

// split cuts a batch into equal micro-batches.
func split(b *feed.Batch, parts int) []*feed.Batch {
	per := b.Sequences / parts
	var out []*feed.Batch
	for i := range parts {
		out = append(out, &feed.Batch{
			Sequences: per, SeqLen: b.SeqLen,
			Tokens:  b.Tokens[i*per*(b.SeqLen+1) : (i+1)*per*(b.SeqLen+1)],
			Weights: b.Weights[i*per*b.SeqLen : (i+1)*per*b.SeqLen],
		})
	}
	return out
}
