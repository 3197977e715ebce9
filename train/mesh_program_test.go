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

	"pretrain/model"
	"pretrain/train/feed"
	"pretrain/train/mesh"
	"pretrain/train/spike"
)

// traffic is what a partitioned program sends, in elements by kind of collective. Of all-reduces, those that every
// device keeps a part of are counted apart: XLA's GPU compiler makes them reduce-scatters, its CPU compiler does not.
type traffic struct {
	gather, reduce, reduceScatter, allToAll, permute int
	tokens                                           int // all-gathers of int32: token ids
}

var hloLine = regexp.MustCompile(`^ *(?:ROOT )?(%[\w.-]+) = (\w+)\[([\d,]*)\]\S* ([\w-]+)\(([^)]*)\)`)

// partitioned compiles a step and returns what XLA's partitioner has it send. XLA reads its flags once, so another process
// is asked: this test, run again.
func partitioned(t *testing.T, c mesh.Config) (sum traffic) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestMeshTraffic$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("MESH_STEP=%d %d %d", c.Data, c.FSDP, c.Tensor),
		"XLA_FLAGS=--xla_dump_to="+dir+" --xla_dump_hlo_as_text --xla_dump_hlo_pass_re=spmd-partitioning")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*buildStep*after_spmd-partitioning*.txt"))
	if err != nil || len(files) != 1 {
		t.Fatalf("want one partitioned step, got %v (%v)", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	readBy := map[string][]string{}
	var lines [][]string
	for line := range strings.Lines(string(text)) {
		if m := hloLine.FindStringSubmatch(line); m != nil {
			lines = append(lines, m)
			for operand := range strings.SplitSeq(m[5], ", ") {
				readBy[operand] = append(readBy[operand], m[4])
			}
		}
	}
	for _, m := range lines {
		n := 1
		for dim := range strings.SplitSeq(m[3], ",") {
			if d, err := strconv.Atoi(dim); err == nil {
				n *= d
			}
		}
		switch name, dtype := m[1], m[2]; m[4] {
		case "all-gather":
			if dtype == "s32" {
				sum.tokens += n
			} else {
				sum.gather += n
			}
		case "all-reduce":
			if strings.Join(readBy[name], " ") == "dynamic-slice" {
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
