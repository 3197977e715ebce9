package generate

import (
	"fmt"
	"slices"

	"pretrain/model"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
)

// Two programs make a text. Prefill runs the model once over the prompts, all but their last token, and keeps keys and
// values. Extend runs a loop on the device: feed each row's newest token, draw the next one.
//
// The cache is a ring of S slots, shared by all rows: at each step every row writes the slot next, so that the write is one
// dynamic slice. A row of n tokens sees the n slots up to the newest; prompts are aligned at their end for that. As no row
// grows beyond S tokens, what a write replaces is never seen any more.
//
// Axis letters, besides those of package model:
//
//	U  different prompts        P  slots a prefill writes        S  slots of the cache        C  tokens a call can draw

// steps is C: the most tokens a row gets in one call of the extend program.
const steps = 64

// int32s is an iota over one axis, shaped to broadcast.
func int32s(gr *g.Graph, axis int, dims ...int) *g.Node {
	return g.Iota(gr, shapes.Make(dtypes.Int32, dims...), axis)
}

// sees limits a mask of keys that are age positions old to the sliding window.
func (s *Generator) sees(mask, age *g.Node) *g.Node {
	if s.decoder.SlidingWindow > 0 {
		mask = g.LogicalAnd(mask, g.LessThan(age, g.Scalar(age.Graph(), dtypes.Int32, s.decoder.SlidingWindow)))
	}
	return mask
}

// buildPrefill is (tokens [U, P] aligned at their end, count of tokens [U], row → prompt [B], parameters…) → the cache's
// 2·L nodes [B·K, S, E], keys and values by turns.
func (s *Generator) buildPrefill(slots int) func(inputs []*g.Node) []*g.Node {
	return func(inputs []*g.Node) []*g.Node {
		tokens, count, prompt, w := inputs[0], inputs[1], inputs[2], model.NameWeights(s.params, inputs[3:])
		gr, dims := tokens.Graph(), tokens.Shape().Dimensions
		prompts, size := dims[0], dims[1]

		padding := g.Sub(g.Scalar(gr, dtypes.Int32, size), count)                        // [U]
		position := g.Sub(int32s(gr, 1, prompts, size), g.ExpandAxes(padding, 1))        // [U, P]
		age := g.Sub(int32s(gr, 0, size, size), int32s(gr, 1, size, size))               // [P, P], query then key
		causal := s.sees(g.GreaterOrEqual(age, g.ScalarZero(gr, dtypes.Int32)), age)     // [P, P]
		real := g.GreaterOrEqual(position, g.ScalarZero(gr, dtypes.Int32))               // [U, P]
		visible := g.LogicalAnd(g.ExpandLeftToRank(causal, 4), g.ExpandAxes(real, 1, 2)) // [U, 1, P, P]
		position = g.Max(position, g.ScalarZero(gr, dtypes.Int32))

		var cache []*g.Node
		s.decoder.Extend(w, model.Extension{Tokens: tokens, Positions: position, Visible: visible, Keep: func(_ int, k, v *g.Node) (keys, values *g.Node) {
			for _, x := range []*g.Node{k, v} {
				x = s.decoder.Numerics.Narrow(x)
				x = g.Gather(x, g.ExpandAxes(prompt, -1)) // [B, K, P, E]
				x = g.Reshape(x, -1, size, s.decoder.HeadDim)
				cache = append(cache, g.Pad(x, g.ScalarZero(gr, x.DType()), g.PadAxis{}, g.PadAxis{End: slots - size}))
			}
			return k, v
		}})
		return cache
	}
}

// The first arguments of the extend program, which its loop carries from step to step as state. After them come the cache,
// 2·L of [B·K, S, E], keys and values by turns, and the parameters.
const (
	stateStep    = iota // int32: tokens drawn
	stateSlot           // int32: the slot of the cache that is written next
	stateToken          // int32 [B]: each row's newest token
	stateCount          // int32 [B]: tokens in the window before it
	stateAlive          // bool [B]
	stateOut            // int32 [B, C]: tokens drawn, -1 where none was
	stateSeen           // bool [B, V]: the tokens that stand in a row's text; [B, 1] without filters
	stateLimit          // int32 [B]: the most tokens to draw for a row
	stateStops          // int32 [B, MaxStops]: the tokens that end a row
	stateKnobs          // float32 [B, numKnobs]: how to draw
	stateUniform        // float32 [B, C]: the uniform numbers to draw with
	stateGo             // bool, true: the loop's condition, see buildExtend
	stateCache
)

