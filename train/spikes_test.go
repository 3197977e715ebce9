package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pretrain/internal/vfs"
	"pretrain/model"
	"pretrain/train/checkpoint"
	"pretrain/train/feed"
	"pretrain/train/metrics"
	"pretrain/train/optim"
	"pretrain/train/spike"

	"github.com/gomlx/compute/dtypes"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestLimitsRefuseAnUpdate: a loss or a gradient norm above its limit leaves the state as it was, bit for bit; one that is
// just at it does not.
func TestLimitsRefuseAnUpdate(t *testing.T) {
	p := tinyProgram(t)
	for _, sequences := range []int{2, 4} { // two micro-batches, and one
		batches := cut(randomBatch(1, 4), sequences)
		m := step(t, p, initState(t, p, 3), 0.01, batches...)
		loss, norm := float64(m.Loss), float64(m.GradNorm)
		for _, test := range []struct {
			limits  spike.Limits
			refused bool
		}{
			{spike.None, false},
			{spike.Limits{Loss: loss, GradNorm: norm}, false},
			{spike.Limits{Loss: float64(math.Nextafter32(m.Loss, 0)), GradNorm: norm}, true},
			{spike.Limits{Loss: loss, GradNorm: float64(math.Nextafter32(m.GradNorm, 0))}, true},
			{spike.Limits{Loss: math.Inf(-1), GradNorm: math.Inf(-1)}, true},
		} {
			s := initState(t, p, 3)
			before := snapshot(t, s)
			got, err := p.Step(s, batches, 0.01, test.limits)
			if err != nil {
				t.Fatal(err)
			}
			changed := differing(before, snapshot(t, s))
			if got.Skipped != test.refused || got.Loss != m.Loss || got.GradNorm != m.GradNorm {
				t.Errorf("%v: %+v, want %+v refused %t", test.limits, got, m, test.refused)
			}
			if test.refused != cmp.Equal(changed, []string{countSkipped}) {
				t.Errorf("%v: changed %v", test.limits, changed)
			}
		}
	}
}

// TestDiagnose holds the parts against the whole that a step reports, and changes nothing.
func TestDiagnose(t *testing.T) {
	p := tinyProgram(t)
	for _, sequences := range []int{2, 4} {
		s := initState(t, p, 5)
		batches := cut(randomBatch(6, 4), sequences)
		before := snapshot(t, s)
		d, err := p.Diagnose(s, batches)
		if err != nil {
			t.Fatal(err)
		}
		if changed := differing(before, snapshot(t, s)); changed != nil {
			t.Errorf("changed %v", changed)
		}
		if len(d.GradNorms) != p.Layout().NumParams() || len(d.ResidualRMS) != tiny().NumLayers+1 || len(d.Nats) != 4 {
			t.Fatalf("%+v", d)
		}
		m := step(t, p, s, 0.01, batches...)
		norm, nats := 0.0, 0.0
		for _, v := range d.GradNorms {
			norm = math.Hypot(norm, float64(v))
		}
		for _, v := range d.Nats { // all targets count the same
			nats += float64(v) / 4
		}
		if math.Abs(norm/float64(m.GradNorm)-1) > 1e-5 || math.Abs(nats/float64(m.Loss)-1) > 1e-5 {
			t.Errorf("norm %g and loss %g, the step's %+v", norm, nats, m)
		}
		// The embedding's residual is rows of the table, scaled.
		table, square, n := before[0], 0.0, 0
		for _, b := range batches {
			for i, token := range b.Tokens {
				if i%(b.SeqLen+1) == b.SeqLen {
					continue // a target only
				}
				for j := range tiny().DModel {
					v := float(table, int(token)*tiny().DModel+j) * tiny().ScaleEmb
					square, n = square+v*v, n+1
				}
			}
		}
		if want := math.Sqrt(square / float64(n)); math.Abs(float64(d.ResidualRMS[0])/want-1) > 1e-5 {
			t.Errorf("RMS of the embedded tokens %g, want %g", d.ResidualRMS[0], want)
		}
	}
	// A target that does not count is none.
	b := randomBatch(6, 2)
	clear(b.Weights)
	if d, err := p.Diagnose(initState(t, p, 5), []*feed.Batch{b}); err != nil || d.Nats[0] != 0 || d.GradNorms[0] != 0 {
		t.Errorf("without targets: %+v, %v", d, err)
	}
}

