package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pretrain/data/mix"
	"pretrain/data/pack"
	"pretrain/internal/prng"
	"pretrain/internal/units"
	"pretrain/internal/vfs"
	"pretrain/schedule"
	"pretrain/train/checkpoint"
	"pretrain/train/eval"
	"pretrain/train/feed"
	"pretrain/train/metrics"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/google/go-cmp/cmp"
)

// documents are of 10 tokens each; reading one from broken on fails.
type documents struct{ count, broken int }

func (d documents) Docs() int            { return d.count }
func (d documents) Offset(doc int) int64 { return 10 * int64(doc) }

var errShard = errors.New("shard truncated")

func (d documents) Read(dst []uint32, doc, offset int) error {
	if d.broken > 0 && doc >= d.broken {
		return errShard
	}
	for i := range dst {
		dst[i] = uint32((doc*doc + offset + i) % tinyVocab)
	}
	return nil
}

// rows is a batch schedule as the data order sees it.
type rows struct{ *schedule.Plan }

func (p rows) SequencesBefore(step int64) int64 { return p.TokensBefore(step) / p.SequenceLength() }
func (p rows) SequencesAt(step int64) int       { return int(p.Plan.SequencesAt(step)) }

// recorder is a sink that keeps everything, and can end the run after a record.
type recorder struct {
	records   []metrics.Record
	stopAfter int64 // a step's record; -1: never
	stop      context.CancelFunc
	flushed   int
}

func (r *recorder) Write(rec metrics.Record) error {
	r.records = append(r.records, rec.Deterministic())
	if rec.Step == r.stopAfter {
		r.stop()
	}
	return nil
}

func (r *recorder) Flush() error { r.flushed = len(r.records); return nil }
func (r *recorder) Close() error { return nil }

// patient is a sink that has the steps, which are quicker here than any disk, wait for a save under way: put off, it would come later.
type patient struct {
	metrics.Sink
	writer *checkpoint.Writer
}

func (p patient) Write(rec metrics.Record) error {
	for end := time.Now().Add(5 * time.Second); !p.writer.Idle() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	return p.Sink.Write(rec)
}

const tinySteps = 9

// tinyRun is a run of 9 steps: three of one micro-batch of 2 sequences, then of two. It saves every 4 steps, validates
// every 3.
func tinyRun(t *testing.T, sink metrics.Sink, store *checkpoint.Store, text documents) *Run {
	t.Helper()
	return runOf(t, tinyProgram(t), tinySteps, sink, store, text)
}

