package schedule_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"pretrain/internal/units"
	"pretrain/schedule"
)

// plans are small runs with every kind of batch.
var plans = rapid.Custom(func(t *rapid.T) *schedule.Plan {
	b, seqLen, run := drawBatch(t)
	p, err := schedule.NewPlan(b, seqLen, run)
	if err != nil {
		t.Skip("does not fit")
	}
	if b.Tokens == schedule.Law {
		for range rapid.IntRange(0, 4).Draw(t, "validations") {
			step := rapid.Int64Range(0, p.Steps()).Draw(t, "step")
			n, grows := p.Grows(step, rapid.Float64Range(3, 12).Draw(t, "loss"))
			if !grows {
				continue
			}
			if p, err = p.Continue(step, b, run); err == nil {
				p, err = p.Grow(n)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return p
})

func drawBatch(t *rapid.T) (b schedule.BatchConfig, seqLen int64, run units.Length) {
	seqLen = rapid.SampledFrom([]int64{1, 7, 256}).Draw(t, "sequence length")
	b, run = drawBatchOf(t, seqLen)
	return b, seqLen, run
}

func drawBatchOf(t *rapid.T, seqLen int64) (b schedule.BatchConfig, run units.Length) {
	b = schedule.DefaultBatch()
	micro := rapid.Int64Range(1, 4).Draw(t, "micro-batch")
	b.MicroBatch = schedule.MicroBatch(micro)
	b.LRScale = rapid.SampledFrom([]string{"none", "sqrt"}).Draw(t, "lr_scale")
	unit := units.Tokens(seqLen * micro)
	size := rapid.Custom(func(t *rapid.T) units.Tokens {
		return unit * units.Tokens(rapid.IntRange(1, 20).Draw(t, "micro-batches"))
	})
	b.Tokens = schedule.BatchSize(size.Draw(t, "tokens"))
	switch rapid.IntRange(0, 3).Draw(t, "ramp") {
	case 1:
		until := int64(0)
		for range rapid.IntRange(1, 4).Draw(t, "stages") {
			until += rapid.Int64Range(1, 30).Draw(t, "until")
			b.Ramp = append(b.Ramp, schedule.RampStage{Until: units.OfTokens(units.Tokens(until) * 5 * unit), Tokens: size.Draw(t, "stage")})
		}
	case 2:
		b.Linear = schedule.LinearRamp{From: unit, Until: length.Draw(t, "until"), Sizes: rapid.IntRange(2, 9).Draw(t, "sizes")}
	case 3:
		b.Tokens, b.Law = schedule.Law, schedule.LawRange{Min: unit, Max: unit * 64}
	}
	run = units.Steps(rapid.Int64Range(1, 400).Draw(t, "steps"))
	if rapid.Bool().Draw(t, "in tokens") {
		run = units.OfTokens(units.Tokens(rapid.Int64Range(1, 4000*int64(unit)).Draw(t, "tokens")))
	}
	return b, run
}

// Against adding the batches up one by one.
func TestPlanCountsExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := plans.Draw(t, "plan")
		var seen int64
		for step := range p.Steps() + 3 {
			batch := p.SequencesAt(step) * p.SequenceLength()
			if got := p.TokensBefore(step); got != seen {
				t.Fatalf("TokensBefore(%d) = %d, counted %d", step, got, seen)
			}
			if p.SequencesAt(step)%p.MicroBatch() != 0 || batch <= 0 {
				t.Fatalf("batch of %d sequences, micro-batch %d", p.SequencesAt(step), p.MicroBatch())
			}
			for _, token := range []int64{0, batch / 2, batch - 1} {
				if got := p.StepAt(seen + token); got != step {
					t.Fatalf("StepAt(%d) = %d, which is in update %d", seen+token, got, step)
				}
				if got := p.StepsFor(seen + token + 1); got != step+1 {
					t.Fatalf("StepsFor(%d) = %d, want %d", seen+token+1, got, step+1)
				}
			}
			seen += batch
		}
		if p.Tokens() != p.TokensBefore(p.Steps()) {
			t.Fatalf("the run has %d tokens, its updates %d", p.Tokens(), p.TokensBefore(p.Steps()))
		}
	})
}

