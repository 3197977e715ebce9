package generate

import (
	"math"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
)

// Sampling says how tokens are drawn. Its zero value takes the most likely token, always. Penalty, temperature, top-k,
// top-p and min-p apply in this order, each to what the one before left, as in Hugging Face transformers.
type Sampling struct {
	// Temperature divides the logits. 0: the most likely token; TopK, TopP and MinP then have no say.
	Temperature float64
	// TopK keeps the TopK most likely tokens, and those as likely as the last of them. 0: all.
	TopK int
	// TopP keeps the most likely tokens that together have this probability (nucleus sampling, Holtzman et al.
	// 1904.09751). 0 and 1: all.
	TopP float64
	// MinP keeps tokens at least MinP times as likely as the most likely one. 0: all.
	MinP float64
	// RepetitionPenalty divides the positive logits of tokens that the text has, prompt included, and multiplies the
	// negative ones (CTRL, Keskar et al. 1909.05858). 0 and 1: none.
	RepetitionPenalty float64
}

// The columns of the matrix that tells the device how each row draws.
const (
	knobTemperature = iota
	knobTopK
	knobTopP
	knobMinP
	knobPenalty
	numKnobs
)

// knobs are the row's numbers, with what "none" is filled in.
func (o Sampling) knobs() [numKnobs]float32 {
	k := [numKnobs]float32{float32(o.Temperature), float32(o.TopK), float32(o.TopP), float32(o.MinP), float32(o.RepetitionPenalty)}
	if o.TopK == 0 {
		k[knobTopK] = math.MaxFloat32
	}
	if o.TopP == 0 {
		k[knobTopP] = 1
	}
	if o.RepetitionPenalty == 0 {
		k[knobPenalty] = 1
	}
	return k
}

// filtered reports whether the row needs the program with filters, which costs some thirty passes over the logits more.
func (o Sampling) filtered() bool {
	k := o.knobs()
	return o.Temperature > 0 && (o.TopK > 0 || k[knobTopP] < 1 || o.MinP > 0) || k[knobPenalty] != 1
}

// draw is one token being drawn for each row.
type draw struct {
	logits *g.Node // [B, V]
	knobs  *g.Node // [B, numKnobs]
	// weights are proportional to the probabilities, the largest being 1: [B, V].
	weights *g.Node
}

func newDraw(logits, knobs *g.Node) *draw {
	d := &draw{logits: logits, knobs: knobs}
	d.weigh()
	return d
}

// knob is a column of the knobs, [B, 1].
func (d *draw) knob(i int) *g.Node { return g.SliceAxis(d.knobs, 1, g.AxisElem(i)) }

// weigh sets the weights from the logits.
func (d *draw) weigh() {
	temperature := d.knob(knobTemperature)
	temperature = g.Where(g.Equal(temperature, g.ZerosLike(temperature)), g.OnesLike(temperature), temperature)
	top := g.ExpandAxes(g.ReduceMax(d.logits, 1), 1)
	d.weights = g.Exp(g.Div(g.Sub(d.logits, top), temperature))
}

// penalize lowers the logits of tokens in the text: seen is boolean [B, V].
func (d *draw) penalize(seen *g.Node) {
	penalty := d.knob(knobPenalty)
	lower := g.Where(g.GreaterThan(d.logits, g.ZerosLike(d.logits)), g.Div(d.logits, penalty), g.Mul(d.logits, penalty))
	d.logits = g.Where(seen, lower, d.logits)
	d.weigh()
}

// filter takes the weight of tokens that top-k, top-p and min-p leave out. Nothing is sorted: the k-th largest weight is
// the largest number with at least k weights not below it, and likewise the smallest weight of the nucleus.
func (d *draw) filter() {
	keep := func(least *g.Node) {
		d.weights = g.Where(g.GreaterOrEqual(d.weights, least), d.weights, g.ZerosLike(d.weights))
	}
	keep(largest(d.weights, func(atLeast *g.Node) *g.Node {
		count := g.ReduceSum(g.ConvertDType(atLeast, dtypes.Float32), 1)
		return g.GreaterOrEqual(g.ExpandAxes(count, 1), d.knob(knobTopK))
	}))
	kept := d.weights
	mass := g.Mul(d.knob(knobTopP), g.ExpandAxes(g.ReduceSum(kept, 1), 1))
	keep(largest(kept, func(atLeast *g.Node) *g.Node {
		return g.GreaterOrEqual(g.ExpandAxes(g.ReduceSum(g.Where(atLeast, kept, g.ZerosLike(kept)), 1), 1), mass)
	}))
	keep(d.knob(knobMinP))
}

