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

// Program is the compiled training step: one pure function (batch, learning rate, state) → (metrics, state), and where
// a batch is more than one micro-batch, its two halves. It is written for whole tensors; on a mesh of several devices
// each works on its shards.
type Program struct {
	mesh    *mesh.Mesh
	decoder model.Decoder
	head    loss.Head
	optim   optim.Config
	layout  Layout

	step, accumulate, apply *g.Exec
	probe                   probe
	looks                   looks
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
	sums := slices.Concat(whole, params)
	// An input of a program from which on its tensors become the outputs from another on.
	become := func(input, output int, values []mesh.Value) mesh.Update {
		return mesh.Update{Input: input, Output: output, Count: len(values)}
	}

	var err error
	if p.step, err = m.Exec("train_step", p.buildStep, slices.Concat(batch, whole, state), slices.Concat(whole, state), become(len(batch)+1, 1, state)); err != nil {
		return nil, fmt.Errorf("prepare the training step: %w", err)
	}
	if p.accumulate, err = m.Exec("accumulate", p.buildAccumulate, slices.Concat(batch, sums, params), sums, become(len(batch), 0, sums)); err != nil {
		return nil, fmt.Errorf("prepare gradient accumulation: %w", err)
	}
	if p.apply, err = m.Exec("update", p.buildApply, slices.Concat(sums, whole, state), slices.Concat(whole, state), become(len(sums)+1, 1, state)); err != nil {
		return nil, fmt.Errorf("prepare the update: %w", err)
	}
	if p.probe, err = p.newProbe(batch, params); err != nil {
		return nil, fmt.Errorf("prepare the diagnosis of a batch: %w", err)
	}
	if p.looks, err = p.newLooks(batch, sums, params); err != nil {
		return nil, fmt.Errorf("prepare the looks at gradients: %w", err)
	}
	return p, nil
}

// Layout is the layout of the state the program works on.
func (p *Program) Layout() Layout { return p.layout }

// batchArgs are the arguments that a device's part of a batch becomes, in the order that [Program.splitBatch] takes them off.
func (p *Program) batchArgs(b *feed.Batch, device int) []any {
	from, to := p.mesh.Rows(device, b.Sequences)
	rows := func(x []int32, width int) any {
		return tensors.FromFlatDataAndDimensions(x[from*width:to*width], to-from, width)
	}
	args := []any{rows(b.Tokens, b.SeqLen+1), tensors.FromFlatDataAndDimensions(b.Weights[from*b.SeqLen:to*b.SeqLen], to-from, b.SeqLen)}
	if p.decoder.DocumentMask {
		args = append(args, rows(b.Segments, b.SeqLen), rows(b.Positions, b.SeqLen))
	}
	return args
}

// batchValues declare what batchArgs are.
func (p *Program) batchValues() []mesh.Value {
	n := 2
	if p.decoder.DocumentMask {
		n = 4
	}
	return slices.Repeat([]mesh.Value{{Rule: mesh.Batch}}, n)
}

// splitBatch takes the batch off the front of a graph's inputs.
func (p *Program) splitBatch(inputs []*g.Node) (in model.Input, targets, weights *g.Node, rest []*g.Node) {
	tokens, weights := inputs[0], g.Reshape(inputs[1], -1)
	in.Tokens = g.SliceAxis(tokens, 1, g.AxisRange(0, -1))
	targets = g.Reshape(g.SliceAxis(tokens, 1, g.AxisRange(1)), -1)
	rest = inputs[2:]
	if p.decoder.DocumentMask {
		in.Segments, in.Positions, rest = rest[0], rest[1], rest[2:]
	}
	return in, targets, weights, rest
}

// weights names the parameters among the state's tensors.
func (p *Program) weights(params []*g.Node) model.Weights {
	w := make(model.Weights, p.layout.NumParams())
	for i, gr := range p.layout.Groups {
		w[gr.Param.Name] = params[i]
	}
	return w
}

