package checkpoint_test

import (
	"testing"
	"time"

	"pretrain/train/checkpoint"
)

func TestDue(t *testing.T) {
	for _, c := range []struct {
		steps int64
		time  time.Duration
		step  int64
		since time.Duration
		want  bool
	}{
		{100, 0, 300, 0, true},
		{100, 0, 301, time.Hour, false},
		{0, time.Minute, 7, time.Minute, true},
		{0, time.Minute, 7, 59 * time.Second, false},
		{100, time.Minute, 7, 61 * time.Second, true},
		{100, time.Minute, 200, time.Second, true},
	} {
		config := checkpoint.Config{EverySteps: c.steps, EveryTime: c.time, At: []int64{17}}
		if got := config.Due(c.step, c.since); got != c.want {
			t.Errorf("%+v: Due = %v", c, got)
		}
		if !config.Due(17, c.since) {
			t.Errorf("%+v: not due at a step that was asked for", c)
		}
	}
}
