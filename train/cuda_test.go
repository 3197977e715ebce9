package train

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pretrain/internal/backend"
	"pretrain/internal/plugin"
	"pretrain/model"
	"pretrain/train/loss"
	"pretrain/train/mesh"
	"pretrain/train/optim"
)

// stableDot is a product in StableHLO's text: the precision asked for, the two operands' types and the result's.
var stableDot = regexp.MustCompile(`(?s)"stablehlo\.dot_general"\([^)]*\) \{.*?precision_config = \[([^\]]*)\]\s*\} : \(tensor<[\dx]*x(\w+)>, tensor<[\dx]*x(\w+)>\) -> tensor<[\dx]*x(\w+)>`)

// TestProgramForCUDA: what is sent to a GPU's compiler has cuDNN's attention, one call forward and one back in each layer and one
// more where the layer is recomputed, and products of bfloat16 into float32, accumulated so at the default precision. It needs no GPU:
// capture.c stands in for its plugin and writes down what it is asked to compile. What XLA makes of it: docs/performance.md.
func TestProgramForCUDA(t *testing.T) {
	lib, err := plugin.Default()
	if err != nil {
		t.Fatal(err)
	}
	cpu, err := lib.Find(plugin.CPU)
	if err != nil {
		t.Fatalf("%v: run `make setup`", err)
	}
	command := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	dir := t.TempDir()
	library := filepath.Join(dir, "capture_cuda.so")
	headers := filepath.Join(command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/gomlx/go-xla"), "pjrt")
	command("cc", "-Wall", "-Werror", "-shared", "-fPIC", "-I"+headers, "-o", library, filepath.FromSlash("../bench/gpu/aot/capture.c"))
	t.Setenv("CAPTURE_PLUGIN", cpu.Path)
	t.Setenv("CAPTURE_OUT", dir)
	be, _, err := backend.Open("xla:"+library, backend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer be.Finalize()

	m := model.Config{VocabSize: 64, DModel: 32, DFF: 64, NumLayers: 2, NumHeads: 4, HeadDim: 8, NumKVHeads: 2, DimModelBase: 8, MaxSeqLen: 16}.Resolve()
	n := model.NumericsFor(be, model.BF16)
	p, err := NewProgram(mesh.One(be), model.Decoder{Config: m, Numerics: n, Remat: model.RematLayer}, loss.Head{Numerics: n}, optim.Default())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Finalize()
	if _, err := p.Compile(8, m.MaxSeqLen, 1); err == nil || !strings.Contains(err.Error(), "captured") {
		t.Fatalf("compiled, or refused for another reason: %v", err)
	}
	program, err := os.ReadFile(filepath.Join(dir, "0.mlir"))
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]int{`"__cudnn$fmhaSoftmax"`: 2 * m.NumLayers, `"__cudnn$fmhaSoftmaxBackward"`: m.NumLayers} {
		if got := strings.Count(string(program), target); got != want {
			t.Errorf("%d calls of %s, want %d", got, target, want)
		}
	}
	if scatters, integers := strings.Count(string(program), `"stablehlo.scatter"`), strings.Count(string(program), "-> tensor<64x32xi64>"); scatters != 1 || integers == 0 {
		t.Errorf("%d scatters, %d tables of integers: the embedding's gradient is to be the only one, in integers", scatters, integers)
	}
	dots := stableDot.FindAllStringSubmatch(string(program), -1)
	for _, d := range dots {
		if d[2] != "bf16" || d[3] != "bf16" || d[4] != "f32" || strings.Count(d[1], "DEFAULT") != 2 {
			t.Errorf("a product of %s and %s into %s, precision %s", d[2], d[3], d[4], d[1])
		}
	}
	// 7 linears a layer with 3 products and once more when recomputed (of which XLA drops the last, as nobody reads it), and the
	// output projection's 3.
	if want := m.NumLayers*(7*3+7) + 3; len(dots) != want || len(dots) != strings.Count(string(program), `"stablehlo.dot_general"`) {
		t.Errorf("%d products, want %d", len(dots), want)
	}
}
