package mix

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"pretrain/data/pack"
	"pretrain/internal/prng"
	"pretrain/internal/units"
)

// lengths is an index of documents of pseudo-random lengths.
type lengths []int64

func newLengths(docs, mean int) lengths {
	k := prng.New(uint64(docs)).Split("lengths")
	l := lengths{0}
	for i := range docs {
		l = append(l, l[i]+1+int64(k.Uint64At(uint64(i))%uint64(2*mean-1)))
	}
	return l
}

func (l lengths) Docs() int            { return len(l) - 1 }
func (l lengths) Offset(doc int) int64 { return l[doc] }

// ramp has first sequences a step until step at, then second.
type ramp struct {
	at            int64
	first, second int
}

func (r ramp) SequencesBefore(step int64) int64 {
	return min(step, r.at)*int64(r.first) + max(step-r.at, 0)*int64(r.second)
}

func (r ramp) SequencesAt(step int64) int {
	if step < r.at {
		return r.first
	}
	return r.second
}

func fixed(n int) ramp { return ramp{first: n, second: n} }

func testRun(steps int64, seqLen int, b Batches) Run {
	return Run{
		Key: prng.New(1).Split("data"), Steps: steps, SeqLen: seqLen, Batches: b,
		Phases: map[string]int64{"warmup": 0, "stable": steps / 10, "decay": steps * 9 / 10}, Params: 1e9,
	}
}

// testSources are a (large), b (middling), c (small), d (smallest).
func testSources() (map[string]Source, map[string]Available) {
	sources, available := map[string]Source{}, map[string]Available{}
	for name, docs := range map[string]int{"a": 3000, "b": 900, "c": 120, "d": 10} {
		sources[name] = Source{Path: name, MaxEpochs: 1e6}
		available[name] = Available{newLengths(docs, 20), "hash-" + name}
	}
	return sources, available
}

func testConfig() (Config, map[string]Available) {
	c := Default()
	var available map[string]Available
	c.Sources, available = testSources()
	return c, available
}

func mustExpand(t testing.TB, c Config, run Run, available map[string]Available) *Plan {
	t.Helper()
	plan, err := Expand(c, run, available)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func mustAt(t testing.TB, plan *Plan, step int64) []Sequence {
	t.Helper()
	batch, err := plan.At(step)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func drawMix(t *rapid.T, label string) map[string]float64 {
	m := map[string]float64{"a": rapid.Float64Range(0.1, 1).Draw(t, label+" a")}
	for _, name := range []string{"b", "c", "d"} {
		if rapid.Bool().Draw(t, label+" has "+name) {
			m[name] = rapid.Float64Range(0, 0.5).Draw(t, label+" "+name)
		}
	}
	return m
}

// Over any 1,000 steps each source's share of the tokens is its weight to within 0.1%, stage edges and ramp included.
func TestSharesOverAnyThousandSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, available := testConfig()
		c.Stages = []Stage{
			{Until: units.Steps(rapid.Int64Range(1, 3999).Draw(t, "edge")), Mix: drawMix(t, "first")},
			{Mix: drawMix(t, "second")},
		}
		b := ramp{rapid.Int64Range(0, 4000).Draw(t, "ramp"), 16, rapid.IntRange(16, 64).Draw(t, "batch")}
		plan, err := Expand(c, testRun(4000, 16, b), available)
		if err != nil {
			t.Fatal(err)
		}
		from := rapid.Int64Range(0, 3000).Draw(t, "from")
		got, want, total := map[int]float64{}, map[string]float64{}, 0.0
		for step := from; step < from+1000; step++ {
			n, _ := plan.SequencesAt(step)
			for i := range n {
				st := plan.stageAt(step)
				src, _ := st.share.locate(b.SequencesBefore(step) + int64(i) - st.row)
				got[src]++
			}
			for name, w := range plan.StageAt(step).Mix {
				want[name] += w * float64(n)
			}
			total += float64(n)
		}
		for i, name := range plan.Sources() {
			if off := math.Abs(got[i]-want[name]) / total; off > 0.001 {
				t.Fatalf("steps %d to %d: source %s has %.4f%% of the tokens, wanted %.4f%%", from, from+1000, name, 100*got[i]/total, 100*want[name]/total)
			}
		}
	})
}

