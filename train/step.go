package train

import (
	"fmt"
	"slices"

	"pretrain/model"
	"pretrain/train/feed"
	"pretrain/train/loss"
	"pretrain/train/mesh"
	"pretrain/train/optim"
	"pretrain/train/spike"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// StepMetrics is what the device reports of a step.
type StepMetrics struct {
	// Loss is the mean cross-entropy in nats per counted token.
	Loss float32
	// ZLoss is the z-loss term, 0 when off.
	ZLoss float32
	// GradNorm is the global L2 norm of the gradient before clipping.
	GradNorm float32
	// Skipped says the update was refused because the loss or a gradient was not finite or beyond its limit; the state is
	// as before.
	Skipped bool
}

// metric slots of the vector that a step returns.
const (
	metricLoss = iota
	metricZ
	metricGradNorm
	metricSkipped
	numMetrics
)

// Program is the compiled training step: one pure function (batch, learning rate, state) → (metrics, state), in which a batch
// of more than one micro-batch is a loop. It is written for whole tensors; on a mesh of several devices each works on its
// shards.
type Program struct {
	mesh    *mesh.Mesh
	decoder model.Decoder
	head    loss.Head
	optim   optim.Config
	layout  Layout

	step  *g.Exec
	probe probe
	looks looks
}

// NewProgram prepares the step; it compiles on first use for each batch shape.
func NewProgram(m *mesh.Mesh, decoder model.Decoder, head loss.Head, o optim.Config) (*Program, error) {
	decoder, head.Spread = decoder.Across(m.Spread()), m.Spread()
	p := &Program{mesh: m, decoder: decoder, head: head, optim: o, layout: NewLayout(decoder.Config, o)}
	batch, whole := p.batchValues(), []mesh.Value{{}}
	state := make([]mesh.Value, len(p.layout.Specs))
	for i, spec := range p.layout.Specs {
		state[i] = spec.value()
	}
	params := state[:p.layout.NumParams()] // gradients lie as their parameters do

	var err error
	inPlace := mesh.Update{Input: len(batch) + 1, Output: 1, Count: len(state)}
	if p.step, err = m.Exec("train_step", p.buildStep, slices.Concat(batch, whole, state), slices.Concat(whole, state), inPlace); err != nil {
		return nil, fmt.Errorf("prepare the training step: %w", err)
	}
	if p.probe, err = p.newProbe(batch, params); err != nil {
		return nil, fmt.Errorf("prepare the diagnosis of a batch: %w", err)
	}
	if p.looks, err = p.newLooks(batch, state); err != nil {
		return nil, fmt.Errorf("prepare the looks at gradients: %w", err)
	}
	return p, nil
}

// Layout is the layout of the state the program works on.
func (p *Program) Layout() Layout { return p.layout }

// weights names the parameters among the state's tensors.
func (p *Program) weights(params []*g.Node) model.Weights {
	w := make(model.Weights, p.layout.NumParams())
	for i, gr := range p.layout.Groups {
		w[gr.Param.Name] = params[i]
	}
	return w
}

// gradients is the forward and backward pass: loss terms and the gradient of each parameter in layout order.
func (p *Program) gradients(b microBatch, params []*g.Node) (lossTerms *g.Node, grads []*g.Node) {
	w := p.weights(params)
	hidden, pullback := p.decoder.Hidden(w, b.Input)
	output := p.decoder.OutputName()
	r := p.head.Loss(hidden, w[output], b.targets, b.weights)
	byName := pullback(r.DHidden)
	if d, ok := byName[output]; ok {
		byName[output] = g.Add(d, r.DTable) // tied: the table is used at both ends
	} else {
		byName[output] = r.DTable
	}
	if r.Z == nil {
		r.Z = g.ScalarZero(hidden.Graph(), dtypes.Float32)
	}
	grads = make([]*g.Node, len(params))
	for i, gr := range p.layout.Groups {
		grads[i] = p.mesh.Place(byName[gr.Param.Name], p.layout.Specs[i].Rule)
	}
	return g.Stack([]*g.Node{r.Loss, r.Z}, 0), grads
}

// The elements of the vector that has a step's inputs besides batch and state.
const (
	scalarLR = iota
	scalarMaxLoss
	scalarMaxGradNorm
	scalarMicroBatches
	numScalars
)

func scalars(lr float64, l spike.Limits, microBatches int) []float32 {
	return []float32{float32(lr), float32(l.Loss), float32(l.GradNorm), float32(microBatches)}
}

// element is one of a vector.
func element(v *g.Node, i int) *g.Node { return g.Squeeze(g.Slice(v, g.AxisElem(i))) }

// update is the clipped optimizer update, or the state as it was where the loss or a gradient is not finite or beyond its
// limit.
func (p *Program) update(lossTerms *g.Node, grads []*g.Node, scalars *g.Node, state []*g.Node) []*g.Node {
	n := p.layout.NumParams()
	params, slots := state[:n], state[n:len(state)-2]
	updates, skipped := state[len(state)-2], state[len(state)-1]

	lr, loss := element(scalars, scalarLR), element(lossTerms, metricLoss)
	norm, factor := p.optim.Clip(grads)
	sound := g.LogicalAnd(g.IsFinite(norm), g.IsFinite(g.ReduceAllSum(lossTerms)))
	sound = g.LogicalAnd(sound, g.LogicalAnd(g.LessOrEqual(loss, element(scalars, scalarMaxLoss)), g.LessOrEqual(norm, element(scalars, scalarMaxGradNorm))))
	one := g.ScalarOne(updates.Graph(), dtypes.Int32)
	count := g.ConvertDType(g.Add(updates, one), dtypes.Float32)

	settle := func(old, new *g.Node) *g.Node {
		return p.decoder.Numerics.Settle(g.Where(sound, new, old))
	}
	newParams := make([]*g.Node, n)
	var newSlots []*g.Node
	for i, gr := range p.layout.Groups {
		own := slots[:len(gr.Slots)]
		slots = slots[len(gr.Slots):]
		w, changed := p.optim.Update(gr, params[i], g.Mul(grads[i], factor), own, lr, count, settle)
		newParams[i] = g.Where(sound, w, params[i])
		newSlots = append(newSlots, changed...)
	}
	applied := g.ConvertDType(sound, dtypes.Int32)
	refused := g.Sub(one, applied)
	metrics := make([]*g.Node, numMetrics)
	metrics[metricLoss], metrics[metricZ] = loss, element(lossTerms, metricZ)
	metrics[metricGradNorm] = norm
	metrics[metricSkipped] = g.ConvertDType(refused, dtypes.Float32)

	out := append([]*g.Node{g.Stack(metrics, 0)}, newParams...)
	out = append(out, newSlots...)
	return append(out, g.Add(updates, applied), g.Add(skipped, refused))
}

// sumGradients adds up what the micro-batches of a batch give: the loss terms and the gradient of each parameter. How many there are,
// count, is known only when the program runs; there is room for more, which weigh nothing. It is a loop that leaves each micro-batch's
// activations behind.
func (p *Program) sumGradients(batch []*g.Node, count *g.Node, params []*g.Node) (lossTerms *g.Node, grads []*g.Node) {
	most := batch[0].Shape().Dimensions[0]
	if most == 1 {
		return p.gradients(p.micro(batch, nil), params)
	}
	sums := []*g.Node{g.Zeros(count.Graph(), shapes.Make(dtypes.Float32, 2))}
	for i, param := range params {
		sums = append(sums, p.mesh.Place(g.Zeros(count.Graph(), param.Shape()), p.layout.Specs[i].Rule))
	}
	sums = p.mesh.Repeat(count, most, sums, slices.Concat(batch, params), func(i *g.Node, sums, values []*g.Node) []*g.Node {
		batch, params := values[:len(batch)], values[len(batch):]
		lossTerms, grads := p.gradients(p.micro(batch, i), params)
		next := []*g.Node{g.Add(sums[0], lossTerms)}
		for j, grad := range grads {
			next = append(next, g.Add(sums[1+j], grad))
		}
		return next
	})
	return sums[0], sums[1:]
}

// buildStep is (batch…, scalars, state…) → (metrics, state…).
func (p *Program) buildStep(inputs []*g.Node) []*g.Node {
	n := len(p.batchValues())
	batch, scalars, state := inputs[:n], inputs[n], inputs[n+1:]
	count := g.ConvertDType(element(scalars, scalarMicroBatches), dtypes.Int32)
	lossTerms, grads := p.sumGradients(batch, count, state[:p.layout.NumParams()])
	return p.update(lossTerms, grads, scalars, state)
}

// Step is Place and [Program.Run].
func (p *Program) Step(s *State, batches []*feed.Batch, lr float64, limits spike.Limits) (StepMetrics, error) {
	placed, err := p.Place(batches)
	if err != nil {
		return StepMetrics{}, err
	}
	return p.Run(s, placed, lr, limits)
}

// Run runs one training step on the devices and waits for it. The state is replaced: its old memory is given to the new; the
// batch's is freed. Beyond the limits the update is refused.
func (p *Program) Run(s *State, batch *Placed, lr float64, limits spike.Limits) (StepMetrics, error) {
	defer batch.Free()
	var args []any
	for d, first := range batch.args {
		state, err := p.mesh.Donate(d, s.on(d))
		if err != nil {
			return StepMetrics{}, err
		}
		args = append(append(append(args, first...), scalars(lr, limits, len(batch.host))), state...)
	}
	out, err := p.step.Call(args...)
	if err != nil {
		return StepMetrics{}, fmt.Errorf("training step: %w", err)
	}
	return p.take(s, out)
}

// take makes the state that which a step returned, and reads the step's metrics.
func (p *Program) take(s *State, out []*tensors.Tensor) (StepMetrics, error) {
	s.Tensors = nil
	for results := range slices.Chunk(out, 1+len(p.layout.Specs)) {
		s.Tensors = append(s.Tensors, results[1:]...)
	}
	v, err := tensors.CopyFlatData[float32](out[0])
	if err != nil {
		return StepMetrics{}, fmt.Errorf("read the step's metrics: %w", err)
	}
	return StepMetrics{Loss: v[metricLoss], ZLoss: v[metricZ], GradNorm: v[metricGradNorm], Skipped: v[metricSkipped] != 0}, nil
}

// Finalize frees the compiled programs.
func (p *Program) Finalize() {
	for _, e := range []*g.Exec{p.step, p.probe.norms, p.probe.forward, p.looks.accumulate, p.looks.apply, p.looks.along} {
		e.Finalize()
	}
}
