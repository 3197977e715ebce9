// Package spike finds training steps whose loss or gradient is far off those before, and says what to do about them.
//
// # Detection
//
// [Config.Limits] is a pure function of what the run has seen: the loss and the gradient norm that the next update may
// not exceed. The step takes them as inputs and refuses the update in the graph, as it does one that is not finite, so
// that a spike is never applied to the weights. A limit is the median of the last [Config.Window] applied steps plus a
// number of robust standard deviations (1.4826 times the median absolute deviation: half of the steps may be off before
// it moves, where one outlier moves a mean and a variance). The gradient norm's is taken of its logarithm, since norms
// scatter by factors. Only what is too high counts.
//
// The host is a step ahead of the device: when step s is handed over, step s-1 is still running. Limits of step s
// therefore rest on steps up to s-2, always, also where the host happens to know more (after a validation or a save), so
// that a resumed run has the limits of an uninterrupted one.
//
// A rise that was asked for is no spike. There are no limits during the schedule's warm-up, and none until
// [Config.MinHistory] steps have been seen since the last change of the data's stage or of the batch size. And a rise that
// lasts is the weights', not the batch's, which leaving out updates does not mend: see [Config.InARow].
//
// # What becomes of a spike
//
// The update is left out in any case. Then, by [Config.Policy], the run goes on ([Skip]); goes back to a checkpoint and
// leaves out the data around the spike, too ([Rollback]); or ends ([Stop]). Data is left out by [Window]s of steps: a
// step in one reads its batch and computes its loss as any other, but its update is refused. Learning rate, tokens and
// the order of the data are functions of the step and go on, so a run that went back is, to the bit, the run that had
// these windows from the beginning, whichever checkpoint it went back to.
package spike

import (
	"slices"

	"pretrain/internal/problem"
)

// Policy says what a run does about a spike, besides leaving out its update.
type Policy string

// The policies.
const (
	Off      Policy = "off"      // no limits; an update that is not finite is left out all the same
	Skip     Policy = "skip"     // go on
	Rollback Policy = "rollback" // go back to a checkpoint, and leave out the steps around the spike
	Stop     Policy = "stop"     // save and end
)

// Policies lists the policies.
var Policies = []Policy{Off, Skip, Rollback, Stop}

// Config is the spikes section of a run.
type Config struct {
	// Policy says what a spike leads to: off (nothing), skip (its update is left out), rollback (the run goes back to a
	// checkpoint and leaves out the steps around it) or stop. Default skip: it costs one update, where a spike let through
	// can cost the run. Healthy runs stay well below the limits (docs/reliability.md), and there the section changes nothing.
	Policy Policy `yaml:"policy"`
	// LossDeviations is how far above the median loss the limit is, in robust standard deviations; 0: no limit. Default 8:
	// the most seen in a healthy run is 2.1, and in a normal distribution 8 does not happen. A deviation counts as at
	// least 0.5% of the median, so that a very large batch, whose loss hardly scatters, has room.
	LossDeviations float64 `yaml:"loss_deviations"`
	// GradNormDeviations is the same for the logarithm of the gradient norm; 0: no limit. Default 10. A deviation counts
	// as at least 0.2, so a norm below 7 times the median never trips: norms of healthy runs double now and then (6.3
	// deviations were seen), and clipping deals with that.
	GradNormDeviations float64 `yaml:"grad_norm_deviations"`
	// Window is how many steps the median is of. Default 128: enough for a steady median, short against any schedule.
	Window int64 `yaml:"window"`
	// MinHistory is how many steps must have been seen since warm-up, a new stage of the data or a new batch size before
	// there are limits. Default 32: the median absolute deviation of fewer is off by a third and more.
	MinHistory int64 `yaml:"min_history"`
	// InARow is how many spikes in a row show that it is not the batch but the weights: the loss is high and stays so. To
	// leave out more updates would keep it there, so the limits are lifted until min_history steps have been seen again.
	// Default 4.
	InARow int `yaml:"in_a_row"`
	// Budget is how many spikes within a window's number of steps are put up with before the run stops. Default 16, one
	// step in eight: beyond that it is the data, the learning rate or the machine that wants mending.
	Budget int64 `yaml:"budget"`
	// SkipBefore is how many steps before a spike rollback leaves out as well. Default 32: PaLM (2204.02311 §5.1) left out
	// 200–500 batches around one, but had no limit in the step to keep the spike itself out.
	SkipBefore int64 `yaml:"skip_before"`
	// SkipAfter is how many steps after a spike rollback leaves out as well. Default 32.
	SkipAfter int64 `yaml:"skip_after"`
	// LRBackoff multiplies the learning rate from each rollback on. Default 1: none. Only with rollback.
	LRBackoff float64 `yaml:"lr_backoff"`
	// KeepBundles is how many spikes are documented in the run directory's folder spikes: the batch, its gradients and
	// activations, the metrics before it. Default 100; those after are counted only.
	KeepBundles int `yaml:"keep_bundles"`
}

// Default leaves out the update and goes on.
func Default() Config {
	return Config{
		Policy: Skip, LossDeviations: 8, GradNormDeviations: 10, Window: 128, MinHistory: 32, InARow: 4, Budget: 16,
		SkipBefore: 32, SkipAfter: 32, LRBackoff: 1, KeepBundles: 100,
	}
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	var p problem.List
	p.Check(slices.Contains(Policies, c.Policy), "policy", c.Policy, "one of %v", Policies)
	p.Check(c.LossDeviations >= 0, "loss_deviations", c.LossDeviations, "0 (no limit) or more")
	p.Check(c.GradNormDeviations >= 0, "grad_norm_deviations", c.GradNormDeviations, "0 (no limit) or more")
	p.Check(c.Window >= 2 && c.Window <= 10_000, "window", c.Window, "2 to 10000 steps")
	p.Check(c.MinHistory >= 2 && c.MinHistory <= c.Window, "min_history", c.MinHistory, "2 to window, %d", c.Window)
	p.Check(c.InARow >= 1, "in_a_row", c.InARow, "1 or more")
	p.Check(c.Budget >= 0, "budget", c.Budget, "0 (stop at the first spike) or more")
	p.Check(c.SkipBefore >= 0, "skip_before", c.SkipBefore, "0 or more")
	p.Check(c.SkipAfter >= 1, "skip_after", c.SkipAfter, "1 or more: a step is under way when a spike is seen")
	p.Check(c.LRBackoff > 0 && c.LRBackoff <= 1, "lr_backoff", c.LRBackoff, "more than 0 and at most 1 (none)")
	p.Check(c.LRBackoff == 1 || c.Policy == Rollback, "lr_backoff", c.LRBackoff, "1, or policy rollback: it applies after one")
	p.Check(c.KeepBundles >= 0, "keep_bundles", c.KeepBundles, "0 (none) or more")
	return p.Err()
}
