package loss

import (
	"bytes"
	"flag"
	"regexp"
	"strconv"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/model"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	g "github.com/gomlx/gomlx/core/graph"
	"k8s.io/klog/v2"
)

// TestChunksSaveMemory: for MiniCPM's vocabulary and 4,096 tokens the compiled loss and its gradient need a quarter at
// most of what they need in one piece, by XLA's own account: in chunks of tokens for a narrow model, in blocks of the vocabulary
// for one as wide as the 2.4B.
func TestChunksSaveMemory(t *testing.T) {
	const vocab, tokens = 122_753, 4096
	for _, dim := range []int{320, 2304} {
		for _, precision := range []model.Precision{model.FP32, model.BF16} {
			head := Head{Numerics: model.NumericsFor(backendtest.CPU(t), precision)}
			chunked := temporaryBytes(t, head, vocab, tokens, dim)
			head.ChunkTokens = tokens
			whole := temporaryBytes(t, head, vocab, tokens, dim)
			t.Logf("D %d, %s: %.0f MiB in parts, %.0f MiB whole", dim, precision, chunked/(1<<20), whole/(1<<20))
			if !(chunked > 0 && chunked*4 <= whole) {
				t.Errorf("D %d, %s: %.0f MiB in parts, %.0f MiB whole: want a quarter", dim, precision, chunked/(1<<20), whole/(1<<20))
			}
		}
	}
}

// TestInBlocks: where a chunk of tokens would not save enough, and not where somebody chose the chunk.
func TestInBlocks(t *testing.T) {
	for _, c := range []struct {
		head               Head
		tokens, dim, vocab int
		want               bool
	}{
		{Head{}, 4096, 2304, 122_753, true},
		{Head{}, 4096, 320, 122_753, false},
		{Head{}, 32 * 4096, 2304, 122_753, false}, // the table is small beside so many tokens' logits
		{Head{}, 4096, 1024, 4096, false},         // all logits at once are no burden
		{Head{ChunkTokens: 512}, 4096, 2304, 122_753, false},
		{Head{Numerics: model.NumericsFor(gpu{backendtest.CPU(t)}, model.BF16)}, 4096, 2304, 122_753, false},
	} {
		if got := c.head.inBlocks(c.tokens, c.dim, c.vocab); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// temporaryBytes compiles a head's loss and returns the memory it takes beside its inputs and outputs, the
// gradients. Go-xla reads XLA's statistics and only logs them.
func temporaryBytes(t *testing.T, h Head, vocab, tokens, dim int) float64 {
	t.Helper()
	var log bytes.Buffer
	defer klog.CaptureState().Restore()
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	for name, value := range map[string]string{"v": "1", "logtostderr": "false", "stderrthreshold": "FATAL"} {
		if err := flags.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	klog.SetOutput(&log)

	gr := g.NewGraph(backendtest.CPU(t), "loss")
	defer gr.Finalize()
	in := func(name string, dtype dtypes.DType, dims ...int) *g.Node {
		return g.Parameter(gr, name, shapes.Make(dtype, dims...))
	}
	r := h.Loss(in("hidden", dtypes.Float32, tokens, dim), in("table", dtypes.Float32, vocab, dim), in("targets", dtypes.Int32, tokens), in("weights", dtypes.Float32, tokens))
	if err := gr.Compile(r.Loss, r.DHidden, r.DTable); err != nil {
		t.Fatal(err)
	}
	klog.Flush()
	found := regexp.MustCompile(`On Device: [^\]]*Temporary:([0-9.]+) ([KMG]?)i?B`).FindStringSubmatch(log.String())
	if found == nil {
		t.Fatalf("go-xla no longer logs XLA's memory statistics: %s", log.String())
	}
	n, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return n * map[string]float64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[found[2]]
}
