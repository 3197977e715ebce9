package mix

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"pretrain/internal/units"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// The order of a frozen manifest. A change of this file changes the data of every run there is: say why.
func TestGoldenBatches(t *testing.T) {
	c, available := testConfig()
	d := c.Sources["d"]
	d.Pack = BestFit
	c.Sources["d"] = d
	c.Stages = []Stage{
		{Until: units.OfRun(0.2), Mix: map[string]float64{"a": 0.5, "b": 0.3, "c": 0.2}, SeqLen: 16},
		{Until: units.OfRun(0.9), Mix: map[string]float64{"a": 0.5, "b": 0.3, "c": 0.2}},
		{Mix: map[string]float64{"a": 0.3, "c": 0.4, "d": 0.3}},
	}
	plan := mustExpand(t, c, testRun(1000, 32, ramp{100, 4, 8}), available)
	var b strings.Builder
	fmt.Fprintf(&b, "manifest %s\n", plan.Manifest())
	for _, step := range []int64{0, 1, 199, 200, 899, 900, 999} {
		fmt.Fprintf(&b, "step %d, %s\n", step, plan.StageAt(step).Name)
		for i, s := range mustAt(t, plan, step) {
			fmt.Fprintf(&b, "  %d: %s epoch %d:", i, plan.Sources()[s.Source], s.Epoch)
			for _, seg := range s.Segments {
				fmt.Fprintf(&b, " %d[%d:%d]", seg.Doc, seg.Offset, seg.Offset+seg.Len)
			}
			b.WriteByte('\n')
		}
	}
	const path = "testdata/batches.golden"
	if *rewrite {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != string(want) {
		g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range g {
			if i >= len(w) || g[i] != w[i] {
				t.Fatalf("line %d is\n%s\nwant\n%s\n(-rewrite writes the file anew)", i+1, g[i], append(w, "", "")[min(i, len(w))])
			}
		}
		t.Fatal("the golden file is longer")
	}
}
