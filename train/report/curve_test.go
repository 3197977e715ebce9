package report

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// Whatever comes in, a curve keeps its extremes, its order and its bound.
func TestCurveKeepsExtremes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40_000).Draw(t, "n")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var c Curve
		low, high := math.Inf(1), math.Inf(-1)
		for i := range n {
			y := r.NormFloat64()
			if r.IntN(50) == 0 {
				c.Add(float64(i), math.NaN())
				continue
			}
			low, high = min(low, y), max(high, y)
			c.Add(float64(i), y)
		}
		if len(c.buckets) > maxBuckets {
			t.Fatalf("%d buckets", len(c.buckets))
		}
		gotLow, gotHigh, x := math.Inf(1), math.Inf(-1), -1.0
		for _, p := range c.Points(math.MaxInt) {
			if p.X <= x {
				t.Fatalf("x falls from %v to %v", x, p.X)
			}
			x, gotLow, gotHigh = p.X, min(gotLow, p.Y), max(gotHigh, p.Y)
		}
		if gotLow != low || gotHigh != high {
			t.Fatalf("extremes %v … %v, want %v … %v", gotLow, gotHigh, low, high)
		}
	})
}

// Of a flat line with one spike, downsampling keeps the ends and the spike.
func TestPointsKeepSpike(t *testing.T) {
	var c Curve
	for i := range 100_000 {
		y := 1.0
		if i == 54_321 {
			y = 7
		}
		c.Add(float64(i), y)
	}
	points := c.Points(100)
	if len(points) != 100 || points[0].X != 0 || points[99].X != 99_999 {
		t.Fatalf("%d points from %v to %v", len(points), points[0], points[len(points)-1])
	}
	for _, p := range points {
		if p.X == 54_321 && p.Y == 7 {
			return
		}
	}
	t.Error("the spike is lost")
}

// The largest triangles of a small case, by hand: of each middle group the point farthest from the line between its neighbours.
func TestLTTBByHand(t *testing.T) {
	in := []point{{0, 0}, {1, 1}, {2, 0}, {3, 0}, {4, -3}, {5, 0}}
	got := lttb(in, 4)
	want := []point{{0, 0}, {1, 1}, {4, -3}, {5, 0}}
	for i, w := range want {
		if got[i] != w {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}

func TestNoPoints(t *testing.T) {
	var c *Curve
	if _, ok := c.Last(); ok || c.Points(10) != nil {
		t.Error("a curve that is not there has points")
	}
	c = new(Curve)
	c.Add(1, math.Inf(1))
	if _, ok := c.Last(); ok {
		t.Error("infinity is a point")
	}
}
