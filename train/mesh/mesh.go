// Package mesh spreads a program over the devices of one host. It is the one place that knows of sharding: a program is
// written for whole tensors, each input and output has a rule that says along which axes it may be cut, and XLA's
// partitioner (Shardy) finds out what each device computes and what they have to tell each other.
//
// The devices form a grid with three named axes. A batch is cut into its sequences along data and fsdp. A parameter and
// its optimizer state are cut along fsdp (ZeRO stage 3, Rajbhandari et al. 1910.02054: gathered where they are used, their
// gradients summed and scattered) and along tensor (Megatron-LM, Shoeybi et al. 1909.08053: heads, inner width and
// vocabulary), and copied along data.
package mesh

import (
	"fmt"

	"pretrain/model"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/distributed"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
)

// Axis is a named axis of the grid.
type Axis string

// The axes, from the outermost in: neighbours along tensor, which talk most, have neighbouring numbers.
const (
	Data   Axis = "data"
	FSDP   Axis = "fsdp"
	Tensor Axis = "tensor"
)

// Rule says along which axes of the grid each axis of a tensor may be cut. Axes at the end may be left out. The zero
// value is a copy on every device.
type Rule [][]Axis

// Batch is the rule of what has sequences in its first axis.
var Batch = Rule{{Data, FSDP}}

// RuleOf is the rule of a parameter, its gradient and its optimizer state. Projections into heads and into the inner width
// are cut by columns along tensor, those back by rows, so that a block sums over the devices twice, and the embedding by
// vocabulary; the axis of size d_model is cut along fsdp. Gains are copied: they are nothing beside the matrices, and would be
// gathered twice a layer.
func RuleOf(p model.Param) Rule {
	switch {
	case p.Role == model.Gain:
		return nil
	case p.Role == model.Hidden && !p.Back:
		return Rule{{FSDP}, {Tensor}}
	}
	return Rule{{Tensor}, {FSDP}}
}

// Mesh is the devices of one host as a grid.
type Mesh struct {
	backend compute.Backend
	sizes   Config
	grid    *distributed.DeviceMesh // nil for one device: programs are compiled as if there were no mesh
}

// One is a single device.
func One(backend compute.Backend) *Mesh { return &Mesh{backend: backend, sizes: Config{1, 1, 1}} }

// New lays out the devices of a backend as the configuration says.
func New(backend compute.Backend, c Config) (*Mesh, error) {
	sizes, err := c.Resolve(backend.NumDevices())
	if err != nil {
		return nil, err
	}
	m := &Mesh{backend: backend, sizes: sizes}
	if m.Devices() == 1 {
		return m, nil
	}
	var lengths []int
	var names []string
	for _, a := range []Axis{Data, FSDP, Tensor} {
		if m.size(a) > 1 {
			lengths, names = append(lengths, m.size(a)), append(names, string(a))
		}
	}
	if m.grid, err = distributed.NewDeviceMesh(lengths, names); err != nil {
		return nil, fmt.Errorf("mesh of %v: %w", sizes, err)
	}
	return m, nil
}

// Backend is what computes.
func (m *Mesh) Backend() compute.Backend { return m.backend }

// Sizes are the numbers of devices along each axis.
func (m *Mesh) Sizes() Config { return m.sizes }

// Devices is the number of devices in the grid: the first ones of the backend.
func (m *Mesh) Devices() int { return m.sizes.Data * m.sizes.FSDP * m.sizes.Tensor }

// BatchParts is the number of parts that a batch is cut into.
func (m *Mesh) BatchParts() int { return m.sizes.Data * m.sizes.FSDP }

func (m *Mesh) size(a Axis) int {
	return map[Axis]int{Data: m.sizes.Data, FSDP: m.sizes.FSDP, Tensor: m.sizes.Tensor}[a]
}

// Value declares an input or output of a program: its whole shape and its rule. Without a shape it comes out even.
type Value struct {
	Shape shapes.Shape
	Rule  Rule
}

// spec is how a value lies on this grid: an axis that does not come out even stays whole.
func (m *Mesh) spec(v Value) *distributed.ShardingSpec {
	s := &distributed.ShardingSpec{Mesh: m.grid}
	for i, axes := range v.Rule {
		parts := 1
		var names distributed.AxisSpec
		for _, a := range axes {
			if m.size(a) > 1 {
				parts, names = parts*m.size(a), append(names, string(a))
			}
		}
		if v.Shape.Ok() && v.Shape.Dimensions[i]%parts != 0 {
			names = nil
		}
		s.Axes = append(s.Axes, names)
	}
	return s
}

// Exec prepares a program on whole tensors: f's inputs and outputs are as declared. On several devices it is called with
// each device's shards in turn, and returns them so. The inputs of updates are to be donated. The name is the
// program's in errors and in XLA's dumps.
func (m *Mesh) Exec(name string, f func([]*g.Node) []*g.Node, inputs, outputs []Value, updates ...Update) (*g.Exec, error) {
	exec, err := g.NewExec(m.backend, aliased(f, updates))
	if err != nil {
		return nil, err
	}
	if exec.WithName(name); m.grid == nil {
		return exec, nil
	}
	specs := func(values []Value) []*distributed.ShardingSpec {
		list := make([]*distributed.ShardingSpec, len(values))
		for i, v := range values {
			list[i] = m.spec(v)
		}
		return list
	}
	return exec.AutoSharding(m.grid).WithInputShardingSpecs(specs(inputs)...).WithOutputShardingSpecs(specs(outputs)...), nil
}
