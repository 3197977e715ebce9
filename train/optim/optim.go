package optim

import (
	"math"

	"pretrain/model"

	g "github.com/gomlx/gomlx/core/graph"
)

// Group is how one parameter is updated.
type Group struct {
	Param model.Param
	// Rule is the update rule: under Kind muon, hidden matrices have rule muon and the rest adamw.
	Rule Kind
	// LRScale multiplies the schedule's learning rate.
	LRScale float64
	// WeightDecay is 0 where the parameter is not decayed.
	WeightDecay float64
	// Slots are the names of the optimizer's tensors for it, each of the parameter's shape, float32, zero at the start.
	Slots []string
}

// Groups assigns every parameter of a model its rule, learning-rate multiplier and decay. Under mup hidden matrices
// learn at 1/(d_model/dim_model_base) of the global rate (MiniCPM Table 7).
func (c Config) Groups(m model.Config) []Group {
	var groups []Group
	for _, p := range m.Params() {
		gr := Group{Param: p, Rule: c.Kind, LRScale: 1, WeightDecay: c.WeightDecay}
		switch p.Role {
		case model.Hidden:
			gr.LRScale = 1 / m.WidthRatio()
		case model.Embedding, model.Output:
			gr.LRScale = c.EmbeddingLRScale
			if c.MuPEmbeddingLR == "scaled" {
				gr.LRScale /= m.WidthRatio()
			}
		}
		if (p.Role == model.Embedding || p.Role == model.Gain) && !c.DecayEmbeddings {
			gr.WeightDecay = 0
		}
		if c.Kind == Muon {
			if p.Role == model.Hidden {
				gr.LRScale *= c.MuonLRScale
			} else {
				gr.Rule = AdamW
			}
		}
		gr.Slots = slotsOf(c, gr.Rule)
		groups = append(groups, gr)
	}
	return groups
}

// slotsOf names the tensors that a rule keeps for each parameter.
func slotsOf(c Config, rule Kind) []string {
	switch rule {
	case SGD:
		if c.Momentum == 0 {
			return nil
		}
		return []string{"momentum"}
	case Lion, Muon:
		return []string{"momentum"}
	case Adagrad:
		return []string{"sum"}
	}
	return []string{"m", "v"}
}

// Update returns the new weight and slots of one parameter. w, grad and slots have the parameter's shape; lr is the
// schedule's learning rate (scalar) and count the number of this update from 1 (scalar float32). All float32.
//
// Sources: PyTorch's definitions for SGD, Adagrad, Adam (Kingma & Ba 1412.6980) and AdamW (Loshchilov & Hutter
// 1711.05101); LAMB 1904.00962, Algorithm 2; Lion 2302.06675, Algorithm 2; Muon: Jordan et al. 2024, with the update
// scale of Liu et al. 2502.16982, §2.2.
//
// settle is given each slot's old value and its new one, and returns what is kept and what the weight's update goes on from.
func (c Config) Update(gr Group, w, grad *g.Node, slots []*g.Node, lr, count *g.Node, settle func(old, new *g.Node) *g.Node) (*g.Node, []*g.Node) {
	lr = g.MulScalar(lr, gr.LRScale)
	decayed := w
	switch gr.Rule {
	case SGD, Adagrad, Adam: // L2 regularisation: part of the gradient.
		if gr.WeightDecay > 0 {
			grad = g.Add(grad, g.MulScalar(w, gr.WeightDecay))
		}
	case AdamW, Lion, Muon: // Decoupled.
		if gr.WeightDecay > 0 {
			decayed = g.Mul(w, g.OneMinus(g.MulScalar(lr, gr.WeightDecay)))
		}
	}
	step := func(direction *g.Node) *g.Node { return g.Sub(decayed, g.Mul(lr, direction)) }

	switch gr.Rule {
	case SGD:
		if len(slots) == 0 {
			return step(grad), nil
		}
		buf := settle(slots[0], g.Add(g.MulScalar(slots[0], c.Momentum), grad))
		if c.Nesterov {
			return step(g.Add(grad, g.MulScalar(buf, c.Momentum))), []*g.Node{buf}
		}
		return step(buf), []*g.Node{buf}

	case Adagrad:
		sum := settle(slots[0], g.Add(slots[0], g.Square(grad)))
		return step(g.Div(grad, g.AddScalar(g.Sqrt(sum), c.Eps))), []*g.Node{sum}

	case Lion:
		direction := g.Sign(lerp(slots[0], grad, c.Betas[0]))
		return step(direction), []*g.Node{settle(slots[0], lerp(slots[0], grad, c.Betas[1]))}

	case Muon:
		buf := settle(slots[0], lerp(slots[0], grad, c.MuonMomentum))
		look := lerp(buf, grad, c.MuonMomentum) // Nesterov
		shape := w.Shape().Dimensions
		rms := 0.2 * math.Sqrt(float64(max(shape[0], shape[1])))
		return step(g.MulScalar(c.orthogonalise(look), rms)), []*g.Node{buf}
	}

	m, v := settle(slots[0], lerp(slots[0], grad, c.Betas[0])), settle(slots[1], lerp(slots[1], g.Square(grad), c.Betas[1]))
	mHat, vHat := m, v
	if gr.Rule != LAMB || c.LAMBDebias {
		mHat, vHat = g.Div(m, unbias(c.Betas[0], count)), g.Div(v, unbias(c.Betas[1], count))
	}
	direction := g.Div(mHat, g.AddScalar(g.Sqrt(vHat), c.Eps))
	if gr.Rule == LAMB {
		direction = g.Add(direction, g.MulScalar(w, gr.WeightDecay))
		direction = g.Mul(direction, c.trust(gr, w, direction))
	}
	return step(direction), []*g.Node{m, v}
}

