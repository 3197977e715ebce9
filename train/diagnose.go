package train

import (
	"fmt"
	"math"
	"slices"

	"pretrain/train/feed"
	"pretrain/train/mesh"

	"github.com/gomlx/compute/dtypes"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Diagnosis is what a batch does to the model, in parts.
type Diagnosis struct {
	// GradNorms are the L2 norms of the parameters' gradients, in layout order, before clipping.
	GradNorms []float32
	// ResidualRMS is the root mean square of the residual stream's elements after the embedding and after each layer.
	ResidualRMS []float32
	// Nats is the mean loss of each sequence's targets that count; 0 where none does.
	Nats []float32
}

// probe are the programs of [Program.Diagnose], compiled when it is first called.
type probe struct {
	norms   *g.Exec // (gradients…) → [P]
	forward *g.Exec // (batch…, parameters…) → ([L+1] mean squares, [B] nats)
}

func (p *Program) newProbe(batch, params []mesh.Value) (probe probe, err error) {
	probe.norms, err = p.mesh.Exec("gradient_norms", func(grads []*g.Node) []*g.Node {
		norms := make([]*g.Node, len(grads))
		for i, grad := range grads {
			norms[i] = g.Sqrt(g.ReduceAllSum(g.Square(grad)))
		}
		return []*g.Node{g.Stack(norms, 0)}
	}, params, []mesh.Value{{}})
	if err == nil {
		probe.forward, err = p.mesh.Exec("activations", p.buildForward, slices.Concat(batch, params), []mesh.Value{{}, {}})
	}
	return probe, err
}

// buildForward is (batch…, parameters…) → (mean square of the residual stream after the embedding and each layer [L+1],
// mean loss of each sequence [B]).
func (p *Program) buildForward(inputs []*g.Node) []*g.Node {
	b := p.micro(inputs, nil)
	w := p.weights(inputs[len(p.batchValues()):])
	var squares []*g.Node
	for _, x := range p.decoder.Residuals(w, b.Input) {
		squares = append(squares, g.ReduceAllMean(g.Square(x)))
	}
	hidden, _ := p.decoder.Hidden(w, b.Input)
	counted := g.ConvertDType(g.GreaterThan(b.weights, g.ZerosLike(b.weights)), dtypes.Float32)
	nats := g.Mul(counted, p.head.PerToken(hidden, w[p.decoder.OutputName()], b.targets))
	perSequence := func(x *g.Node) *g.Node { return g.ReduceSum(g.Reshape(x, b.Tokens.Shape().Dimensions...), -1) }
	return []*g.Node{g.Stack(squares, 0), g.Div(perSequence(nats), g.MaxScalar(perSequence(counted), 1))}
}

// Diagnose measures a batch against the state, which stays as it is. It takes the time of a step and a half, and compiles
// two or three programs the first time; with a micro-batch more of gradients than a step it may not fit the device.
func (p *Program) Diagnose(s *State, batches []*feed.Batch) (d Diagnosis, err error) {
	grad, err := p.Gradient(s, batches)
	if err != nil {
		return d, err
	}
	defer grad.Finalize()
	if d.GradNorms, err = p.norms(grad); err != nil {
		return d, err
	}
	var squares []float64
	for _, b := range batches {
		var args []any
		for d := range p.mesh.Devices() {
			args = append(args, p.batchArgs([]*feed.Batch{b}, d)...)
			for _, t := range s.on(d)[:p.layout.NumParams()] {
				args = append(args, t)
			}
		}
		out, err := p.probe.forward.Call(args...)
		if err != nil {
			return d, fmt.Errorf("activations: %w", err)
		}
		mean, err := tensors.CopyFlatData[float32](out[0])
		if err != nil {
			return d, err
		}
		nats, err := tensors.CopyFlatData[float32](out[1])
		if err != nil {
			return d, err
		}
		if squares == nil {
			squares = make([]float64, len(mean))
		}
		for i, v := range mean {
			squares[i] += float64(v) / float64(len(batches))
		}
		d.Nats = append(d.Nats, nats...)
	}
	d.ResidualRMS = make([]float32, len(squares))
	for i, v := range squares {
		d.ResidualRMS[i] = float32(math.Sqrt(v))
	}
	return d, nil
}
