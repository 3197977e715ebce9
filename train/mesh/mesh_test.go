package mesh

import (
	"slices"
	"strings"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/model"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		in      Config
		devices int
		want    Config
		err     string
	}{
		{Default(), 8, Config{Data: 1, FSDP: 1, Tensor: 1}, ""},
		{Config{Data: 1, FSDP: -1, Tensor: 1}, 8, Config{Data: 1, FSDP: 8, Tensor: 1}, ""},
		{Config{Data: 2, FSDP: -1, Tensor: 2}, 8, Config{Data: 2, FSDP: 2, Tensor: 2}, ""},
		{Config{Data: 2, FSDP: 1, Tensor: 1}, 8, Config{Data: 2, FSDP: 1, Tensor: 1}, ""}, // six are left unused
		{Config{Data: 3, FSDP: -1, Tensor: 1}, 8, Config{}, "do not come out even over 3"},
		{Config{Data: 1, FSDP: -1, Tensor: 16}, 8, Config{}, "do not come out even over 16"},
		{Config{Data: 4, FSDP: 4, Tensor: 1}, 8, Config{}, "16 devices are asked for and there are 8"},
		{Config{Data: -1, FSDP: -1, Tensor: 1}, 8, Config{}, "another axis takes what is left already"},
		{Config{Data: 0, FSDP: 1, Tensor: 1}, 8, Config{}, "train.mesh.data: 0: want a number of devices, or -1"},
	} {
		got, err := c.in.Resolve(c.devices)
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%v on %d: error %v, want %q", c.in, c.devices, err, c.err)
		case c.err == "" && (err != nil || got != c.want):
			t.Errorf("%v on %d: %v, %v, want %v", c.in, c.devices, got, err, c.want)
		}
	}
}

// TestPutGet: whatever the rule, a tensor comes back from its devices as it went there, and each has its share only.
func TestPutGet(t *testing.T) {
	m, err := New(backendtest.Devices(t, 8), Config{Data: 2, FSDP: 2, Tensor: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dims  []int
		rule  Rule
		parts int
	}{
		{[]int{}, nil, 1},
		{[]int{6, 4}, nil, 1},
		{[]int{6, 4}, Rule{{FSDP}, {Tensor}}, 4},
		{[]int{6, 4}, Rule{{Tensor}, {FSDP}}, 4},
		{[]int{6, 5}, Rule{{FSDP}, {Tensor}}, 2}, // 5 columns do not come out even: they stay together
		{[]int{8, 3}, Batch, 4},
		{[]int{2, 8, 3, 5}, Rule{nil, {Tensor, Data}}, 4},
		{[]int{2, 2, 3, 4}, Rule{{FSDP}, {Data}, nil, {Tensor}}, 8},
	} {
		v := Value{shapes.Make(dtypes.Int32, c.dims...), c.rule}
		want := make([]byte, v.Shape.ByteSize())
		for i := range want {
			want[i] = byte(i*7 + 1)
		}
		parts, err := m.Put(v, want)
		if err != nil {
			t.Fatal(err)
		}
		for d, p := range parts {
			if p.Shape().Size()*c.parts != v.Shape.Size() || !p.Shape().Equal(m.ShardShape(v, d)) {
				t.Errorf("%v by %v: device %d has %s, want 1/%d", c.dims, c.rule, d, p.Shape(), c.parts)
			}
		}
		got, err := m.Get(v, parts)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v by %v: %v came back as %v, %v", c.dims, c.rule, want, got, err)
		}
	}
}

// TestRows: the devices that differ along data and fsdp share out a batch in order; those along tensor have the same.
func TestRows(t *testing.T) {
	m, err := New(backendtest.Devices(t, 8), Config{Data: 2, FSDP: 2, Tensor: 2})
	if err != nil {
		t.Fatal(err)
	}
	var got [][2]int
	for d := range m.Devices() {
		from, to := m.Rows(d, 12)
		got = append(got, [2]int{from, to})
	}
	if want := [][2]int{{0, 3}, {0, 3}, {3, 6}, {3, 6}, {6, 9}, {6, 9}, {9, 12}, {9, 12}}; !slices.Equal(got, want) {
		t.Errorf("rows %v, want %v", got, want)
	}
}

// TestRules: every matrix of a model is cut along both axes, or a device would hold it whole.
func TestRules(t *testing.T) {
	m := model.Config{Preset: "2.4b", VocabSize: 122_752}.Resolve()
	for _, p := range m.Params() {
		used := 0
		for _, axes := range RuleOf(p) {
			used += len(axes)
		}
		if want := map[bool]int{true: 0, false: 2}[p.Role == model.Gain]; used != want || len(RuleOf(p)) > len(p.Shape) {
			t.Errorf("%s %v: rule %v", p.Name, p.Shape, RuleOf(p))
		}
	}
}

// TestRepeat: a loop of sums and constants beside sums and constants, run 0, 1 and 3 times of at most 4; and by copies, as it is on
// GoMLX's own backend. On several devices: TestMeshLosses.
func TestRepeat(t *testing.T) {
	own, err := gobackend.New("ops_sequential")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Finalize()
	for name, m := range map[string]*Mesh{"one": One(backendtest.CPU(t)), "own": One(own)} {
		t.Run(name, func(t *testing.T) {
			exec, err := m.Exec("repeat", func(in []*g.Node) []*g.Node {
				count, x := in[0], in[1] // x [4, 2], of which rows from count on are zeros
				before := g.AddScalar(g.ReduceAllSum(x), 3)
				out := m.Repeat(count, 4, []*g.Node{g.ScalarOne(x.Graph(), dtypes.Float32)}, []*g.Node{x}, func(i *g.Node, sums, values []*g.Node) []*g.Node {
					row := g.Gather(values[0], g.Reshape(i, 1))
					return []*g.Node{g.Add(sums[0], g.MulScalar(g.ReduceAllSum(row), 3))}
				})
				return []*g.Node{g.Add(g.Mul(out[0], g.ReduceAllSum(x)), g.MulScalar(before, 3))}
			}, []Value{{}, {}}, []Value{{}})
			if err != nil {
				t.Fatal(err)
			}
			defer exec.Finalize()
			for _, count := range []int32{0, 1, 3} {
				x := make([][]float32, 4)
				sum := float32(0)
				for i := range x {
					if x[i] = []float32{0, 0}; int32(i) < count {
						x[i] = []float32{float32(i + 1), 10}
					}
					sum += x[i][0] + x[i][1]
				}
				out, err := exec.Call(count, x)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := tensors.ToScalar[float32](out[0]), (1+3*sum)*sum+3*(sum+3); got != want {
					t.Errorf("%d times: %g, want %g", count, got, want)
				}
			}
		})
	}
}
