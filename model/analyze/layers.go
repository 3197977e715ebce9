// Package analyze looks into a trained model: how much each layer changes what goes through it.
//
// The measure is the cosine between the residual stream before and after a layer, per token and then averaged; 1 minus it is
// ShortGPT's block influence (2403.03853). It is not the mean's cosine: tokens that are turned in opposite ways would cancel.
//
// A cosine alone says little. The stream grows with depth, so a late layer of the same output turns it less; deep models have
// layers that together do the work of one; and on easy tokens the late layers have nothing left to do, which is no reason to
// remove them. So each layer's cosine is split by how hard the tokens are (the loss of their prediction), how common, and where
// they stand.
package analyze

import (
	"fmt"
	"math"

	"pretrain/model"

	"github.com/gomlx/compute"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Batch is text on the host; slices are row-major.
type Batch struct {
	Sequences, SeqLen int
	// Tokens are the inputs [B, T].
	Tokens []int32
	// Segments and Positions [B, T] are used under a document mask.
	Segments, Positions []int32
	// Counted says which positions are text and no padding, [B, T].
	Counted []bool
	// Nats is the loss of each position's prediction, [B, T].
	Nats []float32
}

// Layers measures a model's layers over some batches.
type Layers struct {
	decoder model.Decoder
	params  []model.Param
	exec    *g.Exec

	tokens []tokenInfo
	// cosines are those of each sublayer and of each layer, one value a token: attention 0, feed-forward 0, attention 1, …, then
	// layer 0, layer 1, ….
	cosines [][]float32
	// Sums over tokens, at the points of the stream before, between and after the layers (P = layers+1).
	squares []float64   // [P] of the elements' mean square
	angles  [][]float64 // [P, P] of arccos(cos)/π
	sums    [][]float64 // [P, D] of the stream
	grams   [][]float64 // [P, D·D] of its outer products
}

// tokenInfo is what a token's cosines are split by.
type tokenInfo struct {
	id       int32
	position int32
	nats     float32
}

// NewLayers prepares the measurement; it compiles on first use.
func NewLayers(backend compute.Backend, decoder model.Decoder) (*Layers, error) {
	l := &Layers{decoder: decoder, params: decoder.Params()}
	l.Reset()
	var err error
	if l.exec, err = g.NewExec(backend, l.build); err != nil {
		return nil, fmt.Errorf("prepare the analysis of layers: %w", err)
	}
	return l, nil
}

// Reset forgets what was measured.
func (l *Layers) Reset() {
	points := l.decoder.NumLayers + 1
	l.tokens, l.cosines, l.squares = nil, make([][]float32, 3*l.decoder.NumLayers), make([]float64, points)
	l.angles, l.sums, l.grams = nil, nil, nil
	for range points {
		l.angles = append(l.angles, make([]float64, points))
		l.sums = append(l.sums, make([]float64, l.decoder.DModel))
		l.grams = append(l.grams, make([]float64, l.decoder.DModel*l.decoder.DModel))
	}
}

// Finalize frees the compiled program.
func (l *Layers) Finalize() { l.exec.Finalize() }

// build is (tokens, counted as 0 or 1 [B·T], [segments, positions,] parameters…) → (cosines [3L, N], then sums over the counted
// tokens: squares [P], angles [P, P], stream [P, D], outer products [P, D, D]).
func (l *Layers) build(inputs []*g.Node) []*g.Node {
	in, counted, rest := model.Input{Tokens: inputs[0]}, inputs[1], inputs[2:]
	if l.decoder.DocumentMask {
		in.Segments, in.Positions, rest = rest[0], rest[1], rest[2:]
	}
	stream := l.decoder.Sublayers(model.NameWeights(l.params, rest), in)
	var cosines, points []*g.Node
	for i := 1; i < len(stream); i++ {
		cosines = append(cosines, Cosine(stream[i-1], stream[i]))
	}
	for i := 2; i < len(stream); i += 2 {
		cosines = append(cosines, Cosine(stream[i-2], stream[i]))
	}
	for i := 0; i < len(stream); i += 2 {
		points = append(points, stream[i])
	}
	var squares, sums, grams []*g.Node
	column := g.ExpandAxes(counted, -1)
	for _, x := range points {
		squares = append(squares, g.ReduceAllSum(g.Mul(counted, g.ReduceMean(g.Square(x), -1))))
		kept := g.Mul(x, column)
		sums = append(sums, g.ReduceSum(kept, 0))
		grams = append(grams, g.Einsum("nd,ne->de", kept, x))
	}
	var angles []*g.Node
	for _, x := range points {
		row := make([]*g.Node, len(points))
		for j, y := range points {
			c := Cosine(x, y)
			angle := g.DivScalar(g.Atan2(g.Sqrt(g.MaxScalar(g.OneMinus(g.Square(c)), 0)), c), math.Pi)
			row[j] = g.ReduceAllSum(g.Mul(counted, angle))
		}
		angles = append(angles, g.Stack(row, 0))
	}
	return []*g.Node{g.Stack(cosines, 0), g.Stack(squares, 0), g.Stack(angles, 0), g.Stack(sums, 0), g.Stack(grams, 0)}
}

// Cosine is that between the rows of two matrices [N, D]: [N]. Of a row of zeros it is 0.
func Cosine(x, y *g.Node) *g.Node {
	dot := g.ReduceSum(g.Mul(x, y), -1)
	norms := g.Sqrt(g.Mul(g.ReduceSum(g.Square(x), -1), g.ReduceSum(g.Square(y), -1)))
	return g.ClipScalar(g.Div(dot, g.MaxScalar(norms, 1e-30)), -1, 1)
}

// Add measures a batch. weights are in the order of the model's Params.
func (l *Layers) Add(weights []*tensors.Tensor, b Batch) error {
	counted := make([]float32, len(b.Tokens))
	for i, c := range b.Counted {
		if c {
			counted[i] = 1
		}
	}
	args := []any{tensors.FromFlatDataAndDimensions(b.Tokens, b.Sequences, b.SeqLen), counted}
	if l.decoder.DocumentMask {
		args = append(args,
			tensors.FromFlatDataAndDimensions(b.Segments, b.Sequences, b.SeqLen),
			tensors.FromFlatDataAndDimensions(b.Positions, b.Sequences, b.SeqLen))
	}
	for _, w := range weights[:len(l.params)] {
		args = append(args, w)
	}
	out, err := l.exec.Call(args...)
	if err != nil {
		return fmt.Errorf("analyse layers: %w", err)
	}
	var flat [5][]float32
	for i, t := range out {
		if flat[i], err = tensors.CopyFlatData[float32](t); err != nil {
			return fmt.Errorf("analyse layers: %w", err)
		}
		t.MustFinalizeAll()
	}
	n := len(b.Tokens)
	for i, c := range b.Counted {
		if !c {
			continue
		}
		position := int32(i % b.SeqLen)
		l.tokens = append(l.tokens, tokenInfo{b.Tokens[i], position, b.Nats[i]})
		for k := range l.cosines {
			l.cosines[k] = append(l.cosines[k], flat[0][k*n+i])
		}
	}
	for p := range l.squares {
		l.squares[p] += float64(flat[1][p])
		add(l.angles[p], flat[2][p*len(l.squares):])
		add(l.sums[p], flat[3][p*len(l.sums[p]):])
		add(l.grams[p], flat[4][p*len(l.grams[p]):])
	}
	return nil
}

func add(sum []float64, values []float32) {
	for i := range sum {
		sum[i] += float64(values[i])
	}
}
