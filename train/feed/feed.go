// Package feed is the bridge from data to device: it turns the plan of the data order into micro-batches, ahead of the
// step that needs them.
package feed

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"pretrain/data/mix"
	"pretrain/data/pack"

	"golang.org/x/sync/errgroup"
)

// Batch is one micro-batch on the host. B is Sequences, T is SeqLen; all slices are row-major.
type Batch struct {
	Sequences, SeqLen int
	// Tokens are the inputs and, one further, the targets: [B, T+1].
	Tokens []int32
	// Weights are the loss weight of each target [B, T]: the loss mask over the number of counted targets in the whole
	// batch, so that losses and gradients of micro-batches add up to the mean.
	Weights []float32
	// Segments and Positions [B, T] are the document of each position and its place in it.
	Segments, Positions []int32
}

// NewBatch has room for sequences of seqLen inputs.
func NewBatch(sequences, seqLen int) *Batch {
	n := sequences * seqLen
	return &Batch{
		Sequences: sequences, SeqLen: seqLen, Tokens: make([]int32, n+sequences),
		Weights: make([]float32, n), Segments: make([]int32, n), Positions: make([]int32, n),
	}
}

// Set puts a row at place i, unweighted: its loss mask becomes the weights.
func (b *Batch) Set(i int, row *pack.Row) {
	for j, token := range row.Tokens {
		b.Tokens[i*(b.SeqLen+1)+j] = int32(token)
	}
	copy(b.Weights[i*b.SeqLen:], row.Loss)
	copy(b.Segments[i*b.SeqLen:], row.Segments)
	copy(b.Positions[i*b.SeqLen:], row.Positions)
}

// Split cuts the batch into parts of so many sequences each, which must divide it. They share its memory.
func (b *Batch) Split(sequences int) []*Batch {
	var parts []*Batch
	for from := 0; from < b.Sequences; from += sequences {
		n, to := b.SeqLen, from+sequences
		parts = append(parts, &Batch{
			Sequences: sequences, SeqLen: n, Tokens: b.Tokens[from*(n+1) : to*(n+1)], Weights: b.Weights[from*n : to*n],
			Segments: b.Segments[from*n : to*n], Positions: b.Positions[from*n : to*n],
		})
	}
	return parts
}

// Source is the tokens of one source of the plan and how its rows are filled.
type Source struct {
	Corpus  pack.Corpus
	Options pack.Options
}

// Assembler makes the batch of a step. It holds no state: any step, in any order, on any number of goroutines.
type Assembler struct {
	Plan *mix.Plan
	// Sources are in the order of Plan.Sources.
	Sources []Source
	// Micro is the number of sequences of the run's length in a micro-batch; every batch is a whole number of them. In a stage
	// of shorter sequences there are as many more as are as long together, so that a micro-batch keeps its tokens.
	Micro int
}

// Batch returns the micro-batches of a step.
func (a Assembler) Batch(step int64) ([]*Batch, error) {
	sequences, err := a.Plan.At(step)
	if err != nil {
		return nil, fmt.Errorf("batch of step %d: %w", step, err)
	}
	_, seqLen := a.Plan.SequencesAt(step)
	micro := a.Micro * a.Plan.PerRow(step)
	if len(sequences)%micro != 0 {
		return nil, fmt.Errorf("batch of step %d: %d sequences are no whole number of micro-batches of %d", step, len(sequences), micro)
	}
	var batches []*Batch
	row := pack.NewRow(seqLen)
	counted := 0
	for i, s := range sequences {
		if i%micro == 0 {
			batches = append(batches, NewBatch(micro, seqLen))
		}
		source := a.Sources[s.Source]
		if err := row.Read(source.Corpus, s.Segments, source.Options); err != nil {
			return nil, fmt.Errorf("batch of step %d, source %s: %w", step, a.Plan.Sources()[s.Source], err)
		}
		for _, w := range row.Loss {
			if w > 0 {
				counted++
			}
		}
		batches[len(batches)-1].Set(i%micro, row)
	}
	for _, b := range batches {
		for i := range b.Weights {
			b.Weights[i] /= float32(max(counted, 1))
		}
	}
	return batches, nil
}

// Prefetch assembles the batches of steps [from, to) ahead of their use, several at a time, and hands them out in order.
type Prefetch struct {
	queue chan chan []*Batch
	group *errgroup.Group
	stop  context.CancelFunc
}

// depth is how many batches are ready or in the making: one in use, one ready, and a reserve against a slow read.
const depth = 4

// NewPrefetch starts assembling, on up to depth goroutines. Close it.
func NewPrefetch(ctx context.Context, a Assembler, from, to int64) *Prefetch {
	return prefetch(ctx, a, from, to, depth, min(depth, runtime.GOMAXPROCS(0)))
}

// prefetch keeps so many batches ahead, made by so many goroutines. What they hold does not depend on either.
func prefetch(ctx context.Context, a Assembler, from, to int64, depth, goroutines int) *Prefetch {
	ctx, stop := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	p := &Prefetch{queue: make(chan chan []*Batch, depth), group: group, stop: stop}
	workers := make(chan struct{}, goroutines)
	group.Go(func() error {
		defer close(p.queue)
		for step := from; step < to; step++ {
			slot := make(chan []*Batch, 1)
			select {
			case workers <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			group.Go(func() error {
				defer func() { <-workers }()
				defer close(slot)
				b, err := a.Batch(step)
				if err == nil {
					slot <- b
				}
				return err
			})
			select {
			case p.queue <- slot:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return p
}

// Next waits for the next step's micro-batches. An error is that of the batch that could not be made, such as a shard that
// was truncated under the run.
func (p *Prefetch) Next() ([]*Batch, error) {
	if slot, ok := <-p.queue; ok {
		if b, ok := <-slot; ok {
			return b, nil
		}
	}
	if err := p.group.Wait(); err != nil {
		return nil, err
	}
	return nil, errors.New("the run has no more batches")
}

// Close stops assembling and waits for the workers.
func (p *Prefetch) Close() {
	p.stop()
	_ = p.group.Wait() // The context's error, or one that Next reports.
}
