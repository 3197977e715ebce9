package report

import (
	"math"

	"pretrain/internal/chart"
)

// Curve is a metric over a run of any length in bounded memory: of each of at most maxBuckets stretches of equal length it keeps the
// lowest and the highest point, so that no spike is lost. When there are too many stretches, neighbours are joined in pairs.
type Curve struct {
	width   int64 // records in a stretch
	in      int64 // records so far in the last one
	buckets []bucket
	// begin and end are the first and the last point, which a drawing is to reach.
	begin, end point
}

// point is a chart.Point without its bar: curves are many.
type point struct{ x, y float64 }

// maxBuckets is enough for two points a pixel on a wide screen, with room to zoom.
const maxBuckets = 4096

// bucket has the lowest and the highest point of a stretch, in the order they came in.
type bucket struct{ first, last point }

func (b bucket) join(c bucket) bucket {
	points := [4]point{b.first, b.last, c.first, c.last}
	low, high := 0, 0
	for i, p := range points {
		if p.y < points[low].y {
			low = i
		}
		if p.y > points[high].y {
			high = i
		}
	}
	return bucket{points[min(low, high)], points[max(low, high)]}
}

// Add adds the next point. X must rise; a point whose y is not finite is left out.
func (c *Curve) Add(x, y float64) {
	if math.IsNaN(y) || math.IsInf(y, 0) {
		return
	}
	c.width = max(c.width, 1)
	p := point{x, y}
	one := bucket{p, p}
	if c.end = p; len(c.buckets) == 0 {
		c.begin = p
	}
	if c.in == c.width || len(c.buckets) == 0 {
		if len(c.buckets) == maxBuckets {
			for i := range maxBuckets / 2 {
				c.buckets[i] = c.buckets[2*i].join(c.buckets[2*i+1])
			}
			c.buckets = c.buckets[:maxBuckets/2]
			c.width *= 2
		}
		c.buckets, c.in = append(c.buckets, one), 1
		return
	}
	c.in++
	c.buckets[len(c.buckets)-1] = c.buckets[len(c.buckets)-1].join(one)
}

// Last is the last point; false if there is none.
func (c *Curve) Last() (y float64, ok bool) {
	if c == nil || len(c.buckets) == 0 {
		return 0, false
	}
	return c.end.y, true
}

// Points are at most n of the curve's points, chosen so that the line looks as it would with all of them: Largest Triangle
// Three Buckets (Steinarsson, "Downsampling Time Series for Visual Representation", University of Iceland, 2013, §4.2).
func (c *Curve) Points(n int) []chart.Point {
	if c == nil || len(c.buckets) == 0 {
		return nil
	}
	all := []point{c.begin}
	add := func(p point) {
		if p.x > all[len(all)-1].x {
			all = append(all, p)
		}
	}
	for _, b := range c.buckets {
		add(b.first)
		add(b.last)
	}
	add(c.end)
	var points []chart.Point
	for _, p := range lttb(all, n) {
		points = append(points, chart.Point{X: p.x, Y: p.y})
	}
	return points
}

// lttb keeps the first and the last point, and of each of n-2 groups between them the one that makes the largest triangle with the
// point kept before it and the mean of the group after it.
func lttb(points []point, n int) []point {
	if n < 3 || len(points) <= n {
		return points
	}
	group := func(i int) []point { // i-th of n-2
		size := float64(len(points)-2) / float64(n-2)
		return points[1+int(float64(i)*size) : 1+int(float64(i+1)*size)]
	}
	kept := []point{points[0]}
	for i := range n - 2 {
		next := points[len(points)-1:]
		if i < n-3 {
			next = group(i + 1)
		}
		var mean point
		for _, p := range next {
			mean.x, mean.y = mean.x+p.x/float64(len(next)), mean.y+p.y/float64(len(next))
		}
		before, best, area := kept[len(kept)-1], point{}, -1.0
		for _, p := range group(i) {
			a := math.Abs((before.x-mean.x)*(p.y-before.y) - (before.x-p.x)*(mean.y-before.y))
			if a > area {
				best, area = p, a
			}
		}
		kept = append(kept, best)
	}
	return append(kept, points[len(points)-1])
}