// runOf is such a run with another program, length and text.
func runOf(t *testing.T, p *Program, steps int64, sink metrics.Sink, store *checkpoint.Store, text pack.Corpus) *Run {
	t.Helper()
	batch := schedule.DefaultBatch()
	batch.Tokens, batch.MicroBatch = 4*tinySeqLen, 2
	batch.Ramp = []schedule.RampStage{{Until: units.Steps(3), Tokens: 2 * tinySeqLen}}
	batches, err := schedule.NewPlan(batch, tinySeqLen, units.Steps(steps))
	if err != nil {
		t.Fatal(err)
	}
	lr, err := schedule.New(schedule.Default(), batches)
	if err != nil {
		t.Fatal(err)
	}
	data := mix.Default()
	data.Sources = map[string]mix.Source{"web": {Path: "web"}}
	plan, err := mix.Expand(data, mix.Run{Key: prng.New(1).Split("data"), Steps: steps, SeqLen: tinySeqLen, Batches: rows{batches}}, map[string]mix.Available{"web": {Index: text}})
	if err != nil {
		t.Fatal(err)
	}
	config := checkpoint.Default()
	config.EverySteps, config.EveryTime = 4, 0
	writer := checkpoint.NewWriter(store, config, func(e checkpoint.Event) {
		if e.Err != nil {
			t.Errorf("save: %v", e.Err)
		}
	})
	t.Cleanup(func() {
		if err := writer.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &Run{
		Program: p, State: initState(t, p, 10), Schedule: lr, Batches: batches, Data: plan,
		Assembler: feed.Assembler{Plan: plan, Sources: []feed.Source{{Corpus: text, Options: pack.Options{}}}, Micro: 2},
		Saver:     &Saver{Writer: writer, Config: config, Meta: checkpoint.Meta{Config: "x", ConfigHash: "y"}},
		Metrics:   patient{sink, writer}, EvalEvery: 3,
		Validate: func(ctx context.Context, s *State, last bool) (eval.Sources, error) {
			v := float64(tensors.MustCopyFlatData[float32](s.Tensors[0])[0]) // of the state, and nothing else
			if last {
				v *= 2
			}
			return eval.Sources{"text": {Loss: v, BPB: -v, Tokens: 1, Bytes: 1}}, ctx.Err()
		},
		Loop: checkpoint.LoopState{BestValLoss: math.Inf(1)},
	}
}

func newStore(t *testing.T) *checkpoint.Store {
	t.Helper()
	store, err := checkpoint.Open(vfs.NewCrashableMem(), "run/checkpoints", checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func latest(t *testing.T, store *checkpoint.Store) *checkpoint.State {
	t.Helper()
	state, err := store.LoadLatest(context.Background(), func(p *checkpoint.Problem) { t.Error(p) })
	if err != nil {
		t.Fatal(err)
	}
	return state
}

var text = documents{count: 300}

// TestResumeIsTheUninterruptedRun interrupts a run at each step, resumes it from its checkpoint in a new process's worth
// of values, and compares everything with a run left alone: the state bit for bit, records, and what the loop carries.
func TestResumeIsTheUninterruptedRun(t *testing.T) {
	whole := &recorder{stopAfter: -1}
	store := newStore(t)
	if err := tinyRun(t, whole, store, text).Train(context.Background()); err != nil {
		t.Fatal(err)
	}
	want := latest(t, store)
	checkWholeRun(t, whole, store)
	smooth := 0.0
	for i, rec := range whole.records {
		smooth = metrics.Smoothed(smooth, float64(rec.Loss), int64(i)+1)
	}
	if want.Meta.Loop.LossEMA != smooth {
		t.Errorf("smoothed loss %g, of the records %g", want.Meta.Loop.LossEMA, smooth)
	}

	for stopAfter := int64(-1); stopAfter < tinySteps-1; stopAfter++ {
		ctx, stop := context.WithCancel(context.Background())
		sink := &recorder{stopAfter: stopAfter, stop: stop}
		if stopAfter < 0 {
			stop() // before the first step
		}
		store := newStore(t)
		if err := tinyRun(t, sink, store, text).Train(ctx); !errors.Is(err, ErrInterrupted) {
			t.Fatalf("interrupted after step %d: %v", stopAfter, err)
		}
		stop()
		saved := latest(t, store)
		if saved.Meta.Step != int64(len(sink.records)) || sink.flushed != len(sink.records) {
			t.Errorf("interrupted after step %d: saved step %d, %d records, %d flushed", stopAfter, saved.Meta.Step, len(sink.records), sink.flushed)
		}
		if saved.Meta.Step < stopAfter+1 || saved.Meta.Step > stopAfter+3 {
			t.Errorf("interrupted after step %d: the run went on to step %d", stopAfter, saved.Meta.Step)
		}

		sink.stopAfter = -1
		r := tinyRun(t, sink, store, text)
		var err error
		if r.State, err = FromCheckpoint(r.Program.mesh, r.Program.Layout(), saved.Tensors); err != nil {
			t.Fatal(err)
		}
		r.Step, r.Loop = saved.Meta.Step, saved.Meta.Loop
		r.Saver.Resumed(saved.Meta.Step)
		if err := r.Train(context.Background()); err != nil {
			t.Fatal(err)
		}
		got := latest(t, store)
		if diff := cmp.Diff(want.Tensors, got.Tensors); diff != "" {
			t.Errorf("interrupted after step %d: the final state differs: %.300s", stopAfter, diff)
		}
		if got.Meta.Loop.BestValLoss != want.Meta.Loop.BestValLoss {
			t.Errorf("interrupted after step %d: best validation %g, want %g", stopAfter, got.Meta.Loop.BestValLoss, want.Meta.Loop.BestValLoss)
		}
		if diff := cmp.Diff(whole.records, sink.records); diff != "" {
			t.Errorf("interrupted after step %d: records differ: %s", stopAfter, diff)
		}
		if got.Meta.Loop.LossEMA != want.Meta.Loop.LossEMA || got.Meta.Tokens != want.Meta.Tokens {
			t.Errorf("interrupted after step %d: loop state %+v, want %+v", stopAfter, got.Meta, want.Meta)
		}
	}
}

// TestInterruptedWhileValidating: a signal that comes in the middle of a validation lets it end, as its record is that of a run
// left alone, and then the state is saved.
func TestInterruptedWhileValidating(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	sink, store := &recorder{stopAfter: -1}, newStore(t)
	run := tinyRun(t, sink, store, text)
	validate := run.Validate
	run.Validate = func(ctx context.Context, s *State, last bool) (eval.Sources, error) {
		stop()
		return validate(ctx, s, last)
	}
	if err := run.Train(ctx); !errors.Is(err, ErrInterrupted) {
		t.Fatalf("%v, want %v", err, ErrInterrupted)
	}
	last := sink.records[len(sink.records)-1]
	if last.Eval == nil || last.Step >= tinySteps-1 {
		t.Errorf("the last record, of step %d, has validation %v", last.Step, last.Eval)
	}
	if saved := latest(t, store); saved.Meta.Step != last.Step+1 || sink.flushed != len(sink.records) {
		t.Errorf("saved step %d with %d of %d records on the disk, want step %d", saved.Meta.Step, sink.flushed, len(sink.records), last.Step+1)
	}
}

// checkWholeRun looks at what an uninterrupted run left behind.
func checkWholeRun(t *testing.T, sink *recorder, store *checkpoint.Store) {
	t.Helper()
	steps, err := store.List()
	if err != nil || !slices.Equal(steps, []int64{4, 8, 9}) {
		t.Errorf("checkpoints %v, %v; want steps 4, 8 and the last", steps, err)
	}
	if len(sink.records) != tinySteps || sink.flushed != tinySteps {
		t.Fatalf("%d records, %d flushed", len(sink.records), sink.flushed)
	}
	tokens := int64(0)
	for i, rec := range sink.records {
		batch := int64(4 * tinySeqLen)
		if i < 3 {
			batch = 2 * tinySeqLen
		}
		tokens += batch
		if rec.Step != int64(i) || rec.BatchTokens != batch || rec.Tokens != tokens || rec.Stage != "stage 1" || rec.Skipped != 0 {
			t.Errorf("record %d: %+v", i, rec)
		}
		if wantEval := (i+1)%3 == 0; (rec.Eval != nil) != wantEval {
			t.Errorf("record %d: validation %v", i, rec.Eval)
		}
		if !(rec.Loss > 0) || !(rec.GradNorm > 0) || !(rec.LR >= 0) {
			t.Errorf("record %d: %+v", i, rec)
		}
	}
}

// TestBrokenShard: what was learnt before a batch that cannot be read is saved, and the error says what it was.
func TestBrokenShard(t *testing.T) {
	broken := documents{300, 299}
	for ; broken.broken > 0; broken.broken-- {
		sink, store := &recorder{stopAfter: -1}, newStore(t)
		r := tinyRun(t, sink, store, broken)
		if _, err := r.Assembler.Batch(0); err != nil {
			t.Fatalf("no shard breaks in the middle of the run: %v", err)
		}
		bad := int64(0)
		for bad < tinySteps {
			if _, err := r.Assembler.Batch(bad); err != nil {
				break
			}
			bad++
		}
		if bad == tinySteps {
			continue
		}
		if err := r.Train(context.Background()); !errors.Is(err, errShard) {
			t.Fatalf("error %v", err)
		}
		if saved := latest(t, store); saved.Meta.Step != bad || int64(len(sink.records)) != bad {
			t.Errorf("saved step %d, %d records; step %d could not be read", saved.Meta.Step, len(sink.records), bad)
		}
		return
	}
	t.Fatal("no shard breaks in the middle of the run")
}

// TestSkippedUpdatesAreReported: weights that are not finite make every update a skipped one, and the smoothed loss is
// that of the sound steps only.
func TestSkippedUpdatesAreReported(t *testing.T) {
	sink := &recorder{stopAfter: -1}
	r := tinyRun(t, sink, newStore(t), text)
	host := snapshot(t, r.State)
	copy(host[1].Data, []byte{0, 0, 0x80, 0x7f}) // an infinite gain
	var err error
	if r.State, err = Restore(r.Program.mesh, r.Program.Layout(), host); err != nil {
		t.Fatal(err)
	}
	if err := r.Train(context.Background()); err != nil {
		t.Fatal(err)
	}
	for i, rec := range sink.records {
		if rec.Skipped != int64(i)+1 {
			t.Errorf("record %d: %d skipped", i, rec.Skipped)
		}
	}
	if r.Loop.LossEMA != 0 || r.Loop.SkippedUpdates != tinySteps {
		t.Errorf("loop state %+v", r.Loop)
	}
	// The first sound loss is the smoothed loss, whenever it comes.
	r.record(outcome{step: 5, metrics: StepMetrics{Loss: 3}, took: time.Second})
	if math.Abs(r.Loop.LossEMA-3) > 1e-9 {
		t.Errorf("after a first loss of 3 the smoothed loss is %g", r.Loop.LossEMA)
	}
}

// TestErrorsEndTheRun: validation, samples and sinks that fail are not passed over.
func TestErrorsEndTheRun(t *testing.T) {
	fault := errors.New("fault")
	for name, spoil := range map[string]func(*Run){
		"validation": func(r *Run) {
			r.Validate = func(context.Context, *State, bool) (eval.Sources, error) { return nil, fault }
		},
		"sample": func(r *Run) {
			r.SampleEvery, r.Sample = 2, func(context.Context, *State, int64) error { return fault }
		},
		"sink": func(r *Run) { r.Metrics = faulty{fault} },
	} {
		r := tinyRun(t, &recorder{stopAfter: -1}, newStore(t), text)
		spoil(r)
		if err := r.Train(context.Background()); !errors.Is(err, fault) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type faulty struct{ error }

func (f faulty) Write(metrics.Record) error { return f.error }
func (faulty) Flush() error                 { return nil }
func (faulty) Close() error                 { return nil }

// TestMetricsHeldUpHoldUpSaves: while metrics cannot be written no checkpoint is, which a resume would find without them;
// then it is made up for. At the end of the run it is waited for.
func TestMetricsHeldUpHoldUpSaves(t *testing.T) {
	store := newStore(t)
	pending := fmt.Errorf("disk full: %w", metrics.ErrPending)
	sink := &holding{recorder: recorder{stopAfter: -1}, until: 6, err: pending}
	if err := tinyRun(t, sink, store, text).Train(context.Background()); err != nil {
		t.Fatal(err)
	}
	steps, err := store.List()
	if err != nil || !slices.Equal(steps, []int64{6, 8, 9}) { // 4 was due
		t.Errorf("checkpoints %v, %v", steps, err)
	}
	if sink.flushed != tinySteps {
		t.Errorf("%d records flushed", sink.flushed)
	}
	sink = &holding{recorder: recorder{stopAfter: -1}, until: math.MaxInt, tries: 3, err: pending}
	if err := tinyRun(t, sink, newStore(t), text).Train(context.Background()); err != nil || sink.flushed != tinySteps {
		t.Errorf("at the end: %v, %d records flushed", err, sink.flushed)
	}
}

// holding is a sink that flushes nothing before it has so many records, or was asked so many times at the end.
type holding struct {
	recorder
	until, tries int
	err          error
}

func (h *holding) Flush() error {
	if len(h.records) == tinySteps && h.tries > 0 {
		if h.tries--; h.tries == 0 {
			h.until = 0
		}
	}
	if len(h.records) < h.until {
		return h.err
	}
	return h.recorder.Flush()
}

// stuck is a file system whose Create waits.
type stuck struct {
	vfs.FS
	release chan struct{}
}

func (s stuck) Create(name string) (vfs.File, error) {
	<-s.release
	return s.FS.Create(name)
}

// TestSaverDue: a save is due at multiples of its steps; one that comes due while the disk is busy is put off to the first
// step at which it is not.
func TestSaverDue(t *testing.T) {
	fs := stuck{vfs.NewCrashableMem(), make(chan struct{})}
	store, err := checkpoint.Open(fs, "run/checkpoints", checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	config := checkpoint.Default()
	config.EverySteps, config.EveryTime = 5, 0
	writer := checkpoint.NewWriter(store, config, func(checkpoint.Event) {})
	s := &Saver{Writer: writer, Config: config, Meta: checkpoint.Meta{Config: "x"}}
	state := initState(t, tinyProgram(t), 11)
	for step := int64(0); step < 5; step++ {
		if s.due(step) {
			t.Errorf("due at step %d", step)
		}
	}
	if !s.due(5) {
		t.Error("not due at step 5")
	}
	if err := s.save(state, 5, 50, checkpoint.LoopState{}, false); err != nil { // the writer is stuck now
		t.Fatal(err)
	}
	for step := int64(5); step < 12; step++ {
		if s.due(step) {
			t.Errorf("due at step %d, with the disk busy", step)
		}
	}
	close(fs.release)
	if err := writer.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !s.due(12) {
		t.Error("the save of step 10 was put off and then forgotten")
	}
	if err := s.save(state, 12, 120, checkpoint.LoopState{}, true); err != nil {
		t.Fatal(err)
	}
	if text := s.savedAt.String(); !strings.Contains(text, " m=+") { // or a clock that is set back puts off the next save
		t.Errorf("the time of the last save, %s, goes by the wall clock", text)
	}
	if s.due(13) || !s.due(15) {
		t.Error("after the save put off, step 13 is due or step 15 is not")
	}
	// A state on the disk already is not written again.
	if err := s.save(state, 12, 120, checkpoint.LoopState{}, true); err != nil {
		t.Fatal(err)
	}
	resumed := &Saver{Writer: writer, Config: config}
	resumed.Resumed(20)
	if resumed.due(20) || resumed.due(21) || !resumed.due(25) {
		t.Error("resumed at step 20")
	}
	timed := &Saver{Writer: writer, Config: checkpoint.Config{EveryTime: time.Hour}}
	if timed.due(1) || timed.due(2) {
		t.Error("due before its time")
	}
	timed.savedAt = time.Now().Add(-2 * time.Hour)
	if !timed.due(2) {
		t.Error("not due after its time")
	}
	if steps, err := store.List(); err != nil || !slices.Equal(steps, []int64{5, 12}) {
		t.Errorf("saved %v, %v", steps, err)
	}
	if err := writer.Close(context.Background()); err != nil {
		t.Error(err)
	}
}