// gradients is the forward and backward pass: loss terms and the gradient of each parameter in layout order.
func (p *Program) gradients(in model.Input, targets, weights *g.Node, params []*g.Node) (lossTerms *g.Node, grads []*g.Node) {
	w := p.weights(params)
	hidden, pullback := p.decoder.Hidden(w, in)
	output := p.decoder.OutputName()
	r := p.head.Loss(hidden, w[output], targets, weights)
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

// scalars are a step's inputs besides batch and state, as one vector: [learning rate, limit of the loss, of the gradient norm].
func scalars(lr float64, l spike.Limits) []float32 {
	return []float32{float32(lr), float32(l.Loss), float32(l.GradNorm)}
}

// update is the clipped optimizer update, or the state as it was where the loss or a gradient is not finite or beyond its
// limit.
func (p *Program) update(lossTerms *g.Node, grads []*g.Node, scalars *g.Node, state []*g.Node) []*g.Node {
	n := p.layout.NumParams()
	params, slots := state[:n], state[n:len(state)-2]
	updates, skipped := state[len(state)-2], state[len(state)-1]

	element := func(v *g.Node, i int) *g.Node { return g.Squeeze(g.Slice(v, g.AxisElem(i))) }
	lr, loss := element(scalars, 0), element(lossTerms, metricLoss)
	norm, factor := p.optim.Clip(grads)
	sound := g.LogicalAnd(g.IsFinite(norm), g.IsFinite(g.ReduceAllSum(lossTerms)))
	sound = g.LogicalAnd(sound, g.LogicalAnd(g.LessOrEqual(loss, element(scalars, 1)), g.LessOrEqual(norm, element(scalars, 2))))
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

// buildStep is (batch…, scalars, state…) → (metrics, state…).
func (p *Program) buildStep(inputs []*g.Node) []*g.Node {
	in, targets, weights, rest := p.splitBatch(inputs)
	state := rest[1:]
	lossTerms, grads := p.gradients(in, targets, weights, state[:p.layout.NumParams()])
	return p.update(lossTerms, grads, rest[0], state)
}

// buildAccumulate is (batch…, loss terms, gradients…, parameters…) → (loss terms, gradients…), each added to.
func (p *Program) buildAccumulate(inputs []*g.Node) []*g.Node {
	in, targets, weights, rest := p.splitBatch(inputs)
	n := p.layout.NumParams()
	lossTerms, grads := p.gradients(in, targets, weights, rest[1+n:])
	out := []*g.Node{g.Add(rest[0], lossTerms)}
	for i, grad := range grads {
		out = append(out, g.Add(rest[1+i], grad))
	}
	return out
}

// buildApply is (loss terms, gradients…, scalars, state…) → (metrics, state…).
func (p *Program) buildApply(inputs []*g.Node) []*g.Node {
	n := p.layout.NumParams()
	return p.update(inputs[0], inputs[1:1+n], inputs[1+n], inputs[2+n:])
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
	exec, inputs := p.step, batch.micro[0]
	if len(batch.micro) > 1 {
		exec = p.apply
		var err error
		if inputs, err = p.sumGradients(s, batch); err != nil {
			return StepMetrics{}, err
		}
	}
	var args []any
	for d, first := range inputs {
		state, err := p.mesh.Donate(d, s.on(d))
		if err != nil {
			return StepMetrics{}, err
		}
		args = append(append(append(args, first...), scalars(lr, limits)), state...)
	}
	out, err := exec.Call(args...)
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

// zeroGradients are loss terms and gradients before anything is added, for each device.
func (p *Program) zeroGradients() []*tensors.Tensor {
	var sums []*tensors.Tensor
	for d := range p.mesh.Devices() {
		sums = append(sums, tensors.FromValue([]float32{0, 0}))
		for _, spec := range p.layout.Specs[:p.layout.NumParams()] {
			sums = append(sums, tensors.FromShape(p.mesh.ShardShape(spec.value(), d)))
		}
	}
	return sums
}

// sumGradients adds up what the micro-batches give: the loss terms and the gradient of each parameter, for each device,
// to be donated to the next execution. The state stays as it is.
func (p *Program) sumGradients(s *State, batch *Placed) ([][]any, error) {
	n, sums := p.layout.NumParams(), p.zeroGradients()
	donated := make([][]any, p.mesh.Devices())
	donate := func() (err error) {
		for d := range donated {
			if donated[d], err = p.mesh.Donate(d, sums[d*(1+n):(d+1)*(1+n)]); err != nil {
				return fmt.Errorf("gradients: %w", err)
			}
		}
		return nil
	}
	for _, micro := range batch.micro {
		if err := donate(); err != nil {
			return nil, err
		}
		var args []any
		for d, own := range donated {
			args = append(append(args, micro[d]...), own...)
			for _, t := range s.on(d)[:n] {
				args = append(args, t)
			}
		}
		var err error
		if sums, err = p.accumulate.Call(args...); err != nil {
			return nil, fmt.Errorf("gradient accumulation: %w", err)
		}
	}
	return donated, donate()
}

// Finalize frees the compiled programs.
func (p *Program) Finalize() {
	for _, e := range []*g.Exec{p.step, p.accumulate, p.apply, p.probe.norms, p.probe.forward, p.looks.accumulate, p.looks.along} {
		e.Finalize()
	}
}