// A batch with one of these tokens has its loss multiplied, or made not a number.
const (
	tokenLarge = tinyVocab - 2
	tokenNaN   = tinyVocab - 1
)

var sharedMarked struct {
	sync.Once
	program *Program
}

// markedProgram is a program whose loss goes wrong where the batch has one of the tokens above.
func markedProgram(t *testing.T) *Program {
	t.Helper()
	sharedMarked.Do(func() {
		p := newProgram(t, tiny(), model.FP32, optim.Default())
		wrap := func(build func([]*g.Node) []*g.Node) *g.Exec {
			return g.MustNewExec(p.mesh.Backend(), func(inputs []*g.Node) []*g.Node {
				has := func(token int) *g.Node {
					return g.ReduceAllMax(g.ConvertDType(g.Equal(inputs[0], g.Scalar(inputs[0].Graph(), dtypes.Int32, token)), dtypes.Float32))
				}
				// 0/0 is not a number, and 0/1 nothing.
				nan := g.Div(g.ScalarZero(inputs[0].Graph(), dtypes.Float32), g.OneMinus(has(tokenNaN)))
				factor := g.Add(g.OnePlus(g.MulScalar(has(tokenLarge), 49)), nan)
				inputs[1] = g.Mul(inputs[1], g.ExpandLeftToRank(factor, 3))
				return build(inputs)
			})
		}
		p.step, p.looks.accumulate = wrap(p.buildStep), wrap(p.buildNoise)
		sharedMarked.program = p
	})
	if sharedMarked.program == nil {
		t.Fatal("no program")
	}
	return sharedMarked.program
}

// marked are documents without those tokens, but in chosen places.
type marked struct {
	documents
	at map[[2]int]uint32 // document and place in it
}

func (m marked) Read(dst []uint32, doc, offset int) error {
	for i := range dst {
		dst[i] = uint32((doc*doc + offset + i) % tokenLarge)
		if token, ok := m.at[[2]int{doc, offset + i}]; ok {
			dst[i] = token
		}
	}
	return nil
}

const spikeSteps = 44

// spikeRun is a run of 44 steps with the given tokens at the given steps; min_history is reached at step 12.
func spikeRun(t *testing.T, sink metrics.Sink, store *checkpoint.Store, policy spike.Policy, tokens map[int64]uint32) *Run {
	t.Helper()
	text := marked{documents{count: 300}, map[[2]int]uint32{}}
	r := runOf(t, markedProgram(t), spikeSteps, sink, store, text)
	for step, token := range tokens {
		sequences, err := r.Data.At(step)
		if err != nil {
			t.Fatal(err)
		}
		seg := sequences[1].Segments[0]
		text.at[[2]int{seg.Doc, seg.Offset + seg.Len/2}] = token // not at an end, which two rows share
	}
	r.Spikes = spike.Default()
	r.Spikes.Policy, r.Spikes.MinHistory, r.Spikes.SkipBefore, r.Spikes.SkipAfter = policy, 8, 3, 4
	r.Saver.First = policy == spike.Rollback
	rec, _ := sink.(*recorder)
	r.Forensics = Forensics{
		FS: vfs.NewCrashableMem(), Dir: "run/spikes", Config: "name: test\n", Seed: 1, Say: t.Logf,
		Decode:   func(tokens []uint32) string { return fmt.Sprint(tokens) },
		Document: func(source string, document int) string { return fmt.Sprintf("%s/%d", source, document) },
		Recent: func(step int64, n int) ([]metrics.Record, error) {
			return rec.records[max(0, len(rec.records)-n):], nil
		},
	}
	return r
}

