package spike_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pretrain/train/spike"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// run is a run as the detector sees it: loss and gradient norm of each step, and which steps are spikes.
type run struct {
	config spike.Config
	state  spike.State
	since  int64
	found  []int64
}

// step does with a step's figures what the training step and the loop do.
func (r *run) step(step int64, loss, norm float64) spike.Limits {
	l := r.config.Limits(&r.state, step, r.since)
	applied := loss <= l.Loss && norm <= l.GradNorm // false for NaN
	if r.config.Observe(&r.state, step, float32(loss), float32(norm), applied) {
		r.found = append(r.found, step)
	}
	return l
}

// healthy is a loss curve as runs have them, a power law with noise, and a gradient norm that scatters by factors. noise
// is the standard deviation of both.
func healthy(random *rand.Rand, step int64, noise float64) (loss, norm float64) {
	return 2 + 6*math.Pow(float64(step+1), -0.3) + noise*random.NormFloat64(), 0.5 * math.Exp(noise*random.NormFloat64())
}

// TestHealthyRunsHaveNoSpikes: none in 50,000 steps, whether the batch is large or small.
func TestHealthyRunsHaveNoSpikes(t *testing.T) {
	for _, noise := range []float64{0.001, 0.02, 0.3} {
		random := rand.New(rand.NewPCG(1, 2))
		r := run{config: spike.Default()}
		for step := range int64(50_000) {
			loss, norm := healthy(random, step, noise)
			r.step(step, loss, norm)
		}
		if r.found != nil || r.state.Count != 0 {
			t.Errorf("noise %g: spikes at %v", noise, r.found)
		}
	}
}

// TestSpikesAreFound: a loss or a norm far off, and what is not finite, at the step itself; and none after, as a spike
// moves no limit.
func TestSpikesAreFound(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	r := run{config: spike.Default()}
	want := []int64{300, 500, 501, 700, 900, 901}
	for step := range int64(1000) {
		loss, norm := healthy(random, step, 0.02)
		switch step {
		case 300:
			loss += 1
		case 500, 501:
			norm *= 20
		case 700, 900:
			loss = math.NaN()
		case 901:
			norm = math.Inf(1)
		case 400:
			loss -= 1.5 // too low is no spike
		case 600:
			norm *= 3 // nor is a norm as healthy runs have one
		}
		r.step(step, loss, norm)
	}
	if !slices.Equal(r.found, want) || r.state.Count != int64(len(want)) {
		t.Errorf("found %v (%d), want %v", r.found, r.state.Count, want)
	}
}

// TestWhatWasAskedForIsNoSpike: the loss jumps with a new stage of the data, which since says. Without it the same jump is
// a spike, and as it lasts the limits are lifted and come back higher.
func TestWhatWasAskedForIsNoSpike(t *testing.T) {
	for _, known := range []bool{true, false} {
		random := rand.New(rand.NewPCG(5, 6))
		r := run{config: spike.Default()}
		for step := range int64(600) {
			loss, norm := healthy(random, step, 0.02)
			if step >= 300 {
				loss += 2
				if known {
					r.since = 300
				}
			}
			l := r.step(step, loss, norm)
			if known && step >= 300 && (step < 300+1+r.config.MinHistory) != (l == spike.None) {
				t.Errorf("step %d: limits %v", step, l)
			}
		}
		want := []int64{300, 301, 302, 303, 304} // four in a row, and the one under way when the fourth is seen
		if known {
			want = nil
		}
		if !slices.Equal(r.found, want) {
			t.Errorf("known %t: spikes %v, want %v", known, r.found, want)
		}
		if l := r.config.Limits(&r.state, 600, r.since); l.Loss < 4 || l.Loss > 6 { // the loss is 4.9
			t.Errorf("known %t: limits %v at the end", known, l)
		}
	}
	// During warm-up, whose end is since, there are none at all.
	r := run{config: spike.Default(), since: 1000}
	for step := range int64(1000) {
		if l := r.step(step, 3+float64(step%7)/100, 1); l != spike.None {
			t.Fatalf("step %d of the warm-up: %v", step, l)
		}
	}
}

