package mesh

import (
	"fmt"
	"reflect"
	"unsafe"

	g "github.com/gomlx/gomlx/core/graph"
)

// Update says that Count inputs of a program, from Input on, are donated and their memory becomes that of the outputs from
// Output on.
type Update struct{ Input, Output, Count int }

// alias marks a graph's input for XLA as one whose memory an output takes over.
//
// Donating an input when a program is called is not enough: PJRT takes only what the compiled program says it reuses, and frees
// the rest afterwards, so that a training state would exist twice during each step. StableHLO says it by an attribute of the
// parameter, which go-xla v0.4.2 can write but GoMLX v0.28.2 has no way to ask for. So it is set where they keep it, behind
// their backs; where it is no longer there nothing is marked, which [Mesh.Exec]'s tests notice.
func alias(input *g.Node, output int) {
	ops := reflect.ValueOf(input).Elem().FieldByName("outputOps")
	if !ops.IsValid() || ops.Kind() != reflect.Slice || ops.Len() != 1 {
		return
	}
	op := ops.Index(0).Elem() // *xla.Node in its interface
	if op.Kind() != reflect.Pointer || op.Elem().Kind() != reflect.Struct {
		return // another backend's
	}
	value := op.Elem().FieldByName("value") // *stablehlo.Value
	if !value.IsValid() || value.Kind() != reflect.Pointer {
		return
	}
	field := value.Elem().FieldByName("Attributes")
	if !field.IsValid() || field.Type() != reflect.TypeFor[map[string]any]() {
		return
	}
	attributes := (*map[string]any)(unsafe.Pointer(field.UnsafeAddr()))
	if *attributes == nil {
		*attributes = map[string]any{}
	}
	(*attributes)["tf.aliasing_output"] = int32(output)
}

// aliased is a graph function whose updates are marked.
func aliased(f func([]*g.Node) []*g.Node, updates []Update) func([]*g.Node) []*g.Node {
	return func(inputs []*g.Node) []*g.Node {
		for _, u := range updates {
			for i := range u.Count {
				alias(inputs[u.Input+i], u.Output+i)
			}
		}
		outputs := f(inputs)
		for _, u := range updates {
			for i := range u.Count {
				if in, out := inputs[u.Input+i].Shape(), outputs[u.Output+i].Shape(); !in.Equal(out) {
					panic(fmt.Errorf("input %d %s cannot become output %d %s", u.Input+i, in, u.Output+i, out))
				}
			}
		}
		return outputs
	}
}
