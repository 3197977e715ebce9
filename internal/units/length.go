package units

import "strings"

// kind says which unit a Length or an Interval was given in. The zero kind is "not given".
type kind uint8

const (
	unset kind = iota
	inSteps
	inTokens
	inFraction
	inTime
)

// amount is one number in one unit: a count of steps or tokens, or nanoseconds in n, or a fraction in f.
type amount struct {
	kind kind
	n    int64
	f    Fraction
}

var stepUnits = []unit{{"steps", 1}, {"step", 1}}

// parseAmount tries each unit by the look of the suffix. The bare 0 is "0 steps".
func parseAmount(s string, withTime bool) (amount, error) {
	switch number, suffix := split(s); {
	case suffix == "%":
		f, err := parseFraction(s)
		return amount{kind: inFraction, f: Fraction(f)}, err
	case strings.HasSuffix(suffix, "tok"):
		n, err := parseCount(s, tokenUnits)
		return amount{kind: inTokens, n: n}, err
	case suffix == "" || suffix == "step" || suffix == "steps" || number == "" || !withTime:
		n, err := parseCount(s, stepUnits)
		return amount{kind: inSteps, n: n}, err
	}
	d, err := parseDuration(s)
	return amount{kind: inTime, n: int64(d)}, err
}

func (a amount) String() string {
	switch a.kind {
	case inSteps:
		if a.n == 1 {
			return "1 step"
		}
		return strings.Replace(formatCount(a.n, stepUnits[:1]), "steps", " steps", 1)
	case inTokens:
		return Tokens(a.n).String()
	case inFraction:
		return a.f.String()
	case inTime:
		return Duration(a.n).String()
	}
	return ""
}

func (a amount) steps() (int64, bool)       { return a.n, a.kind == inSteps }
func (a amount) tokens() (Tokens, bool)     { return Tokens(a.n), a.kind == inTokens }
func (a amount) fraction() (Fraction, bool) { return a.f, a.kind == inFraction }

func (a amount) resolve(totalSteps int64, stepAtTokens func(tokens int64) int64) int64 {
	switch a.kind {
	case inSteps:
		return a.n
	case inTokens:
		return stepAtTokens(a.n)
	case inFraction:
		return roundSteps(a.f, totalSteps)
	}
	return 0
}

// Length is a stretch of training, or a point in it counted from the start, in exactly one unit: "1000 steps", "20Btok"
// or "10%" of the run. The zero value is "not given", which is not the same as "0 steps". Compare with ==.
type Length struct{ a amount }

// Steps is a Length of n optimizer steps.
func Steps(n int64) Length { return Length{amount{kind: inSteps, n: n}} }

// OfTokens is a Length of t training tokens.
func OfTokens(t Tokens) Length { return Length{amount{kind: inTokens, n: int64(t)}} }

// OfRun is a Length of the fraction f of the whole run.
func OfRun(f Fraction) Length { return Length{amount{kind: inFraction, f: f}} }

const wantLength = `a length such as "1000 steps", "20Btok" or "10%"`

// ParseLength reads a Length; the empty string is the one not given.
func ParseLength(s string) (Length, error) {
	if s == "" {
		return Length{}, nil
	}
	a, err := parseAmount(s, false)
	if err != nil {
		return Length{}, explain(err, s, wantLength)
	}
	return Length{a}, nil
}

// IsZero reports that no length was given; "0 steps" and "0%" were.
func (l Length) IsZero() bool { return l.a.kind == unset }

// Steps is the length in steps, if it was given so.
func (l Length) Steps() (int64, bool) { return l.a.steps() }

// Tokens is the length in tokens, if it was given so.
func (l Length) Tokens() (Tokens, bool) { return l.a.tokens() }

// Fraction is the part of the run, if the length was given so.
func (l Length) Fraction() (Fraction, bool) { return l.a.fraction() }

// Resolve is the length in steps of a run of totalSteps. stepAtTokens says after how many steps a number of tokens has
// been trained on (under a batch ramp that is not a division). A fraction is rounded to the nearest step; a length not
// given is 0.
func (l Length) Resolve(totalSteps int64, stepAtTokens func(tokens int64) int64) int64 {
	return l.a.resolve(totalSteps, stepAtTokens)
}

// String is the length as a config writes it; "" when not given.
func (l Length) String() string { return l.a.String() }

// MarshalText writes the value as String does.
func (l Length) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what ParseLength does.
func (l *Length) UnmarshalText(text []byte) error { return set(l, ParseLength, text) }

// Equal makes the type comparable for go-cmp; it is ==.
func (l Length) Equal(o Length) bool { return l == o }

// Interval is how often something happens, in exactly one unit: "1000 steps", "20Btok", "10%" of the run, "30m" of
// wall-clock time, or "never". The zero value is "not given". Compare with ==.
type Interval struct{ a amount }

// Never is the interval of what does not happen.
var Never = Interval{amount{kind: inSteps}}

// EverySteps is an Interval of n optimizer steps.
func EverySteps(n int64) Interval { return Interval{amount{kind: inSteps, n: n}} }

// EveryFraction is an Interval of the fraction f of the run.
func EveryFraction(f Fraction) Interval { return Interval{amount{kind: inFraction, f: f}} }

const wantInterval = `an interval such as "1000 steps", "20Btok", "10%", "30m" or "never"`

// ParseInterval reads an Interval; the empty string is the one not given.
func ParseInterval(s string) (Interval, error) {
	switch strings.TrimSpace(s) {
	case "":
		return Interval{}, nil
	case "never":
		return Never, nil
	}
	a, err := parseAmount(s, true)
	if err != nil {
		return Interval{}, explain(err, s, wantInterval)
	}
	if a.n == 0 && a.f == 0 {
		return Never, nil
	}
	return Interval{a}, nil
}

// IsZero reports that no interval was given; "never" was.
func (i Interval) IsZero() bool { return i.a.kind == unset }

// IsNever reports that nothing is to happen: "never", or not given.
func (i Interval) IsNever() bool { return i.a.n == 0 && i.a.f == 0 }

// Steps is the interval in steps, if it was given so.
func (i Interval) Steps() (int64, bool) { return i.a.steps() }

// Tokens is the interval in tokens, if it was given so.
func (i Interval) Tokens() (Tokens, bool) { return i.a.tokens() }

// Fraction is the part of the run, if the interval was given so.
func (i Interval) Fraction() (Fraction, bool) { return i.a.fraction() }

// Time is the interval in wall-clock time, if it was given so.
func (i Interval) Time() (Duration, bool) { return Duration(i.a.n), i.a.kind == inTime }

// Resolve is the interval in steps, as [Length.Resolve] has it and at least 1; 0 for never and for wall-clock time.
func (i Interval) Resolve(totalSteps int64, stepAtTokens func(tokens int64) int64) int64 {
	if i.IsNever() || i.a.kind == inTime {
		return 0
	}
	return max(1, i.a.resolve(totalSteps, stepAtTokens))
}

// String is the interval as a config writes it; "" when not given.
func (i Interval) String() string {
	if i.IsNever() && !i.IsZero() {
		return "never"
	}
	return i.a.String()
}

// MarshalText writes the value as String does.
func (i Interval) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText reads what ParseInterval does.
func (i *Interval) UnmarshalText(text []byte) error { return set(i, ParseInterval, text) }

// Equal makes the type comparable for go-cmp; it is ==.
func (i Interval) Equal(o Interval) bool { return i == o }