// TestLimits computes them another way: by counting, not by sorting.
func TestLimits(t *testing.T) {
	c := spike.Default()
	c.Window, c.MinHistory, c.LossDeviations, c.GradNormDeviations = 5, 3, 4, 3
	var s spike.State
	for step, loss := range []float32{100, 2, 9, 3, 5, 4, 8} { // norms are exp(loss)
		c.Observe(&s, int64(step), loss, float32(math.Exp(float64(loss))), true)
	}
	// For step 7: steps 1 to 5 count, of the losses 2 9 3 5 4. Median 4; distances 2 5 1 1 0, their median 1.
	l := c.Limits(&s, 7, 0)
	if math.Abs(l.Loss-(4+4*1.4826)) > 1e-9 || math.Abs(math.Log(l.GradNorm)-(4+3*1.4826)) > 1e-6 {
		t.Errorf("limits %v", l)
	}
	// Since step 3: 3 5 4 (an odd number again). Median 4; distances 1 1 0.
	if l := c.Limits(&s, 7, 3); math.Abs(l.Loss-(4+4*1.4826)) > 1e-9 {
		t.Errorf("since step 3: %v", l)
	}
	if l := c.Limits(&s, 7, 4); l != spike.None {
		t.Errorf("two steps only: %v", l)
	}
	// Steps 1 to 4 for step 6 would be 2 9 3 5 and step 0, which has gone by then, as it may.
	if l := c.Limits(&s, 6, 1); math.Abs(l.Loss-(4+4*1.4826*1.5)) > 1e-9 { // median 4, distances 2 5 1 1: 1.5
		t.Errorf("an even number of steps: %v", l)
	}
	// Where nothing scatters the least deviation counts; a batch without targets says nothing; each limit can be off.
	flat := spike.State{}
	for step := range int64(10) {
		c.Observe(&flat, step, 2, 0.5, true)
	}
	c.Observe(&flat, 10, 0, 0, true)
	if l := c.Limits(&flat, 12, 0); math.Abs(l.Loss-2*(1+4*0.005)) > 1e-9 || math.Abs(l.GradNorm-0.5*math.Exp(0.6)) > 1e-9 {
		t.Errorf("flat: %v", l)
	}
	c.LossDeviations, c.GradNormDeviations = 0, 0
	if l := c.Limits(&flat, 12, 0); l != spike.None {
		t.Errorf("both off: %v", l)
	}
	c.Policy = spike.Off
	if l := c.Limits(&flat, 12, 0); l != spike.None || c.Observe(&flat, 12, 1, 1, false) {
		t.Errorf("policy off: %v", l)
	}
}

// TestResume: whatever happened, limits and findings do not depend on whether the state was saved and read back on the
// way, nor on whether the step before was observed when the limits were asked for.
func TestResume(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := spike.Default()
		c.Window = rapid.Int64Range(2, 12).Draw(t, "window")
		c.MinHistory = rapid.Int64Range(2, c.Window).Draw(t, "min_history")
		c.InARow = rapid.IntRange(1, 4).Draw(t, "in_a_row")
		c.Policy = rapid.SampledFrom([]spike.Policy{spike.Skip, spike.Rollback, spike.Stop}).Draw(t, "policy")
		a, b := run{config: c}, run{config: c}
		if rapid.Bool().Draw(t, "windows") {
			a.state.Windows = spike.Windows{{From: 5, To: 9, Spike: 7}, {From: 8, To: 20, Spike: 15}}
			b.state.Windows = slices.Clone(a.state.Windows)
		}
		for step := range int64(40) {
			loss, norm := rapid.Float32Range(0, 9).Draw(t, "loss"), rapid.Float32Range(0, 2).Draw(t, "norm")
			if rapid.IntRange(0, 9).Draw(t, "bad") == 0 {
				loss = float32(math.NaN())
			}
			lag := a.state // of a host that has not read the step before
			if n := len(lag.History); n > 0 && lag.History[n-1].Step == step-1 {
				lag.History = lag.History[:n-1]
			}
			ll := c.Limits(&lag, step, 0)
			la := a.step(step, float64(loss), float64(norm))
			if la != ll {
				t.Fatalf("step %d: %v, and %v by a host that lags", step, la, ll)
			}
			if rapid.Bool().Draw(t, "save") {
				text, err := json.Marshal(b.state)
				if err != nil {
					t.Fatal(err)
				}
				b.state = spike.State{}
				if err := json.Unmarshal(text, &b.state); err != nil {
					t.Fatal(err)
				}
			}
			if lb := b.step(step, float64(loss), float64(norm)); la != lb {
				t.Fatalf("step %d: %v, and %v when read back", step, la, lb)
			}
		}
		if !slices.Equal(a.found, b.found) || a.state.Count != b.state.Count || !cmp.Equal(a.state.History, b.state.History) {
			t.Fatalf("found %v and %v", a.found, b.found)
		}
	})
}

