// Package generate continues texts with a model.
package generate

import (
	"context"
	"fmt"
	"math"

	"pretrain/internal/prng"
	"pretrain/model"

	"github.com/gomlx/compute"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Options say how tokens are drawn.
type Options struct {
	// Tokens is the most to generate.
	Tokens int
	// Temperature divides the logits. 0: the most likely token, always.
	Temperature float64
	// Stop ends the text when drawn; it is not part of the result. Negative: none.
	Stop int64
	// Key is the randomness: draw i is a function of it and of i.
	Key prng.Key
}

// Generator is the compiled forward pass of one sequence. Every token runs the whole window: a cache of keys and values
// would be faster, this is a model's plain definition.
type Generator struct {
	decoder model.Decoder
	params  []model.Param
	exec    *g.Exec
}

// New prepares a generator; it compiles on first use.
func New(backend compute.Backend, decoder model.Decoder) (*Generator, error) {
	decoder.DocumentMask = false // one document
	s := &Generator{decoder: decoder, params: decoder.Params()}
	var err error
	s.exec, err = g.NewExec(backend, func(inputs []*g.Node) *g.Node {
		tokens, at := inputs[0], inputs[1]
		w := make(model.Weights, len(s.params))
		for i, p := range s.params {
			w[p.Name] = inputs[2+i]
		}
		hidden, _ := decoder.Hidden(w, model.Input{Tokens: tokens})
		// Gather, as GoMLX's own backend has no dynamic slice.
		return decoder.Logits(w, g.Gather(hidden, g.Reshape(at, 1, 1)))
	})
	if err != nil {
		return nil, fmt.Errorf("prepare generation: %w", err)
	}
	return s, nil
}

// Finalize frees the compiled program.
func (s *Generator) Finalize() { s.exec.Finalize() }

// Continue returns the tokens that follow prompt, which must not be empty. Where the text outgrows the model's window,
// its older half is forgotten.
func (s *Generator) Continue(ctx context.Context, params []*tensors.Tensor, prompt []uint32, o Options) ([]uint32, error) {
	if len(prompt) == 0 {
		return nil, fmt.Errorf("generate: the prompt has no tokens: begin with the beginning of a document")
	}
	size := s.decoder.MaxSeqLen
	text := append([]uint32(nil), prompt...)
	for i := range o.Tokens {
		if err := ctx.Err(); err != nil {
			return text[len(prompt):], err
		}
		seen := text
		if len(seen) > size {
			keep := size/2 + 1 + (len(seen)-size-1)%(size-size/2)
			seen = seen[len(seen)-keep:]
		}
		window := make([]int32, size)
		for j, token := range seen {
			window[j] = int32(token)
		}
		args := []any{tensors.FromFlatDataAndDimensions(window, 1, size), int32(len(seen) - 1)}
		for _, p := range params[:len(s.params)] {
			args = append(args, p)
		}
		out, err := s.exec.Call(args...)
		if err != nil {
			return nil, fmt.Errorf("generate: %w", err)
		}
		logits, err := tensors.CopyFlatData[float32](out[0])
		if err != nil {
			return nil, fmt.Errorf("generate: %w", err)
		}
		out[0].MustFinalizeAll()
		next := draw(logits, o.Temperature, o.Key.Float64At(uint64(i)))
		if int64(next) == o.Stop {
			break
		}
		text = append(text, uint32(next))
	}
	return text[len(prompt):], nil
}

// draw picks a token: the one in whose share of softmax(logits/temperature) the number u in [0, 1) falls.
func draw(logits []float32, temperature, u float64) int {
	best := 0
	for i, l := range logits {
		if l > logits[best] {
			best = i
		}
	}
	if temperature == 0 {
		return best
	}
	weights := make([]float64, len(logits))
	total := 0.0
	for i, l := range logits {
		weights[i] = math.Exp(float64(l-logits[best]) / temperature)
		total += weights[i]
	}
	u *= total
	for i, w := range weights {
		if u -= w; u < 0 {
			return i
		}
	}
	return best
}