// trainOn trains to the end, as the program does: it resumes where the run is interrupted, and goes back where a spike
// wants it.
func trainOn(t *testing.T, r *Run, sink *recorder, store *checkpoint.Store, again func() *Run) *checkpoint.State {
	t.Helper()
	var windows spike.Windows
	for {
		ctx, stop := context.WithCancel(context.Background())
		sink.stop = stop
		err := r.Train(ctx)
		stop()
		back := new(RollbackError)
		if err == nil {
			return latest(t, store)
		}
		var saved *checkpoint.State
		switch {
		case errors.As(err, &back):
			w := r.Spikes.Around(back.Spike, 0)
			windows = windows.With(w)
			if err := r.Saver.Writer.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
			if saved, err = store.LoadUpTo(context.Background(), w.From, func(p *checkpoint.Problem) { t.Error(p) }); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Rewind(context.Background(), saved.Meta.Step); err != nil {
				t.Fatal(err)
			}
		case errors.Is(err, ErrInterrupted), errors.Is(err, ErrSpike):
			saved = latest(t, store)
		default:
			t.Fatal(err)
		}
		forensics := r.Forensics
		r = again()
		r.Forensics = forensics
		r.Step, r.Loop = saved.Meta.Step, saved.Meta.Loop
		for _, w := range windows {
			r.Loop.Spikes.Windows = r.Loop.Spikes.Windows.With(w)
		}
		sink.records, sink.stopAfter = sink.records[:r.Step], -1
		if r.State, err = FromCheckpoint(r.Program.mesh, r.Program.Layout(), saved.Tensors); err != nil {
			t.Fatal(err)
		}
		r.Saver.Resumed(saved.Meta.Step)
	}
}

// outcomeOf is what a run left: its last checkpoint and its records.
type outcomeOf struct {
	State   *checkpoint.State
	Records []metrics.Record
}

// sameOutcome compares all but times.
func sameOutcome(a, b outcomeOf) string {
	numbers := cmp.Comparer(func(x, y metrics.Number) bool { return x == y || math.IsNaN(float64(x)) && math.IsNaN(float64(y)) })
	return cmp.Diff(a, b, numbers, cmpopts.IgnoreFields(checkpoint.LoopState{}, "TrainSeconds", "DataWaitSeconds"),
		cmpopts.IgnoreFields(checkpoint.Meta{}, "CreatedAt"), cmpopts.IgnoreFields(checkpoint.State{}, "Path"))
}

// runSpikes runs to the end, interrupted once after a step if that is not negative.
func runSpikes(t *testing.T, policy spike.Policy, tokens map[int64]uint32, stopAfter int64) (outcomeOf, *Run) {
	t.Helper()
	sink, store := &recorder{stopAfter: stopAfter}, newStore(t)
	again := func() *Run { return spikeRun(t, sink, store, policy, tokens) }
	r := again()
	state := trainOn(t, r, sink, store, again)
	return outcomeOf{state, sink.records}, r
}

var twoSpikes = map[int64]uint32{20: tokenLarge, 30: tokenNaN}

// TestSpikePolicies: a loss of fifty times its size at step 20 and one that is not a number at step 30. What each policy
// comes to, that it comes to the same however it is interrupted, and how near that is to a run without spikes.
func TestSpikePolicies(t *testing.T) {
	clean, _ := runSpikes(t, spike.Skip, nil, -1)
	if n := clean.State.Meta.Loop.Spikes.Count; n != 0 {
		t.Fatalf("%d spikes without any", n)
	}
	// The mean of the eight losses before the last so many steps.
	mean := func(o outcomeOf, before int64) (m float64) {
		for _, r := range o.Records[spikeSteps-before-8 : spikeSteps-before] {
			m += float64(r.Loss) / 8
		}
		return m
	}
	skipped := map[spike.Policy]int64{spike.Off: 1, spike.Skip: 2, spike.Rollback: 16, spike.Stop: 2}
	whole := map[spike.Policy]outcomeOf{}
	for policy, want := range skipped {
		got, _ := runSpikes(t, policy, twoSpikes, -1)
		whole[policy] = got
		loop := got.State.Meta.Loop
		if spikes := int64(2); policy != spike.Off && (loop.Spikes.Count != spikes || got.Records[spikeSteps-1].Spikes != spikes) {
			t.Errorf("%s: %d spikes, %d in the last record", policy, loop.Spikes.Count, got.Records[spikeSteps-1].Spikes)
		}
		if loop.SkippedUpdates != want || len(got.Records) != spikeSteps {
			t.Errorf("%s: %d updates skipped, want %d; %d records", policy, loop.SkippedUpdates, want, len(got.Records))
		}
		// A run that went back has so many updates fewer: in this short one that is a third.
		if ratio := mean(got, 0) / mean(clean, max(0, want-2)); math.Abs(ratio-1) > 0.1 {
			t.Errorf("%s: the last losses are %.3f of the clean run's", policy, ratio)
		}
		if policy == spike.Off {
			continue
		}
		for _, stopAfter := range []int64{19, 20, 21, 30} {
			again, _ := runSpikes(t, policy, twoSpikes, stopAfter)
			if diff := sameOutcome(got, again); diff != "" {
				t.Errorf("%s, interrupted after step %d: %.1000s", policy, stopAfter, diff)
			}
		}
	}
	// To stop and go on is to skip; and to go back is to have known from the beginning.
	if diff := sameOutcome(whole[spike.Skip], whole[spike.Stop]); diff != "" {
		t.Errorf("skip and stop differ: %.1000s", diff)
	}
	sink, store := &recorder{stopAfter: -1}, newStore(t)
	r := spikeRun(t, sink, store, spike.Rollback, twoSpikes)
	r.Loop.Spikes.Windows = spike.Windows{r.Spikes.Around(20, 0), r.Spikes.Around(30, 0)}
	if err := r.Train(context.Background()); err != nil {
		t.Fatal(err)
	}
	if diff := sameOutcome(whole[spike.Rollback], outcomeOf{latest(t, store), sink.records}); diff != "" {
		t.Errorf("going back, and the windows from the beginning: %.1000s", diff)
	}
	if w := whole[spike.Rollback].State.Meta.Loop.Spikes.Windows; !slices.Equal(w, spike.Windows{{From: 17, To: 25, Spike: 20}, {From: 27, To: 35, Spike: 30}}) {
		t.Errorf("windows %v", w)
	}
}