// TestBudget counts the spikes of a window's steps, those around which data is left out included.
func TestBudget(t *testing.T) {
	c := spike.Default()
	c.Window, c.MinHistory, c.Budget = 10, 2, 2
	var s spike.State
	for step := range int64(30) {
		bad := step == 3 || step == 8 || step == 12 || step == 21
		c.Observe(&s, step, 1, 1, !bad)
		if want := step == 12; c.Spent(&s, step) != want { // 3 is 9 steps before 12: three in ten
			t.Errorf("step %d: spent %t", step, !want)
		}
	}
}

func TestWindows(t *testing.T) {
	c := spike.Default()
	c.SkipBefore, c.SkipAfter = 4, 2
	for _, test := range []struct {
		spike, earliest int64
		want            spike.Window
	}{
		{100, 0, spike.Window{From: 96, To: 103, Spike: 100}},
		{100, 98, spike.Window{From: 98, To: 103, Spike: 100}},
		{100, 100, spike.Window{From: 100, To: 103, Spike: 100}},
		{3, 0, spike.Window{From: 0, To: 6, Spike: 3}},
	} {
		if got := c.Around(test.spike, test.earliest); got != test.want {
			t.Errorf("around %d, earliest %d: %v", test.spike, test.earliest, got)
		}
	}
	first, second := spike.Window{From: 10, To: 20, Spike: 15}, spike.Window{From: 18, To: 30, Spike: 25}
	all := spike.Windows(nil).With(second).With(first).With(second)
	if !slices.Equal(all, spike.Windows{first, second}) {
		t.Errorf("%v", all)
	}
	for _, test := range []struct {
		known spike.Windows
		step  int64
		want  bool
	}{
		{nil, 10, true}, {nil, 11, false}, // after 11 updates step 10 was made
		{spike.Windows{first}, 18, true}, {spike.Windows{first}, 19, false},
		{all, 1000, true}, {spike.Windows{second}, 1000, false},
	} {
		if got := all.Holds(test.known, test.step); got != test.want {
			t.Errorf("a state after %d steps that knows %v: %t", test.step, test.known, got)
		}
	}
	// In a window nothing is applied, nothing found, and the limits after it do not know of it; its spike counts.
	s := spike.State{Windows: all}
	c.MinHistory = 2
	for step := range int64(40) {
		l := c.Limits(&s, step, 0)
		in := step >= 10 && step < 30
		if (l.Loss < 0 && l.GradNorm < 0) != in {
			t.Errorf("step %d: limits %v", step, l)
		}
		if c.Observe(&s, step, 1, 1, !in) {
			t.Errorf("step %d was found", step)
		}
	}
	if s.Count != 2 {
		t.Errorf("%d spikes, want those of the two windows", s.Count)
	}
	c.LRBackoff = 0.5
	for step, want := range map[int64]float64{0: 1, 19: 1, 20: 0.5, 29: 0.5, 30: 0.25, 1000: 0.25} {
		if got := c.LRFactor(&s, step); got != want {
			t.Errorf("step %d: the learning rate is times %g, want %g", step, got, want)
		}
	}
}

func TestHistoryText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h spike.History
		for i := range rapid.IntRange(0, 20).Draw(t, "n") {
			o := spike.Observation{Step: int64(i) * rapid.Int64Range(1, 1e12).Draw(t, "step"), Spike: rapid.Bool().Draw(t, "spike")}
			if !o.Spike {
				o.Loss, o.GradNorm = rapid.Float32().Draw(t, "loss"), rapid.Float32().Draw(t, "norm")
			}
			h = append(h, o)
		}
		text, err := h.MarshalText()
		var back spike.History
		if err == nil {
			err = back.UnmarshalText(text)
		}
		if err != nil || !slices.Equal(h, back) {
			t.Fatalf("%v, %s: %v, %v", h, text, back, err)
		}
	})
	for _, bad := range []string{"1:2", "x:1:2", "1:a:2", "1", "1:spike:", "1:1:1e99999"} {
		if err := new(spike.History).UnmarshalText([]byte(bad)); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestConfig(t *testing.T) {
	if err := spike.Default().Validate(); err != nil {
		t.Error(err)
	}
	bad := spike.Config{
		Policy: "panic", LossDeviations: -1, GradNormDeviations: -1, Window: 1, MinHistory: 1, Budget: -1,
		SkipBefore: -1, SkipAfter: 0, LRBackoff: 2, KeepBundles: -1,
	}
	err := bad.Validate()
	for _, key := range []string{
		"policy: panic: want one of [off skip rollback stop]", "loss_deviations", "grad_norm_deviations", "window: 1", "min_history", "in_a_row", "budget",
		"skip_before", "skip_after", "lr_backoff: 2: want more than 0", "lr_backoff: 2: want 1, or policy rollback", "keep_bundles",
	} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("no %q in %v", key, err)
		}
	}
}
