package optim

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/internal/goldenfile"
	"pretrain/model"

	"github.com/goccy/go-yaml"
	"github.com/gomlx/compute"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// trajectory is one optimizer's settings in bench/golden/data/optimizers.safetensors.
type trajectory struct {
	Kind        Kind       `yaml:"kind"`
	LR          float64    `yaml:"lr"`
	WeightDecay float64    `yaml:"weight_decay"`
	Momentum    float64    `yaml:"momentum"`
	Nesterov    bool       `yaml:"nesterov"`
	Betas       [2]float64 `yaml:"betas"`
	Eps         float64    `yaml:"eps"`
	Clamp       float64    `yaml:"clamp"`
	Debias      bool       `yaml:"debias"`
	ExemptOneD  bool       `yaml:"exempt_1d"`
	Scale       string     `yaml:"scale"`
}

func (tr trajectory) config() Config {
	c := Default()
	c.Kind, c.WeightDecay, c.Momentum, c.Nesterov, c.ClipNorm = tr.Kind, tr.WeightDecay, tr.Momentum, tr.Nesterov, 0
	c.Betas, c.Eps, c.LAMBClamp, c.LAMBDebias = tr.Betas, tr.Eps, tr.Clamp, tr.Debias
	return c
}

// TestGolden holds 20 steps of every optimizer against PyTorch, or where PyTorch has none against its paper's formula in
// NumPy.
func TestGolden(t *testing.T) {
	gold := goldenfile.Load(t, filepath.Join("..", "..", "bench", "golden", "data", "optimizers.safetensors"))
	var config struct {
		Keep         []int                 `yaml:"keep"`
		Steps        int                   `yaml:"steps"`
		Trajectories map[string]trajectory `yaml:"trajectories"`
	}
	if err := yaml.Unmarshal([]byte(gold.Config), &config); err != nil {
		t.Fatal(err)
	}
	be := backendtest.CPU(t)
	for name, tr := range config.Trajectories {
		if tr.Scale == "jordan" {
			continue // the other published scale of muon; ours is moonshot's
		}
		for _, tensor := range []string{"matrix", "tall", "vector", "bias"} {
			if tr.Kind == Muon && len(gold.Shape["init."+tensor]) != 2 {
				continue
			}
			t.Run(name+"/"+tensor, func(t *testing.T) {
				final := follow(t, be, gold, tr, tensor, config.Steps)
				for _, step := range config.Keep {
					want := gold.F32[fmt.Sprintf("%s.%s.%d", name, tensor, step)]
					if d := goldenfile.Distance(final[step-1], want); !(d <= 2e-6) {
						t.Errorf("after %d steps: off by %.2g of the largest weight", step, d)
					}
				}
			})
		}
	}
}

// follow returns the weights after each step.
func follow(t *testing.T, be compute.Backend, gold goldenfile.File, tr trajectory, tensor string, steps int) [][]float32 {
	c := tr.config()
	shape := gold.Shape["init."+tensor]
	gr := Group{Param: model.Param{Name: tensor, Shape: shape, Role: model.Hidden}, Rule: tr.Kind, LRScale: 1, WeightDecay: tr.WeightDecay, Slots: slotsOf(c, tr.Kind)}
	if tr.ExemptOneD && len(shape) == 1 {
		gr.Param.Role, gr.WeightDecay = model.Gain, 0
	}
	exec := g.MustNewExec(be, func(in []*g.Node) []*g.Node {
		w, slots := c.Update(gr, in[0], in[1], in[4:], in[2], in[3], func(_, new *g.Node) *g.Node { return new })
		return append([]*g.Node{w}, slots...)
	})
	defer exec.Finalize()
	size := len(gold.F32["init."+tensor])
	w := tensors.FromFlatDataAndDimensions(gold.F32["init."+tensor], shape...)
	var slots []any
	for range gr.Slots {
		slots = append(slots, tensors.FromFlatDataAndDimensions(make([]float32, size), shape...))
	}
	var all [][]float32
	for step := range steps {
		grad := tensors.FromFlatDataAndDimensions(gold.F32["grad."+tensor][step*size:(step+1)*size], shape...)
		lr := float32(tr.LR) * gold.F32["lr_scale"][step]
		out, err := exec.Call(append([]any{w, grad, lr, float32(step + 1)}, slots...)...)
		if err != nil {
			t.Fatal(err)
		}
		w = out[0]
		for i := range slots {
			slots[i] = out[1+i]
		}
		all = append(all, tensors.MustCopyFlatData[float32](w))
	}
	return all
}

// TestClip holds global-norm clipping against PyTorch's clip_grad_norm_.
func TestClip(t *testing.T) {
	gold := goldenfile.Load(t, filepath.Join("..", "..", "bench", "golden", "data", "optimizers.safetensors"))
	names := []string{"matrix", "tall", "vector", "bias"}
	c := Default()
	c.ClipNorm = 12
	exec := g.MustNewExec(backendtest.CPU(t), func(in []*g.Node) []*g.Node {
		norm, factor := c.Clip(in)
		out := []*g.Node{norm}
		for _, x := range in {
			out = append(out, g.Mul(x, factor))
		}
		return out
	})
	defer exec.Finalize()
	clipped := 0
	for step, wantNorm := range gold.F32["clip.norm"] {
		rows := map[string][]float32{}
		var args []any
		for _, name := range names {
			size := len(gold.F32["init."+name])
			rows[name] = gold.F32["clip."+name][step*size : (step+1)*size]
			args = append(args, tensors.FromFlatDataAndDimensions(gold.F32["grad."+name][step*size:(step+1)*size], gold.Shape["init."+name]...))
		}
		out := exec.MustCall(args...)
		if norm := tensors.ToScalar[float32](out[0]); goldenfile.Distance([]float32{norm}, []float32{wantNorm}) > 1e-6 {
			t.Errorf("step %d: norm %v, PyTorch %v", step, norm, wantNorm)
		}
		if wantNorm > 12 {
			clipped++
		}
		for i, name := range names {
			if d := goldenfile.Distance(tensors.MustCopyFlatData[float32](out[1+i]), rows[name]); d > 1e-6 {
				t.Errorf("step %d: clipped %s off by %.2g", step, name, d)
			}
		}
	}
	if clipped == 0 || clipped == len(gold.F32["clip.norm"]) {
		t.Errorf("%d of the golden steps clip: the file should have both kinds", clipped)
	}
}

// TestGroups: hidden matrices learn at 1/width ratio under mup, and only they and an untied output are decayed.
func TestGroups(t *testing.T) {
	untied := false
	m := model.Config{Preset: "30m", VocabSize: 100, TieEmbeddings: &untied}.Resolve()
	for _, gr := range Default().Groups(m) {
		wantLR, wantDecay := 1.0, 0.0
		switch {
		case strings.Contains(gr.Param.Name, ".w"):
			wantLR, wantDecay = 0.5, 0.1
		case gr.Param.Name == "lm_head":
			wantDecay = 0.1
		}
		if gr.LRScale != wantLR || gr.WeightDecay != wantDecay {
			t.Errorf("%s: lr scale %g, decay %g; want %g, %g", gr.Param.Name, gr.LRScale, gr.WeightDecay, wantLR, wantDecay)
		}
	}
	muon := Default()
	muon.Kind = Muon
	for _, gr := range muon.Groups(m) {
		want := AdamW
		if gr.Param.Role == model.Hidden {
			want = Muon
		}
		if gr.Rule != want {
			t.Errorf("muon: %s has rule %s, want %s", gr.Param.Name, gr.Rule, want)
		}
	}
}
