package train

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/model"
	"pretrain/train/feed"
	"pretrain/train/loss"
	"pretrain/train/mesh"
	"pretrain/train/optim"
	"pretrain/train/spike"
)

// traffic is what a partitioned program sends, in elements by kind of collective. Of all-reduces, those that every
// device keeps a part of are counted apart: XLA's GPU compiler makes them reduce-scatters, its CPU compiler does not.
type traffic struct {
	gather, reduce, reduceScatter, allToAll, permute int
	tokens                                           int // all-gathers of int32: token ids
}

var hloLine = regexp.MustCompile(`^ *(?:ROOT )?(%[\w.-]+) = (\w+)\[([\d,]*)\]\S* ([\w-]+)\(([^)]*)\)`)

// instruction is a line of a program in XLA's text.
type instruction struct {
	name, dtype, op string
	elements        int
	operands        []string
}

// program compiles a step in another process, as XLA reads its flags once, and returns what XLA made of it: the caller, a
// test, is run again with value in the environment as what.
func program(t *testing.T, what, value, pass, file string) (list []instruction) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), what+"="+value, "XLA_FLAGS=--xla_dump_to="+dir+" --xla_dump_hlo_as_text"+pass)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*train_step*"+file+".txt"))
	if err != nil || len(files) != 1 {
		t.Fatalf("want one program, got %v (%v)", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		m := hloLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		in := instruction{name: m[1], dtype: m[2], op: m[4], elements: 1, operands: strings.Split(m[5], ", ")}
		for dim := range strings.SplitSeq(m[3], ",") {
			if d, err := strconv.Atoi(dim); err == nil {
				in.elements *= d
			}
		}
		list = append(list, in)
	}
	return list
}

// partitioned compiles a step and returns what XLA's partitioner has it send.
func partitioned(t *testing.T, c mesh.Config) (sum traffic) {
	t.Helper()
	list := program(t, "MESH_STEP", fmt.Sprint(c.Data, c.FSDP, c.Tensor), " --xla_dump_hlo_pass_re=spmd-partitioning", "after_spmd-partitioning*")
	readBy := map[string][]string{}
	for _, in := range list {
		for _, operand := range in.operands {
			readBy[operand] = append(readBy[operand], in.op)
		}
	}
	for _, in := range list {
		n := in.elements
		switch in.op {
		case "all-gather":
			if in.dtype == "s32" {
				sum.tokens += n
			} else {
				sum.gather += n
			}
		case "all-reduce":
			if strings.Join(readBy[in.name], " ") == "dynamic-slice" {
				sum.reduceScatter += n
			} else {
				sum.reduce += n
			}
		case "reduce-scatter":
			sum.reduceScatter += n
		case "all-to-all":
			sum.allToAll += n
		case "collective-permute":
			sum.permute += n
		}
	}
	return sum
}

