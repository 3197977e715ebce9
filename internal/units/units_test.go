package units

import (
	"encoding"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	tests := []struct {
		in    string
		parse func(string) (any, error)
		want  any    // nil: an error that holds `text`
		text  string // the canonical spelling, "" if it is in
	}{
		{"20Btok", anyOf(ParseTokens), Tokens(20e9), ""},
		{"3.93Mtok", anyOf(ParseTokens), Tokens(3_930_000), ""},
		{"3932160tok", anyOf(ParseTokens), Tokens(3_932_160), ""},
		{"512ktok", anyOf(ParseTokens), Tokens(512_000), ""},
		{" 4096 tok ", anyOf(ParseTokens), Tokens(4096), "4096tok"},
		{"1.5ktok", anyOf(ParseTokens), Tokens(1500), ""},
		{"1.1Ttok", anyOf(ParseTokens), Tokens(1.1e12), ""},
		{"0", anyOf(ParseTokens), Tokens(0), "0tok"},
		{"9223372036854775807tok", anyOf(ParseTokens), Tokens(1<<63 - 1), ""},
		{"9223372036854775808tok", anyOf(ParseTokens), nil, "out of range"},
		{"4096", anyOf(ParseTokens), nil, `got "4096" without a unit; want a token count such as "4096tok"`},
		{"1.5tok", anyOf(ParseTokens), nil, "not a whole number"},
		{"20btok", anyOf(ParseTokens), nil, `want a token count`},
		{"20B", anyOf(ParseTokens), nil, "want a token count"},
		{"-1tok", anyOf(ParseTokens), nil, "want a token count"},
		{"1e9tok", anyOf(ParseTokens), nil, "want a token count"},
		{"1/2tok", anyOf(ParseTokens), nil, "want a token count"},
		{".5Mtok", anyOf(ParseTokens), nil, "want a token count"},
		{"", anyOf(ParseTokens), nil, "want a token count"},

		{"256MiB", anyOf(ParseBytes), Bytes(256 << 20), ""},
		{"1GB", anyOf(ParseBytes), Bytes(1e9), ""},
		{"512KiB", anyOf(ParseBytes), Bytes(512 << 10), ""},
		{"1.5GiB", anyOf(ParseBytes), Bytes(3 << 29), ""},
		{"17B", anyOf(ParseBytes), Bytes(17), ""},
		{"256M", anyOf(ParseBytes), nil, "want a size"},
		{"256", anyOf(ParseBytes), nil, "without a unit"},

		{"10%", anyOf(ParseFraction), Fraction(0.1), ""},
		{"0.1", anyOf(ParseFraction), Fraction(0.1), "10%"},
		{"7%", anyOf(ParseFraction), Fraction(0.07), ""},
		{"0.5%", anyOf(ParseFraction), Fraction(0.005), ""},
		{"100%", anyOf(ParseFraction), Fraction(1), ""},
		{"1", anyOf(ParseFraction), Fraction(1), "100%"},
		{"101%", anyOf(ParseFraction), nil, "out of range"},
		{"10", anyOf(ParseFraction), nil, "out of range"},
		{"10 percent", anyOf(ParseFraction), nil, `got "10 percent"; want a part`},

		{"4h", anyOf(ParseDuration), Duration(4 * time.Hour), ""},
		{"30m", anyOf(ParseDuration), Duration(30 * time.Minute), ""},
		{"90s", anyOf(ParseDuration), Duration(90 * time.Second), "1m30s"},
		{"1h30m", anyOf(ParseDuration), Duration(90 * time.Minute), ""},
		{"1h0m5s", anyOf(ParseDuration), Duration(time.Hour + 5*time.Second), ""},
		{"0", anyOf(ParseDuration), Duration(0), "0s"},
		{"90", anyOf(ParseDuration), nil, "without a unit"},
		{"-4h", anyOf(ParseDuration), nil, "out of range"},

		{"1000 steps", anyOf(ParseLength), Steps(1000), ""},
		{"1step", anyOf(ParseLength), Steps(1), "1 step"},
		{"0", anyOf(ParseLength), Steps(0), "0 steps"},
		{"20Btok", anyOf(ParseLength), OfTokens(20e9), ""},
		{"10%", anyOf(ParseLength), OfRun(0.1), ""},
		{"", anyOf(ParseLength), Length{}, ""},
		{"10 percent", anyOf(ParseLength), nil, `got "10 percent"; want a length such as "1000 steps", "20Btok" or "10%"`},
		{"1000", anyOf(ParseLength), nil, `got "1000" without a unit`},
		{"4h", anyOf(ParseLength), nil, "want a length"},
		{"1.5 steps", anyOf(ParseLength), nil, "not a whole number"},
		{"120%", anyOf(ParseLength), nil, "out of range"},

		{"50Btok", anyOf(ParseInterval), Interval{amount{kind: inTokens, n: 50e9}}, ""},
		{"30m", anyOf(ParseInterval), Interval{amount{kind: inTime, n: int64(30 * time.Minute)}}, ""},
		{"5%", anyOf(ParseInterval), EveryFraction(0.05), ""},
		{"never", anyOf(ParseInterval), Never, ""},
		{"0%", anyOf(ParseInterval), Never, "never"},
		{"0s", anyOf(ParseInterval), Never, "never"},
		{"250 steps", anyOf(ParseInterval), EverySteps(250), ""},
		{"sometimes", anyOf(ParseInterval), nil, `got "sometimes"; want an interval such as`},
		{"250", anyOf(ParseInterval), nil, "without a unit"},
	}
	for _, tt := range tests {
		got, err := tt.parse(tt.in)
		if tt.want == nil {
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%q: got %v, error %v; want an error with %q", tt.in, got, err, tt.text)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("%q: got %v (%v), want %v", tt.in, got, err, tt.want)
			continue
		}
		want := tt.text
		if want == "" {
			want = tt.in
		}
		if text, _ := got.(encoding.TextMarshaler).MarshalText(); string(text) != want {
			t.Errorf("%q: written as %q, want %q", tt.in, text, want)
		}
	}
}

