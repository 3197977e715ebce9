package train

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"

	"pretrain/internal/prng"
	"pretrain/model"
	"pretrain/train/mesh"

	"golang.org/x/sync/errgroup"
)

// Init returns a fresh state: parameters drawn from key as their [model.Param] says, gains at one, optimizer and counters at
// zero. Each element is a function of the key, the parameter's name and its place, whatever the number of cores and the other
// parameters.
func Init(m *mesh.Mesh, l Layout, key prng.Key) (*State, error) {
	host := make([]HostTensor, len(l.Specs))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, spec := range l.Specs {
		host[i] = HostTensor{TensorSpec: spec, Data: make([]byte, spec.Shape.ByteSize())}
		if i < l.NumParams() {
			group.Go(func() error {
				initialise(host[i].Data, l.Groups[i].Param, key)
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("initialise the weights: %w", err)
	}
	return Restore(m, l, host)
}

func initialise(data []byte, p model.Param, key prng.Key) {
	stream := key.Split(p.Name)
	for i := 0; i < len(data); i += 4 {
		v := float32(1)
		if p.Role != model.Gain {
			v = float32(stream.NormFloat64At(uint64(i/4)) * p.InitStd)
		}
		binary.LittleEndian.PutUint32(data[i:], math.Float32bits(v))
	}
}
