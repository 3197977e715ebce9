package train

import (
	"fmt"

	"pretrain/model"
	"pretrain/train/optim"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// TensorSpec declares one tensor of the training state.
type TensorSpec struct {
	// Name is "param/<parameter>", "optim/<slot>/<parameter>" or "count/<counter>": the key in checkpoints.
	Name  string
	Shape shapes.Shape
}

// Layout is the ordered list of tensors that a training state is made of, declared by the model and the optimizer. One
// list serves the compiled step, checkpoints and tests.
type Layout struct {
	Groups []optim.Group
	Specs  []TensorSpec
}

// The counters of a state, int32 scalars after parameters and slots.
const (
	countUpdates = "count/updates" // updates applied: what Adam's bias correction counts
	countSkipped = "count/skipped" // updates refused because a gradient was not finite
)

// NewLayout declares the state of a model under an optimizer: parameters, then each parameter's slots, then counters.
func NewLayout(m model.Config, o optim.Config) Layout {
	l := Layout{Groups: o.Groups(m)}
	for _, gr := range l.Groups {
		l.Specs = append(l.Specs, TensorSpec{"param/" + gr.Param.Name, shapes.Make(dtypes.Float32, gr.Param.Shape...)})
	}
	for _, gr := range l.Groups {
		for _, slot := range gr.Slots {
			l.Specs = append(l.Specs, TensorSpec{"optim/" + slot + "/" + gr.Param.Name, shapes.Make(dtypes.Float32, gr.Param.Shape...)})
		}
	}
	for _, name := range []string{countUpdates, countSkipped} {
		l.Specs = append(l.Specs, TensorSpec{name, shapes.Make(dtypes.Int32)})
	}
	return l
}

// NumParams is the number of parameters; they are the first tensors of the state.
func (l Layout) NumParams() int { return len(l.Groups) }

// State is the whole of what training changes: master weights and optimizer state in float32 and the counters, on the
// device. One value goes into a step and one comes out; a checkpoint saves it, a branch copies it, a test compares it.
type State struct {
	Layout  Layout
	Tensors []*tensors.Tensor
}

// Bytes is the size of the state.
func (l Layout) Bytes() int64 {
	var n int64
	for _, s := range l.Specs {
		n += s.Shape.ByteSize()
	}
	return n
}

// HostTensor is a tensor of the state copied to the host: raw little-endian bytes.
type HostTensor struct {
	TensorSpec
	Data []byte
}

// Snapshot copies the state to the host.
func (s *State) Snapshot() ([]HostTensor, error) {
	out := make([]HostTensor, len(s.Tensors))
	for i, t := range s.Tensors {
		out[i].TensorSpec = s.Layout.Specs[i]
		err := t.ConstBytes(func(data []byte) { out[i].Data = append([]byte(nil), data...) })
		if err != nil {
			return nil, fmt.Errorf("copy %s from the device: %w", out[i].Name, err)
		}
		t.FinalizeLocal() // Keep the device's copy only: the host's would double its memory.
	}
	return out, nil
}

// Restore puts host tensors on the device. They must be exactly those of the layout, in any order.
func Restore(backend compute.Backend, l Layout, host []HostTensor) (*State, error) {
	byName := make(map[string]HostTensor, len(host))
	for _, t := range host {
		byName[t.Name] = t
	}
	s := &State{Layout: l, Tensors: make([]*tensors.Tensor, len(l.Specs))}
	for i, spec := range l.Specs {
		t, ok := byName[spec.Name]
		if !ok {
			return nil, fmt.Errorf("the saved state lacks %s %s: it is of another model or optimizer", spec.Name, spec.Shape)
		}
		if !t.Shape.Equal(spec.Shape) {
			return nil, fmt.Errorf("the saved state has %s as %s where this model and optimizer have %s", spec.Name, t.Shape, spec.Shape)
		}
		var err error
		if s.Tensors[i], err = tensors.FromRaw(backend, 0, spec.Shape, t.Data); err != nil {
			return nil, fmt.Errorf("put %s on the device: %w", spec.Name, err)
		}
		delete(byName, spec.Name)
	}
	for name := range byName {
		return nil, fmt.Errorf("the saved state has %s, which this model and optimizer do not: it is of another", name)
	}
	return s, nil
}

// Finalize frees the state's memory on the device.
func (s *State) Finalize() {
	for _, t := range s.Tensors {
		t.MustFinalizeAll()
	}
}

// donate hands every tensor's device memory to the next execution, which replaces them.
func (s *State) donate(backend compute.Backend) ([]any, error) {
	args := make([]any, len(s.Tensors))
	for i, t := range s.Tensors {
		var err error
		if args[i], err = graph.DonateTensorBuffer(t, backend, 0); err != nil {
			return nil, fmt.Errorf("donate %s: %w", s.Layout.Specs[i].Name, err)
		}
	}
	return args, nil
}
