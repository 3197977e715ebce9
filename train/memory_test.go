package train

import (
	"testing"

	"pretrain/internal/backend/memory"
	"pretrain/train/mesh"
	"pretrain/train/spike"
)

// TestStateIsUpdatedInPlace: of what a step gives back, only its metrics take new memory; the rest takes over the state's, on
// one device and on each of several. And what was compiled ahead is what runs.
func TestStateIsUpdatedInPlace(t *testing.T) {
	for _, devices := range []int{1, 2} {
		p := meshProgram(t, devices, mesh.Config{Data: 1, FSDP: devices, Tensor: 1})
		for _, parts := range []int{1, 3} {
			step, err := p.Compile(8, meshModel().MaxSeqLen, parts)
			if err != nil {
				t.Fatal(err)
			}
			state := int64(0)
			for _, spec := range p.Layout().Specs {
				state += p.mesh.ShardShape(spec.value(), 0).ByteSize()
			}
			m, known := memory.Of(step)
			if !known || m.Aliased < state || m.Outputs-m.Aliased > 4096 {
				t.Errorf("%d devices, %d micro-batches: %+v (known: %v), of a state of %d bytes", devices, parts, m, known, state)
			}
			b := repeatingBatch(0, p.decoder.Config, 8*parts)
			if _, err := p.Step(initState(t, p, 1), cut(b, 8), 0.01, spike.None); err != nil {
				t.Fatal(err)
			}
			if again, err := p.Compile(8, meshModel().MaxSeqLen, parts); err != nil || again != step {
				t.Errorf("the step compiled anew (%v)", err)
			}
		}
	}
}
