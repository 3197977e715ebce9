package mix

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// RuleKind is how weights come from the sources' sizes.
type RuleKind string

// The rules.
const (
	// Natural: in proportion to tokens.
	Natural RuleKind = "natural"
	// Temperature τ: in proportion to tokens^(1/τ). τ = 1 is natural, a large τ equal shares (Raffel et al., "T5", 2020, §3.5).
	Temperature RuleKind = "temperature"
	// Unimax N: equal tokens from each source, but N epochs of it at most (Chung et al., "UniMax", ICLR 2023), those of
	// the stages before counted. Alone among the rules it goes by the stage's length too: moving the end of a stage that
	// has begun changes its weights.
	Unimax RuleKind = "unimax"
	// Explicit: each stage writes its weights; under a scheme, each source its own.
	Explicit RuleKind = "explicit"
)

// Rule is a RuleKind with its number, written natural, temperature(1.5), unimax(4) or explicit.
type Rule struct {
	Kind  RuleKind
	Value float64 // τ or the epochs; 0 for the other kinds
}

// UnmarshalText reads a rule.
func (r *Rule) UnmarshalText(text []byte) error {
	kind, arg, has := strings.Cut(strings.TrimSpace(string(text)), "(")
	out := Rule{Kind: RuleKind(strings.TrimSpace(kind))}
	var err error
	if has {
		out.Value, err = strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(arg, ")")), 64)
	}
	var p problem.List
	if out.check(&p); err != nil || p.Err() != nil || has != strings.HasSuffix(arg, ")") {
		return fmt.Errorf("got %q; want natural, temperature(τ), unimax(epochs) or explicit, such as temperature(1.5)", text)
	}
	*r = out
	return nil
}

// MarshalText writes the rule as UnmarshalText reads it.
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r Rule) String() string {
	if r.Value == 0 {
		return string(r.Kind)
	}
	return fmt.Sprintf("%s(%v)", r.Kind, r.Value)
}

func (r Rule) check(p *problem.List) {
	oneOf(p, "mix", r.Kind, Natural, Temperature, Unimax, Explicit)
	if r.Kind == Temperature || r.Kind == Unimax {
		p.Check(positive(r.Value), "mix", r, "a number above 0, such as %s(2)", r.Kind)
	} else {
		p.Check(r.Value == 0, "mix", r, "%s without a number", r.Kind)
	}
}

// candidate is a source as a rule sees it.
type candidate struct {
	source int
	tokens float64 // in the source
	used   float64 // taken by earlier stages
	weight float64 // Source.Weight
}

// shares are the candidates' shares, in their order; they sum to 1. budget is the stage's tokens for all of them.
func (r Rule) shares(of []candidate, budget float64) []float64 {
	w := make([]float64, len(of))
	switch r.Kind {
	case Natural:
		for i, c := range of {
			w[i] = c.tokens
		}
	case Temperature:
		for i, c := range of {
			w[i] = math.Pow(c.tokens, 1/r.Value)
		}
	case Unimax:
		w = r.unimax(of, budget)
	case Explicit:
		for i, c := range of {
			w[i] = c.weight
		}
	}
	sum := 0.0
	for _, x := range w {
		sum += x
	}
	for i := range w {
		w[i] /= sum
	}
	return w
}

// unimax fills the smallest cap first: each source takes an equal part of what is left, or its cap. If the caps of all
// together are below the budget their ratio is kept, and the check of max_epochs tells.
func (r Rule) unimax(of []candidate, budget float64) []float64 {
	room := func(i int) float64 { return max(r.Value*of[i].tokens-of[i].used, 0) }
	order := make([]int, len(of))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(room(a), room(b)) })
	w, sum := make([]float64, len(of)), 0.0
	for n, i := range order {
		w[i] = min(room(i), (budget-sum)/float64(len(order)-n))
		sum += w[i]
	}
	if sum == 0 { // all used up: nothing to go by but size
		return Rule{Kind: Natural}.shares(of, budget)
	}
	return w
}

// Start is where a stage begins: a [units.Length], or the name of a phase of the schedule. The zero value is "not given".
type Start struct {
	Length units.Length
	Phase  string
}

// AtPhase is the start of a phase of the schedule, such as "decay".
func AtPhase(name string) Start { return Start{Phase: name} }

// UnmarshalText reads a length, or else a phase.
func (s *Start) UnmarshalText(text []byte) error {
	word := strings.TrimSpace(string(text))
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz_") == "" {
		*s = Start{Phase: word}
		return nil
	}
	l, err := units.ParseLength(word)
	if err != nil {
		return fmt.Errorf("%w, or a phase of the schedule such as decay", err)
	}
	*s = Start{Length: l}
	return nil
}

// MarshalText writes the start as UnmarshalText reads it.
func (s Start) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Start) String() string {
	if s.Phase != "" {
		return s.Phase
	}
	return s.Length.String()
}

// IsZero reports that no start was given.
func (s Start) IsZero() bool { return s == Start{} }