// What a plan does up to an edge does not hang on anything after it: later weights, new sources, the run's length.
func TestLaterChangesLeaveEarlierBatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, available := testConfig()
		edge := rapid.Int64Range(1, 99).Draw(t, "edge")
		first := Stage{Until: units.Steps(edge), Mix: drawMix(t, "first")}
		c.Stages = []Stage{first, {Mix: drawMix(t, "second")}}
		before, err := Expand(c, testRun(100, 32, fixed(8)), available)
		if err != nil {
			t.Fatal(err)
		}
		c.Sources["dough"] = Source{Path: "dough", MaxEpochs: 1e6}
		available["dough"] = Available{newLengths(50, 30), "new"}
		third := drawMix(t, "third")
		third["dough"] = 0.7
		c.Stages = []Stage{first, {Until: units.Steps(edge + 40), Mix: third, SeqLen: 16}, {Mix: drawMix(t, "fourth")}}
		after, err := Expand(c, testRun(200, 32, ramp{edge, 8, 12}), available)
		if err != nil {
			t.Fatal(err)
		}
		for step := range edge {
			x, _ := before.At(step)
			y, _ := after.At(step)
			for i := range x {
				if before.Sources()[x[i].Source] != after.Sources()[y[i].Source] || !slices.Equal(x[i].Segments, y[i].Segments) {
					t.Fatalf("step %d of %d before the edge, sequence %d: %+v became %+v", step, edge, i, x[i], y[i])
				}
			}
		}
	})
}

// Other batch sizes cut the same line of 720 sequences elsewhere.
func TestBatchSizeDoesNotChangeTheOrder(t *testing.T) {
	c, available := testConfig()
	line := func(b Batches, steps int64) (out []Sequence) {
		plan := mustExpand(t, c, testRun(steps, 16, b), available)
		for step := range steps {
			out = append(out, mustAt(t, plan, step)...)
		}
		return out
	}
	want := line(fixed(12), 60)
	for _, tt := range []struct {
		b     ramp
		steps int64
	}{{fixed(1), 720}, {fixed(36), 20}, {ramp{30, 8, 16}, 60}} {
		if diff := cmp.Diff(want, line(tt.b, tt.steps)); diff != "" {
			t.Errorf("%+v: %s", tt.b, diff)
		}
	}
}

