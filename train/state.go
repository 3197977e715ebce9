package train

import (
	"fmt"

	"pretrain/model"
	"pretrain/train/mesh"
	"pretrain/train/optim"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
)

// TensorSpec declares one tensor of the training state.
type TensorSpec struct {
	// Name is "param/<parameter>", "optim/<slot>/<parameter>" or "count/<counter>": the key in checkpoints.
	Name  string
	Shape shapes.Shape
	// Rule says how it is cut where there are several devices.
	Rule mesh.Rule
}

func (s TensorSpec) value() mesh.Value { return mesh.Value{Shape: s.Shape, Rule: s.Rule} }

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
		l.Specs = append(l.Specs, TensorSpec{"param/" + gr.Param.Name, shapes.Make(dtypes.Float32, gr.Param.Shape...), mesh.RuleOf(gr.Param)})
	}
	for _, gr := range l.Groups {
		for _, slot := range gr.Slots {
			l.Specs = append(l.Specs, TensorSpec{"optim/" + slot + "/" + gr.Param.Name, shapes.Make(dtypes.Float32, gr.Param.Shape...), mesh.RuleOf(gr.Param)})
		}
	}
	for _, name := range []string{countUpdates, countSkipped} {
		l.Specs = append(l.Specs, TensorSpec{Name: name, Shape: shapes.Make(dtypes.Int32)})
	}
	return l
}

// NumParams is the number of parameters; they are the first tensors of the state.
func (l Layout) NumParams() int { return len(l.Groups) }

// State is the whole of what training changes: master weights and optimizer state in float32 and the counters, on the
// devices. One value goes into a step and one comes out; a checkpoint saves it, a branch copies it, a test compares it.
type State struct {
	Layout Layout
	// Tensors are in the order of the layout. On several devices they are the shards of the first device, then those of
	// the second, and so on: as an execution takes them.
	Tensors []*tensors.Tensor

	mesh *mesh.Mesh
}

// shards are a tensor's, one a device.
func (s *State) shards(i int) []*tensors.Tensor {
	list := make([]*tensors.Tensor, s.mesh.Devices())
	for d := range list {
		list[d] = s.on(d)[i]
	}
	return list
}

// on is what lies on a device, in the order of the layout.
func (s *State) on(device int) []*tensors.Tensor {
	n := len(s.Layout.Specs)
	return s.Tensors[device*n : (device+1)*n]
}

// WholeParams returns the parameters, whole, on the first device, for programs that know of only one, and a function that frees
// them.
func (s *State) WholeParams() (params []*tensors.Tensor, free func(), err error) {
	if s.mesh.Devices() == 1 {
		return s.Tensors[:s.Layout.NumParams()], func() {}, nil
	}
	free = func() {
		for _, t := range params {
			t.MustFinalizeAll()
		}
	}
	for i, spec := range s.Layout.Specs[:s.Layout.NumParams()] {
		data, err := s.mesh.Get(spec.value(), s.shards(i))
		if err == nil {
			var whole []*tensors.Tensor
			whole, err = mesh.One(s.mesh.Backend()).Put(spec.value(), data)
			params = append(params, whole...)
		}
		if err != nil {
			free()
			return nil, nil, fmt.Errorf("gather %s: %w", spec.Name, err)
		}
	}
	return params, free, nil
}

// Bytes is the size of the state.
func (l Layout) Bytes() int64 {
	var n int64
	for _, s := range l.Specs {
		n += s.Shape.ByteSize()
	}
	return n
}

// HostTensor is a tensor of the state copied to the host: raw little-endian bytes of the whole, however many devices it came
// from.
type HostTensor struct {
	TensorSpec
	Data []byte
}

// Snapshot copies the state to the host.
func (s *State) Snapshot() ([]HostTensor, error) {
	out := make([]HostTensor, len(s.Layout.Specs))
	for i, spec := range s.Layout.Specs {
		data, err := s.mesh.Get(spec.value(), s.shards(i))
		if err != nil {
			return nil, fmt.Errorf("copy %s from the device: %w", spec.Name, err)
		}
		out[i] = HostTensor{spec, data}
	}
	return out, nil
}

// Restore puts host tensors on the devices. They must be exactly those of the layout, in any order.
func Restore(m *mesh.Mesh, l Layout, host []HostTensor) (*State, error) {
	byName := make(map[string]HostTensor, len(host))
	for _, t := range host {
		byName[t.Name] = t
	}
	n := len(l.Specs)
	s := &State{Layout: l, Tensors: make([]*tensors.Tensor, n*m.Devices()), mesh: m}
	for i, spec := range l.Specs {
		t, ok := byName[spec.Name]
		if !ok {
			return nil, fmt.Errorf("the saved state lacks %s %s: it is of another model or optimizer", spec.Name, spec.Shape)
		}
		if !t.Shape.Equal(spec.Shape) {
			return nil, fmt.Errorf("the saved state has %s as %s where this model and optimizer have %s", spec.Name, t.Shape, spec.Shape)
		}
		shards, err := m.Put(spec.value(), t.Data)
		if err != nil {
			return nil, fmt.Errorf("put %s on the device: %w", spec.Name, err)
		}
		for d, shard := range shards {
			s.Tensors[d*n+i] = shard
		}
		delete(byName, spec.Name)
	}
	for name := range byName {
		return nil, fmt.Errorf("the saved state has %s, which this model and optimizer do not: it is of another", name)
	}
	return s, nil
}

// Finalize frees the state's memory on the devices.
func (s *State) Finalize() {
	for _, t := range s.Tensors {
		t.MustFinalizeAll()
	}
}
