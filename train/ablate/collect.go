package ablate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"pretrain/train/metrics"
)

// Run is one training run of an ablation.
type Run struct {
	Variant string `json:"variant"`
	Seed    uint64 `json:"seed"`
	// Steps to train.
	Steps int64 `json:"steps"`
}

// Dir is the run's directory below the ablation's.
func (r Run) Dir() string {
	return filepath.Join("runs", r.Variant, fmt.Sprintf("seed-%d", r.Seed))
}

// Layout lists every run: all variants of the first seed, then of the next, so that an ablation that is cut short has
// complete pairs.
func Layout(variants []Variant, seeds Seeds, steps func(variant int) int64) []Run {
	var runs []Run
	for _, seed := range seeds {
		for i, v := range variants {
			runs = append(runs, Run{v.Name, seed, steps(i)})
		}
	}
	return runs
}

// Status of a run.
type Status string

// The statuses.
const (
	Missing  Status = "missing"  // not begun
	Partial  Status = "partial"  // begun, and not at its end
	Failed   Status = "failed"   // its process ended with an error, as often as was allowed
	Diverged Status = "diverged" // at its end, having learnt nothing
	Done     Status = "done"
)

// Point of a validation curve.
type Point struct {
	Step   int64          `json:"step"` // updates made
	Tokens int64          `json:"tokens"`
	BPB    metrics.Number `json:"bpb"`
	// Sources has the bits per byte of each source, where there are several.
	Sources map[string]metrics.Number `json:"sources,omitempty"`
}

// Outcome is what became of a run.
type Outcome struct {
	Run
	Status Status `json:"status"`
	// Tokens trained on.
	Tokens int64 `json:"tokens"`
	// Loss and BPB of the last validation, in nats per token and bits per byte; BPB is what is compared, as it does not
	// depend on the tokenizer.
	Loss metrics.Number `json:"val_loss"`
	BPB  metrics.Number `json:"val_bpb"`
	// Sources has the last validation of each source, by name; empty where there is one only.
	Sources map[string]metrics.SourceEval `json:"val_sources,omitempty"`
	// TrainLoss is smoothed over about the last 50 steps.
	TrainLoss metrics.Number `json:"train_loss"`
	// Area under the validation curve, as the mean bits per byte; SourceAreas is that of each source.
	Area            metrics.Number            `json:"area"`
	SourceAreas     map[string]metrics.Number `json:"source_areas,omitempty"`
	TokensPerSecond metrics.Number            `json:"tokens_per_second"`
	Seconds         float64                   `json:"seconds"`
	Attempts        int                       `json:"attempts,omitempty"` // that failed
	Error           string                    `json:"error,omitempty"`    // of the last one
	Curve           []Point                   `json:"curve"`

	firstLoss float64 // of the first step, before anything is learnt
}

// result is the part of a run's result.json that is read here.
type result struct {
	Step            int64                         `json:"step"`
	Tokens          int64                         `json:"tokens"`
	TrainLoss       metrics.Number                `json:"train_loss"`
	ValLoss         metrics.Number                `json:"val_loss"`
	ValBPB          metrics.Number                `json:"val_bpb"`
	Sources         map[string]metrics.SourceEval `json:"val_sources"`
	TokensPerSecond metrics.Number                `json:"tokens_per_second"`
	Seconds         float64                       `json:"seconds"`
}

// Collect reads what became of the runs from the ablation's directory. A run that was not begun is Missing; a file that
// cannot be read is an error.
func Collect(dir string, runs []Run) ([]Outcome, error) {
	outcomes := make([]Outcome, len(runs))
	for i, run := range runs {
		o, err := collect(filepath.Join(dir, run.Dir()), run)
		if err != nil {
			return nil, fmt.Errorf("run %s: %w", filepath.Join(dir, run.Dir()), err)
		}
		outcomes[i] = o
	}
	areas(outcomes)
	return outcomes, nil
}

func collect(dir string, run Run) (Outcome, error) {
	o := Outcome{
		Run: run, Status: Missing, Loss: metrics.Unknown, BPB: metrics.Unknown, TrainLoss: metrics.Unknown,
		Area: metrics.Unknown, TokensPerSecond: metrics.Unknown, firstLoss: math.NaN(),
	}
	state, err := ReadState(dir)
	if err != nil {
		return o, err
	}
	o.Attempts = len(state.Failures)
	if o.Attempts > 0 {
		o.Error = state.Failures[o.Attempts-1].Error
	}
	if err := o.readCurve(filepath.Join(dir, "metrics.jsonl")); err != nil {
		return o, err
	}
	var r result
	switch text, err := os.ReadFile(filepath.Join(dir, "result.json")); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return o, err
	default:
		if err := json.Unmarshal(text, &r); err != nil {
			return o, fmt.Errorf("result.json: %w", err)
		}
	}
	switch {
	case r.Step > 0 && r.Step == run.Steps:
		o.Status, o.Tokens, o.Loss, o.BPB, o.Sources = Done, r.Tokens, r.ValLoss, r.ValBPB, r.Sources
		o.TrainLoss, o.TokensPerSecond, o.Seconds = r.TrainLoss, r.TokensPerSecond, r.Seconds
		if len(o.Sources) == 1 {
			o.Sources = nil
		}
		if o.diverged() {
			o.Status = Diverged
		}
	case o.Attempts >= MaxAttempts:
		o.Status = Failed
	case len(o.Curve) > 0 || !math.IsNaN(o.firstLoss):
		o.Status = Partial
	}
	return o, nil
}

