package generate

import (
	"errors"
	"fmt"
	"math"
	"slices"

	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// leastSize is the smallest size of a prompt or a cache: fewer shapes to compile.
const leastSize = 16

// batch is rows that are continued together.
type batch struct {
	s       *Generator
	params  []*tensors.Tensor
	rows    []row // a power of two
	filters bool
	cache   []*tensors.Tensor // nil: not filled yet
	slots   int
	slot    int // that the next token goes to
}

func (b *batch) finalize() error {
	var err error
	for _, t := range b.cache {
		err = errors.Join(err, t.FinalizeAll())
	}
	b.cache = nil
	return err
}

func (b *batch) finished() bool {
	for _, r := range b.rows {
		if !r.done {
			return false
		}
	}
	return true
}

// room is how many tokens can be fed before a text outgrows the cache; 0 where it is not filled.
func (b *batch) room() int {
	if b.cache == nil {
		return 0
	}
	room := math.MaxInt
	for _, r := range b.rows {
		if !r.done {
			room = min(room, b.slots-(len(r.text)-r.start)+1)
		}
	}
	return room
}

// fill runs the prompts, all but their last token, into a new cache that holds what is still to come, or a full window.
func (b *batch) fill() error {
	if err := b.finalize(); err != nil {
		return err
	}
	window := b.s.decoder.MaxSeqLen
	size, most := leastSize, leastSize
	index := map[string]int{}
	var prompts [][]uint32
	of := make([]int32, len(b.rows))
	for i := range b.rows {
		r := &b.rows[i]
		r.fit(window)
		text := r.text[r.start : len(r.text)-1]
		if r.done {
			text = nil
		} else {
			most = max(most, len(text)+r.MaxTokens-r.drawn)
		}
		size = max(size, len(text))
		key := fmt.Sprint(text)
		at, ok := index[key]
		if !ok {
			at = len(prompts)
			index[key] = at
			prompts = append(prompts, text)
		}
		of[i] = int32(at)
	}
	size = min(ceilPow2(size), window)
	b.slots = max(size, min(ceilPow2(most), window))

	number := ceilPow2(len(prompts))
	tokens, count := make([]int32, number*size), make([]int32, number)
	for i, p := range prompts {
		count[i] = int32(len(p))
		for j, token := range p {
			tokens[(i+1)*size-len(p)+j] = int32(token)
		}
	}
	exec := b.s.prefill[b.slots]
	if exec == nil {
		var err error
		if exec, err = g.NewExec(b.s.backend, b.s.buildPrefill(b.slots)); err != nil {
			return fmt.Errorf("prepare generation: %w", err)
		}
		b.s.prefill[b.slots] = exec.SetMaxCache(-1)
	}
	args := []any{matrix(tokens, number, size), matrix(count, number), matrix(of, len(of))}
	for _, p := range b.params {
		args = append(args, p)
	}
	var err error
	if b.cache, err = exec.Call(args...); err != nil {
		return fmt.Errorf("generate: run the prompts: %w", err)
	}
	b.slot = size % b.slots
	return nil
}

// draw runs the device for at most n tokens a row, which must find room, and returns those drawn, stop tokens left out.
func (b *batch) draw(n int) ([][]uint32, error) {
	args, longest, err := b.state(n)
	if err != nil {
		return nil, err
	}
	exec := b.s.extend[0]
	if b.filters {
		exec = b.s.extend[1]
	}
	for _, p := range b.params {
		args = append(args, p)
	}
	out, err := exec.Call(args...)
	if err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	last := len(out) - 1
	b.cache, b.slot = out[1:last], (b.slot+longest)%b.slots
	drawn, err := tensors.CopyFlatData[int32](out[0])
	if err = errors.Join(err, out[0].FinalizeAll(), out[last].FinalizeAll()); err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	return b.take(drawn), nil
}

// state is what the extend program begins with, in the order of the state… constants, the cache given away; and the most
// tokens it draws for any row, unless all rows end before.
func (b *batch) state(n int) (args []any, longest int, err error) {
	rows, vocab := len(b.rows), 1
	if b.filters {
		vocab = b.s.decoder.VocabSize
	}
	token, count, limit, alive := make([]int32, rows), make([]int32, rows), make([]int32, rows), make([]bool, rows)
	out, seen, stops := make([]int32, rows*steps), make([]bool, rows*vocab), make([]int32, rows*MaxStops)
	knobs, uniform := make([]float32, 0, rows*numKnobs), make([]float32, rows*steps)
	for i := range out {
		out[i] = -1
	}
	for i := range stops {
		stops[i] = -1
	}
	for i, r := range b.rows {
		token[i], count[i] = int32(r.text[len(r.text)-1]), int32(len(r.text)-1-r.start)
		for j, token := range r.Stop {
			stops[i*MaxStops+j] = int32(token)
		}
		row := r.knobs()
		knobs = append(knobs, row[:]...)
		if b.filters {
			for _, token := range r.text {
				seen[i*vocab+int(token)] = true
			}
		}
		if alive[i] = !r.done; alive[i] {
			limit[i] = int32(min(n, r.MaxTokens-r.drawn))
			longest = max(longest, int(limit[i]))
		}
		for j := range int(limit[i]) {
			uniform[i*steps+j] = float32(r.Key.Uint64At(uint64(r.drawn+j))>>40) * 0x1p-24
		}
	}
	args = []any{
		stateStep: int32(0), stateSlot: int32(b.slot), stateToken: matrix(token, rows), stateCount: matrix(count, rows),
		stateAlive: matrix(alive, rows), stateOut: matrix(out, rows, steps), stateSeen: matrix(seen, rows, vocab),
		stateLimit: matrix(limit, rows), stateStops: matrix(stops, rows, MaxStops), stateKnobs: matrix(knobs, rows, numKnobs),
		stateUniform: matrix(uniform, rows, steps), stateGo: true,
	}
	for _, t := range b.cache {
		donated, err := g.DonateTensorBuffer(t, b.s.backend, 0)
		if err != nil {
			return nil, 0, fmt.Errorf("generate: give the cache to the device: %w", err)
		}
		args = append(args, donated)
	}
	b.cache = nil
	return args, longest, nil
}

func matrix[T int32 | float32 | bool](data []T, dims ...int) *tensors.Tensor {
	return tensors.FromFlatDataAndDimensions(data, dims...)
}

// take adds the tokens a call drew, [B, C], to the rows.
func (b *batch) take(drawn []int32) [][]uint32 {
	out := make([][]uint32, len(b.rows))
	for i := range b.rows {
		r := &b.rows[i]
		before := len(r.text)
		for _, token := range drawn[i*steps : (i+1)*steps] {
			if r.done || token < 0 {
				break
			}
			if r.done = slices.Contains(r.Stop, uint32(token)); !r.done {
				r.text = append(r.text, uint32(token))
				r.drawn++
				r.done = r.drawn == r.MaxTokens
			}
		}
		out[i] = r.text[before:]
	}
	return out
}
