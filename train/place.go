package train

import (
	"fmt"
	"math/bits"
	"slices"

	"pretrain/model"
	"pretrain/train/feed"
	"pretrain/train/mesh"

	"github.com/gomlx/compute"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Placed is the batch of a step on its devices.
type Placed struct {
	args [][]any       // by device, the arguments that a graph begins with
	host []*feed.Batch // its micro-batches where they came from
}

// Place puts the micro-batches of a step, all of one shape, on the devices. It may be called while another step runs there, so
// that this one finds its batch when it begins. Run or Free it.
func (p *Program) Place(batches []*feed.Batch) (*Placed, error) {
	placed := &Placed{host: batches}
	for d := range p.mesh.Devices() {
		args := p.batchArgs(batches, d)
		placed.args = append(placed.args, args)
		for _, t := range args {
			if err := t.(*tensors.Tensor).MaterializeOnDevice(p.mesh.Backend(), false, compute.DeviceNum(d)); err != nil {
				placed.Free()
				return nil, fmt.Errorf("put the batch on device %d: %w", d, err)
			}
		}
	}
	return placed, nil
}

// Free frees the memory of a batch; once is enough, and Run has done it.
func (b *Placed) Free() {
	for _, args := range b.args {
		for _, t := range args {
			t.(*tensors.Tensor).MustFinalizeAll()
		}
	}
	b.args = nil
}

// room is the number of micro-batches M that the program has room for which runs n of them: the next power of two, so that a batch
// that grows by and by has a handful of programs compiled, not one for each size.
func room(n int) int { return 1 << bits.Len(uint(n-1)) }

// batchArgs are the arguments that a device's part of a batch becomes, in the order that [Program.micro] takes them in: tokens
// [M, B, T+1] and weights [M, B, T], and with a mask of documents segments and positions, too. What is over of M is zeros.
func (p *Program) batchArgs(batches []*feed.Batch, device int) []any {
	b := batches[0]
	from, to := p.mesh.Rows(device, b.Sequences)
	args := []any{
		stack(batches, from, to, b.SeqLen+1, func(b *feed.Batch) []int32 { return b.Tokens }),
		stack(batches, from, to, b.SeqLen, func(b *feed.Batch) []float32 { return b.Weights }),
	}
	if p.decoder.DocumentMask {
		args = append(args,
			stack(batches, from, to, b.SeqLen, func(b *feed.Batch) []int32 { return b.Segments }),
			stack(batches, from, to, b.SeqLen, func(b *feed.Batch) []int32 { return b.Positions }))
	}
	return args
}

// stack is [M, to-from, width] of rows from…to of each micro-batch.
func stack[T int32 | float32](batches []*feed.Batch, from, to, width int, field func(*feed.Batch) []T) *tensors.Tensor {
	n, size := room(len(batches)), (to-from)*width
	all := make([]T, n*size)
	for i, b := range batches {
		copy(all[i*size:], field(b)[from*width:to*width])
	}
	return tensors.FromFlatDataAndDimensions(all, n, to-from, width)
}

// batchValues declare what batchArgs are.
func (p *Program) batchValues() []mesh.Value {
	n := 2
	if p.decoder.DocumentMask {
		n = 4
	}
	return slices.Repeat([]mesh.Value{{Rule: slices.Concat(mesh.Rule{nil}, mesh.Batch)}}, n)
}

// microBatch is what the forward and the backward pass see: the input, and for each token [N] its target and its weight in the loss.
type microBatch struct {
	model.Input
	targets, weights *g.Node
}

// micro is the micro-batch of that index in a graph's batch; index is nil where the batch is one.
func (p *Program) micro(batch []*g.Node, index *g.Node) microBatch {
	take := func(x *g.Node) *g.Node { // [M, B, ...] → [B, ...]
		if index == nil {
			return g.Reshape(x, x.Shape().Dimensions[1:]...)
		}
		return g.Gather(x, g.Reshape(index, 1)) // GoMLX's own backend has no DynamicSlice
	}
	tokens := take(batch[0])
	b := microBatch{
		Input:   model.Input{Tokens: g.SliceAxis(tokens, 1, g.AxisRange(0, -1))},
		targets: g.Reshape(g.SliceAxis(tokens, 1, g.AxisRange(1)), -1),
		weights: g.Reshape(take(batch[1]), -1),
	}
	if p.decoder.DocumentMask {
		b.Segments, b.Positions = take(batch[2]), take(batch[3])
	}
	return b
}
