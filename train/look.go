package train

import (
	"fmt"
	"math"
	"slices"

	"pretrain/train/feed"
	"pretrain/train/mesh"
	"pretrain/train/metrics"
	"pretrain/train/noise"
	"pretrain/train/spike"

	"github.com/gomlx/compute"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// allGroups names the whole model among the parameter groups, which have the names of their roles.
const allGroups = "all"

// groups are the names that a layout's parameter counts under.
func (l Layout) groups(param int) [2]string {
	return [2]string{allGroups, l.Groups[param].Param.Role.String()}
}

// Gradient is a batch's gradient on the devices and what its parts tell of its noise.
type Gradient struct {
	sums []*tensors.Tensor // of each device: loss terms, then the gradient of each parameter in layout order
	n    int               // parameters
	// Noise has a sample for each parameter group and for all together; nil where the batch was one part.
	Noise map[string]noise.Sample
}

// on is what lies on a device: loss terms and gradients.
func (d *Gradient) on(device int) []*tensors.Tensor {
	return d.sums[device*(1+d.n) : (device+1)*(1+d.n)]
}

// Finalize frees the gradient.
func (d *Gradient) Finalize() {
	for _, t := range d.sums {
		t.MustFinalizeAll()
	}
}

// looks are the programs of a look at the gradient, compiled when the first is taken.
type looks struct {
	accumulate *g.Exec // (batch of one…, loss terms, gradients…, parameters…) → (those added to, [P] squared norms of what was added)
	apply      *g.Exec // (loss terms, gradients…, scalars, state…) → (metrics, state…)
	along      *g.Exec // see buildAlong
}

func (p *Program) newLooks(batch, state []mesh.Value) (l looks, err error) {
	n, whole := p.layout.NumParams(), []mesh.Value{{}}
	params := state[:n]
	sums := slices.Concat(whole, params)
	if l.accumulate, err = p.mesh.Exec("noise", p.buildNoise, slices.Concat(batch, sums, params), slices.Concat(sums, whole)); err != nil {
		return l, err
	}
	if l.apply, err = p.mesh.Exec("update", func(inputs []*g.Node) []*g.Node {
		return p.update(inputs[0], inputs[1:1+n], inputs[1+n], inputs[2+n:])
	}, slices.Concat(sums, whole, state), slices.Concat(whole, state)); err != nil {
		return l, err
	}
	l.along, err = p.mesh.Exec("along", buildAlong, slices.Concat(params, params, params, params), []mesh.Value{{}, {}})
	return l, err
}

// buildNoise is looks.accumulate.
func (p *Program) buildNoise(inputs []*g.Node) []*g.Node {
	n, rest := p.layout.NumParams(), inputs[len(p.batchValues()):]
	lossTerms, grads := p.gradients(p.micro(inputs, nil), rest[1+n:])
	out := []*g.Node{g.Add(rest[0], lossTerms)}
	squares := make([]*g.Node, n)
	for i, grad := range grads {
		squares[i] = g.ReduceAllSum(g.Square(grad))
		out = append(out, g.Add(rest[1+i], grad))
	}
	return append(out, g.Stack(squares, 0))
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

// OnlyParams is a state that has the parameters and nothing of the optimizer, for [Program.Gradient]. It does not own them.
func OnlyParams(backend compute.Backend, l Layout, params []*tensors.Tensor) *State {
	return &State{Layout: l, Tensors: append(slices.Clone(params), make([]*tensors.Tensor, len(l.Specs)-len(params))...), mesh: mesh.One(backend)}
}

// Gradient is the gradient of a batch at the state's parameters, which it does not change. The batch comes in parts of one
// size: two or more show its noise.
func (p *Program) Gradient(s *State, parts []*feed.Batch) (*Gradient, error) {
	n := p.layout.NumParams()
	d := &Gradient{sums: p.zeroGradients(), n: n}
	small := make([]float64, n)
	for _, part := range parts {
		var args []any
		for device := range p.mesh.Devices() {
			donated, err := p.mesh.Donate(device, d.on(device))
			if err != nil {
				return nil, fmt.Errorf("gradients: %w", err)
			}
			args = append(append(args, p.batchArgs([]*feed.Batch{part}, device)...), donated...)
			for _, t := range s.on(device)[:n] {
				args = append(args, t)
			}
		}
		out, err := p.looks.accumulate.Call(args...)
		if err != nil {
			return nil, fmt.Errorf("gradient of a part of the batch: %w", err)
		}
		squares, err := tensors.CopyFlatData[float32](out[1+n])
		if err != nil {
			return nil, fmt.Errorf("gradient norms: %w", err)
		}
		d.sums = d.sums[:0]
		for results := range slices.Chunk(out, 2+n) {
			d.sums = append(d.sums, results[:1+n]...)
		}
		for i, v := range squares { // of the part's mean, which is len(parts) times what it adds; averaged over parts
			small[i] += float64(v) * float64(len(parts))
		}
	}
	if len(parts) < 2 {
		return d, nil
	}
	norms, err := p.norms(d)
	if err != nil {
		return nil, err
	}
	tokens := float64(parts[0].Sequences * parts[0].SeqLen)
	d.Noise = map[string]noise.Sample{}
	for i := range n {
		for _, group := range p.layout.groups(i) {
			sample := d.Noise[group]
			sample.SmallTokens, sample.BigTokens = tokens, tokens*float64(len(parts))
			sample.Small += small[i]
			sample.Big += float64(norms[i]) * float64(norms[i])
			d.Noise[group] = sample
		}
	}
	return d, nil
}

// norms are the L2 norms of a gradient's parameters.
func (p *Program) norms(d *Gradient) ([]float32, error) {
	var grads []any
	for device := range p.mesh.Devices() {
		for _, t := range d.on(device)[1:] {
			grads = append(grads, t)
		}
	}
	out, err := p.probe.norms.Call(grads...)
	if err != nil {
		return nil, fmt.Errorf("gradient norms: %w", err)
	}
	norms, err := tensors.CopyFlatData[float32](out[0])
	if err != nil {
		return nil, fmt.Errorf("gradient norms: %w", err)
	}
	return norms, nil
}

// The elements of the vector that buildAlong returns.
const (
	alongBoth    = iota // g·g' of the gradients before and after
	alongBefore         // |g|²
	alongAfter          // |g'|²
	alongVBefore        // g·v, v being the step between them
	alongVAfter         // g'·v
	alongStep           // |v|²
	numAlong
)

// buildAlong is (gradients before…, gradients after…, parameters before…, parameters after…) → ([numAlong], and of each parameter
// |v|², |w|² and max |v|, [P, 3]).
func buildAlong(inputs []*g.Node) []*g.Node {
	n := len(inputs) / 4
	var sums [numAlong]*g.Node
	plus := func(i int, a, b *g.Node) {
		v := g.ReduceAllSum(g.Mul(a, b))
		if sums[i] != nil {
			v = g.Add(sums[i], v)
		}
		sums[i] = v
	}
	rows := make([]*g.Node, n)
	for i := range n {
		before, after, w := inputs[i], inputs[n+i], inputs[2*n+i]
		v := g.Sub(inputs[3*n+i], w)
		plus(alongBoth, before, after)
		plus(alongBefore, before, before)
		plus(alongAfter, after, after)
		plus(alongVBefore, before, v)
		plus(alongVAfter, after, v)
		plus(alongStep, v, v)
		rows[i] = g.Stack([]*g.Node{g.ReduceAllSum(g.Square(v)), g.ReduceAllSum(g.Square(w)), g.ReduceAllMax(g.Abs(v))}, 0)
	}
	return []*g.Node{g.Stack(sums[:], 0), g.Stack(rows, 0)}
}

// moment is the first half of a look: the gradient and the state of one step, kept for the next.
type moment struct {
	step  int64
	grad  *Gradient
	state State // of which the parameters are there
}

func (m *moment) finalize() {
	m.grad.Finalize()
	m.state.Finalize()
}

// glimpse is what a step shows when it is looked at.
type glimpse struct {
	noise map[string]noise.Sample
	looks *metrics.Looks // of the second of two steps; without the noise scale, which is an average
}

// along compares two successive steps: MiniCPM's looks at the decay phase (2404.06395, Fig. 7 and 8). With v the update between
// them, g and g' the gradients at its two ends: slope g'·v/|v|, second derivative (g'−g)·v/|v|² of the loss along v, and the
// curvature |second|/(1+slope²)^1.5. The gradients are of two batches, so all carry their noise.
func (p *Program) along(m *moment, now *Gradient, s *State) (*metrics.Looks, error) {
	n := p.layout.NumParams()
	var args []any
	for device := range p.mesh.Devices() {
		for _, list := range [][]*tensors.Tensor{m.grad.on(device)[1:], now.on(device)[1:], m.state.on(device)[:n], s.on(device)[:n]} {
			for _, t := range list {
				args = append(args, t)
			}
		}
	}
	out, err := p.looks.along.Call(args...)
	if err != nil {
		return nil, fmt.Errorf("look along the step: %w", err)
	}
	sums, err := tensors.CopyFlatData[float32](out[0])
	if err != nil {
		return nil, fmt.Errorf("look along the step: %w", err)
	}
	rows, err := tensors.CopyFlatData[float32](out[1])
	if err != nil {
		return nil, fmt.Errorf("look along the step: %w", err)
	}
	at := func(i int) float64 { return float64(sums[i]) }
	length := math.Sqrt(at(alongStep))
	slope, second := at(alongVAfter)/length, (at(alongVAfter)-at(alongVBefore))/at(alongStep)
	l := &metrics.Looks{
		GradCosine: metrics.Number(at(alongBoth) / math.Sqrt(at(alongBefore)*at(alongAfter))),
		Slope:      metrics.Number(slope), Second: metrics.Number(second),
		Curvature:   metrics.Number(math.Abs(second) / math.Pow(1+slope*slope, 1.5)),
		UpdateRatio: map[string]metrics.Number{},
	}
	updates, weights := map[string]float64{}, map[string]float64{}
	for i := range n {
		for _, group := range p.layout.groups(i) {
			updates[group] += float64(rows[3*i])
			weights[group] += float64(rows[3*i+1])
		}
		l.MaxUpdate = max(l.MaxUpdate, metrics.Number(rows[3*i+2]))
	}
	for group, v := range updates {
		l.UpdateRatio[group] = metrics.Number(math.Sqrt(v / weights[group]))
	}
	return l, nil
}

// lookStep is Program.Step with a look: it returns what the step shows, and where keep is set the moment that the next step's look
// needs. before is the step before's. It takes the time of a step in two halves, and for two steps the memory of the gradients and
// of the whole state again.
func (p *Program) lookStep(s *State, batches []*feed.Batch, lr float64, limits spike.Limits, before *moment, keep bool) (StepMetrics, glimpse, *moment, error) {
	var seen glimpse
	fail := func(err error) (StepMetrics, glimpse, *moment, error) { return StepMetrics{}, seen, nil, err }
	parts := batches
	if b := batches[0]; len(batches) == 1 && b.Sequences%(2*p.mesh.BatchParts()) == 0 {
		parts = b.Split(b.Sequences / 2)
	}
	grad, err := p.Gradient(s, parts)
	if err != nil {
		return fail(err)
	}
	seen.noise = grad.Noise
	if before != nil {
		if seen.looks, err = p.along(before, grad, s); err != nil {
			return fail(err)
		}
	}
	var args []any
	for device := range p.mesh.Devices() {
		for _, t := range grad.on(device) {
			args = append(args, t)
		}
		args = append(args, scalars(lr, limits, len(parts)))
		for _, t := range s.on(device) {
			args = append(args, t)
		}
	}
	out, err := p.looks.apply.Call(args...)
	if err != nil {
		return fail(fmt.Errorf("training step: %w", err))
	}
	now := &moment{grad: grad, state: *s}
	v, err := p.take(s, out)
	if err != nil {
		return fail(err)
	}
	if !keep {
		now.finalize()
		now = nil
	}
	return v, seen, now, nil
}

// looker takes the looks of a run, on the device's goroutine.
type looker struct {
	every  int64
	before *moment
}

// step makes a step of the run. A look takes two: the steps k·every and k·every+1. One that an interruption cuts in two is left out.
func (l *looker) step(p *Program, s *State, step int64, batch *Placed, lr float64, limits spike.Limits) (StepMetrics, glimpse, error) {
	before := l.before
	if before != nil && before.step != step-1 {
		before.finalize() // the run went back
		before, l.before = nil, nil
	}
	first := due(l.every, step)
	if !first && before == nil {
		m, err := p.Run(s, batch, lr, limits)
		return m, glimpse{}, err
	}
	defer batch.Free()
	m, seen, now, err := p.lookStep(s, batch.host, lr, limits, before, first)
	if before != nil {
		before.finalize()
	}
	if l.before = now; now != nil {
		now.step = step
	}
	return m, seen, err
}

func (l *looker) close() {
	if l.before != nil {
		l.before.finalize()
	}
}

// addNoise takes a step's samples into the run's averages.
func (r *Run) addNoise(samples map[string]noise.Sample) {
	for group, s := range samples {
		if r.Loop.Noise == nil {
			r.Loop.Noise = map[string]noise.Average{}
		}
		a := r.Loop.Noise[group]
		a.Add(s)
		r.Loop.Noise[group] = a
	}
}

// looks are those of an outcome, with the noise scale so far; nil if it has none.
func (r *Run) looks(o outcome) *metrics.Looks {
	r.addNoise(o.seen.noise)
	l := o.seen.looks
	if l != nil {
		l.NoiseScale = map[string]metrics.Number{}
		for group, a := range r.Loop.Noise {
			l.NoiseScale[group] = metrics.Number(a.Scale())
		}
	}
	return l
}
