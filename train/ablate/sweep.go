package ablate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat"

	"pretrain/train/metrics"
)

// Transfer asks whether the best value of a key, found at the smallest width, is the best at the largest: what μP promises
// of the learning rate (Yang et al., 2203.03466). Width and the key must both be in the grid.
type Transfer struct {
	// Tune is the key that is tuned, such as schedule.peak_lr.
	Tune string `yaml:"tune"`
	// Width is the key of the size, such as model.d_model.
	Width string `yaml:"width"`
}

// Sweep is the loss along one numeric key, all other keys of the variants being equal.
type Sweep struct {
	Key string `json:"key"`
	// Group has the other keys' values; empty where only one key varies.
	Group []Setting `json:"group,omitempty"`
	// Log says that the values are spaced by ratio: the parabola is in the key's logarithm.
	Log    bool         `json:"log"`
	Points []SweepPoint `json:"points"`
	// Best is the value with the lowest mean.
	Best float64 `json:"best"`
	// Optimum is the minimum of a parabola through the points next to Best, at most two on either side, fitted to each
	// seed by itself; the mean over seeds, and Student's interval of it. It holds as far as the loss is a parabola there.
	// Unknown where Best is at an end of the range.
	Optimum metrics.Number `json:"optimum"`
	CI      Interval       `json:"ci95"`
	// AtOptimum is the parabolas' minimum in bits per byte, mean over seeds.
	AtOptimum metrics.Number `json:"val_bpb"`
	// Note says in words what was found.
	Note string `json:"note"`

	seeds []parabola // by seed; a zero one where it could not be fitted
}

// SweepPoint is one value of the key.
type SweepPoint struct {
	Value   float64        `json:"value"`
	Variant string         `json:"variant"`
	BPB     metrics.Number `json:"val_bpb"` // mean over seeds
	CI      Interval       `json:"ci95"`    // of the mean
	bySeed  map[uint64]float64
}

// parabola is y = a + b·x + c·x².
type parabola struct{ a, b, c float64 }

// fitParabola is the least-squares parabola; false where the points do not make one that opens upwards.
func fitParabola(xs, ys []float64) (parabola, bool) {
	if len(xs) < 3 {
		return parabola{}, false
	}
	// Normal equations about the mean of x, which keeps them well conditioned, solved by Cramer's rule.
	mid := stat.Mean(xs, nil)
	var s [5]float64 // sums of powers of x
	var m [3]float64 // and of those times y
	for i, x := range xs {
		p := 1.0
		for k := range s {
			s[k] += p
			if k < len(m) {
				m[k] += p * ys[i]
			}
			p *= x - mid
		}
	}
	det := func(a, b, c, d, e, f, g, h, i float64) float64 { return a*(e*i-f*h) - b*(d*i-f*g) + c*(d*h-e*g) }
	whole := det(s[0], s[1], s[2], s[1], s[2], s[3], s[2], s[3], s[4])
	if whole == 0 {
		return parabola{}, false
	}
	a := det(m[0], s[1], s[2], m[1], s[2], s[3], m[2], s[3], s[4]) / whole
	b := det(s[0], m[0], s[2], s[1], m[1], s[3], s[2], m[2], s[4]) / whole
	c := det(s[0], s[1], m[0], s[1], s[2], m[1], s[2], s[3], m[2]) / whole
	p := parabola{a - b*mid + c*mid*mid, b - 2*c*mid, c}
	return p, c > 0
}

func (p parabola) at(x float64) float64 { return p.a + x*(p.b+x*p.c) }
func (p parabola) bottom() float64      { return -p.b / (2 * p.c) }

// x is a value in the sweep's scale.
func (s *Sweep) x(value float64) float64 {
	if s.Log {
		return math.Log(value)
	}
	return value
}

// value undoes x.
func (s *Sweep) value(x float64) float64 {
	if s.Log {
		return math.Exp(x)
	}
	return x
}

// sweeps finds the numeric key that the variants are swept over and makes a sweep for each combination of the others:
// tune, or else the key with the most values. Variants that set other keys than most, such as a baseline that sets none, are in
// none.
func (r *Report) sweeps(tune string) []Sweep {
	variants := r.alike()
	key := tune
	for _, k := range keysOf(variants) {
		if tune == "" && better(valuesOf(variants, k), k, valuesOf(variants, key), key) {
			key = k
		}
	}
	if len(valuesOf(variants, key)) < 3 {
		return nil
	}
	var out []Sweep
	for _, v := range variants {
		value, numeric := v.Value(key)
		x, ok := value.Number()
		if !numeric || !ok {
			continue
		}
		group := slices.DeleteFunc(slices.Clone(v.Settings), func(s Setting) bool { return s.Key == key })
		at := slices.IndexFunc(out, func(s Sweep) bool { return slices.EqualFunc(s.Group, group, sameSetting) })
		if at < 0 {
			at, out = len(out), append(out, Sweep{Key: key, Group: group})
		}
		p := SweepPoint{Value: x, Variant: v.Name, BPB: v.BPB, CI: TInterval(v.values(finalBPB)), bySeed: map[uint64]float64{}}
		for _, o := range v.Runs {
			if o.Status == Done {
				p.bySeed[o.Seed] = float64(o.BPB)
			}
		}
		out[at].Points = append(out[at].Points, p)
	}
	out = slices.DeleteFunc(out, func(s Sweep) bool { return len(s.Points) < 3 })
	for i := range out {
		out[i].optimise(r.Seeds)
	}
	return out
}

