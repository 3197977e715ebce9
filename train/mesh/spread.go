package mesh

import (
	"fmt"

	"pretrain/model"

	"github.com/gomlx/compute/distributed"
	g "github.com/gomlx/gomlx/core/graph"
)

// Spread is where a decoder's values lie; nil on one device.
func (m *Mesh) Spread() model.Spread {
	if m.grid == nil {
		return nil
	}
	return spread{m}
}

// spread makes the program say what Shardy would have to guess. Left to itself it cuts the residual stream along the axis
// that the weights are cut along, and sends activations around instead of weights (docs/performance.md).
type spread struct{ mesh *Mesh }

func (s spread) Tokens(x *g.Node) *g.Node { return s.mesh.Place(x, Batch) }

func (s spread) Gather(p model.Param, w *g.Node) *g.Node {
	rule := make(Rule, len(RuleOf(p)))
	for i, axes := range RuleOf(p) {
		for _, a := range axes {
			if a != FSDP {
				rule[i] = append(rule[i], a)
			}
		}
	}
	return s.mesh.Place(w, rule)
}

func (s spread) Parts() int { return s.mesh.BatchParts() }

func (s spread) SplitHeads() bool { return s.mesh.sizes.Tensor > 1 }

// Place lays x out on the devices as the rule says. On one device it is x.
//
// Go-xla has no operation for it (StableHLO's sdy.sharding_constraint), but a function's parameters and results have
// shardings: a call of one that returns its parameter is the same to Shardy.
func (m *Mesh) Place(x *g.Node, rule Rule) *g.Node {
	if m.grid == nil {
		return x
	}
	x = g.Identity(x) // a number of its own for the function's name
	spec := m.spec(Value{x.Shape(), rule})
	for spec.Rank() < x.Rank() {
		spec.Axes = append(spec.Axes, nil)
	}
	place := g.NewFunctionWithSharding(x.Graph(), fmt.Sprintf("place_%d", x.Id()), func(gr *g.Graph) ([]*g.Node, []*distributed.ShardingSpec) {
		p := g.ShardedParameter(gr, "x", x.Shape(), spec)
		return []*g.Node{p}, []*distributed.ShardingSpec{spec}
	})
	return place.Call(x)[0]
}
