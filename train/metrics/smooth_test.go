package metrics

import "testing"

// Over a short run the smoothed loss follows one that falls from 9 to 4, and over a long one its memory is 50 updates.
func TestSmoothed(t *testing.T) {
	mean := 0.0
	for n := range int64(75) {
		mean = Smoothed(mean, max(4, 9-0.1*float64(n)), n+1)
		if n == 0 && mean != 9 {
			t.Errorf("after the first loss, 9: %g", mean)
		}
	}
	if mean < 4 || mean > 4.5 {
		t.Errorf("after 25 losses of 4: %g", mean)
	}
	if got := Smoothed(4, 5, 1000); got != 4.02 {
		t.Errorf("4 and then 5, after 1000: %g", got)
	}
}
