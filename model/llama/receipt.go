package llama

import (
	"context"
	"fmt"
	"math"

	"pretrain/model"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Receipt compares an exported model, as its files say it is, with the model that was trained.
type Receipt struct {
	Sequences int `json:"sequences"`
	Tokens    int `json:"tokens"`
	// MaxError and MeanError are of the logits, absolute. LogitStd is how much the logits vary, to judge them by.
	MaxError  float64 `json:"max_error"`
	MeanError float64 `json:"mean_error"`
	LogitStd  float64 `json:"logit_std"`
	// Top1 is the fraction of positions with the same most likely token.
	Top1  float64 `json:"top1_agreement"`
	Bound Bound   `json:"bound"`
}

// Bound is what a receipt must keep.
type Bound struct {
	MaxError  float64 `json:"max_error"`
	MeanError float64 `json:"mean_error"`
	Top1      float64 `json:"top1_agreement"`
}

// Check returns an error if the bound is not kept.
func (r Receipt) Check() error {
	within := r.MaxError <= r.Bound.MaxError && r.MeanError <= r.Bound.MeanError && r.Top1 >= r.Bound.Top1 // NaN is not
	if !within {
		return fmt.Errorf("the exported model is not the trained one: largest error of a logit %.3g (bound %.3g), mean %.3g (bound %.3g), same first choice %.2f%% (bound %.2f%%)",
			r.MaxError, r.Bound.MaxError, r.MeanError, r.Bound.MeanError, 100*r.Top1, 100*r.Bound.Top1)
	}
	return nil
}

// Compare runs the trained model, by its training graph in float32, and the network on sequences of tokens, all of one
// length. params are the decoder's parameters in order.
func (n *Network) Compare(ctx context.Context, backend compute.Backend, decoder model.Decoder, params []*tensors.Tensor, sequences [][]uint32) (r Receipt, err error) {
	weights := make([]*tensors.Tensor, len(n.Tensors))
	defer func() {
		for _, t := range weights {
			if t != nil {
				t.MustFinalizeAll()
			}
		}
	}()
	for i, t := range n.Tensors {
		values, err := t.Values()
		if err != nil {
			return r, fmt.Errorf("read %s back: %w", t.Name, err)
		}
		weights[i] = tensors.FromFlatDataAndDimensions(values, t.Shape...)
	}
	decoder.Numerics, decoder.DocumentMask = model.NumericsFor(backend, model.FP32), false
	ours := decoder.Params()
	exec, err := g.NewExec(backend, func(inputs []*g.Node) *g.Node {
		tokens, w, theirs := inputs[0], model.NameWeights(ours, inputs[1:]), map[string]*g.Node{}
		for i, t := range n.Tensors {
			theirs[t.Name] = inputs[1+len(ours)+i]
		}
		h, _ := decoder.Hidden(w, model.Input{Tokens: tokens})
		want, got := decoder.Logits(w, h), g.Reshape(n.Forward(theirs, tokens), -1, n.VocabSize)
		return difference(want, got)
	})
	if err != nil {
		return r, fmt.Errorf("prepare the comparison: %w", err)
	}
	defer exec.Finalize()

	var sum, square, same, errors float64
	for _, sequence := range sequences {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		out, err := exec.Call(arguments(sequence, params[:len(ours)], weights)...)
		if err != nil {
			return r, fmt.Errorf("compare the exported model: %w", err)
		}
		d, err := tensors.CopyFlatData[float32](out[0])
		if err != nil {
			return r, err
		}
		out[0].MustFinalizeAll()
		length := float64(len(sequence))
		r.MaxError = math.Max(r.MaxError, float64(d[0])) // NaN stays
		errors += float64(d[1]) * length
		sum += float64(d[2]) * length
		square += float64(d[3]) * length
		same += float64(d[4])
		r.Sequences, r.Tokens = r.Sequences+1, r.Tokens+len(sequence)
	}
	count := float64(r.Tokens)
	r.MeanError, r.Top1 = errors/count, same/count
	r.LogitStd = math.Sqrt(square/count - sum/count*sum/count)
	return r, nil
}

// difference is, of logits [N, V], the largest and the mean absolute difference, the mean and mean square of want, and the
// number of rows with the same maximum.
func difference(want, got *g.Node) *g.Node {
	delta := g.Abs(g.Sub(want, got))
	same := g.Equal(g.ArgMax(want, 1, dtypes.Int32), g.ArgMax(got, 1, dtypes.Int32))
	return g.Stack([]*g.Node{
		g.ReduceAllMax(delta), g.ReduceAllMean(delta), g.ReduceAllMean(want), g.ReduceAllMean(g.Square(want)),
		g.ReduceAllSum(g.ConvertDType(same, dtypes.Float32)),
	}, 0)
}

// TrainingLogits are the logits of the training graph in float32 for a sequence, [T, V]: for other programs to compare with.
func TrainingLogits(backend compute.Backend, decoder model.Decoder, params []*tensors.Tensor, sequence []uint32) ([]float32, error) {
	decoder.Numerics, decoder.DocumentMask = model.NumericsFor(backend, model.FP32), false
	ours := decoder.Params()
	exec, err := g.NewExec(backend, func(inputs []*g.Node) *g.Node {
		w := model.NameWeights(ours, inputs[1:])
		h, _ := decoder.Hidden(w, model.Input{Tokens: inputs[0]})
		return decoder.Logits(w, h)
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the logits: %w", err)
	}
	defer exec.Finalize()
	out, err := exec.Call(arguments(sequence, params[:len(ours)])...)
	if err != nil {
		return nil, fmt.Errorf("compute the logits: %w", err)
	}
	defer out[0].MustFinalizeAll()
	return tensors.CopyFlatData[float32](out[0])
}

// arguments are a sequence [1, T] and the weights.
func arguments(sequence []uint32, weights ...[]*tensors.Tensor) []any {
	tokens := make([]int32, len(sequence))
	for i, token := range sequence {
		tokens[i] = int32(token)
	}
	args := []any{tensors.FromFlatDataAndDimensions(tokens, 1, len(tokens))}
	for _, list := range weights {
		for _, t := range list {
			args = append(args, t)
		}
	}
	return args
}
