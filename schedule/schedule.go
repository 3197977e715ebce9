// Package schedule says what the learning rate and the batch size are at each update of a run: pure functions of the
// step, with no state and nothing to save.
//
// Steps count updates from 0. A learning-rate curve is a function f of the tokens trained on, from f(0) at the start of
// the run to f(total) at its end, and update s uses f at the point it reaches, the end of batch s. So the first update
// of a warm-up of W steps uses peak·1/W rather than a wasted 0, update W-1 the peak, and the last update of a run the
// curve's end point. With a fixed batch this is the papers' f(s+1) in steps; under a batch ramp a curve follows tokens,
// as GPT-3's and Megatron-LM's do, so a larger batch moves along it faster.
package schedule

import (
	"cmp"
	"errors"
	"math"
	"sort"

	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// Phase is the part of the schedule a step is in.
type Phase string

// The phases. PhaseWave is a cosine that is not the end of the run: WCSD's waves, SGDR's cycles, infinite's cooldown.
const (
	PhaseWarmup Phase = "warmup"
	PhaseStable Phase = "stable"
	PhaseWave   Phase = "wave"
	PhaseDecay  Phase = "decay"
	PhaseDone   Phase = "done" // past the last update
)

// Span is a stretch of steps in one phase: From ≤ step < To.
type Span struct {
	Phase    Phase
	From, To int64
}

// segment is a span with its curve: the learning rate at x, the part of the span's tokens done, 0 ≤ x ≤ 1.
type segment struct {
	Span
	curve func(x float64) float64
}

// Schedule is a learning rate for each update. It does not change; all methods may be called concurrently.
type Schedule struct {
	run      *Plan
	segments []segment // without gaps, none empty, from step 0 to the run's end or beyond
	past     *Schedule // of the steps before from; nil if from is 0
	from     int64
}

// part is one piece of a schedule between the warm-up and the end, with the config key that gives its length.
type part struct {
	key    string
	length units.Length
	phase  Phase
	curve  func(x float64) float64
}

// New lays the schedule out over a run. Boundaries fall on whole steps, the nearest to the length given, and a length
// above 0 is at least one step. Errors are joined problem.Problem, those of [Config.Validate] and [Config.Fits].
func New(c Config, run *Plan) (*Schedule, error) {
	if err := errors.Join(c.Validate(), c.Fits(run)); err != nil {
		return nil, err
	}
	l := c.layOut(run)
	s := &Schedule{run: run}
	s.add(PhaseWarmup, l.warm, func(x float64) float64 { return c.PeakLR * x })
	if c.Kind == SGDR {
		s.addCycles(c.SGDR, fall(ShapeCosine, c.PeakLR, c.MinLR))
	}
	s.add(l.head.phase, l.mid, l.head.curve)
	s.add(PhaseStable, l.last, func(float64) float64 { return l.level })
	s.add(l.tail.phase, l.end, c.Decay.curve(run, l.last, l.level, c.MinLR))
	return s, nil
}

// Continue is the schedule of a run that took s's updates before step and goes on by c, over a plan that has the same past: a
// resumed run whose schedule changed, or a branch. c is laid out as if the run had been its own from the start, and counts from
// step on: lengths count from the start of the run, fractions are of its whole length. A decay that is longer than what is left
// of the run would be entered in its middle: that is an error, unless s was decaying, too.
func (s *Schedule) Continue(step int64, c Config, run *Plan) (*Schedule, error) {
	next, err := New(c, run)
	if err != nil || step <= 0 {
		return next, err
	}
	next.past, next.from = s, step
	var p problem.List
	l := c.layOut(run)
	p.Check(l.last >= step || l.last == l.end || s.Phase(step-1) == PhaseDecay, l.tail.key, l.tail.length,
		"at most the %d steps from step %d, where this run goes on, to its end; this is %d", l.end-step, step, l.end-l.last)
	if err := p.Err(); err != nil {
		return nil, err
	}
	return next, nil
}

// layout is a schedule's parts over a run: warm-up, then the head, then a constant level, then the tail, which is counted
// back from the end; and the steps where each ends.
type layout struct {
	head, tail           part
	level                float64
	warm, mid, last, end int64
}

func (c Config) layOut(run *Plan) layout {
	l := layout{level: c.PeakLR, end: run.Steps()}
	switch c.Kind {
	case Linear:
		l.head = part{phase: PhaseDecay, curve: fall(ShapeLinear, c.PeakLR, c.MinLR)}
	case Cosine:
		l.head = part{"cosine_length", c.CosineLength, PhaseDecay, fall(ShapeCosine, c.PeakLR, c.MinLR)}
		l.level = c.MinLR
	case WSD:
		l.tail = part{"decay.length", c.Decay.Length, PhaseDecay, nil}
	case WCSD:
		l.head = part{"wave.length", c.Wave.Length, PhaseWave, wave(c.PeakLR, c.Wave)}
		l.tail = part{"decay.length", c.Decay.Length, PhaseDecay, nil}
	case Infinite:
		l.head = part{"infinite.cooldown", c.Infinite.Cooldown, PhaseWave, fall(ShapeCosine, c.PeakLR, c.Infinite.LR)}
		l.tail = part{"infinite.anneal", c.Infinite.Anneal, PhaseDecay, nil}
		l.level = c.Infinite.LR
	}
	l.warm, l.last = run.head(0, c.Warmup), run.tail(l.tail.length)
	l.mid = run.head(l.warm, l.head.length)
	if (c.Kind == Linear || c.Kind == Cosine) && l.head.length.IsZero() { // to the end
		l.mid = l.end
	}
	return l
}

// maxCycles bounds SGDR's restarts, far above any use of them.
const maxCycles = 10000

// Fits reports the parts that are too long for the run, as joined problem.Problem errors. The rest of the configuration need
// not be valid, only readable.
func (c Config) Fits(run *Plan) error {
	var p problem.List
	l := c.layOut(run)
	p.Check(l.warm <= l.end, "warmup", c.Warmup, "at most the run's %d steps; this is %d", l.end, l.warm)
	p.Check(l.last >= 0, l.tail.key, l.tail.length, "at most the run's %d steps; this is %d", l.end, l.end-l.last)
	if c.Kind == SGDR && positive(c.SGDR.First) {
		first := run.head(l.warm, c.SGDR.First) - l.warm
		p.Check(first*maxCycles >= l.end-l.warm, "sgdr.first", c.SGDR.First, "at least 1/%d of the run: a cycle is a stretch to look through at every step", maxCycles)
	}
	switch {
	case p.Err() != nil:
	case l.warm > l.last:
		p.Check(false, "warmup", c.Warmup, "at most %d steps, what %s (%v) leaves of the run's %d; this is %d",
			l.last, l.tail.key, l.tail.length, l.end, l.warm)
	case c.Kind != Cosine: // which may be cut off by the end of the run
		p.Check(l.mid <= l.last, l.head.key, l.head.length, "at most the %d steps between warmup and %s; this is %d",
			l.last-l.warm, cmp.Or(l.tail.key, "the end"), l.mid-l.warm)
	}
	return p.Err()
}

// LR is the learning rate of update step, counted from 0, the batch's lr_scale included. Past the end of the run it
// stays at the last update's.
func (s *Schedule) LR(step int64) float64 {
	if s.past != nil && step < s.from {
		return s.past.LR(step)
	}
	step = min(max(step, 0), s.run.Steps()-1)
	// The curve is read at the end of the batch. On a boundary that is where the next segment begins: the same value
	// everywhere but at an SGDR restart, which has the peak there.
	seg := s.segments[s.find(step+1)]
	from, to := s.run.TokensBefore(seg.From), s.run.TokensBefore(seg.To)
	x := float64(s.run.TokensBefore(step+1)-from) / float64(to-from)
	return seg.curve(x) * s.run.LRScale(step)
}

// Phase is the part of the schedule that update step belongs to.
func (s *Schedule) Phase(step int64) Phase {
	if s.past != nil && step < s.from {
		return s.past.Phase(step)
	}
	if step >= s.run.Steps() {
		return PhaseDone
	}
	return s.segments[s.find(max(step, 0))].Phase
}

// Spans lists the phases in order; SGDR has one per cycle. Together they are the run, step 0 to its end.
func (s *Schedule) Spans() []Span {
	var spans []Span
	if s.past != nil {
		for _, span := range s.past.Spans() {
			if span.To = min(span.To, s.from); span.From < span.To {
				spans = append(spans, span)
			}
		}
	}
	for _, seg := range s.segments {
		span := Span{seg.Phase, max(seg.From, s.from), min(seg.To, s.run.Steps())}
		switch last := len(spans) - 1; {
		case span.From >= span.To:
		case s.past != nil && span.From == s.from && last >= 0 && spans[last].Phase == span.Phase: // it goes on
			spans[last].To = span.To
		default:
			spans = append(spans, span)
		}
	}
	return spans
}

// Begins is the step at which a phase first begins in the schedule's own layout, whatever its past was; false if it has none.
func (s *Schedule) Begins(phase Phase) (int64, bool) {
	for _, seg := range s.segments {
		if seg.Phase == phase {
			return seg.From, true
		}
	}
	return 0, false
}

// find is the index of the segment that holds step; the last one holds the end of the run.
func (s *Schedule) find(step int64) int {
	i := sort.Search(len(s.segments), func(i int) bool { return step < s.segments[i].To })
	return min(i, len(s.segments)-1)
}

// add extends the schedule to the step to; nothing is added where it already reaches that far.
func (s *Schedule) add(phase Phase, to int64, curve func(float64) float64) {
	if from := s.end(); from < min(to, s.run.Steps()) {
		s.segments = append(s.segments, segment{Span{phase, from, to}, curve})
	}
}

func (s *Schedule) end() int64 {
	if len(s.segments) == 0 {
		return 0
	}
	return s.segments[len(s.segments)-1].To
}

// addCycles repeats curve to the end of the run, each time over a longer stretch. Boundaries are rounded from the exact
// sum of the lengths, so that rounding does not add up.
func (s *Schedule) addCycles(c Cycles, curve func(float64) float64) {
	from := s.end()
	at := float64(s.run.TokensBefore(from))
	length := float64(s.run.TokensBefore(s.run.head(from, c.First))) - at
	for s.end() < s.run.Steps() {
		at += length
		length *= c.Mult
		to := s.run.nearest(int64(min(at, 1<<60))) // the last cycle may end far beyond the run
		s.add(PhaseWave, max(to, s.end()+1), curve)
	}
}

// curve is the decay from high to low over the steps from the given one to the end of the run.
func (d Decay) curve(run *Plan, from int64, high, low float64) func(x float64) float64 {
	if d.Shape != ShapeExponential || d.HalfLife.IsZero() {
		return fall(d.Shape, high, low)
	}
	halvings := float64(run.Steps() - from)
	if n, ok := d.HalfLife.Steps(); ok {
		halvings /= float64(n)
	} else {
		halvings = float64(run.TokensBefore(run.Steps())-run.TokensBefore(from)) / float64(run.tokens(d.HalfLife))
	}
	return halve(high, low, halvings)
}

// fall is a curve from high at x = 0 to low at x = 1.
func fall(shape Shape, high, low float64) func(x float64) float64 {
	var f func(x float64) float64
	switch shape {
	case ShapeLinear:
		f = func(x float64) float64 { return 1 - x }
	case ShapeCosine:
		f = func(x float64) float64 { return (1 + math.Cos(math.Pi*x)) / 2 }
	case ShapeOneSqrt:
		f = func(x float64) float64 { return 1 - math.Sqrt(x) }
	case ShapeSquare:
		f = func(x float64) float64 { return 1 - x*x }
	case ShapeExponential:
		if low == 0 { // never reached; see Decay.HalfLife
			return halve(high, 0, 5)
		}
		return func(x float64) float64 { return high * math.Pow(low/high, x) }
	}
	return func(x float64) float64 { return blend(f(x), high, low) }
}

// halve is a curve that halves so many times from x = 0 to x = 1, but does not go below low.
func halve(high, low, halvings float64) func(x float64) float64 {
	return func(x float64) float64 { return max(low, high*math.Exp2(-x*halvings)) }
}

// wave is a curve of full cosine periods from the peak to the trough and back.
func wave(peak float64, w Wave) func(x float64) float64 {
	return func(x float64) float64 {
		f := (1 + math.Cos(2*math.Pi*x*float64(w.Count))) / 2
		return blend(f, peak, w.Trough*peak)
	}
}

// blend is high at f = 1 and low at f = 0, exactly, so that curves join without a step.
func blend(f, high, low float64) float64 { return f*high + (1-f)*low }
