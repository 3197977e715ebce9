package train

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
)

// Compile compiles what training on micro-batches of so many sequences needs, without running it: the step, or where a batch
// is several micro-batches, gradient accumulation and the update. The graphs are for asking the backend what they take;
// a later step of the same shapes does not compile again.
func (p *Program) Compile(sequences, seqLen int, accumulate bool) ([]*g.Graph, error) {
	state, n := p.layout.Specs, p.layout.NumParams()
	lossTerms, scalar := shapes.Make(dtypes.Float32, 2), shapes.Make(dtypes.Float32, 3)
	compile := func(exec *g.Exec, inputs func(device int) []shapes.Shape) (*g.Graph, error) {
		var all []shapes.Shape
		for d := range p.mesh.Devices() {
			all = append(all, inputs(d)...)
		}
		gr, err := exec.Compile(all...)
		if err != nil {
			return nil, fmt.Errorf("compile for %d sequences of %d: %w", sequences, seqLen, err)
		}
		return gr, nil
	}
	shards := func(device int, specs []TensorSpec) (list []shapes.Shape) {
		for _, spec := range specs {
			list = append(list, p.mesh.ShardShape(spec.value(), device))
		}
		return list
	}
	batch := func(device int) []shapes.Shape {
		from, to := p.mesh.Rows(device, sequences)
		list := []shapes.Shape{shapes.Make(dtypes.Int32, to-from, seqLen+1), shapes.Make(dtypes.Float32, to-from, seqLen)}
		for range len(p.batchValues()) - 2 {
			list = append(list, shapes.Make(dtypes.Int32, to-from, seqLen))
		}
		return list
	}
	if !accumulate {
		gr, err := compile(p.step, func(d int) []shapes.Shape {
			return append(append(batch(d), scalar), shards(d, state)...)
		})
		return []*g.Graph{gr}, err
	}
	sum, err := compile(p.accumulate, func(d int) []shapes.Shape {
		params := shards(d, state[:n])
		return append(append(append(batch(d), lossTerms), params...), params...)
	})
	if err != nil {
		return nil, err
	}
	update, err := compile(p.apply, func(d int) []shapes.Shape {
		return append(append(append([]shapes.Shape{lossTerms}, shards(d, state[:n])...), scalar), shards(d, state)...)
	})
	return []*g.Graph{sum, update}, err
}

// StateBytes are the bytes of parameters and of the rest of the state, the optimizer's, on each device.
func (p *Program) StateBytes() (params, optimizer int64) {
	for i, spec := range p.layout.Specs {
		n := p.mesh.ShardShape(spec.value(), 0).ByteSize()
		if i < p.layout.NumParams() {
			params += n
		} else {
			optimizer += n
		}
	}
	return params, optimizer
}
