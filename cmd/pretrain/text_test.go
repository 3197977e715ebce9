package main

import (
	"fmt"
	"strings"
	"testing"

	"pretrain/configs"
)

func TestSI(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 7: "7", 999: "999", 1000: "1k", 1234: "1.23k", 99_950: "100k", 999_499: "999k", 999_500: "1M",
		2_442_057_984: "2.44B", 1_100_000_000_000: "1.1T", 5_000_000_000_000_000: "5e+03T",
	} {
		if got := si(n); got != want {
			t.Errorf("si(%d) is %s, want %s", n, got, want)
		}
	}
}

// The curve has its peak in the first row, falls to nothing with the decay, and keeps its width.
func TestCurve(t *testing.T) {
	r, err := configs.LoadWithoutFiles("quickstart", []string{"schedule.warmup=25%", "schedule.decay.length=50%", "schedule.decay.shape=linear"})
	if err != nil {
		t.Fatal(err)
	}
	p := makePlan(r, 0)
	var b strings.Builder
	if err := p.curves(r).draw(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.Trim(b.String(), "\n"), "\n")[1:]
	if len(lines) != 10 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, line := range lines[:8] {
		_, bars, ok := strings.Cut(line, "|")
		if !ok {
			t.Fatalf("line %d has no axis: %q", i, line)
		}
		columns := []rune(bars)
		filled := strings.Count(bars, "█")
		// A trapezium: the row i from the top is as wide as the plateau, a quarter of 72, and 1/8 more of both slopes for
		// each row below the first; half a row is in the first.
		want := 18 + (float64(i)+0.5)*54/8
		if len(columns) > 72 || float64(filled) > want+5 || float64(filled) < want-8 {
			t.Errorf("row %d: %d columns of %d filled, want about %.0f", i, filled, len(columns), want)
		}
	}
	if !strings.HasSuffix(lines[9], fmt.Sprint(r.Derived.Steps)) {
		t.Errorf("the axis does not end with the last step: %q", lines[9])
	}
}
