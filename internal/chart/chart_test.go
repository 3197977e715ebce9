package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// wellFormed parses a drawing and checks that every coordinate is a number inside it. What a user wrote (a title, a name)
// may be any text and is not looked at: "%!" is a title.
func wellFormed(t interface{ Fatalf(string, ...any) }, svg string) {
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not XML: %v\n%s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok {
			for _, a := range e.Attr {
				switch a.Name.Local {
				case "x", "y", "x1", "x2", "y1", "y2", "cx", "cy":
					if v, err := strconv.ParseFloat(a.Value, 64); err != nil || math.IsNaN(v) || v < -1 || v > 5000 {
						t.Fatalf("%s %s=%q", e.Name.Local, a.Name.Local, a.Value)
					}
				case "points", "d", "transform", "width", "height", "viewBox", "data-x", "data-y":
					if notNumber.MatchString(a.Value) {
						t.Fatalf("%s %s=%q", e.Name.Local, a.Name.Local, a.Value)
					}
				}
			}
		}
	}
}

// notNumber is what a bad number leaves in an attribute: NaN, an infinity, or the mark of a wrong format verb.
var notNumber = regexp.MustCompile(`NaN|Inf|%!`)

func TestAnyDataDraws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.OneOf(rapid.Float64Range(-1e6, 1e6), rapid.Just(math.NaN()), rapid.Just(math.Inf(1)), rapid.Just(0.0))
		l := Lines{Title: rapid.String().Filter(isXML).Draw(t, "title"), X: "x", Y: "a <b> & c", LogX: rapid.Bool().Draw(t, "log"), LogY: rapid.Bool().Draw(t, "log y")}
		var c Intervals
		for range rapid.IntRange(0, 25).Draw(t, "series") {
			s := Series{Name: rapid.SampledFrom([]string{"", "a", "b & c"}).Draw(t, "name"), Color: rapid.IntRange(0, 20).Draw(t, "color")}
			for range rapid.IntRange(0, 4).Draw(t, "points") {
				p := Point{X: number.Draw(t, "x"), Y: number.Draw(t, "y"), Low: number.Draw(t, "low"), High: number.Draw(t, "high")}
				if l.LogX {
					p.X = math.Abs(p.X) + 1e-3
				}
				if l.LogY {
					p.Y, p.Low, p.High = math.Abs(p.Y)+1e-3, math.Abs(p.Low)+1e-3, math.Abs(p.High)+1e-3
				}
				s.Points = append(s.Points, p)
			}
			l.Series = append(l.Series, s)
			c.Rows = append(c.Rows, Row{Name: s.Name, Mid: number.Draw(t, "mid"), Low: number.Draw(t, "low"), High: number.Draw(t, "high")})
		}
		wellFormed(t, l.SVG())
		wellFormed(t, c.SVG())
	})
}

// isXML reports whether a string has only characters that XML can hold.
func isXML(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0xFFFE || r == 0xFFFF || r == 0xFFFD })
}

// A point is drawn where its value is on the axis: half way for the middle, and by ratio on a logarithmic axis.
func TestPlaces(t *testing.T) {
	x := newAxis([]float64{1, 100}, true, 0, 1000)
	if got := x.at(10); math.Abs(got-500) > 1e-9 {
		t.Errorf("10 between 1 and 100 is at %v, want 500", got)
	}
	y := newAxis([]float64{2, 4}, false, 300, 100)
	if got := y.at(3); math.Abs(got-200) > 1e-9 {
		t.Errorf("3 between 2 and 4 is at %v, want 200", got)
	}
	if y.at(4) >= y.at(2) {
		t.Error("larger values must be higher up")
	}
	svg := Lines{Series: []Series{{Dots: true, Points: []Point{{X: 1, Y: 1}, {X: 2, Y: 2}, {X: 3, Y: 3}}}}}.SVG()
	if n := len(regexp.MustCompile(`<circle`).FindAllString(svg, -1)); n != 3 {
		t.Errorf("%d dots, want 3", n)
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		values []float64
		log    bool
		want   string
	}{
		{[]float64{0, 1}, false, "0 0.2 0.4 0.6 0.8 1"},
		{[]float64{1.02, 1.08}, false, "1.02 1.04 1.06 1.08"},
		{[]float64{0.001, 0.04}, true, "0.001 0.002 0.005 0.01 0.02"},
		{[]float64{1e3, 4e6}, true, "1000 10k 100k 1M"},
	} {
		var got []string
		for _, v := range newAxis(c.values, c.log, 0, 100).ticks {
			got = append(got, label(v))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v: %q, want %q", c.values, strings.Join(got, " "), c.want)
		}
	}
}