// TestSpikesAreFiled: the bundle of a spike has its batch, where that came from, and its gradients, which are large.
func TestSpikesAreFiled(t *testing.T) {
	_, r := runSpikes(t, spike.Skip, twoSpikes, -1)
	fsys := r.Forensics.FS
	read := func(step int64) (b spike.Bundle, report string) {
		dir := filepath.Join("run/spikes", fmt.Sprintf("step-%09d", step))
		text, err := vfs.ReadFile(fsys, filepath.Join(dir, "spike.json"))
		if err == nil {
			err = json.Unmarshal(text, &b)
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err = vfs.ReadFile(fsys, filepath.Join(dir, "report.txt"))
		if err != nil {
			t.Fatal(err)
		}
		return b, string(text)
	}
	b, report := read(20)
	norm := 0.0
	for _, n := range b.GradientNorms {
		norm = math.Hypot(norm, float64(n.Norm))
	}
	if !(b.Loss > b.LossLimit) || !(norm > float64(b.GradNormLimit)) || b.Failed != "" || len(b.ResidualRMS) != 2 || b.WeightsAfter != 21 { // validated there
		t.Errorf("norm %g in %+v", norm, b)
	}
	sequences, err := r.Data.At(20)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sequences {
		if name := fmt.Sprintf("(web/%d)", s.Segments[0].Doc); !strings.Contains(report, name) {
			t.Errorf("no %s in\n%s", name, report)
		}
	}
	if b, report := read(30); !math.IsNaN(float64(b.Loss)) || !strings.Contains(report, "not finite") || !math.IsNaN(float64(b.GradientNorms[0].Norm)) {
		t.Errorf("%+v\n%s", b, report)
	}
	if n, err := spike.Count(fsys, "run/spikes"); n != 2 || err != nil {
		t.Errorf("%d bundles, %v", n, err)
	}
}

// TestSpikeBudget: more spikes than the budget end the run, with its state saved; so does a disk that takes no bundle not.
func TestSpikeBudget(t *testing.T) {
	sink, store := &recorder{stopAfter: -1}, newStore(t)
	r := spikeRun(t, sink, store, spike.Skip, map[int64]uint32{15: tokenLarge, 20: tokenNaN, 25: tokenNaN, 35: tokenNaN})
	r.Spikes.Budget = 2
	full := errors.New("no space left on device")
	r.Forensics.FS = vfs.WithErrors(vfs.NewCrashableMem(), func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite {
			return full
		}
		return nil
	})
	var said []string
	r.Forensics.Say = func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	err := r.Train(context.Background())
	if !errors.Is(err, ErrSpike) || !strings.Contains(err.Error(), "spikes.budget, 2, within 128 steps") {
		t.Errorf("error %v", err)
	}
	if saved := latest(t, store); saved.Meta.Step != 27 || len(sink.records) != 27 {
		t.Errorf("saved step %d, %d records", saved.Meta.Step, len(sink.records))
	}
	if text := strings.Join(said, "\n"); strings.Count(text, "warning: ") != 3 || strings.Count(text, full.Error()) != 3 {
		t.Errorf("said %s", text)
	}
}
