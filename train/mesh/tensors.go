package mesh

import (
	"fmt"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/distributed"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// shard is the part of a whole tensor that lies on one device.
type shard struct {
	shape shapes.Shape
	from  []int // its first index along each axis
}

// shards are the parts of a tensor, in the order of the devices.
func (m *Mesh) shards(v Value) []shard {
	spec := m.spec(v)
	list := make([]shard, m.Devices())
	for d := range list {
		s := shard{v.Shape.Clone(), make([]int, v.Shape.Rank())}
		for i := range s.from {
			parts, place := m.place(spec, i, d)
			s.shape.Dimensions[i] /= parts
			s.from[i] = place * s.shape.Dimensions[i]
		}
		list[d] = s
	}
	return list
}

// ShardShape is the shape of a value's part on a device.
func (m *Mesh) ShardShape(v Value, device int) shapes.Shape { return m.shards(v)[device].shape }

// place says in how many parts an axis of a tensor is cut, and which of them is a device's.
func (m *Mesh) place(spec *distributed.ShardingSpec, axis, device int) (parts, place int) {
	at := map[string]int{ // the device's place in the grid, row-major
		string(Data):   device / (m.sizes.Tensor * m.sizes.FSDP),
		string(FSDP):   device / m.sizes.Tensor % m.sizes.FSDP,
		string(Tensor): device % m.sizes.Tensor,
	}
	parts = 1
	if axis >= len(spec.Axes) {
		return parts, 0
	}
	for _, name := range spec.Axes[axis] {
		size := m.size(Axis(name))
		parts, place = parts*size, place*size+at[name]
	}
	return parts, place
}

// Put cuts a tensor, given as raw bytes, and puts each part on its device.
func (m *Mesh) Put(v Value, data []byte) ([]*tensors.Tensor, error) {
	parts := make([]*tensors.Tensor, m.Devices())
	for d, s := range m.shards(v) {
		part := data
		if s.shape.Size() < v.Shape.Size() {
			part = make([]byte, s.shape.ByteSize())
			s.runs(v.Shape, func(whole, own, n int) { copy(part[own:own+n], data[whole:]) })
		}
		// Not by tensors.FromRaw: on a CPU it shares memory with the host, which a program that is given it cannot reuse, so that a
		// run's first step would have the state twice.
		flat := dtypes.UnsafeAnySliceFromBytes(unsafe.Pointer(unsafe.SliceData(part)), s.shape.DType, s.shape.Size())
		buffer, err := m.backend.BufferFromFlatData(compute.DeviceNum(d), flat, s.shape)
		if err == nil {
			parts[d], err = tensors.FromBuffer(buffer)
		}
		if err != nil {
			return nil, fmt.Errorf("put %s on device %d: %w", s.shape, d, err)
		}
	}
	return parts, nil
}

// Get copies a tensor's parts from their devices and joins them.
func (m *Mesh) Get(v Value, parts []*tensors.Tensor) ([]byte, error) {
	data := make([]byte, v.Shape.ByteSize())
	for d, s := range m.shards(v) {
		err := parts[d].ConstBytes(func(part []byte) {
			s.runs(v.Shape, func(whole, own, n int) { copy(data[whole:whole+n], part[own:]) })
		})
		if err != nil {
			return nil, fmt.Errorf("copy %s from device %d: %w", s.shape, d, err)
		}
		parts[d].FinalizeLocal() // Keep the device's copy only: the host's would double its memory.
	}
	return data, nil
}

// runs calls f for each stretch of bytes that is contiguous in the whole tensor and in the shard.
func (s shard) runs(whole shapes.Shape, f func(whole, own, n int)) {
	last := whole.Rank() - 1
	for last >= 0 && s.shape.Dimensions[last] == whole.Dimensions[last] {
		last-- // whole axes at the end go together
	}
	size := int(whole.DType.Size())
	if last < 0 {
		f(0, 0, int(s.shape.ByteSize()))
		return
	}
	inner := size
	for _, dim := range whole.Dimensions[last+1:] {
		inner *= dim
	}
	n := s.shape.Dimensions[last] * inner
	rows := int(s.shape.ByteSize()) / n
	for row := range rows {
		// The row's index in the axes before last, as an offset in the whole.
		at, rest, stride := s.from[last]*inner, row, whole.Dimensions[last]*inner
		for i := last - 1; i >= 0; i-- {
			at += (s.from[i] + rest%s.shape.Dimensions[i]) * stride
			rest /= s.shape.Dimensions[i]
			stride *= whole.Dimensions[i]
		}
		f(at, row*n, n)
	}
}

// Rows are the sequences of a batch that are a device's: from and to.
func (m *Mesh) Rows(device, sequences int) (from, to int) {
	parts, place := m.place(m.spec(Value{Rule: Batch}), 0, device)
	return place * sequences / parts, (place + 1) * sequences / parts
}

// Donate hands the memory of tensors on a device to the next execution, which replaces them.
func (m *Mesh) Donate(device int, list []*tensors.Tensor) ([]any, error) {
	args := make([]any, len(list))
	for i, t := range list {
		var err error
		if args[i], err = g.DonateTensorBuffer(t, m.backend, compute.DeviceNum(device)); err != nil {
			return nil, fmt.Errorf("donate tensor %d on device %d: %w", i, device, err)
		}
	}
	return args, nil
}
