// Package units holds the quantities a configuration is written in, each with its unit: "20Btok", "10%", "4h", "256MiB",
// "1000 steps". A bare number is refused, because a run that silently takes steps for tokens is found out days later;
// only 0 needs no unit. Every type reads and writes itself as text, so YAML, JSON and flags all take the same spellings,
// and String is exact: parsing it gives the same value back.
package units

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Tokens is a number of tokens. Prefixes are decimal, as papers count: 4096tok, 512ktok, 3.93Mtok, 20Btok, 1.1Ttok.
type Tokens int64

// Bytes is a size. KiB, MiB, GiB, TiB are powers of 1024; kB, MB, GB, TB powers of 1000.
type Bytes int64

// Fraction is a part of a whole, 0 to 1. It is written as a percentage ("10%") or a plain number ("0.1").
type Fraction float64

// Duration is a wall-clock time as package time writes it: 4h, 30m, 90s, 1h30m. It is never negative.
type Duration time.Duration

type unit struct {
	suffix string
	scale  int64
}

// Larger units first: of two equally short spellings String takes the earlier one, "3.93Mtok" not "3930ktok".
var (
	tokenUnits = []unit{{"Ttok", 1e12}, {"Btok", 1e9}, {"Mtok", 1e6}, {"ktok", 1e3}, {"tok", 1}}
	byteUnits  = []unit{
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3},
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1},
	}
)

// ParseTokens reads a token count such as "20Btok".
func ParseTokens(s string) (Tokens, error) {
	n, err := parseCount(s, tokenUnits)
	return Tokens(n), explain(err, s, `a token count such as "4096tok", "512ktok", "3.93Mtok" or "20Btok"`)
}

// ParseBytes reads a size such as "256MiB".
func ParseBytes(s string) (Bytes, error) {
	n, err := parseCount(s, byteUnits)
	return Bytes(n), explain(err, s, `a size such as "512KiB", "256MiB" or "1GB"`)
}

// ParseFraction reads "10%" or "0.1".
func ParseFraction(s string) (Fraction, error) {
	f, err := parseFraction(s)
	return Fraction(f), explain(err, s, `a part of the whole from 0 to 1, such as "10%" or "0.1"`)
}

// ParseDuration reads a time such as "4h", "30m" or "1h30m".
func ParseDuration(s string) (Duration, error) {
	d, err := parseDuration(s)
	return Duration(d), explain(err, s, `a time such as "4h", "30m", "90s" or "1h30m"`)
}

// String is the shortest exact spelling.
func (t Tokens) String() string { return formatCount(int64(t), tokenUnits) }

// String is the shortest exact spelling.
func (b Bytes) String() string { return formatCount(int64(b), byteUnits) }

// String is the exact percentage: 0.07 is "7%", though 0.07·100 is not 7 in floating point.
func (f Fraction) String() string {
	r, ok := new(big.Rat).SetString(strconv.FormatFloat(float64(f), 'f', -1, 64))
	if !ok {
		return strconv.FormatFloat(float64(f), 'g', -1, 64) // not a number a config can hold
	}
	return decimal(r.Mul(r, big.NewRat(100, 1))) + "%"
}

// String leaves out the zero parts package time writes: "4h", not "4h0m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Std is the duration as package time has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// MarshalText writes the value as String does.
func (t Tokens) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// MarshalText writes the value as String does.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// MarshalText writes the value as String does.
func (f Fraction) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// MarshalText writes the value as String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what ParseTokens does.
func (t *Tokens) UnmarshalText(text []byte) error { return set(t, ParseTokens, text) }

// UnmarshalText reads what ParseBytes does.
func (b *Bytes) UnmarshalText(text []byte) error { return set(b, ParseBytes, text) }

// UnmarshalText reads what ParseFraction does.
func (f *Fraction) UnmarshalText(text []byte) error { return set(f, ParseFraction, text) }

// UnmarshalText reads what ParseDuration does.
func (d *Duration) UnmarshalText(text []byte) error { return set(d, ParseDuration, text) }

