package schedule

import (
	"cmp"
	"math"
	"slices"

	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// Kind names a learning-rate schedule.
type Kind string

// The schedules. All begin with a linear warm-up, which may be empty.
const (
	Constant Kind = "constant" // peak to the end
	Linear   Kind = "linear"   // a straight line from peak to min_lr at the end
	Cosine   Kind = "cosine"   // half a cosine from peak to min_lr, then min_lr
	SGDR     Kind = "sgdr"     // half cosines from peak to min_lr, restarting (Loshchilov & Hutter, 1608.03983)
	WSD      Kind = "wsd"      // peak, then a decay to min_lr at the end (MiniCPM, 2404.06395, eq. 1)
	WCSD     Kind = "wcsd"     // cosine waves from peak to a trough and back, peak, then WSD's decay
	Infinite Kind = "infinite" // half a cosine to a floor, the floor, optionally a last decay (Ibrahim et al., 2403.08763)
)

// Kinds lists the schedules.
var Kinds = []Kind{Constant, Linear, Cosine, SGDR, WSD, WCSD, Infinite}

// Shape names the curve of a decay.
type Shape string

// The decay shapes, with x from 0 to 1 over the decay; formulas of Hägele et al. (2405.18392).
const (
	ShapeLinear      Shape = "linear"      // 1 - x
	ShapeCosine      Shape = "cosine"      // (1 + cos πx) / 2
	ShapeExponential Shape = "exponential" // halves every half-life
	ShapeOneSqrt     Shape = "1-sqrt"      // 1 - √x
	ShapeSquare      Shape = "square"      // 1 - x²
)

// Shapes lists the decay shapes.
var Shapes = []Shape{ShapeLinear, ShapeCosine, ShapeExponential, ShapeOneSqrt, ShapeSquare}

// Config is the schedule section of a run. A sub-section that the kind does not use is ignored. A length that is a
// fraction means that part of the run's tokens, so not of its steps under a batch ramp.
type Config struct {
	// Kind of schedule. Default wsd: its trunk can be decayed at any point, so one run serves many lengths (MiniCPM §4).
	Kind Kind `yaml:"kind"`
	// PeakLR is the learning rate after the warm-up. Default 0.01, MiniCPM's global rate under μP (§6.2); a standard
	// parameterization wants about a tenth of it.
	PeakLR float64 `yaml:"peak_lr"`
	// MinLR is where linear, cosine, every SGDR cycle and every decay end: absolute, not a ratio. Default 0, as Hägele
	// et al. decay; the usual cosine runs end at a tenth of the peak.
	MinLR float64 `yaml:"min_lr"`
	// Warmup is the length of the linear rise from 0. Default 1% of the run; MiniCPM finds that it "affects little" once
	// it is long enough. Zero starts at the peak.
	Warmup units.Length `yaml:"warmup"`
	// Decay is the last part of wsd and wcsd.
	Decay Decay `yaml:"decay"`
	// CosineLength is how long cosine falls, after the warm-up; the rest of the run stays at min_lr. Longer than the run
	// is allowed: it stops before min_lr. Not given (default): to the end of the run, the best choice (MiniCPM App. B.1).
	CosineLength units.Length `yaml:"cosine_length"`
	// SGDR has the cycles of sgdr.
	SGDR Cycles `yaml:"sgdr"`
	// Wave has the cosine waves of wcsd.
	Wave Wave `yaml:"wave"`
	// Infinite has the parts of infinite.
	Infinite Floor `yaml:"infinite"`
}

// Decay is the fall from the peak to min_lr that ends a run.
type Decay struct {
	// Length of the decay, counted back from the end of the run. Default 10%: enough in MiniCPM §4.3, where 2.5% fell
	// short. "0 steps" leaves it out: a trunk to branch decays from.
	Length units.Length `yaml:"length"`
	// Shape of the curve. Default 1-sqrt, which beats linear throughout Hägele et al.
	Shape Shape `yaml:"shape"`
	// HalfLife is the stretch over which an exponential decay halves; min_lr then is a floor. MiniCPM-2.4B: 5000 steps,
	// 20B tokens (its printed formula, 0.5^((s-S)/T), divides by the wrong T; this is the one reading that makes sense).
	// Not given: what takes the decay to min_lr at the end, or, where that is 0, five half-lives, about MiniCPM's.
	HalfLife units.Length `yaml:"half_life"`
}

// Cycles are SGDR's warm restarts.
type Cycles struct {
	// First is the length of the first cycle. Default 10% of the run.
	First units.Length `yaml:"first"`
	// Mult is how much longer each cycle is than the one before (the paper's T_mult). Default 2, its best setting.
	Mult float64 `yaml:"t_mult"`
}

// Wave is the cosine part of wcsd. No publication defines WCSD (none found, 2026-11); this is the form asked for:
// peak → trough → peak, some times over, before the stable part and the decay.
type Wave struct {
	// Length of all waves together, from the end of the warm-up. Default 70% of the run.
	Length units.Length `yaml:"length"`
	// Count is the number of waves, each a full period. Default 1.
	Count int `yaml:"waves"`
	// Trough is the lowest point as a part of the peak. Default 0.1, the usual end of a cosine run.
	Trough float64 `yaml:"trough"`
}

// Floor is what follows the warm-up of infinite.
type Floor struct {
	// Cooldown is the length of the half cosine from the peak to LR. Default 50% of the run.
	Cooldown units.Length `yaml:"cooldown"`
	// LR is the constant rate after it, between min_lr and the peak. Default 0.001, a tenth of the default peak.
	LR float64 `yaml:"lr"`
	// Anneal is the length of a last decay from LR to min_lr, in decay.shape. Default "0 steps": none.
	Anneal units.Length `yaml:"anneal"`
}

// Default is WSD at MiniCPM's peak with a 10% 1-sqrt decay to 0.
func Default() Config {
	return Config{
		Kind: WSD, PeakLR: 0.01, Warmup: units.OfRun(0.01),
		Decay:    Decay{Length: units.OfRun(0.1), Shape: ShapeOneSqrt},
		SGDR:     Cycles{First: units.OfRun(0.1), Mult: 2},
		Wave:     Wave{Length: units.OfRun(0.7), Count: 1, Trough: 0.1},
		Infinite: Floor{Cooldown: units.OfRun(0.5), LR: 0.001, Anneal: units.Steps(0)},
	}
}

// Validate reports every problem that can be seen without knowing the run's length, as joined problem.Problem errors.
// [New] reports the others.
func (c Config) Validate() error {
	var p problem.List
	p.Check(slices.Contains(Kinds, c.Kind), "kind", c.Kind, "one of %v", Kinds)
	p.Check(c.PeakLR > 0 && !math.IsInf(c.PeakLR, 0), "peak_lr", c.PeakLR, "more than 0")
	p.Check(c.MinLR >= 0 && c.MinLR <= c.PeakLR, "min_lr", c.MinLR, "0 or more and at most peak_lr %v", c.PeakLR)
	if c.Kind == WSD || c.Kind == WCSD {
		p.Check(!c.Decay.Length.IsZero(), "decay.length", "not given", `a length, such as "10%%"; "0 steps" for none`)
	}
	if c.Kind == WSD || c.Kind == WCSD || c.Kind == Infinite {
		p.Check(slices.Contains(Shapes, c.Decay.Shape), "decay.shape", c.Decay.Shape, "one of %v", Shapes)
		p.Check(c.Decay.HalfLife.IsZero() || positive(c.Decay.HalfLife), "decay.half_life", c.Decay.HalfLife, "a length above 0")
	}
	switch c.Kind {
	case SGDR:
		p.Check(positive(c.SGDR.First), "sgdr.first", given(c.SGDR.First), `a length above 0, such as "10%%"`)
		p.Check(c.SGDR.Mult >= 1 && !math.IsInf(c.SGDR.Mult, 0), "sgdr.t_mult", c.SGDR.Mult, "1 or more")
	case WCSD:
		p.Check(positive(c.Wave.Length), "wave.length", given(c.Wave.Length), `a length above 0, such as "70%%"`)
		p.Check(c.Wave.Count >= 1, "wave.waves", c.Wave.Count, "1 or more")
		p.Check(c.Wave.Trough >= 0 && c.Wave.Trough <= 1, "wave.trough", c.Wave.Trough, "a part of the peak, from 0 to 1")
	case Infinite:
		p.Check(positive(c.Infinite.Cooldown), "infinite.cooldown", given(c.Infinite.Cooldown), `a length above 0, such as "50%%"`)
		p.Check(c.Infinite.LR >= c.MinLR && c.Infinite.LR <= c.PeakLR, "infinite.lr", c.Infinite.LR,
			"from min_lr %v to peak_lr %v", c.MinLR, c.PeakLR)
	}
	return p.Err()
}

func positive(l units.Length) bool {
	n, _ := l.Steps()
	t, _ := l.Tokens()
	f, _ := l.Fraction()
	return n > 0 || t > 0 || f > 0
}

// given is a length as a message shows it.
func given(l units.Length) string { return cmp.Or(l.String(), "not given") }
