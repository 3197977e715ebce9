package report

import (
	"math"

	"pretrain/train/metrics"
)

// metric is a number of a record that the report draws.
type metric struct {
	key   string
	title string // of its drawing
	unit  string // of the vertical axis
	value func(*metrics.Record) float64
	// rare: with one drawing for all runs only where some run has points; measured on few updates, so drawn with dots.
	rare bool
}

// The keys of the curves that are drawn together with others or summed up.
const (
	keyLoss     = "loss"
	keySmooth   = "loss_smooth"
	keyValLoss  = "val_loss"
	keyValBPB   = "val_bpb"
	sourcePart  = "val_bpb/" // followed by the source's name
	keyWaitPart = "data_wait"
)

// drawn are the metrics with a drawing of their own, in the order of the page. A number added to [metrics.Record] needs a line here.
var drawn = []metric{
	{key: "lr", title: "Learning rate", unit: "learning rate", value: func(r *metrics.Record) float64 { return float64(r.LR) }},
	{key: "batch_tokens", title: "Batch", unit: "tokens per step", value: func(r *metrics.Record) float64 { return float64(r.BatchTokens) }},
	{key: "grad_norm", title: "Gradient norm before clipping", unit: "L2 norm", value: func(r *metrics.Record) float64 { return float64(r.GradNorm) }},
	{key: "tokens_per_second", title: "Throughput", unit: "tokens per second", value: func(r *metrics.Record) float64 { return float64(r.TokensPerSecond) }},
	{key: "mfu", title: "Model FLOPs utilisation", unit: "% of the device's peak", value: func(r *metrics.Record) float64 { return 100 * float64(r.MFU) }},
	{key: keyWaitPart, title: "Waiting for data", unit: "% of the step's time", value: func(r *metrics.Record) float64 { return 100 * float64(r.DataWaitMS) / float64(r.StepMS) }},
	{key: "noise_scale", title: "Gradient noise scale", unit: "tokens", rare: true, value: look(func(l *metrics.Looks) metrics.Number { return of(l.NoiseScale, "all") })},
	{key: "update_ratio", title: "Update to weight", unit: "|ΔW|/|W|", rare: true, value: look(func(l *metrics.Looks) metrics.Number { return of(l.UpdateRatio, "all") })},
	{key: "max_update", title: "Largest update of a weight", unit: "max |ΔW|", rare: true, value: look(func(l *metrics.Looks) metrics.Number { return l.MaxUpdate })},
	{key: "grad_cosine", title: "Successive gradients", unit: "cosine", rare: true, value: look(func(l *metrics.Looks) metrics.Number { return l.GradCosine })},
	{key: "curvature", title: "Curvature along the update", unit: "1/length", rare: true, value: look(func(l *metrics.Looks) metrics.Number { return l.Curvature })},
	{key: "skipped", title: "Updates left out so far", unit: "updates", rare: true, value: func(r *metrics.Record) float64 { return float64(r.Skipped) }},
}

// look takes a value from a record that has a look; others have none.
func look(value func(*metrics.Looks) metrics.Number) func(*metrics.Record) float64 {
	return func(r *metrics.Record) float64 {
		if r.Looks == nil {
			return math.NaN()
		}
		return float64(value(r.Looks))
	}
}

// of is a group's number, unknown where it has none.
func of(groups map[string]metrics.Number, name string) metrics.Number {
	if v, ok := groups[name]; ok {
		return v
	}
	return metrics.Unknown
}

// smoother is the smoothed loss, as the run's own train_loss has it.
type smoother struct {
	mean float64
	n    int64
}

func (s *smoother) add(v float64) float64 {
	s.n++
	s.mean = metrics.Smoothed(s.mean, v, s.n)
	return s.mean
}