// largest returns, [B, 1], the largest number in [0, 1] for which holds(weights ≥ number) is true, or 0: bit by bit from
// the top, as positive floats are ordered like their bits.
func largest(weights *g.Node, holds func(atLeast *g.Node) *g.Node) *g.Node {
	gr := weights.Graph()
	bits := g.Bitcast(weights, dtypes.Int32)
	least := g.Zeros(gr, shapes.Make(dtypes.Int32, weights.Shape().Dimensions[0], 1))
	for bit := 29; bit >= 0; bit-- { // 1.0 is below 1<<30
		try := g.BitwiseOr(least, g.Scalar(gr, dtypes.Int32, 1<<bit))
		least = g.Where(holds(g.GreaterOrEqual(bits, try)), try, least)
	}
	return g.Bitcast(least, dtypes.Float32)
}

// token picks each row's token, int32 [B]: the one in whose share of the weights the row's number, uniform in [0, 1), falls;
// the most likely one at temperature 0. Sums run over blocks of about √V weights, which is quick and rounds little.
func (d *draw) token(uniform *g.Node) *g.Node {
	gr, dims := d.weights.Graph(), d.weights.Shape().Dimensions
	batch, vocab := dims[0], dims[1]
	size := int(math.Ceil(math.Sqrt(float64(vocab))))
	blocks := (vocab + size - 1) / size
	padded := g.Pad(d.weights, g.ScalarZero(gr, dtypes.Float32), g.PadAxis{}, g.PadAxis{End: blocks*size - vocab})
	padded = g.Reshape(padded, batch, blocks, size)
	sums := g.ReduceSum(padded, 2)
	target := g.Mul(uniform, g.ReduceSum(sums, 1))

	block, before := share(sums, target)
	row := int32s(gr, 0, batch)
	inBlock := g.Gather(padded, g.Stack([]*g.Node{row, block}, 1)) // [B, size]
	within, _ := share(inBlock, g.Sub(target, before))
	token := g.Add(g.MulScalar(block, size), within)

	best := g.ArgMax(d.logits, 1, dtypes.Int32)
	// Rounding may end in a token of no weight, once in millions: never draw it.
	chosen := g.Gather(padded, g.Stack([]*g.Node{row, block, within}, 1))
	drawn := g.LogicalAnd(g.GreaterThan(chosen, g.ZerosLike(chosen)), g.GreaterThan(g.Reshape(d.knob(knobTemperature), batch), g.ZerosLike(uniform)))
	return g.Where(drawn, token, best)
}

// share returns the part in which target lies when the parts, [B, n], are laid end to end, int32 [B], and what is before
// it, [B].
func share(parts, target *g.Node) (index, before *g.Node) {
	gr, n := parts.Graph(), parts.Shape().Dimensions[1]
	upTo := g.LessOrEqual(int32s(gr, 1, n, n), int32s(gr, 0, n, n))
	wide := g.BroadcastToDims(g.ExpandAxes(parts, 1), parts.Shape().Dimensions[0], n, n)
	// Not a product: on a GPU that might round to TF32.
	ends := g.ReduceSum(g.Where(g.BroadcastToShape(g.ExpandAxes(upTo, 0), wide.Shape()), wide, g.ZerosLike(wide)), 2) // [B, n]
	passed := g.LessOrEqual(ends, g.ExpandAxes(target, 1))
	index = g.ReduceSum(g.ConvertDType(passed, dtypes.Int32), 1)
	index = g.Min(index, g.Scalar(gr, dtypes.Int32, n-1))
	before = g.ReduceMax(g.Where(passed, ends, g.ZerosLike(ends)), 1)
	return index, before
}