// TestEveryDotIsNarrow: in the lowered step of a bf16 model every product, forward and backward, takes bfloat16 and gives
// float32: 7 linears a layer with 3 products each, attention with 2 and 4, the output projection with 3. A layer that is recomputed
// makes 6 of its 7 and 2 once more; nobody needs what the last linear gives. What is in float32, and meant to be, are muon's
// Newton–Schulz iterations: 3 products each, on the 7 matrices of a layer.
func TestEveryDotIsNarrow(t *testing.T) {
	muon := optim.Default()
	muon.Kind = optim.Muon
	m := meshModel()
	for i, c := range []struct {
		name         string
		optim        optim.Config
		remat        model.Remat
		micro        int
		narrow, wide int
	}{
		{"adamw", optim.Default(), model.RematNone, 1, m.NumLayers*(7*3+2+4) + 3, 0},
		{"adamw, micro-batches", optim.Default(), model.RematNone, 3, m.NumLayers*(7*3+2+4) + 3, 0},
		{"muon, layers recomputed", muon, model.RematLayer, 1, m.NumLayers*(7*3+2+4+6+2) + 3, m.NumLayers * 7 * 3 * muon.MuonSteps},
	} {
		if which := os.Getenv("DOTS"); which != "" {
			if which == strconv.Itoa(i) {
				be := backendtest.CPU(t)
				n := model.NumericsFor(be, model.BF16)
				p, err := NewProgram(mesh.One(be), model.Decoder{Config: m, Numerics: n, Remat: c.remat}, loss.Head{Numerics: n}, c.optim)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := p.Compile(8, m.MaxSeqLen, c.micro); err != nil {
					t.Fatal(err)
				}
			}
			continue
		}
		// As XLA was given it: what it makes of a product is the device's affair (docs/performance.md).
		list := program(t, "DOTS", strconv.Itoa(i), "", "before_optimizations")
		dtypes := map[string]string{}
		for _, in := range list {
			dtypes[in.name] = in.dtype
		}
		narrow, wide := 0, 0
		for _, in := range list {
			if in.op != "dot" {
				continue
			}
			switch lhs, rhs := dtypes[in.operands[0]], dtypes[in.operands[1]]; lhs + rhs + in.dtype {
			case "bf16bf16f32":
				narrow++
			case "f32f32f32":
				wide++
			default:
				t.Errorf("%s: %s is a product of %s and %s into %s", c.name, in.name, lhs, rhs, in.dtype)
			}
		}
		if narrow != c.narrow || wide != c.wide {
			t.Errorf("%s: %d products of bfloat16 and %d of float32, want %d and %d", c.name, narrow, wide, c.narrow, c.wide)
		}
	}
}

// TestMeshTraffic: FSDP gathers each matrix twice, once forward and once backward, and scatters its summed gradient; data
// parallelism sums each gradient and sends nothing else; tensor parallelism sums activations, twice a layer each way.
func TestMeshTraffic(t *testing.T) {
	if text := os.Getenv("MESH_STEP"); text != "" {
		var c mesh.Config
		if _, err := fmt.Sscan(text, &c.Data, &c.FSDP, &c.Tensor); err != nil {
			t.Fatal(err)
		}
		p := meshProgram(t, c.Data*c.FSDP*c.Tensor, c)
		if _, err := p.Step(initState(t, p, 1), []*feed.Batch{repeatingBatch(0, p.decoder.Config, 8)}, 0.01, spike.None); err != nil {
			t.Fatal(err)
		}
		return
	}
	m := meshModel()
	tokens, inLayers, table, gains := 8*m.MaxSeqLen, 0, m.VocabSize*m.DModel, 0
	for _, p := range m.Params() {
		switch p.Role {
		case model.Hidden:
			inLayers += int(p.Size())
		case model.Gain:
			gains += int(p.Size())
		}
	}
	small := gains + 100 // and sums that are one number each

	got := partitioned(t, mesh.Config{Data: 1, FSDP: 4, Tensor: 1})
	t.Logf("fsdp 4: %+v", got)
	// The rows of the embedding, and of the output table for the targets, are looked up by columns, and the embedding's
	// gradient is summed so: tokens go around instead of the table, a quarter of each at a time.
	if got.gather != 2*inLayers+table || got.reduceScatter != inLayers+table || got.reduce > small || got.permute != 0 ||
		got.tokens != 2*tokens || got.allToAll != 3*tokens*m.DModel/4 {
		t.Errorf("fsdp: sent %+v for %d weights in layers and tables of %d", got, inLayers, table)
	}

	got = partitioned(t, mesh.Config{Data: 4, FSDP: 1, Tensor: 1})
	t.Logf("data 4: %+v", got)
	if all := inLayers + 2*table; got.reduce < all || got.reduce > all+small || got != (traffic{reduce: got.reduce}) {
		t.Errorf("data: sent %+v for %d weights", got, all)
	}

	got = partitioned(t, mesh.Config{Data: 1, FSDP: 1, Tensor: 2})
	t.Logf("tensor 2: %+v", got)
	if got != (traffic{reduce: got.reduce}) {
		t.Errorf("tensor: sent %+v, want nothing but sums", got)
	}
}