func anyOf[T any](parse func(string) (T, error)) func(string) (any, error) {
	return func(s string) (any, error) { return parse(s) }
}

func TestResolve(t *testing.T) {
	stepAt := func(tokens int64) int64 { return tokens / 4096 }
	for _, tt := range []struct {
		length string
		want   int64
	}{{"70 steps", 70}, {"8192tok", 2}, {"10%", 100}, {"0.05%", 1}, {"0.04%", 0}, {"", 0}} {
		l, err := ParseLength(tt.length)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Resolve(1000, stepAt); got != tt.want {
			t.Errorf("%q of 1000 steps: %d, want %d", tt.length, got, tt.want)
		}
	}
	for _, tt := range []struct {
		interval string
		want     int64
	}{{"70 steps", 70}, {"1tok", 1}, {"0.01%", 1}, {"never", 0}, {"30m", 0}, {"", 0}} {
		i, err := ParseInterval(tt.interval)
		if err != nil {
			t.Fatal(err)
		}
		if got := i.Resolve(1000, stepAt); got != tt.want {
			t.Errorf("every %q of 1000 steps: %d, want %d", tt.interval, got, tt.want)
		}
	}
}

type all struct {
	Tokens   Tokens   `yaml:"tokens" json:"tokens"`
	Bytes    Bytes    `yaml:"bytes" json:"bytes"`
	Fraction Fraction `yaml:"fraction" json:"fraction"`
	Duration Duration `yaml:"duration" json:"duration"`
	Length   Length   `yaml:"length" json:"length"`
	Interval Interval `yaml:"interval" json:"interval"`
}

// Any value a run can hold survives YAML and JSON: String is exact.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Min(0)
		frac := rapid.Map(rapid.Float64Range(0, 1), func(f float64) Fraction { return Fraction(f) })
		v := all{
			Tokens(n.Draw(t, "tokens")), Bytes(n.Draw(t, "bytes")), frac.Draw(t, "fraction"), Duration(n.Draw(t, "duration")),
			rapid.OneOf(
				rapid.Map(n, Steps), rapid.Map(frac, OfRun), rapid.Just(Length{}),
				rapid.Map(n, func(n int64) Length { return OfTokens(Tokens(n)) }),
			).Draw(t, "length"),
			rapid.OneOf(
				rapid.Map(rapid.Int64Min(1), EverySteps), rapid.Map(rapid.Float64Range(0.001, 1), func(f float64) Interval { return EveryFraction(Fraction(f)) }),
				rapid.Map(rapid.Int64Min(1), func(n int64) Interval { return Interval{amount{kind: inTime, n: n}} }), rapid.Just(Never), rapid.Just(Interval{}),
			).Draw(t, "interval"),
		}
		for name, codec := range map[string]struct {
			marshal   func(any) ([]byte, error)
			unmarshal func([]byte, any) error
		}{"yaml": {yaml.Marshal, yaml.Unmarshal}, "json": {json.Marshal, json.Unmarshal}} {
			text, err := codec.marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			var back all
			if err := codec.unmarshal(text, &back); err != nil || back != v {
				t.Fatalf("%s: %s reads as %+v (%v), want %+v", name, text, back, err, v)
			}
		}
	})
}

// The spelling means what it says: an independent reading of the digits and the prefix gives the same count.
func TestTokensStringIsExact(t *testing.T) {
	prefix := map[string]string{"tok": "1", "ktok": "1e3", "Mtok": "1e6", "Btok": "1e9", "Ttok": "1e12"}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Min(0).Draw(t, "n")
		s := Tokens(n).String()
		digits := strings.TrimRight(s, "kMBTto")
		value, _ := new(big.Rat).SetString(digits)
		scale, _ := new(big.Rat).SetString(prefix[s[len(digits):]])
		if value.Mul(value, scale).Cmp(new(big.Rat).SetInt64(n)) != 0 {
			t.Fatalf("%d written as %q", n, s)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"20Btok", "10%", "4h", "256MiB", "1000 steps", "never", "0", "1e9", "9999999999999999999TiB", "..", "µs"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		roundTrip(t, s, ParseTokens)
		roundTrip(t, s, ParseBytes)
		roundTrip(t, s, ParseFraction)
		roundTrip(t, s, ParseDuration)
		roundTrip(t, s, ParseLength)
		roundTrip(t, s, ParseInterval)
	})
}

func roundTrip[T interface {
	comparable
	encoding.TextMarshaler
}](t *testing.T, s string, parse func(string) (T, error)) {
	v, err := parse(s)
	if err != nil {
		if !strings.Contains(err.Error(), "; want a") {
			t.Fatalf("%q: error %q does not say what is wanted", s, err)
		}
		return
	}
	text, _ := v.MarshalText()
	if back, err := parse(string(text)); err != nil || back != v {
		t.Fatalf("%q reads as %v, written %q, read back %v (%v)", s, v, text, back, err)
	}
}

func TestShort(t *testing.T) {
	for want, x := range map[string]float64{
		"0": 0, "7": 7, "999": 999.4, "1k": 999.5, "94.5k": 94_528, "2.44B": 2_442_057_984, "1.1T": 1.1e12, "-1.5M": -1.5e6,
	} {
		if got := Short(x); got != want {
			t.Errorf("%v is %s, want %s", x, got, want)
		}
	}
}