// lerp is beta·a + (1-beta)·b, an exponential moving average.
func lerp(a, b *g.Node, beta float64) *g.Node {
	return g.Add(g.MulScalar(a, beta), g.MulScalar(b, 1-beta))
}

// unbias is 1 - beta^count: what a moving average from zero has seen of its weight. By expm1, as 1 - 0.999 loses four
// digits in float32.
func unbias(beta float64, count *g.Node) *g.Node {
	return g.Neg(g.Expm1(g.MulScalar(count, math.Log(beta))))
}

// trust is LAMB's ratio ‖w‖/‖direction‖, with ‖w‖ clamped and the ratio 1 where either norm is 0. Gains have ratio 1:
// their norm says nothing of their scale.
func (c Config) trust(gr Group, w, direction *g.Node) *g.Node {
	one := g.ScalarOne(w.Graph(), w.DType())
	if gr.Param.Role == model.Gain {
		return one
	}
	norm := func(x *g.Node) *g.Node { return g.Sqrt(g.ReduceAllSum(g.Square(x))) }
	wNorm, dNorm := norm(w), norm(direction)
	if c.LAMBClamp > 0 {
		wNorm = g.MinScalar(wNorm, c.LAMBClamp)
	}
	usable := g.LogicalAnd(g.IsPositive(wNorm), g.IsPositive(dNorm))
	return g.Where(usable, g.Div(wNorm, g.Where(usable, dNorm, one)), one)
}

// orthogonalise brings the singular values of x [rows, cols] near one by Newton–Schulz iterations with the quintic
// coefficients of Jordan et al. The products run on the smaller side.
func (c Config) orthogonalise(x *g.Node) *g.Node {
	shape := x.Shape().Dimensions
	tall := shape[0] > shape[1]
	if tall {
		x = g.Transpose(x, 0, 1)
	}
	x = g.Div(x, g.AddScalar(g.Sqrt(g.ReduceAllSum(g.Square(x))), 1e-7))
	for range c.MuonSteps {
		a := g.DotGeneral(x, []int{1}, nil, x, []int{1}, nil) // x·xᵀ
		b := g.Add(g.MulScalar(a, -4.7750), g.MulScalar(g.MatMul(a, a), 2.0315))
		x = g.Add(g.MulScalar(x, 3.4445), g.MatMul(b, x))
	}
	if tall {
		x = g.Transpose(x, 0, 1)
	}
	return x
}

// Clip returns the global L2 norm of all gradients and the factor that brings it under ClipNorm, as PyTorch's
// clip_grad_norm_: min(1, clip/(norm + 1e-6)). Without clipping the factor is 1.
func (c Config) Clip(grads []*g.Node) (norm, factor *g.Node) {
	var sum *g.Node
	for _, grad := range grads {
		s := g.ReduceAllSum(g.Square(grad))
		if sum == nil {
			sum = s
		} else {
			sum = g.Add(sum, s)
		}
	}
	norm = g.Sqrt(sum)
	if c.ClipNorm == 0 {
		return norm, g.ScalarOne(norm.Graph(), norm.DType())
	}
	return norm, g.MinScalar(g.Div(g.Scalar(norm.Graph(), norm.DType(), c.ClipNorm), g.AddScalar(norm, 1e-6)), 1)
}