func sameSetting(a, b Setting) bool { return a.Key == b.Key && a.Value == b.Value }

// better reports whether key a is the one to sweep over rather than b: it has more values; a width is the last choice.
func better(a []float64, aKey string, b []float64, bKey string) bool {
	if len(a) < 3 {
		return false
	}
	shape := func(key string) int {
		if strings.HasPrefix(key, "model.") {
			return 0
		}
		return 1
	}
	return len(b) < 3 || cmp.Or(cmp.Compare(shape(aKey), shape(bKey)), cmp.Compare(len(a), len(b))) > 0
}

// alike are the variants that set the same keys, those of the largest such set.
func (r *Report) alike() []*VariantReport {
	sets := map[string][]*VariantReport{}
	most := ""
	for i := range r.Variants {
		v := &r.Variants[i]
		var keys []string
		for _, s := range v.Settings {
			keys = append(keys, s.Key)
		}
		name := strings.Join(keys, " ")
		sets[name] = append(sets[name], v)
		if len(sets[name]) > len(sets[most]) {
			most = name
		}
	}
	return sets[most]
}

func keysOf(variants []*VariantReport) []string {
	var keys []string
	if len(variants) > 0 {
		for _, s := range variants[0].Settings {
			keys = append(keys, s.Key)
		}
	}
	return keys
}

// valuesOf are the different numbers that variants set a key to, sorted.
func valuesOf(variants []*VariantReport, key string) []float64 {
	var values []float64
	for _, v := range variants {
		text, _ := v.Value(key)
		if x, ok := text.Number(); ok && !slices.Contains(values, x) {
			values = append(values, x)
		}
	}
	slices.Sort(values)
	return values
}

// spacedByRatio reports whether gaps between sorted values vary less as ratios than as differences.
func spacedByRatio(values []float64) bool {
	if len(values) == 0 || values[0] <= 0 {
		return false
	}
	spread := func(scale func(float64) float64) float64 {
		var gaps []float64
		for i := 1; i < len(values); i++ {
			gaps = append(gaps, scale(values[i])-scale(values[i-1]))
		}
		mean, sd := stat.PopMeanStdDev(gaps, nil)
		return sd / mean
	}
	return spread(math.Log) < spread(func(x float64) float64 { return x })
}

// optimise fits the parabolas.
func (s *Sweep) optimise(seeds []uint64) {
	s.Optimum, s.CI, s.AtOptimum = metrics.Unknown, unknown, metrics.Unknown
	slices.SortFunc(s.Points, func(a, b SweepPoint) int { return cmp.Compare(a.Value, b.Value) })
	var values []float64
	known := slices.DeleteFunc(slices.Clone(s.Points), func(p SweepPoint) bool { return math.IsNaN(float64(p.BPB)) })
	for _, p := range s.Points {
		values = append(values, p.Value)
	}
	s.Log = spacedByRatio(values)
	if len(known) == 0 {
		s.Note = "no run is finished"
		return
	}
	best := 0
	for i, p := range known {
		if p.BPB < known[best].BPB {
			best = i
		}
	}
	s.Best = known[best].Value
	if end := known[best].Value; end == values[0] || end == values[len(values)-1] || best == 0 || best == len(known)-1 {
		s.Note = fmt.Sprintf("the lowest is %s, at an end of what was tried: the optimum may lie beyond it", short4(end))
		return
	}
	window := known[max(0, best-2):min(len(known), best+3)]
	var bottoms, lows []float64
	s.seeds = make([]parabola, len(seeds))
	for i, seed := range seeds {
		var xs, ys []float64
		for _, p := range window {
			if y, ok := p.bySeed[seed]; ok {
				xs, ys = append(xs, s.x(p.Value)), append(ys, y)
			}
		}
		// A seed whose parabola has no bottom near the points cannot place the optimum at all.
		if p, ok := fitParabola(xs, ys); ok && p.bottom() >= s.x(values[0]) && p.bottom() <= s.x(values[len(values)-1]) {
			s.seeds[i] = p
			bottoms, lows = append(bottoms, p.bottom()), append(lows, p.at(p.bottom()))
		}
	}
	if len(bottoms) == 0 {
		s.Note = "the points do not make a parabola with a bottom in the range"
		return
	}
	s.Optimum, s.AtOptimum = metrics.Number(s.value(stat.Mean(bottoms, nil))), mean(lows)
	s.Note = fmt.Sprintf("optimum %s", short4(float64(s.Optimum)))
	if len(bottoms) < len(seeds) {
		s.Note += fmt.Sprintf("; %d of %d seeds have no optimum in the range, so it has no interval", len(seeds)-len(bottoms), len(seeds))
	} else if ci := TInterval(bottoms); len(bottoms) > 1 {
		s.CI = Interval{metrics.Number(s.value(float64(ci.Low))), metrics.Number(s.value(float64(ci.High)))}
		s.Note += fmt.Sprintf(" (95%%: %s to %s)", short4(float64(s.CI.Low)), short4(float64(s.CI.High)))
	}
	s.Note += fmt.Sprintf(", %.4f bpb", float64(s.AtOptimum))
}

// GroupName is the other keys' values in words; "" where there are none.
func (s *Sweep) GroupName() string {
	var parts []string
	for _, g := range s.Group {
		parts = append(parts, short(g.Key, s.Group)+"="+string(g.Value))
	}
	return strings.Join(parts, ", ")
}

// short4 writes a number with four digits.
func short4(x float64) string { return fmt.Sprintf("%.4g", x) }
