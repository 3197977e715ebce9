// Package generate continues texts with a model: many at once, with a cache of keys and values on the device and sampling in
// the graph, so that a call of the device draws many tokens.
//
//	gen, err := generate.New(backend, decoder)
//	texts, err := gen.Generate(ctx, params, []generate.Request{{Prompt: ids, MaxTokens: 100, Stop: []uint32{eos}}})
//
// Token i of a request is a function of the weights, the prompt, the request's Sampling and Key, and i: neither the other
// requests of a batch nor the size of the batch has a say, but for the last bits of sums that another batch size adds in
// another order.
package generate

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"pretrain/internal/prng"
	"pretrain/model"

	"github.com/gomlx/compute"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Request is one text to continue.
type Request struct {
	// Prompt must not be empty: begin with the token that stands before a document. Where prompt and continuation outgrow
	// the model's window, its older half is forgotten, each time that it is full. Equal prompts are run once a batch.
	Prompt []uint32
	Sampling
	// MaxTokens is the most to draw. 0: none.
	MaxTokens int
	// Stop are tokens that end the text when drawn; they are not part of the result. At most [MaxStops].
	Stop []uint32
	// Key is the randomness: draw i is a function of it and of i.
	Key prng.Key
}

// MaxStops is the most stop tokens a request can have.
const MaxStops = 8

// Generator holds the compiled programs of a model. Not safe for concurrent use.
type Generator struct {
	backend       compute.Backend
	decoder       model.Decoder
	params        []model.Param
	prefill       map[int]*g.Exec // by slots of the cache
	extend        [2]*g.Exec      // plain, and with filters
	dynamicSlices bool
}

// New prepares a generator. It compiles on first use, for each number of rows, of prompt tokens and of cache slots, all of
// which are powers of two.
func New(backend compute.Backend, decoder model.Decoder) (*Generator, error) {
	s := &Generator{
		backend: backend, decoder: decoder, params: decoder.Params(), prefill: map[int]*g.Exec{},
		dynamicSlices: backend.Capabilities().Operations[compute.OpTypeDynamicUpdateSlice], // GoMLX's own backend has none
	}
	for i := range s.extend {
		exec, err := g.NewExec(backend, s.buildExtend(i == 1))
		if err != nil {
			return nil, fmt.Errorf("prepare generation: %w", err)
		}
		s.extend[i] = exec.SetMaxCache(-1)
	}
	return s, nil
}

// Finalize frees the compiled programs.
func (s *Generator) Finalize() {
	for _, e := range s.prefill {
		e.Finalize()
	}
	for _, e := range s.extend {
		e.Finalize()
	}
}

// Generate continues all requests, in batches of at most MaxBatch, and returns the tokens that follow each prompt. params
// begin with the model's parameters in order; they are only read.
func (s *Generator) Generate(ctx context.Context, params []*tensors.Tensor, requests []Request) ([][]uint32, error) {
	out := make([][]uint32, len(requests))
	err := s.all(ctx, params, requests, steps, func(request int, tokens []uint32) bool {
		out[request] = append(out[request], tokens...)
		return true
	})
	return out, err
}

// Stream is Generate with tokens handed out as they come: emit gets the index of a request and its next tokens and says
// whether to go on with that request. A call of the device draws as many tokens as take about a twentieth of a second.
func (s *Generator) Stream(ctx context.Context, params []*tensors.Tensor, requests []Request, emit func(request int, tokens []uint32) bool) error {
	return s.all(ctx, params, requests, 1, emit)
}

// all continues the requests batch by batch; pace is that of run.
func (s *Generator) all(ctx context.Context, params []*tensors.Tensor, requests []Request, pace int, emit func(request int, tokens []uint32) bool) error {
	if err := s.check(requests); err != nil {
		return err
	}
	first := 0
	for part := range slices.Chunk(requests, s.MaxBatch()) {
		if err := s.run(ctx, params, part, pace, func(row int, tokens []uint32) bool { return emit(first+row, tokens) }); err != nil {
			return err
		}
		first += len(part)
	}
	return nil
}

// MaxBatch is the most requests that run at once: as many as keep the cache of full windows within 512 MiB, at most 256.
func (s *Generator) MaxBatch() int {
	c := s.decoder.Config
	row := 2 * c.NumLayers * c.NumKVHeads * c.HeadDim * c.MaxSeqLen * 4
	return max(1, min(256, floorPow2((512<<20)/row)))
}

func (s *Generator) check(requests []Request) error {
	for i, r := range requests {
		if len(r.Prompt) == 0 {
			return fmt.Errorf("generate: prompt %d has no tokens: begin with the beginning of a document", i)
		}
		for _, token := range r.Prompt {
			if int(token) >= s.decoder.VocabSize {
				return fmt.Errorf("generate: prompt %d has token %d, the model has %d: it is of another tokenizer", i, token, s.decoder.VocabSize)
			}
		}
		if len(r.Stop) > MaxStops {
			return fmt.Errorf("generate: %d stop tokens, at most %d", len(r.Stop), MaxStops)
		}
	}
	return nil
}

// row is a request under way.
type row struct {
	Request
	text  []uint32 // prompt and what was drawn
	start int      // text[start:] is in the window
	drawn int
	done  bool
}

// fit moves the start of a text that has outgrown the window: what stays is what would if the window were halved each time
// that it was full.
func (r *row) fit(window int) {
	if n := len(r.text) - r.start; n > window {
		r.start = len(r.text) - (window/2 + 1 + (n-window-1)%(window-window/2))
	}
}

// run continues one batch. A call draws at most pace tokens a row; pace doubles while calls are short.
func (s *Generator) run(ctx context.Context, params []*tensors.Tensor, requests []Request, pace int, emit func(row int, tokens []uint32) bool) (err error) {
	b := &batch{s: s, params: params[:len(s.params)], rows: make([]row, ceilPow2(len(requests)))}
	defer func() { err = errors.Join(err, b.finalize()) }()
	for i := range b.rows {
		b.rows[i] = row{Request: Request{Prompt: []uint32{0}}, text: []uint32{0}, done: true}
		if i < len(requests) {
			r := requests[i]
			b.rows[i] = row{Request: r, text: slices.Clone(r.Prompt), done: r.MaxTokens <= 0}
			b.filters = b.filters || r.filtered()
		}
	}
	for !b.finished() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if b.room() == 0 {
			if err := b.fill(); err != nil {
				return err
			}
		}
		began := time.Now()
		drawn, err := b.draw(min(pace, b.room()))
		if err != nil {
			return err
		}
		if time.Since(began) < 25*time.Millisecond {
			pace = min(2*pace, steps)
		}
		for i, tokens := range drawn {
			if len(tokens) > 0 && !emit(i, tokens) {
				b.rows[i].done = true
			}
		}
	}
	return nil
}

func ceilPow2(n int) int { return 1 << bits.Len(uint(max(n, 1)-1)) }

func floorPow2(n int) int { return 1 << max(0, bits.Len(uint(n))-1) }
