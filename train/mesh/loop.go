package mesh

import (
	"fmt"
	"reflect"
	"slices"
	"unsafe"

	"github.com/gomlx/compute/dtypes"
	g "github.com/gomlx/gomlx/core/graph"
)

// Repeat runs body for the indices 0 … count-1, int32 scalars; count, which is at most most, is known only when the program
// runs. body returns the new sums, given the old ones. It may read values, which do not change, and nothing else of the graph:
// go-xla v0.4.2 takes operations on other values to be of the wrong function.
//
// On GoMLX's own backend, whose loops (v0.1.3) wait for ever, it is most copies of body instead: body must add nothing for an
// index beyond count.
func (m *Mesh) Repeat(count *g.Node, most int, sums, values []*g.Node, body func(index *g.Node, sums, values []*g.Node) []*g.Node) []*g.Node {
	gr := count.Graph()
	if _, xla := m.backend.(interface{ IsCPU() bool }); !xla {
		for i := range most {
			sums = body(g.Scalar(gr, dtypes.Int32, i), sums, values)
		}
		return sums
	}
	carried := slices.Concat([]*g.Node{g.ScalarZero(gr, dtypes.Int32), count}, sums, values)
	closure := func(f func(index, count *g.Node, sums, values []*g.Node) []*g.Node) *g.Function {
		defer ownCaches(gr)()
		return g.NewClosure(gr, func(gr *g.Graph) []*g.Node {
			x := make([]*g.Node, len(carried))
			for i, outside := range carried {
				x[i] = g.Parameter(gr, fmt.Sprintf("carried_%d", i), outside.Shape())
			}
			return f(x[0], x[1], x[2:2+len(sums)], x[2+len(sums):])
		})
	}
	more := closure(func(index, count *g.Node, _, _ []*g.Node) []*g.Node {
		return []*g.Node{g.LessThan(index, count)}
	})
	next := closure(func(index, count *g.Node, sums, values []*g.Node) []*g.Node {
		return slices.Concat([]*g.Node{g.OnePlus(index), count}, body(index, sums, values), values)
	})
	return g.While(more, next, carried...)[2 : 2+len(sums)]
}

// ownCaches has a function, until the returned one is called, make its own scalars and reduction functions. GoMLX v0.28.2 and go-xla
// v0.4.2 keep those of a graph for reuse and forget in which of its functions they were made, where alone they can be used: a sum or
// a constant inside a loop would spoil all outside. So what they keep is put away, behind their backs; where they keep it otherwise
// nothing is done, which TestRepeat notices.
func ownCaches(gr *g.Graph) (restore func()) {
	graph := reflect.ValueOf(gr).Elem()
	fields := []reflect.Value{graph.FieldByName("scalars")}
	if builder := graph.FieldByName("builder"); builder.IsValid() && builder.Kind() == reflect.Interface && builder.Elem().Kind() == reflect.Pointer {
		if xla := builder.Elem().Elem(); xla.Kind() == reflect.Struct {
			fields = append(fields, xla.FieldByName("cacheReductions"))
		}
	}
	var undo []func()
	for _, field := range fields {
		if !field.IsValid() || field.Kind() != reflect.Map {
			continue // another backend's
		}
		kept := reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem()
		outside := reflect.ValueOf(kept.Interface())
		kept.Set(reflect.MakeMap(kept.Type()))
		undo = append(undo, func() { kept.Set(outside) })
	}
	return func() {
		for _, f := range undo {
			f()
		}
	}
}
