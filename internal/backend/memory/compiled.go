// Package memory reads what XLA says of a device's memory: what a compiled program takes of it, and that it ran out.
package memory

import (
	"reflect"

	"github.com/gomlx/gomlx/core/graph"
)

// Compiled is what a compiled program takes of each device's memory, by the compiler's own account, in bytes.
type Compiled struct {
	// Inputs and Outputs are what it is given and gives back; Aliased is what of the outputs lies in donated inputs.
	Inputs, Outputs, Aliased int64
	// Temporary is what it needs in between: activations, gradients, workspace.
	Temporary int64
	// Code is the program itself.
	Code int64
}

// Peak is the memory while the program runs, inputs included.
func (c Compiled) Peak() int64 { return c.Inputs + c.Outputs - c.Aliased + c.Temporary + c.Code }

// Of reads what a compiled graph takes; false where the backend does not say, as the pure-Go one. PJRT tells go-xla
// (v0.4.2), which keeps it in an exported field of an executable that GoMLX (v0.28.2) has no way to ask for.
func Of(gr *graph.Graph) (Compiled, bool) {
	v := reflect.ValueOf(gr)
	for _, name := range []string{"executable", "exec", "OnDeviceMemoryUsageStats"} {
		for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return Compiled{}, false
		}
		v = v.FieldByName(name)
	}
	if v.Kind() != reflect.Struct {
		return Compiled{}, false
	}
	bytes := func(name string) int64 {
		if f := v.FieldByName(name); f.CanInt() {
			return f.Int()
		}
		return 0
	}
	return Compiled{bytes("Inputs"), bytes("Outputs"), bytes("Aliases"), bytes("Temporary"), bytes("GeneratedCode")}, true
}