// The batch sizes against the config read literally, update by update.
func TestPlanFollowsTheConfig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, seqLen, run := drawBatch(t)
		if b.Tokens == schedule.Law {
			t.Skip("has no stages")
		}
		p, err := schedule.NewPlan(b, seqLen, run)
		if err != nil {
			t.Skip("does not fit")
		}
		if total, ok := run.Tokens(); ok && !(p.Tokens() >= int64(total) && p.TokensBefore(p.Steps()-1) < int64(total)) {
			t.Fatalf("%d updates, %d tokens for a run of %d", p.Steps(), p.Tokens(), total)
		}
		if n, ok := run.Steps(); ok && n != p.Steps() {
			t.Fatalf("%d updates for a run of %d", p.Steps(), n)
		}
		full := int64(b.Tokens)
		for step := range p.Steps() {
			want := full
			for _, s := range slices.Backward(b.Ramp) {
				if until, _ := s.Until.Tokens(); p.TokensBefore(step) < int64(until) {
					want = int64(s.Tokens)
				}
			}
			got := p.SequencesAt(step) * seqLen
			if until, ok := b.Linear.Until.Tokens(); ok {
				from := float64(b.Linear.From)
				line := from + (float64(full)-from)*min(1, float64(p.TokensBefore(step))/float64(until))
				stair := (float64(full)-from)/float64(b.Linear.Sizes-1) + float64(int64(b.MicroBatch)*seqLen)
				if float64(got) > line+float64(int64(b.MicroBatch)*seqLen) || float64(got) < line-stair {
					t.Fatalf("step %d: batch %d, the line is at %v", step, got, line)
				}
			} else if b.Linear.Until.IsZero() && got != want {
				t.Fatalf("step %d: batch of %d tokens, want %d", step, got, want)
			}
		}
		if len(p.Stages()) > max(b.Linear.Sizes, len(b.Ramp)+1) {
			t.Fatalf("%d sizes", len(p.Stages()))
		}
	})
}

func TestBatchesOfPapers(t *testing.T) {
	b := schedule.DefaultBatch()
	b.Tokens, b.MicroBatch, b.LRScale = 3_930_000, 8, "sqrt"
	b.Ramp = []schedule.RampStage{{Until: units.OfTokens(10e9), Tokens: 983_000}, {Until: units.OfTokens(30e9), Tokens: 1_966_080}}
	p, err := schedule.NewPlan(b, 4096, units.OfTokens(1.1e12))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.TokensBefore(p.Steps()) - p.TokensBefore(p.Steps()-1); got != 960*4096 {
		t.Errorf("3.93Mtok is %d tokens, want 960 sequences of 4096", got)
	}
	want := []schedule.Stage{{0, 240}, {10173, 480}, {20346, 960}}
	if got := p.Stages(); !slices.Equal(got, want) {
		t.Errorf("stages %v, want %v", got, want)
	}
	for i, scale := range []float64{.5, math.Sqrt(.5), 1} {
		if got := p.LRScale(want[i].Step); math.Abs(got-scale) > 1e-15 {
			t.Errorf("lr scale of stage %d is %v, want %v", i, got, scale)
		}
	}

	// GPT-3: 32k tokens to 3.2M over 4B, here by 12 sizes.
	b = schedule.DefaultBatch()
	b.Tokens, b.Linear = 3_200_000, schedule.LinearRamp{From: 32_768, Until: units.OfTokens(4e9), Sizes: 12}
	p, err = schedule.NewPlan(b, 2048, units.OfTokens(300e9))
	if err != nil {
		t.Fatal(err)
	}
	stages := p.Stages()
	if len(stages) != 12 || stages[0].Sequences != 16 || stages[11].Sequences != 1568 || p.MicroBatch() != 16 {
		t.Errorf("stages %v of micro-batches of %d", stages, p.MicroBatch())
	}
	if at := p.TokensBefore(stages[11].Step); at < 4e9 || at > 4e9+3_200_000 {
		t.Errorf("the full batch begins at %d tokens, want 4B", at)
	}
}

