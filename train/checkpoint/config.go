package checkpoint

import (
	"slices"
	"time"
)

// Config says when a run saves, what it keeps and how long it puts up with a disk that refuses.
type Config struct {
	// EverySteps saves each time the step is a multiple of it; 0 = not by steps.
	EverySteps int64
	// EveryTime saves when this long has passed since the last save; 0 = not by time. With both, whichever comes first.
	EveryTime time.Duration
	// Keep is how many of the newest checkpoints stay; at least 1.
	Keep int
	// KeepEverySteps also keeps, forever, the first checkpoint at or after each multiple of so many steps; 0 = none.
	KeepEverySteps int64
	// KeepEveryTokens does the same by tokens trained on; 0 = none.
	KeepEveryTokens int64
	// At are steps to save at whatever else is due, and to keep, forever.
	At []int64
	// MaxShardBytes bounds the tensor bytes of a file; a larger tensor gets a file of its own.
	MaxShardBytes int64
	// RetryAfter is the pause after the first failed save; it doubles with each further one up to [MaxRetryPause].
	RetryAfter time.Duration
	// GiveUpAfter is how long saves may fail in a row before the run must stop; 0 = at the first failure.
	GiveUpAfter time.Duration
}

// MaxRetryPause bounds the pause between two tries of a failing save: a disk that was freed is used within it.
const MaxRetryPause = 2 * time.Minute

// DefaultMaxShardBytes is 4 GiB: files of a size that object stores and copies can restart at little
// loss, few enough for a 2.4B model (7 files for weights and Adam's moments in fp32).
const DefaultMaxShardBytes = 4 << 30

// Default returns the configuration of a run that says nothing about checkpoints.
func Default() Config {
	return Config{
		EverySteps:    1000,
		EveryTime:     30 * time.Minute, // the most a crash can cost
		Keep:          3,                // two to fall back on if the newest is damaged
		MaxShardBytes: DefaultMaxShardBytes,
		RetryAfter:    5 * time.Second,
		GiveUpAfter:   30 * time.Minute, // time for somebody to free a disk; as much work is at stake as EveryTime
	}
}

// Due reports whether the state after step is to be saved, the last save being sinceLast ago.
func (c Config) Due(step int64, sinceLast time.Duration) bool {
	return c.EverySteps > 0 && step%c.EverySteps == 0 || c.EveryTime > 0 && sinceLast >= c.EveryTime || c.DueAt(step)
}

// DueAt reports whether the state after this very step is asked for.
func (c Config) DueAt(step int64) bool { return slices.Contains(c.At, step) }

// retention returns the part of the configuration that Prune needs.
func (c Config) retention() Retention {
	return Retention{Keep: c.Keep, EverySteps: c.KeepEverySteps, EveryTokens: c.KeepEveryTokens, At: c.At}
}
