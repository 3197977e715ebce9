package train

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
)

// Compile compiles the step of microBatches micro-batches of sequences sequences each, without running it, so that the backend
// can be asked what it takes. A later step of the same shapes does not compile again.
func (p *Program) Compile(sequences, seqLen, microBatches int) (*g.Graph, error) {
	var inputs []shapes.Shape
	for d := range p.mesh.Devices() {
		from, to := p.mesh.Rows(d, sequences)
		batch := func(t dtypes.DType, width int) shapes.Shape {
			return shapes.Make(t, room(microBatches), to-from, width)
		}
		inputs = append(inputs, batch(dtypes.Int32, seqLen+1), batch(dtypes.Float32, seqLen))
		for range len(p.batchValues()) - 2 {
			inputs = append(inputs, batch(dtypes.Int32, seqLen))
		}
		inputs = append(inputs, shapes.Make(dtypes.Float32, numScalars))
		for _, spec := range p.layout.Specs {
			inputs = append(inputs, p.mesh.ShardShape(spec.value(), d))
		}
	}
	gr, err := p.step.Compile(inputs...)
	if err != nil {
		return nil, fmt.Errorf("compile for %d x %d sequences of %d: %w", microBatches, sequences, seqLen, err)
	}
	return gr, nil
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
