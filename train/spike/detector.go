package spike

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Limits are what a step's update may not exceed. It is refused where its loss or its gradient norm is above; infinity
// lets everything finite pass, and minus infinity nothing.
type Limits struct {
	Loss, GradNorm float64
}

// None lets every finite update pass.
var None = Limits{math.Inf(1), math.Inf(1)}

// refuse lets none pass.
var refuse = Limits{math.Inf(-1), math.Inf(-1)}

// State is what detection remembers. It is a part of every checkpoint.
type State struct {
	// History is the last steps, oldest first: those the next limits may rest on.
	History History `json:"history,omitempty"`
	// Windows are the steps left out, in order.
	Windows Windows `json:"windows,omitempty"`
	// Count is how many spikes there were so far.
	Count int64 `json:"count,omitempty"`
}

// Observation is a step that was applied, or a spike.
type Observation struct {
	Step           int64
	Loss, GradNorm float32 // of an applied step
	Spike          bool
}

// History is a list of observations. As text it is one word for each, "step:loss:norm" or "step:spike", every number to
// the last bit: a line in a checkpoint's manifest instead of five hundred.
type History []Observation

// MarshalText implements [encoding.TextMarshaler].
func (h History) MarshalText() ([]byte, error) {
	var b []byte
	for i, o := range h {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(strconv.AppendInt(b, o.Step, 10), ':')
		if o.Spike {
			b = append(b, "spike"...)
			continue
		}
		b = append(strconv.AppendFloat(b, float64(o.Loss), 'g', -1, 32), ':')
		b = strconv.AppendFloat(b, float64(o.GradNorm), 'g', -1, 32)
	}
	return b, nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (h *History) UnmarshalText(text []byte) error {
	*h = nil
	for word := range strings.FieldsSeq(string(text)) {
		step, rest, _ := strings.Cut(word, ":")
		o := Observation{Spike: rest == "spike"}
		var err error
		o.Step, err = strconv.ParseInt(step, 10, 64)
		if !o.Spike {
			loss, norm, _ := strings.Cut(rest, ":")
			l, lossErr := strconv.ParseFloat(loss, 32)
			n, normErr := strconv.ParseFloat(norm, 32)
			o.Loss, o.GradNorm, err = float32(l), float32(n), errors.Join(err, lossErr, normErr)
		}
		if err != nil {
			return fmt.Errorf("history of losses: %q: %w", word, err)
		}
		*h = append(*h, o)
	}
	return nil
}

// Limits are those of a step. since is the first step of its regime: after the warm-up, and of its stage of the data and
// its batch size. They rest on steps up to step-2.
func (c Config) Limits(s *State, step, since int64) Limits {
	if _, out := s.Windows.At(step); out {
		return refuse
	}
	if !c.on() {
		return None
	}
	row := 0 // of spikes
	for _, o := range s.History {
		if row++; !o.Spike {
			row = 0
		}
		if row >= c.InARow && o.Step < step-1 {
			since = max(since, o.Step+1)
		}
	}
	var losses, norms []float64
	for _, o := range s.History {
		// A batch without a counted target has no gradient, and says nothing of the others.
		if !o.Spike && o.GradNorm > 0 && o.Step >= since && o.Step >= step-1-c.Window && o.Step < step-1 {
			losses, norms = append(losses, float64(o.Loss)), append(norms, math.Log(float64(o.GradNorm)))
		}
	}
	l := None
	if int64(len(losses)) < c.MinHistory {
		return l
	}
	if c.LossDeviations > 0 {
		m, d := robust(losses)
		l.Loss = m + c.LossDeviations*max(d, minLossDeviation*m)
	}
	if c.GradNormDeviations > 0 {
		m, d := robust(norms)
		l.GradNorm = math.Exp(m + c.GradNormDeviations*max(d, minNormDeviation))
	}
	return l
}

// The least that counts as a standard deviation: of the loss, as a part of the median, and of the gradient norm's logarithm.
const (
	minLossDeviation = 0.005
	minNormDeviation = 0.2
)

// robust is the median of values and 1.4826 times the median distance from it, which for a normal distribution is the
// standard deviation. It changes the values.
func robust(values []float64) (center, deviation float64) {
	center = median(values)
	for i, v := range values {
		values[i] = math.Abs(v - center)
	}
	return center, 1.4826 * median(values)
}

func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// Observe takes down a step's outcome and reports whether it was a spike that nobody knew of: its update was refused, and
// not because the step is in one of the windows.
func (c Config) Observe(s *State, step int64, loss, gradNorm float32, applied bool) bool {
	w, out := s.Windows.At(step)
	o := Observation{Step: step, Loss: loss, GradNorm: gradNorm}
	switch o.Spike = !applied && (!out || step == w.Spike); {
	case !c.on() || out && !o.Spike:
		return false
	case o.Spike:
		o.Loss, o.GradNorm = 0, 0
		s.Count++
	}
	s.History = append(s.History, o)
	old := 0
	for s.History[old].Step < step-c.Window {
		old++
	}
	s.History = slices.Clone(s.History[old:]) // a checkpoint under way may hold the old one
	return o.Spike && !out
}

func (c Config) on() bool { return c.Policy != Off && c.Policy != "" }

// Spent reports whether the spikes of the last [Config.Window] steps, step included, are more than the budget.
func (c Config) Spent(s *State, step int64) bool {
	n := int64(0)
	for _, o := range s.History {
		if o.Spike && o.Step > step-c.Window {
			n++
		}
	}
	return n > c.Budget
}

// LRFactor is what the schedule's learning rate is multiplied by at a step.
func (c Config) LRFactor(s *State, step int64) float64 {
	f := 1.0
	for _, w := range s.Windows {
		if step >= w.To {
			f *= c.LRBackoff
		}
	}
	return f
}
