// Package ablate compares small training runs: it lays out the runs of an ablation, reads what became of them from a
// folder, and says with what certainty a variant is better or worse than the baseline.
//
// It trains nothing and knows no configuration: a variant is a name with settings, "key = value" as the command line's
// --set takes them, and a run is a folder with metrics.jsonl and result.json. So the report can be made anywhere, from a
// folder that several machines have filled.
package ablate

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"pretrain/internal/prng"
	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// Config is an ablation: what to vary, over which seeds, and against which baseline.
type Config struct {
	// Name of the ablation, for reports and the output folder. Default: that of the file.
	Name string `yaml:"name"`
	// Question that the ablation answers, in a sentence; it heads the report.
	Question string `yaml:"question"`
	// Base is the run configuration that all variants start from: a file, relative to this one, or an embedded name.
	Base string `yaml:"base"`
	// Set changes the base for all variants: full keys to values, as --set takes them.
	Set map[string]Value `yaml:"set"`
	// Tokens of each run. Default: the base's train.tokens.
	Tokens units.Tokens `yaml:"tokens"`
	// Seeds are a list, [1, 2, 3], or a count, 3, which means 1 to 3. All variants have the same ones. Default 3: the
	// fewest that give an interval worth printing.
	Seeds Seeds `yaml:"seeds"`
	// Baseline is the variant that the others are compared with. Default: the first.
	Baseline string `yaml:"baseline"`
	// Variants are what is compared.
	Variants Variants `yaml:"variants"`
	// Halving stops bad variants early. Default: none is stopped.
	Halving Halving `yaml:"halving"`
	// Transfer asks how well what is tuned at the smallest width serves the largest. Default: not asked.
	Transfer Transfer `yaml:"transfer"`
}

// Default is three seeds and nothing to compare.
func Default() Config { return Config{Seeds: Seeds{1, 2, 3}} }

// Variants of an ablation: those of the list, then the grid's, then the sample's.
type Variants struct {
	// List names variants one by one.
	List []Entry `yaml:"list"`
	// Grid has every combination of the values of its keys.
	Grid map[string][]Value `yaml:"grid"`
	// Sample draws variants at random.
	Sample Sample `yaml:"sample"`
}

// Entry is a variant with a name of its own.
type Entry struct {
	// Name of the variant; it also names a folder.
	Name string `yaml:"name"`
	// Set is what makes the variant: full keys to values. Nothing is the base itself.
	Set map[string]Value `yaml:"set"`
}

// Sample draws variants whose values are spread evenly over the logarithm of a range: for what nobody knows the scale of.
// The draw is stratified (a Latin hypercube): each key's range is cut into count slices, each used once.
type Sample struct {
	// Count of variants. Default 0: none.
	Count int `yaml:"count"`
	// Seed of the draw, not of the runs.
	Seed uint64 `yaml:"seed"`
	// Over has the range of each key.
	Over map[string]Range `yaml:"over"`
}

// Range of a sampled key.
type Range struct {
	// Low and High bound the values, both above 0.
	Low  float64 `yaml:"low"`
	High float64 `yaml:"high"`
	// MultipleOf rounds values to a multiple of it. Default 0: to three digits.
	MultipleOf float64 `yaml:"multiple_of"`
	// Unit is written after the number, such as "tok". Default "".
	Unit string `yaml:"unit"`
}

// Value of a setting, as --set takes it: the text of a scalar, or a list or mapping on one line.
type Value string

// UnmarshalFlow takes the value as it stands in the file, on one line.
func (v *Value) UnmarshalFlow(text string) error {
	*v = Value(text)
	return nil
}

// Number is the value as a number, its unit left out: 0.01, 4096tok, 20%, 64 steps. False where it is none.
func (v Value) Number() (float64, bool) {
	if f, err := strconv.ParseFloat(string(v), 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
		return f, true
	}
	if t, err := units.ParseTokens(string(v)); err == nil {
		return float64(t), true
	}
	if l, err := units.ParseLength(string(v)); err == nil {
		if n, ok := l.Steps(); ok {
			return float64(n), true
		}
		f, ok := l.Fraction()
		return float64(f), ok
	}
	return 0, false
}

