package main

import (
	"fmt"
	"math"

	"pretrain/internal/prng"
	"pretrain/model"
	"pretrain/train"
	"pretrain/train/feed"
	"pretrain/train/loss"
	"pretrain/train/mesh"
	"pretrain/train/optim"
	"pretrain/train/spike"

	"github.com/gomlx/compute"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

const (
	vocab     = 512
	sequences = 4
	seqLen    = 32
	peakLR    = 0.01 // MiniCPM's, constant from the first step on
)

// scales are root mean squares over all elements, of activations and of what they changed since the start.
type scales struct {
	Residual, ResidualChange float64 // of the residual stream after the last block, [N, D]
	Logits, LogitsChange     float64 // [N, V]
}

// check trains a model of random weights on one batch of random tokens with AdamW at a constant rate, and measures it after the
// given numbers of steps, which increase.
func check(be compute.Backend, m model.Config, seed uint64, after []int) ([]scales, error) {
	m.VocabSize, m.MaxSeqLen = vocab, seqLen
	m = m.Resolve()
	if err := m.Validate(); err != nil {
		return nil, err
	}
	n := model.NumericsFor(be, model.FP32)
	decoder := model.Decoder{Config: m, Numerics: n, Remat: model.RematNone}
	program, err := train.NewProgram(mesh.One(be), decoder, loss.Head{Numerics: n}, optim.Default())
	if err != nil {
		return nil, err
	}
	defer program.Finalize()
	key := prng.New(seed)
	state, err := train.Init(mesh.One(be), program.Layout(), key.Split("init"))
	if err != nil {
		return nil, err
	}
	look, err := newProbe(be, decoder, program.Layout())
	if err != nil {
		return nil, err
	}
	defer look.exec.Finalize()

	b := batch(key.Split("data"))
	var out []scales
	var first activations
	done := 0
	for _, steps := range after {
		for ; done < steps; done++ {
			if _, err := program.Step(state, []*feed.Batch{b}, peakLR, spike.None); err != nil {
				return nil, fmt.Errorf("step %d: %w", done, err)
			}
		}
		a, err := look.at(state, b)
		if err != nil {
			return nil, err
		}
		if first.residual == nil {
			if first = a; steps > 0 {
				return nil, fmt.Errorf("the first measurement is after %d steps: want 0, the start", steps)
			}
		}
		out = append(out, scales{rms(a.residual, nil), rms(a.residual, first.residual), rms(a.logits, nil), rms(a.logits, first.logits)})
	}
	return out, nil
}

func batch(key prng.Key) *feed.Batch {
	b := &feed.Batch{Sequences: sequences, SeqLen: seqLen}
	for i := range sequences * (seqLen + 1) {
		b.Tokens = append(b.Tokens, int32(key.Uint64At(uint64(i))%vocab))
	}
	for range sequences * seqLen {
		b.Weights = append(b.Weights, 1.0/(sequences*seqLen))
	}
	return b
}

// activations of a batch: the residual stream after the last block, and the logits.
type activations struct{ residual, logits []float32 }

// probe runs the model forward.
type probe struct {
	exec   *g.Exec
	params int
}

func newProbe(be compute.Backend, m model.Decoder, l train.Layout) (probe, error) {
	exec, err := g.NewExec(be, func(inputs []*g.Node) []*g.Node {
		w := model.Weights{}
		for i, gr := range l.Groups {
			w[gr.Param.Name] = inputs[1+i]
		}
		in := model.Input{Tokens: inputs[0]}
		stream := m.Residuals(w, in)
		h, _ := m.Hidden(w, in)
		return []*g.Node{stream[len(stream)-1], m.Logits(w, h)}
	})
	return probe{exec, l.NumParams()}, err
}

func (p probe) at(s *train.State, b *feed.Batch) (a activations, err error) {
	var tokens []int32
	for i := range b.Sequences {
		tokens = append(tokens, b.Tokens[i*(b.SeqLen+1):(i+1)*(b.SeqLen+1)-1]...)
	}
	args := []any{tensors.FromFlatDataAndDimensions(tokens, b.Sequences, b.SeqLen)}
	for _, t := range s.Tensors[:p.params] {
		args = append(args, t)
	}
	out, err := p.exec.Call(args...)
	if err != nil {
		return a, err
	}
	if a.residual, err = tensors.CopyFlatData[float32](out[0]); err == nil {
		a.logits, err = tensors.CopyFlatData[float32](out[1])
	}
	return a, err
}

// rms is the root mean square of x, or of x less from.
func rms(x, from []float32) float64 {
	sum := 0.0
	for i, v := range x {
		d := float64(v)
		if from != nil {
			d -= float64(from[i])
		}
		sum += d * d
	}
	return math.Sqrt(sum / float64(len(x)))
}