// science: MiniCPM §3.2.
func TestLaw(t *testing.T) {
	for loss, want := range map[float64]float64{5: 53e3, 4.5: 102e3, 4: 212e3, 3.5: 487e3, 3: 1.28e6, 2.6: 3.11e6, 2.4: 5.13e6} {
		if got := schedule.LawTokens(loss); math.Abs(got/want-1) > .01 {
			t.Errorf("LawTokens(%v) = %v, want %v", loss, got, want)
		}
	}
	b := schedule.DefaultBatch()
	b.Tokens, b.MicroBatch, b.LRScale = schedule.Law, 8, "sqrt"
	first, err := schedule.NewPlan(b, 1024, units.OfTokens(2e9))
	if err != nil {
		t.Fatal(err)
	}
	c := schedule.Default()
	c.Warmup = units.OfTokens(10e6)
	p := first
	var rates []float64
	losses := []float64{math.NaN(), 9, 4.9, 3, 4, 2.4, 1}
	for i, loss := range losses {
		step := int64(i+1) * 200
		if n, grows := p.Grows(step, loss); grows {
			next, err := p.Continue(step, b, units.OfTokens(2e9))
			if err == nil {
				next, err = next.Grow(n)
			}
			if err != nil {
				t.Fatal(err)
			}
			for s := range step + 1 {
				if next.TokensBefore(s) != p.TokensBefore(s) {
					t.Fatalf("a loss at %d changes the past", step)
				}
			}
			p = next
		}
		rates = append(rates, layOut(t, c, p).LR(step))
	}
	// 64k; a loss of 3 wants 1.28M, nearest 2^7 micro-batches of 8k; 2.4 wants 5.1M, bounded by 4M.
	want := []schedule.Stage{{0, 64}, {800, 1024}, {1200, 4096}}
	if got := p.Stages(); !slices.Equal(got, want) {
		t.Errorf("stages %v, want %v", got, want)
	}
	if tokens := p.Tokens(); tokens < 2e9 || tokens >= 2e9+4096*1024 {
		t.Errorf("the run has %d tokens", tokens)
	}
	for i, want := range []float64{.01 / 8, .01 / 8, .01 / 8, .01 / 2, .01 / 2, .01, .01} {
		if math.Abs(rates[i]-want) > 1e-12 {
			t.Errorf("rate %v after validation %d, want %v", rates[i], i, want)
		}
	}

	// A run that goes on by other settings does not start small again, and one that goes back knows nothing of what came after.
	other := b
	other.Law.Max = 2_097_152
	for step, want := range map[int64]int64{900: 1024, 1300: 2048} {
		if next, err := p.Continue(step, other, units.OfTokens(2e9)); err != nil || next.SequencesAt(step) != want {
			t.Errorf("continued at %d: %v sequences, %v; want %d", step, next.SequencesAt(step), err, want)
		}
	}
	for _, sequences := range []int64{12, 8, 8192} { // no multiple, below and above the bounds
		if _, err := first.Grow(sequences); err == nil {
			t.Errorf("grew to %d sequences", sequences)
		}
	}
	if n, grows := plan(t, 10).Grows(5, 2); grows {
		t.Errorf("a fixed batch grows to %d", n)
	}
}

