package train

import (
	"fmt"

	"pretrain/train/feed"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
)

// Placed is the batch of a step on its devices.
type Placed struct {
	micro [][][]any     // by micro-batch and device, the arguments that a graph begins with
	host  []*feed.Batch // the same where it came from
}

// Place puts the micro-batches of a step, all of one shape, on the devices. It may be called while another step runs there, so
// that this one finds its batch when it begins. Run or Free it.
func (p *Program) Place(batches []*feed.Batch) (*Placed, error) {
	placed := &Placed{host: batches}
	for _, b := range batches {
		devices := make([][]any, p.mesh.Devices())
		for d := range devices {
			devices[d] = p.batchArgs(b, d)
		}
		placed.micro = append(placed.micro, devices)
		for d, args := range devices {
			for _, t := range args {
				if err := t.(*tensors.Tensor).MaterializeOnDevice(p.mesh.Backend(), false, compute.DeviceNum(d)); err != nil {
					placed.Free()
					return nil, fmt.Errorf("put the batch on device %d: %w", d, err)
				}
			}
		}
	}
	return placed, nil
}

// Free frees the memory of a batch; once is enough, and Run has done it.
func (b *Placed) Free() {
	for _, devices := range b.micro {
		for _, args := range devices {
			for _, t := range args {
				t.(*tensors.Tensor).MustFinalizeAll()
			}
		}
	}
	b.micro = nil
}