func set[T any](dst *T, parse func(string) (T, error), text []byte) error {
	v, err := parse(string(text))
	if err == nil {
		*dst = v
	}
	return err
}

// Reasons a quantity does not parse; explain adds what was given and what is wanted.
var (
	errSyntax   = errors.New("")
	errUnit     = errors.New(" without a unit")
	errFraction = errors.New(", which is not a whole number of them")
	errRange    = errors.New(", which is out of range")
)

func explain(err error, got, want string) error {
	if err == nil {
		return nil
	}
	if len(got) > 60 {
		got = got[:60] + "…"
	}
	return fmt.Errorf("got %q%w; want %s", got, err, want)
}

// parseCount reads a decimal number and a unit, exactly: 3.93Mtok is 3930000, and 1.5tok is an error.
func parseCount(s string, table []unit) (int64, error) {
	number, suffix := split(s)
	r, err := parseDecimal(number)
	if err != nil {
		return 0, err
	}
	if suffix == "" {
		if r.Sign() == 0 {
			return 0, nil
		}
		return 0, errUnit
	}
	for _, u := range table {
		if u.suffix != suffix {
			continue
		}
		r.Mul(r, new(big.Rat).SetInt64(u.scale))
		if !r.IsInt() {
			return 0, errFraction
		}
		if !r.Num().IsInt64() {
			return 0, errRange
		}
		return r.Num().Int64(), nil
	}
	return 0, errSyntax
}

func parseFraction(s string) (float64, error) {
	number, suffix := split(s)
	if _, err := parseDecimal(number); err != nil || suffix != "" && suffix != "%" {
		return 0, errSyntax
	}
	if suffix == "%" {
		number += "e-2" // decimal shift before rounding: "7%" is the float nearest 0.07
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, errSyntax
	}
	if f > 1 {
		return 0, errRange
	}
	return f, nil
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil {
		if _, numErr := parseDecimal(s); numErr == nil {
			return 0, errUnit
		}
		return 0, errSyntax
	}
	if d < 0 {
		return 0, errRange
	}
	return d, nil
}

// split cuts "20 Btok" into the number and the unit; spaces around and between are allowed.
func split(s string) (number, suffix string) {
	s = strings.TrimSpace(s)
	i := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimSpace(s[i:])
}

// parseDecimal reads digits with at most one point: no sign, no exponent. A Rat would take "1/3" and "1e999999999".
func parseDecimal(s string) (*big.Rat, error) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 400 || strings.Trim(s, "0123456789.") != "" || strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") {
		return nil, errSyntax
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return nil, errSyntax
	}
	return r, nil
}

// formatCount is the shortest exact spelling of n.
func formatCount(n int64, table []unit) string {
	best := ""
	for _, u := range table {
		if n < u.scale && u.scale > 1 {
			continue // "0.5MiB"
		}
		s, exact := decimalOf(big.NewRat(n, u.scale))
		if s += u.suffix; exact && (best == "" || len(s) < len(best)) {
			best = s
		}
	}
	return best
}

func decimal(r *big.Rat) string {
	s, _ := decimalOf(r)
	return s
}

// decimalOf writes r in decimal and says whether that is exact.
func decimalOf(r *big.Rat) (string, bool) {
	places, exact := r.FloatPrec()
	return r.FloatString(places), exact
}

// roundSteps is the nearest step to a fraction of a run, half upwards.
func roundSteps(f Fraction, totalSteps int64) int64 {
	return int64(math.Round(float64(f) * float64(totalSteps)))
}

// Short writes a count for people, with three digits: 950, 94.5k, 2.44B, 1.1T. It is not exact, and nothing reads it back.
func Short(x float64) string {
	prefixes := []string{"", "k", "M", "B", "T"}
	i := 0
	for math.Abs(x) >= 999.5 && i < len(prefixes)-1 {
		x, i = x/1000, i+1
	}
	if i == 0 {
		return strconv.FormatFloat(math.Round(x), 'f', -1, 64)
	}
	return strconv.FormatFloat(x, 'g', 3, 64) + prefixes[i]
}
