// Package metrics takes the numbers of a run, one [Record] per update, to where they are wanted: metrics.jsonl, the
// terminal, a TensorBoard event file, Prometheus. It also has the progress display of the stages before training.
package metrics

import (
	"encoding/json"
	"errors"
	"math"
)

// Number is a measured value. JSON has no NaN and no infinities: they are written as null, and null reads back as NaN. So a
// null loss or gradient norm is one that was not finite (the update was skipped), a null MFU one that is not known.
type Number float64

// MarshalJSON writes the shortest text that reads back as the same float64, or null.
func (n Number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON reads a number, or null as NaN.
func (n *Number) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	return json.Unmarshal(text, (*float64)(n))
}

// Unknown is the value of what was not measured.
var Unknown = Number(math.NaN())

// Record is what there is to say about one update.
type Record struct {
	// Step is the update's number, from 0; after it the run has made Step+1 updates.
	Step int64 `json:"step"`
	// Tokens trained on so far, this update's included.
	Tokens int64 `json:"tokens"`
	// Loss is the mean over the batch's targets, in nats per token, with the weights before the update.
	Loss Number `json:"loss"`
	// LR is the global learning rate, before any parameter group's multiplier.
	LR Number `json:"lr"`
	// GradNorm is the global L2 norm of the gradient before clipping.
	GradNorm Number `json:"grad_norm"`
	// TokensPerSecond of wall-clock time, this update alone.
	TokensPerSecond Number `json:"tokens_per_second"`
	// MFU is the part of the device's peak FLOP/s that the model's own FLOPs use, 0 to 1; Unknown where the peak is.
	MFU Number `json:"mfu"`
	// Stage of the data, by name.
	Stage string `json:"stage"`
	// Phase of the schedule: warmup, stable, wave, decay.
	Phase string `json:"phase"`
	// BatchTokens trained on by this update.
	BatchTokens int64 `json:"batch_tokens"`
	// Skipped is how many updates of the run so far were left out: the loss or gradient was not finite or a spike, or a
	// rollback left out the steps around one.
	Skipped int64 `json:"skipped"`
	// Spikes is how many there were so far: updates whose loss or gradient norm was far beyond the steps before, or not
	// finite. 0 where spikes.policy is off.
	Spikes int64 `json:"spikes"`
	// Epoch is how often each source has been gone through so far: 1.5 is once and a half.
	Epoch map[string]float64 `json:"epoch"`
	// StepMS is the wall-clock time from the end of the update before to the end of this one, in milliseconds.
	StepMS Number `json:"step_ms"`
	// DataWaitMS is the part of it that the batch was waited for; above 0, training is held up by its data.
	DataWaitMS Number `json:"data_wait_ms"`
	// Looks is set on the updates that were looked at (metrics.looks).
	Looks *Looks `json:"looks,omitempty"`
	// Eval is set on the updates after which the model was validated.
	*Eval
}

// Looks is a look at two successive updates, filed with the second. Groups are all, embedding, hidden, gain, output.
type Looks struct {
	// NoiseScale is tr(Σ)/|G|² in tokens by group (1812.06162): the ratio of moving averages over about ten looks. Unknown while
	// the averages are not both positive, and missing where no batch has two parts.
	NoiseScale map[string]Number `json:"noise_scale"`
	// UpdateRatio is |ΔW|/|W| of the update between the two gradients, by group.
	UpdateRatio map[string]Number `json:"update_ratio"`
	// MaxUpdate is the largest |ΔW| of any weight.
	MaxUpdate Number `json:"max_update"`
	// GradCosine is the cosine of the two gradients, each of its own batch, before clipping.
	GradCosine Number `json:"grad_cosine"`
	// Slope and Second are the first and second derivative of the loss along the update, at its end; Curvature is
	// |Second|/(1+Slope²)^1.5 (MiniCPM Fig. 8). Unknown where the update was left out.
	Slope     Number `json:"slope"`
	Second    Number `json:"second_derivative"`
	Curvature Number `json:"curvature"`
}

// Eval is the validation with the weights after an update, on documents never trained on.
type Eval struct {
	// ValLoss in nats per token.
	ValLoss Number `json:"val_loss"`
	// ValBPB is in bits per byte of text, which does not depend on the tokenizer.
	ValBPB Number `json:"val_bpb"`
	// ValSources is the same for each source alone.
	ValSources map[string]SourceEval `json:"val_sources,omitempty"`
}

// SourceEval is the validation of one source.
type SourceEval struct {
	Loss Number `json:"loss"` // nats per token
	BPB  Number `json:"bpb"`  // bits per byte
	// BPBLow and BPBHigh are the ends of the 95% bootstrap interval of BPB over documents; left out where there are fewer
	// than two.
	BPBLow  Number `json:"bpb_low,omitempty"`
	BPBHigh Number `json:"bpb_high,omitempty"`
	Tokens  int64  `json:"tokens"`
	Bytes   int64  `json:"bytes"`
}

// Deterministic is the record without its measured times, which alone may differ between two runs of one configuration
// on one machine, interrupted or not.
func (r Record) Deterministic() Record {
	r.TokensPerSecond, r.MFU, r.StepMS, r.DataWaitMS = 0, 0, 0, 0
	return r
}

// Sink takes records, in the order of their steps. It keeps nothing of a record (its map may be changed after Write).
// Methods are called from one goroutine at a time.
type Sink interface {
	// Write takes one record. It must be quick: it is called between two updates.
	Write(Record) error
	// Flush returns when all records written so far would survive a crash, as far as the sink keeps them at all. It is
	// called before a checkpoint is committed.
	Flush() error
	// Close flushes and lets go. The sink must not be used after it.
	Close() error
}

// Sinks are sinks as one. Each gets every call, whatever the others answer; their errors are joined.
type Sinks []Sink

// Write implements [Sink].
func (s Sinks) Write(r Record) error { return s.each(func(sink Sink) error { return sink.Write(r) }) }

// Flush implements [Sink].
func (s Sinks) Flush() error { return s.each(Sink.Flush) }

// Close implements [Sink].
func (s Sinks) Close() error { return s.each(Sink.Close) }

func (s Sinks) each(do func(Sink) error) error {
	var errs []error
	for _, sink := range s {
		errs = append(errs, do(sink))
	}
	return errors.Join(errs...)
}