// Any step can be had first, from a plan made anew, and from several goroutines.
func TestResumeAtAnyStep(t *testing.T) {
	c, available := testConfig()
	c.Pack = BestFit
	c.Stages = []Stage{{Until: units.OfRun(0.5), Mix: map[string]float64{"a": 2, "b": 1}}, {Mix: map[string]float64{"a": 1, "c": 1}}}
	run := testRun(100, 32, ramp{30, 4, 8})
	whole := mustExpand(t, c, run, available)
	var want [100][]Sequence
	for step := range want {
		want[step] = mustAt(t, whole, int64(step))
	}
	done := make(chan error)
	for worker := range 8 {
		go func() {
			plan, err := Expand(c, run, available)
			for i := 0; i < 100 && err == nil; i++ {
				step := (worker*37 + i*61) % 100
				var got []Sequence
				if got, err = plan.At(int64(step)); err == nil && !cmp.Equal(want[step], got) {
					err = fmt.Errorf("step %d: %s", step, cmp.Diff(want[step], got))
				}
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// StepsOf is the inverse of At for every document, whatever the packing, the stages and their sequence lengths; and each
// document is seen as often as its source has epochs.
func TestStepsOfEveryDocument(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, _ := testConfig()
		available := map[string]Available{}
		for i, name := range []string{"a", "b", "c", "d"} {
			docs := rapid.IntRange(1, 40).Draw(t, "docs")
			s := c.Sources[name]
			if i == 1 {
				s.Pack = BestFit
			}
			c.Sources[name] = s
			available[name] = Available{newLengths(docs, rapid.IntRange(1, 30).Draw(t, "mean")), name}
		}
		short := map[string]float64{"a": 1, "c": 0.3}
		c.Stages = []Stage{{Until: units.Steps(10), Mix: drawMix(t, "first")}, {Until: units.Steps(20), Mix: short, SeqLen: 4}, {Mix: drawMix(t, "third")}}
		run := testRun(40, 16, ramp{15, 3, 5})
		plan, err := Expand(c, run, available)
		if err != nil {
			t.Fatal(err)
		}
		type doc struct{ source, doc int }
		want := map[doc][]Occurrence{}
		for step := range run.Steps {
			batch, err := plan.At(step)
			if err != nil {
				t.Fatal(err)
			}
			if n, _ := plan.SequencesAt(step); n != len(batch) {
				t.Fatalf("step %d has %d sequences, not %d", step, len(batch), n)
			}
			for i, s := range batch {
				for _, seg := range s.Segments {
					d := doc{s.Source, seg.Doc}
					want[d] = append(want[d], Occurrence{step, i, s.Epoch, seg})
				}
			}
		}
		for src, name := range plan.Sources() {
			for d := range available[name].Index.Docs() {
				got, err := plan.StepsOf(name, d)
				if err != nil {
					t.Fatal(err)
				}
				slices.SortFunc(got, compareOccurrences)
				slices.SortFunc(want[doc{src, d}], compareOccurrences)
				if diff := cmp.Diff(want[doc{src, d}], got); diff != "" {
					t.Fatalf("document %d of %s (-want +got):\n%s", d, name, diff)
				}
			}
		}
	})
}

func compareOccurrences(a, b Occurrence) int {
	return slices.Compare([]int{int(a.Step), a.Index, a.Segment.Doc, a.Segment.Offset, a.Segment.Len}, []int{int(b.Step), b.Index, b.Segment.Doc, b.Segment.Offset, b.Segment.Len})
}

// A source alone, for two epochs: every document has each of its tokens predicted twice.
func TestWholePlanCoversASource(t *testing.T) {
	c := Default()
	c.Sources = map[string]Source{"a": {Path: "a"}}
	index := newLengths(2500, 40)
	total := index[len(index)-1]
	steps := 2 * total / (16 * 8)
	plan := mustExpand(t, c, testRun(steps, 16, fixed(8)), map[string]Available{"a": {index, ""}})
	seen := make([]int64, index.Docs())
	for step := range steps {
		for _, s := range mustAt(t, plan, step) {
			skip := 1 // the row's first token is an input only
			for _, seg := range s.Segments {
				seen[seg.Doc] += int64(seg.Len - skip)
				skip = 0
			}
		}
	}
	missing := int64(0)
	for d, n := range seen {
		if want := 2 * (index[d+1] - index[d]); n > want+16 {
			t.Errorf("document %d: %d targets in two epochs, want %d", d, n, want)
		} else {
			missing += want - n
		}
	}
	if left := 2*total - steps*16*8; missing > left+1 {
		t.Errorf("%d targets missing of two epochs; only %d are beyond the last step", missing, left)
	}
	if got := plan.EpochBySource(steps)["a"]; math.Abs(got-2) > 0.01 {
		t.Errorf("%v epochs at the end, want 2", got)
	}
	if got := plan.EpochBySource(steps / 4)["a"]; math.Abs(got-0.5) > 0.01 {
		t.Errorf("%v epochs after a quarter, want 0.5", got)
	}
	u := plan.Usage()[0]
	if u.Docs != 2500 || u.Tokens != total || math.Abs(u.Epochs-2) > 0.01 || len(u.EpochStart) != 2 || u.EpochStart[0] != 0 || u.MaxEpochs != 4 {
		t.Errorf("usage is %+v", u)
	}
	if s := mustAt(t, plan, u.EpochStart[1]); s[len(s)-1].Epoch != 1 {
		t.Errorf("epoch 1 begins at step %d, where the batch ends in epoch %d", u.EpochStart[1], s[len(s)-1].Epoch)
	}
}

// With best_fit, weights are still of tokens: padding is made up for.
func TestBestFitSharesAreOfTokens(t *testing.T) {
	c, available := testConfig()
	d := c.Sources["b"]
	d.Pack = BestFit
	c.Sources["b"] = d
	available["b"] = Available{lengths(func() (l []int64) { // 20 of 33 tokens a row
		for i := range int64(901) {
			l = append(l, 20*i)
		}
		return l
	}()), ""}
	c.Stages = []Stage{{Mix: map[string]float64{"a": 0.5, "b": 0.5}}}
	plan := mustExpand(t, c, testRun(500, 32, fixed(16)), available)
	tokens := map[int]int{}
	for step := range int64(500) {
		for _, s := range mustAt(t, plan, step) {
			for _, seg := range s.Segments {
				tokens[s.Source] += seg.Len
			}
		}
	}
	if share := float64(tokens[1]) / float64(tokens[0]+tokens[1]); math.Abs(share-0.5) > 0.001 {
		t.Errorf("b has %.4f of the tokens, want 0.5", share)
	}
}

func TestOrderErrors(t *testing.T) {
	c, available := testConfig()
	plan := mustExpand(t, c, testRun(10, 16, fixed(4)), available)
	for _, step := range []int64{-1, 10} {
		if _, err := plan.At(step); err == nil {
			t.Errorf("step %d of 10 is taken", step)
		}
	}
	for _, err := range []error{
		func() error { _, err := plan.Sequence(0, 4); return err }(),
		func() error { _, err := plan.StepsOf("e", 0); return err }(),
		func() error { _, err := plan.StepsOf("d", 10); return err }(),
		func() error { _, err := plan.StepsOf("d", -1); return err }(),
	} {
		if err == nil {
			t.Error("want an error")
		}
	}
}

// The seed, the source's name and its content each change the order.
func TestOrderKey(t *testing.T) {
	c := Default()
	c.Sources = map[string]Source{"a": {Path: "a"}}
	run, index := testRun(10, 16, fixed(8)), newLengths(300, 40)
	batch := func(run Run, name, hash string) []pack.Segment {
		c.Sources = map[string]Source{name: {Path: "a"}}
		return mustAt(t, mustExpand(t, c, run, map[string]Available{name: {index, hash}}), 0)[0].Segments
	}
	other := run
	other.Key = prng.New(2).Split("data")
	want := batch(run, "a", "x")
	if !slices.Equal(want, batch(run, "a", "x")) {
		t.Error("the same run has two orders")
	}
	for what, got := range map[string][]pack.Segment{"seed": batch(other, "a", "x"), "name": batch(run, "b", "x"), "content": batch(run, "a", "y")} {
		if slices.Equal(want, got) {
			t.Errorf("another %s, the same first sequence", what)
		}
	}
}