// Seeds of the runs.
type Seeds []uint64

// UnmarshalFlow reads a list, "[1, 2, 3]", or a count.
func (s *Seeds) UnmarshalFlow(text string) error {
	wrong := fmt.Errorf("got %q; want a list of different seeds such as [1, 2, 3], or how many: 1 to 1000", text)
	inner, list := strings.CutPrefix(text, "[")
	if !list {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1000 {
			return wrong
		}
		*s = make(Seeds, n)
		for i := range *s {
			(*s)[i] = uint64(i + 1)
		}
		return nil
	}
	var seeds Seeds
	for part := range strings.SplitSeq(strings.TrimSuffix(inner, "]"), ",") {
		seed, err := strconv.ParseUint(strings.TrimSpace(part), 10, 64)
		if err != nil || slices.Contains(seeds, seed) {
			return wrong
		}
		seeds = append(seeds, seed)
	}
	*s = seeds
	return nil
}

// Setting is one value that a variant sets.
type Setting struct {
	Key   string `json:"key"`
	Value Value  `json:"value"`
	// Path is where in the ablation's file it was given.
	Path string `json:"-"`
}

// Variant is a named set of settings on top of the base and of Config.Set.
type Variant struct {
	Name     string    `json:"name"`
	Settings []Setting `json:"settings"`
}

// Value of a key that the variant sets.
func (v Variant) Value(key string) (Value, bool) {
	for _, s := range v.Settings {
		if s.Key == key {
			return s.Value, true
		}
	}
	return "", false
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	var p problem.List
	p.Check(c.Base != "", "base", "not given", "a run configuration to start from: a file, or an embedded name")
	p.Check(c.Tokens >= 0, "tokens", c.Tokens, "0 (the base's) or more")
	p.Check(len(c.Seeds) > 0, "seeds", "none", "at least one")
	names := map[string]bool{}
	for i, e := range c.Variants.List {
		key := fmt.Sprintf("variants.list[%d].name", i)
		p.Check(e.Name != "" && folder(e.Name) == e.Name, key, strconv.Quote(e.Name), "a name of letters, digits and . _ - + = , @ that can name a folder")
		p.Check(e.Name == "" || !names[e.Name], key, e.Name, "a name of its own: another variant has it")
		names[e.Name] = true
	}
	for _, key := range slices.Sorted(maps.Keys(c.Variants.Grid)) {
		values := c.Variants.Grid[key]
		p.Check(len(values) > 0, "variants.grid."+key, "[]", "one value at least")
		for i, v := range values {
			p.Check(!slices.Contains(values[:i], v), fmt.Sprintf("variants.grid.%s[%d]", key, i), v, "each value once")
		}
	}
	c.Halving.check(&p)
	s := c.Variants.Sample
	p.Check(s.Count >= 0 && s.Count <= 10_000, "variants.sample.count", s.Count, "0 (none) to 10000")
	p.Check((s.Count > 0) == (len(s.Over) > 0), "variants.sample", "", "both count and over, or neither")
	for _, key := range slices.Sorted(maps.Keys(s.Over)) {
		r, at := s.Over[key], "variants.sample.over."+key
		p.Check(r.Low > 0, at+".low", r.Low, "more than 0: the range is cut by its logarithm")
		p.Check(r.High > r.Low, at+".high", r.High, "more than low")
		p.Check(r.MultipleOf >= 0, at+".multiple_of", r.MultipleOf, "0 (round to three digits) or more")
	}
	if err := p.Err(); err != nil {
		return err
	}
	variants := c.Expand()
	p.Check(len(variants) > 0, "variants", "none", "a list, a grid or a sample")
	p.Check(c.Baseline == "" || slices.ContainsFunc(variants, func(v Variant) bool { return v.Name == c.Baseline }),
		"baseline", c.Baseline, "one of %s", strings.Join(Names(variants), ", "))
	seen := map[string]bool{}
	if t := c.Transfer; t != (Transfer{}) {
		p.Check(len(c.Variants.Grid[t.Tune]) >= 3, "transfer.tune", strconv.Quote(t.Tune), "a key of variants.grid with three values or more")
		p.Check(len(c.Variants.Grid[t.Width]) >= 2 && t.Width != t.Tune, "transfer.width", strconv.Quote(t.Width), "another key of variants.grid, with two values or more")
	}
	for _, v := range variants {
		p.Check(!seen[v.Name], "variants", v.Name, "variants that differ: two have this name")
		seen[v.Name] = true
	}
	return p.Err()
}