func TestBatchProblems(t *testing.T) {
	with := func(edit func(c *schedule.BatchConfig)) schedule.BatchConfig {
		c := schedule.DefaultBatch()
		c.Tokens, c.MicroBatch = 4096, 4
		edit(&c)
		return c
	}
	for name, test := range map[string]struct {
		config schedule.BatchConfig
		want   []string
	}{
		"all at once": {
			with(func(c *schedule.BatchConfig) {
				c.Tokens, c.MicroBatch, c.LRScale, c.Ramp = 0, -2, "linear", []schedule.RampStage{{}}
			}),
			[]string{
				`tokens: 0tok: want tokens per update, such as "512ktok", or "law"`,
				"micro_batch: -2: want a number of sequences, 0 for the smallest batch, or auto",
				"lr_scale: linear: want none or sqrt",
				"ramp[0].until: not given: want where the stage ends",
				"ramp[0].tokens: 0tok: want more than 0",
			},
		},
		"not divisible": {
			with(func(c *schedule.BatchConfig) { c.Tokens = 4608 }),
			[]string{"tokens: 4608tok: want a multiple of micro_batch × sequence length, 4 × 256 = 1024 tokens, such as 5120tok"},
		},
		"stages of a ramp": {
			with(func(c *schedule.BatchConfig) {
				c.Ramp = []schedule.RampStage{{units.OfTokens(20480), 1024}, {units.OfTokens(20480), 2048}, {units.OfTokens(500e3), 2048}}
			}),
			[]string{
				"ramp[1].until: 20480tok: want after the start of this stage at step 20; this is step 20",
				"ramp[2].until: 500ktok: want before the end of the run at step 210; this is step 255",
			},
		},
		"two ramps": {
			with(func(c *schedule.BatchConfig) {
				c.Ramp = []schedule.RampStage{{units.Steps(20), 1024}}
				c.Linear = schedule.LinearRamp{From: 8192, Until: units.Steps(30)}
			}),
			[]string{
				"ramp: 1 stages: want no ramp beside linear or tokens: law", "linear.from: 8192tok: want more than 0 and at most tokens 4096tok",
				"linear.sizes: 0: want 2 to 4096",
			},
		},
		"linear longer than the run": {
			with(func(c *schedule.BatchConfig) { c.Linear.From, c.Linear.Until = 1024, units.OfRun(1) }),
			[]string{"linear.until: 100%: want before the end of the run at step 100; this is step 100"},
		},
		"law": {
			with(func(c *schedule.BatchConfig) { c.Tokens, c.Law = schedule.Law, schedule.LawRange{} }),
			[]string{"law.min: 0tok: want more than 0"},
		},
		"law without a whole micro-batch": {
			with(func(c *schedule.BatchConfig) { c.Tokens, c.Law = schedule.Law, schedule.LawRange{Min: 100, Max: 200} }),
			[]string{"law.max: 200tok: want at least one micro-batch of 4 × 256 = 1024 tokens"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := schedule.NewPlan(test.config, 256, units.Steps(100))
			if name == "stages of a ramp" {
				_, err = schedule.NewPlan(test.config, 256, units.OfTokens(409_600))
			}
			checkProblems(t, err, test.want)
		})
	}
	good := with(func(*schedule.BatchConfig) {})
	for _, run := range []units.Length{{}, units.Steps(0), units.OfRun(.5)} {
		if _, err := schedule.NewPlan(good, 256, run); err == nil {
			t.Errorf("a plan for a run of %q", run)
		}
	}
	if _, err := schedule.NewPlan(good, 0, units.Steps(1)); err == nil {
		t.Error("a plan of sequences without tokens")
	}
}

func TestBatchSizeText(t *testing.T) {
	for _, text := range []string{"law", "512ktok"} {
		var b schedule.BatchSize
		if err := b.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := b.MarshalText(); err != nil || string(got) != text {
			t.Errorf("%q becomes %q, %v", text, got, err)
		}
	}
	var b schedule.BatchSize
	if err := b.UnmarshalText([]byte("4096")); err == nil {
		t.Error("a batch without a unit")
	}
}

func TestMicroBatchText(t *testing.T) {
	for text, want := range map[string]schedule.MicroBatch{"auto": schedule.Auto, "0": 0, "32": 32, "1_024": 1024} {
		var m schedule.MicroBatch
		if err := m.UnmarshalText([]byte(text)); err != nil || m != want {
			t.Errorf("%q is %v, %v", text, m, err)
		}
	}
	for _, text := range []string{"-1", "law", "8tok", ""} {
		var m schedule.MicroBatch
		if err := m.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %v", text, m)
		}
	}
	c := schedule.DefaultBatch()
	c.Tokens, c.MicroBatch = 4096, schedule.Auto
	if p, err := schedule.NewPlan(c, 256, units.Steps(3)); err != nil || p.MicroBatch() != 16 {
		t.Errorf("a plan whose micro-batch is not known yet: %v, %v", p, err)
	}
}