// buildExtend is (state…) → (tokens drawn [B, C], cache…, whether any row is alive). A row's tokens end with its stop token.
//
// All of it is in the loop's body, and everything it reads is state: GoMLX keeps one node a scalar constant for a whole
// graph, and go-xla refuses operations on nodes of another function.
func (s *Generator) buildExtend(filters bool) func(inputs []*g.Node) []*g.Node {
	return func(inputs []*g.Node) []*g.Node {
		gr := inputs[0].Graph()
		params := stateCache + 2*s.decoder.NumLayers
		state := append([]*g.Node(nil), inputs[:params]...)
		for i, p := range s.params {
			w := inputs[params+i]
			if p.Role == model.Hidden || p.Role == model.Output { // once, before the loop
				w = s.decoder.Numerics.Narrow(w)
			}
			state = append(state, w)
		}
		// The output projection, and whether any row is alive. That is the last, and returned, because GoMLX's own backend
		// knows no parameters of a condition after the one it returns, and no outputs of a loop after the last one used.
		state = append(state, s.decoder.Numerics.Narrow(inputs[params+s.output()]), inputs[stateGo])

		parameters := func(gr *g.Graph) []*g.Node {
			p := make([]*g.Node, len(state))
			for i, x := range state {
				p[i] = g.Parameter(gr, fmt.Sprint("state", i), x.Shape())
			}
			return p
		}
		condition := g.NewClosure(gr, func(gr *g.Graph) []*g.Node { return parameters(gr)[len(state)-1:] })
		body := g.NewClosure(gr, func(gr *g.Graph) []*g.Node {
			p := parameters(gr)
			s.step(p, filters)
			return p
		})
		end := g.While(condition, body, state...)
		return slices.Concat(end[stateOut:stateOut+1], end[stateCache:params], end[len(end)-1:])
	}
}

// output is the index of the parameter that projects to the vocabulary.
func (s *Generator) output() int {
	return slices.IndexFunc(s.params, func(p model.Param) bool { return p.Name == s.decoder.OutputName() })
}

// step feeds each row's newest token and draws the next: state p becomes the state after it.
func (s *Generator) step(p []*g.Node, filters bool) {
	step, token, alive, out := p[stateStep], p[stateToken], p[stateAlive], p[stateOut]
	gr, batch := token.Graph(), token.Shape().Dimensions[0]
	params := stateCache + 2*s.decoder.NumLayers
	w := model.NameWeights(s.params, p[params:])
	head := model.Weights{s.decoder.OutputName(): p[len(p)-2]}

	logits := s.decoder.Logits(head, s.feed(w, token, p[stateCount], p[stateSlot], p[stateCache:params]))
	column := g.Equal(int32s(gr, 1, batch, steps), step) // [B, C]
	uniform := g.ReduceSum(g.Where(column, p[stateUniform], g.ZerosLike(p[stateUniform])), 1)
	d := newDraw(logits, p[stateKnobs])
	if filters {
		d.penalize(p[stateSeen])
		d.filter()
	}
	next := d.token(uniform)
	wide := g.ExpandAxes(next, 1)

	write := g.LogicalAnd(column, g.ExpandAxes(alive, 1))
	p[stateOut] = g.Where(write, g.BroadcastToShape(wide, out.Shape()), out)
	if filters {
		p[stateSeen] = g.LogicalOr(p[stateSeen], g.Equal(int32s(gr, 1, batch, s.decoder.VocabSize), wide))
	}
	one := g.ScalarOne(gr, dtypes.Int32)
	p[stateStep] = g.Add(step, one)
	p[stateSlot] = g.Mod(g.Add(p[stateSlot], one), g.Scalar(gr, dtypes.Int32, p[stateCache].Shape().Dimensions[1]))
	p[stateToken], p[stateCount] = next, g.Add(p[stateCount], one)
	ends := g.LogicalOr(g.LogicalAny(g.Equal(wide, p[stateStops]), 1), g.GreaterOrEqual(p[stateStep], p[stateLimit]))
	p[stateAlive] = g.LogicalAnd(alive, g.LogicalNot(ends))
	p[len(p)-1] = g.LogicalAny(p[stateAlive])
}

// feed runs the model on each row's newest token, [B], that has count tokens before it, and writes its keys and values to a
// slot of the cache, which it changes. It returns the hidden states, [B, D].
func (s *Generator) feed(w model.Weights, token, count, slot *g.Node, cache []*g.Node) *g.Node {
	gr := token.Graph()
	slots := cache[0].Shape().Dimensions[1]
	index := int32s(gr, 0, slots)
	age := g.Mod(g.AddScalar(g.Sub(slot, index), slots), g.Scalar(gr, dtypes.Int32, slots)) // [S]
	visible := g.LessOrEqual(g.ExpandAxes(age, 0), g.ExpandAxes(count, 1))                  // [B, S]
	visible = g.ExpandAxes(s.sees(visible, g.ExpandAxes(age, 0)), 1, 2)                     // [B, 1, 1, S]
	zero := g.ScalarZero(gr, dtypes.Int32)

	write := func(x, row *g.Node) *g.Node { // row is [B, K, 1, E]
		row = g.Reshape(s.decoder.Numerics.Narrow(row), -1, 1, s.decoder.HeadDim)
		if s.dynamicSlices {
			return g.DynamicUpdateSlice(x, row, []*g.Node{zero, slot, zero})
		}
		here := g.ExpandAxes(g.Equal(index, slot), 0, 2)
		return g.Where(g.BroadcastToShape(here, x.Shape()), g.BroadcastToShape(row, x.Shape()), x)
	}
	return s.decoder.Extend(w, model.Extension{
		Tokens: g.ExpandAxes(token, 1), Positions: g.ExpandAxes(count, 1), Visible: visible,
		Keep: func(layer int, k, v *g.Node) (keys, values *g.Node) {
			cache[2*layer], cache[2*layer+1] = write(cache[2*layer], k), write(cache[2*layer+1], v)
			return cache[2*layer], cache[2*layer+1]
		},
	})
}