// diverged reports whether a run that came to its end learnt nothing: its last validation is not finite, or no better
// than the first step's loss, which is that of untrained weights.
func (o *Outcome) diverged() bool {
	return math.IsNaN(float64(o.BPB)) || math.IsNaN(float64(o.Loss)) || float64(o.Loss) >= o.firstLoss
}

func (o *Outcome) readCurve(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer file.Close()
	for r, err := range metrics.Records(file) {
		if err != nil {
			return fmt.Errorf("metrics.jsonl: %w", err)
		}
		if r.Step == 0 {
			o.firstLoss = float64(r.Loss)
		}
		o.Tokens = r.Tokens
		if r.Eval == nil {
			continue
		}
		p := Point{Step: r.Step + 1, Tokens: r.Tokens, BPB: r.ValBPB}
		for name, s := range r.ValSources {
			if len(r.ValSources) > 1 {
				if p.Sources == nil {
					p.Sources = map[string]metrics.Number{}
				}
				p.Sources[name] = s.BPB
			}
		}
		o.Curve = append(o.Curve, p)
	}
	return nil
}

// areas fills in the area under the curve of the finished runs: the mean bits per byte over the part of the run that all
// of them have measured, as shares of each run's tokens, by trapezoids. It says how fast a variant learns, where the
// final value says how far it came.
func areas(outcomes []Outcome) {
	from := 0.0
	for _, o := range outcomes {
		if o.Status == Done && len(o.Curve) > 0 {
			from = max(from, float64(o.Curve[0].Tokens)/float64(o.Tokens))
		}
	}
	for i := range outcomes {
		o := &outcomes[i]
		if o.Status != Done {
			continue
		}
		o.Area = o.area(from, func(p Point) metrics.Number { return p.BPB })
		for name := range o.Sources {
			if o.SourceAreas == nil {
				o.SourceAreas = map[string]metrics.Number{}
			}
			o.SourceAreas[name] = o.area(from, func(p Point) metrics.Number {
				if bpb, ok := p.Sources[name]; ok {
					return bpb
				}
				return metrics.Unknown
			})
		}
	}
}

// area is the mean of a curve from a share of the run to its end; unknown where it has fewer than two points there.
func (o *Outcome) area(from float64, bpb func(Point) metrics.Number) metrics.Number {
	sum, width := 0.0, 0.0
	for i := 1; i < len(o.Curve); i++ {
		a, b := o.Curve[i-1], o.Curve[i]
		x0, x1 := float64(a.Tokens)/float64(o.Tokens), float64(b.Tokens)/float64(o.Tokens)
		y0, y1 := float64(bpb(a)), float64(bpb(b))
		if x1 <= from {
			continue
		}
		if x0 < from {
			x0, y0 = from, y0+(y1-y0)*(from-x0)/(x1-x0)
		}
		sum += (x1 - x0) * (y0 + y1) / 2
		width += x1 - x0
	}
	if width == 0 {
		return metrics.Unknown
	}
	return metrics.Number(sum / width)
}

// MaxAttempts is how often a run may fail before it is left alone: a machine may have had a bad day, a mistake in a variant
// fails every time.
const MaxAttempts = 3

// StateName is the ablation's own file in a run directory; it holds a [State].
const StateName = "ablate.json"

// State is what an ablation notes in a run directory besides what the run itself writes.
type State struct {
	// Config is the run's whole resolved configuration. Another one in the same place is another ablation.
	Config string `json:"config"`
	// Failures are the attempts that ended with an error.
	Failures []Failure `json:"failures,omitempty"`
}

// Failure is an attempt at a run that ended with an error.
type Failure struct {
	At    time.Time `json:"at"`
	Host  string    `json:"host"`
	Error string    `json:"error"` // the last lines the process wrote
}

// ReadState reads a run directory's state; where there is none it is the zero State.
func ReadState(dir string) (State, error) {
	var s State
	text, err := os.ReadFile(filepath.Join(dir, StateName))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", StateName, err)
	}
	return s, nil
}
