package feed

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"pretrain/data/mix"
	"pretrain/data/pack"
	"pretrain/internal/prng"
	"pretrain/internal/units"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// corpus has documents of 3 to 12 tokens, token i of document d being 100·d+i; a read of a document in broken fails.
type corpus struct {
	docs   int
	broken map[int]bool
}

var errBroken = errors.New("shard truncated")

func (c corpus) Docs() int { return c.docs }

func (c corpus) Offset(doc int) int64 {
	n := int64(0)
	for d := range doc {
		n += 3 + int64(d*7%10)
	}
	return n
}

func (c corpus) Read(dst []uint32, doc, offset int) error {
	if c.broken[doc] {
		return errBroken
	}
	for i := range dst {
		dst[i] = uint32(100*doc + offset + i)
	}
	return nil
}

// ReadMask trains on every token but those divisible by three.
func (c corpus) ReadMask(dst []bool, doc, offset int) error {
	for i := range dst {
		dst[i] = (100*doc+offset+i)%3 != 0
	}
	return nil
}

type every int

func (n every) SequencesBefore(step int64) int64 { return step * int64(n) }
func (n every) SequencesAt(int64) int            { return int(n) }

const seqLen, steps = 16, 12

// assembler has two sources, one of them packed with padding and a loss mask, in batches of 4 sequences.
func assembler(t testing.TB, micro int, broken ...int) Assembler {
	t.Helper()
	web, chat := corpus{docs: 200, broken: map[int]bool{}}, corpus{docs: 60}
	for _, d := range broken {
		web.broken[d] = true
	}
	c := mix.Default()
	c.Sources = map[string]mix.Source{"web": {Path: "web"}, "chat": {Path: "chat", Pack: mix.BestFit}}
	c.Stages = []mix.Stage{{Mix: map[string]float64{"web": 0.6, "chat": 0.4}}}
	run := mix.Run{Key: prng.New(7).Split("data"), Steps: steps, SeqLen: seqLen, Batches: every(4)}
	plan, err := mix.Expand(c, run, map[string]mix.Available{"web": {Index: web}, "chat": {Index: chat}})
	if err != nil {
		t.Fatal(err)
	}
	a := Assembler{Plan: plan, Micro: micro}
	for _, name := range plan.Sources() {
		s := Source{Corpus: web}
		if name == "chat" {
			s = Source{Corpus: chat, Options: pack.Options{Pad: 9999, Mask: chat, MaskBoundary: true}}
		}
		a.Sources = append(a.Sources, s)
	}
	return a
}

