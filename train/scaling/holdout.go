package scaling

import (
	"cmp"
	"slices"
)

// HoldOutLargest parts the points of the largest N from the rest.
func HoldOutLargest(points []Point) (fitted, held []Point) {
	most := slices.MaxFunc(points, func(a, b Point) int { return cmp.Compare(a.N, b.N) }).N
	for _, p := range points {
		if p.N == most {
			held = append(held, p)
		} else {
			fitted = append(fitted, p)
		}
	}
	return fitted, held
}

// HoldOut parts the k points of the most compute from the rest.
func HoldOut(points []Point, k int) (fitted, held []Point) {
	order := slices.Clone(points)
	slices.SortStableFunc(order, func(a, b Point) int { return cmp.Compare(a.Compute(), b.Compute()) })
	cut := max(0, len(order)-k)
	return order[:cut], order[cut:]
}

// Prediction of a run that was not fitted.
type Prediction struct {
	Point
	// Predicted loss, with the bootstrap's 95% interval of the curve there: it has no part of the run's own noise.
	Predicted float64 `json:"predicted"`
	Low       number  `json:"low"`
	High      number  `json:"high"`
	// Error is predicted over measured loss less one: 0.01 is one percent too high.
	Error float64 `json:"error"`
}

// Predict predicts runs that were not fitted.
func (f *Fit) Predict(held []Point) []Prediction {
	var list []Prediction
	for _, p := range held {
		loss := f.Curve.Loss(p.N, p.D)
		low, high := f.Interval(func(c Curve) float64 { return c.Loss(p.N, p.D) })
		list = append(list, Prediction{p, loss, number(low), number(high), loss/p.Loss - 1})
	}
	return list
}