// BaselineOf names the baseline among the expanded variants.
func (c Config) BaselineOf(variants []Variant) string {
	if c.Baseline == "" {
		return variants[0].Name
	}
	return c.Baseline
}

// Names of variants, in order.
func Names(variants []Variant) []string {
	names := make([]string, len(variants))
	for i, v := range variants {
		names[i] = v.Name
	}
	return names
}

// Expand writes the variants out: those of the list, then the grid's, its last key fastest, then the sample's. Keys are
// in alphabetical order. The configuration must be valid but for names that are given twice.
func (c Config) Expand() []Variant {
	var out []Variant
	for i, e := range c.Variants.List {
		v := Variant{Name: e.Name}
		for _, key := range slices.Sorted(maps.Keys(e.Set)) {
			v.Settings = append(v.Settings, Setting{key, e.Set[key], fmt.Sprintf("variants.list[%d].set.%s", i, key)})
		}
		out = append(out, v)
	}
	return append(append(out, c.Variants.grid()...), c.Variants.Sample.draw()...)
}

func (v Variants) grid() []Variant {
	if len(v.Grid) == 0 {
		return nil
	}
	points := []Variant{{}}
	for _, key := range slices.Sorted(maps.Keys(v.Grid)) {
		var next []Variant
		for _, p := range points {
			for i, value := range v.Grid[key] {
				s := Setting{key, value, fmt.Sprintf("variants.grid.%s[%d]", key, i)}
				next = append(next, Variant{Settings: append(slices.Clone(p.Settings), s)})
			}
		}
		points = next
	}
	return named(points)
}

func (s Sample) draw() []Variant {
	points := make([]Variant, s.Count)
	root := prng.New(s.Seed).Split("ablate")
	for _, key := range slices.Sorted(maps.Keys(s.Over)) {
		r, k := s.Over[key], root.Split(key)
		strata := prng.NewPermutation(k, uint64(max(1, s.Count)))
		for i := range points {
			at := (float64(strata.At(uint64(i))) + k.Float64At(uint64(i))) / float64(s.Count)
			x := r.round(r.Low * math.Pow(r.High/r.Low, at))
			value := Value(strconv.FormatFloat(x, 'f', -1, 64) + r.Unit)
			points[i].Settings = append(points[i].Settings, Setting{key, value, "variants.sample.over." + key})
		}
	}
	return named(points)
}

// round keeps a value of the range that people can read.
func (r Range) round(x float64) float64 {
	if r.MultipleOf > 0 {
		return max(r.MultipleOf, math.Round(x/r.MultipleOf)*r.MultipleOf)
	}
	f, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 3, 64), 64)
	if err != nil {
		return x // not reached: what FormatFloat writes can be read
	}
	return f
}

// named gives each point the name of what it sets: "peak_lr=0.01,d_model=64", the last part of each key as far as that
// tells the keys apart.
func named(points []Variant) []Variant {
	for i, p := range points {
		parts := make([]string, len(p.Settings))
		for j, s := range p.Settings {
			parts[j] = folder(short(s.Key, p.Settings) + "=" + string(s.Value))
		}
		points[i].Name = strings.Join(parts, ",")
	}
	return points
}

// short is the last part of a key, or the whole where another key ends in the same.
func short(key string, among []Setting) string {
	last := key[strings.LastIndexByte(key, '.')+1:]
	for _, s := range among {
		if s.Key != key && strings.HasSuffix(s.Key, "."+last) {
			return key
		}
	}
	return last
}

// folder makes a name that any file system takes: other characters become "_".
func folder(name string) string {
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-+=,@%", r) {
			return r
		}
		return '_'
	}, name)
	return strings.TrimLeft(safe, ".")
}