func batchAt(t testing.TB, a Assembler, step int64) []*Batch {
	t.Helper()
	b, err := a.Batch(step)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// joined is a batch whose micro-batches are put end to end.
func joined(parts []*Batch) Batch {
	all := Batch{SeqLen: parts[0].SeqLen}
	for _, b := range parts {
		all.Sequences += b.Sequences
		all.Tokens = append(all.Tokens, b.Tokens...)
		all.Weights = append(all.Weights, b.Weights...)
		all.Segments = append(all.Segments, b.Segments...)
		all.Positions = append(all.Positions, b.Positions...)
	}
	return all
}

// TestMicroBatchesAreCuts: the micro-batch size has no say in what a step trains on, weights included.
func TestMicroBatchesAreCuts(t *testing.T) {
	whole := assembler(t, 4)
	for _, micro := range []int{1, 2} {
		cut := assembler(t, micro)
		for step := range int64(steps) {
			parts := batchAt(t, cut, step)
			if len(parts) != 4/micro {
				t.Fatalf("step %d: %d micro-batches of %d sequences", step, len(parts), micro)
			}
			if diff := cmp.Diff(joined(batchAt(t, whole, step)), joined(parts)); diff != "" {
				t.Fatalf("step %d in micro-batches of %d: %s", step, micro, diff)
			}
		}
	}
}

// TestWeights: the weights of all micro-batches sum to 1, are all equal where the loss counts and 0 at padding.
func TestWeights(t *testing.T) {
	a := assembler(t, 2)
	padding, masked := 0, 0
	for step := range int64(steps) {
		sum, one := 0.0, float32(0)
		for _, b := range batchAt(t, a, step) {
			for i, w := range b.Weights {
				sum += float64(w)
				if b.Segments[i] == 0 {
					padding++
					if w != 0 {
						t.Errorf("step %d: padding has weight %g", step, w)
					}
				}
				switch {
				case w == 0:
					masked++
				case one == 0:
					one = w
				case one != w:
					t.Errorf("step %d: weights %g and %g", step, one, w)
				}
			}
		}
		if math.Abs(sum-1) > 1e-5 {
			t.Errorf("step %d: weights sum to %g", step, sum)
		}
	}
	if padding == 0 || masked == padding {
		t.Errorf("%d padding and %d unweighted places: the test's sources should have both padding and masked tokens", padding, masked)
	}
}

// TestBatchIsTheRow: each row of a batch is what package pack makes of the plan's sequence.
func TestBatchIsTheRow(t *testing.T) {
	a := assembler(t, 4)
	for step := range int64(steps) {
		b := batchAt(t, a, step)[0]
		sequences, err := a.Plan.At(step)
		if err != nil {
			t.Fatal(err)
		}
		row := pack.NewRow(seqLen)
		for i, s := range sequences {
			if err := row.Read(a.Sources[s.Source].Corpus, s.Segments, a.Sources[s.Source].Options); err != nil {
				t.Fatal(err)
			}
			for j, token := range row.Tokens {
				if b.Tokens[i*(seqLen+1)+j] != int32(token) {
					t.Fatalf("step %d, sequence %d: token %d is %d, want %d", step, i, j, b.Tokens[i*(seqLen+1)+j], token)
				}
			}
			if diff := cmp.Diff(row.Segments, b.Segments[i*seqLen:(i+1)*seqLen]) + cmp.Diff(row.Positions, b.Positions[i*seqLen:(i+1)*seqLen]); diff != "" {
				t.Fatalf("step %d, sequence %d: %s", step, i, diff)
			}
		}
	}
}

func TestBatchThatIsNoWholeNumberOfMicroBatches(t *testing.T) {
	if _, err := assembler(t, 3).Batch(0); err == nil {
		t.Error("4 sequences were cut in micro-batches of 3")
	}
}

// TestPrefetchOrder: batches come out in the order of the steps, from any step, and then no more.
func TestPrefetchOrder(t *testing.T) {
	a := assembler(t, 2)
	rapid.Check(t, func(rt *rapid.T) {
		from := rapid.Int64Range(0, steps).Draw(rt, "from")
		to := rapid.Int64Range(from, steps).Draw(rt, "to")
		p := NewPrefetch(context.Background(), a, from, to)
		defer p.Close()
		for step := from; step < to; step++ {
			b, err := p.Next()
			if err != nil {
				rt.Fatalf("step %d: %v", step, err)
			}
			if diff := cmp.Diff(batchAt(t, a, step), b); diff != "" {
				rt.Fatalf("step %d: %s", step, diff)
			}
		}
		if b, err := p.Next(); err == nil {
			rt.Fatalf("after the last step: %v", b)
		}
	})
}

// TestNothingMovesTheOrder: not the number of goroutines, how far ahead they are, the micro-batch, nor how often and where the
// run is interrupted. Every step trains on what Batch alone makes of it.
func TestNothingMovesTheOrder(t *testing.T) {
	var want []Batch
	for step := range int64(steps) {
		want = append(want, joined(batchAt(t, assembler(t, 4), step)))
	}
	rapid.Check(t, func(rt *rapid.T) {
		at := int64(0)
		for at < steps {
			a := assembler(t, rapid.SampledFrom([]int{1, 2, 4}).Draw(rt, "micro"))
			goroutines := rapid.SampledFrom([]int{1, 2, 8}).Draw(rt, "goroutines")
			p := prefetch(context.Background(), a, at, steps, rapid.IntRange(0, 9).Draw(rt, "ahead"), goroutines)
			for stop := rapid.Int64Range(at+1, steps).Draw(rt, "stop"); at < stop; at++ {
				b, err := p.Next()
				if err != nil {
					rt.Fatal(err)
				}
				if diff := cmp.Diff(want[at], joined(b)); diff != "" {
					rt.Fatalf("step %d with %d goroutines: %s", at, goroutines, diff)
				}
			}
			p.Close()
		}
	})
}

// TestShorterSequences: a micro-batch of a stage with shorter sequences has more of them and as many tokens, and its rows are
// the quarters of a longer one.
func TestShorterSequences(t *testing.T) {
	long := corpus{docs: 500}
	plan := func(lengths ...int) Assembler {
		c := mix.Default()
		c.Sources = map[string]mix.Source{"web": {Path: "web"}}
		for i, n := range lengths {
			c.Stages = append(c.Stages, mix.Stage{SeqLen: n, At: mix.Start{Length: units.Steps(int64(6 * i))}})
		}
		run := mix.Run{Key: prng.New(7).Split("data"), Steps: steps, SeqLen: seqLen, Batches: every(4)}
		p, err := mix.Expand(c, run, map[string]mix.Available{"web": {Index: long}})
		if err != nil {
			t.Fatal(err)
		}
		return Assembler{Plan: p, Sources: []Source{{Corpus: long}}, Micro: 2}
	}
	short, whole := plan(4, 16), plan(16, 16)
	for step := range int64(steps) {
		a, b := batchAt(t, short, step), batchAt(t, whole, step)
		n, length := 8, 4
		if step >= 6 {
			n, length = 2, 16
		}
		if len(a) != 2 || a[0].Sequences != n || a[0].SeqLen != length {
			t.Fatalf("step %d: %d micro-batches of %d sequences of %d", step, len(a), a[0].Sequences, a[0].SeqLen)
		}
		for k := range a {
			for i := range a[k].Sequences {
				for j := range length {
					at := i*length + j
					if got, want := a[k].Tokens[i*(length+1)+j], b[k].Tokens[at/seqLen*(seqLen+1)+at%seqLen]; got != want {
						t.Fatalf("step %d, micro-batch %d, sequence %d: token %d is %d, want %d", step, k, i, j, got, want)
					}
				}
			}
		}
	}
}

// brokenAt returns an assembler that fails first at a step in the middle of the run, and that step.
func brokenAt(t testing.TB) (Assembler, int64) {
	t.Helper()
	for doc := range 200 {
		a := assembler(t, 2, doc)
		for step := range int64(steps) {
			if _, err := a.Batch(step); err != nil {
				if step >= 5 {
					return a, step
				}
				break
			}
		}
	}
	t.Fatal("no document is first read in the middle of the run")
	return Assembler{}, 0
}

// TestPrefetchError: every batch before the broken one is handed out, then the error says which and why.
func TestPrefetchError(t *testing.T) {
	a, bad := brokenAt(t)
	for range 20 {
		p := NewPrefetch(context.Background(), a, 0, steps)
		for step := range bad {
			if _, err := p.Next(); err != nil {
				t.Fatalf("step %d: %v; only step %d is broken", step, err, bad)
			}
		}
		_, err := p.Next()
		if !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), fmt.Sprintf("batch of step %d, source web: ", bad)) {
			t.Errorf("step %d: error %v", bad, err)
		}
		p.Close()
	}
}

// TestPrefetchEndsWithItsContext and leaves no goroutine behind, however far it came.
func TestPrefetchEndsWithItsContext(t *testing.T) {
	a := assembler(t, 1)
	before := runtime.NumGoroutine()
	for taken := range 4 {
		for _, cancelled := range []bool{false, true} {
			ctx, cancel := context.WithCancel(context.Background())
			p := NewPrefetch(ctx, a, 0, steps)
			for range taken {
				if _, err := p.Next(); err != nil {
					t.Fatal(err)
				}
			}
			if cancelled {
				cancel()
				for { // what is ready may still come
					if _, err := p.Next(); err != nil {
						if !errors.Is(err, context.Canceled) && taken+depth < steps {
							t.Errorf("after the context ended: %v", err)
						}
						break
					}
				}
			}
			p.Close()
			p.Close() // harmless
			cancel()
		}
	}
	for start := time.Now(); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Since(start) > 5*time.Second {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}
