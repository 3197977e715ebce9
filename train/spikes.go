package train

import (
	"errors"
	"fmt"
	"math"

	"pretrain/internal/vfs"
	"pretrain/schedule"
	"pretrain/train/metrics"
	"pretrain/train/spike"
)

// Forensics is where a run files its spikes and what it says of them: a [spike.Bundle] each.
type Forensics struct {
	FS  vfs.FS
	Dir string // RUN/spikes
	// Decode is the text of tokens, and Document where a source's document came from, "" if that is not known.
	Decode   func(tokens []uint32) string
	Document func(source string, document int) string
	// Recent are the last n records before a step.
	Recent func(step int64, n int) ([]metrics.Record, error)
	// Config is the run's, as YAML.
	Config string
	Seed   uint64
	// Say tells people.
	Say func(format string, args ...any)
}

// RollbackError is returned by Train when a spike wants the run to go back: to a checkpoint of a step no later than
// Window.From, and on from there with the window among [spike.State]'s. What Train did since is to be forgotten. Where
// there is no way back, Train may be called again and goes on without the spike's update.
type RollbackError struct{ Spike int64 }

func (e *RollbackError) Error() string {
	return fmt.Sprintf("going back to before the spike of step %d", e.Spike)
}

// ErrSpike is wrapped by Train's error when a spike ended the run. The state is saved, without the spike's update.
var ErrSpike = errors.New("the run was stopped by a spike")

// trip is a spike that was seen and not yet acted on.
type trip struct {
	step     int64
	loss, lr float64
	norm     float64
	limits   spike.Limits
}

func (t trip) String() string {
	switch {
	case math.IsNaN(t.loss+t.norm) || math.IsInf(t.loss+t.norm, 0):
		return "the loss or the gradient is not finite"
	case t.loss > t.limits.Loss:
		return fmt.Sprintf("loss %.4g, limit %.4g", t.loss, t.limits.Loss)
	}
	return fmt.Sprintf("gradient norm %.4g, limit %.4g", t.norm, t.limits.GradNorm)
}

// limits are what the update of a step may not exceed.
func (r *Run) limits(step int64) spike.Limits {
	since := r.Data.StageAt(step).From
	for _, s := range r.Batches.Stages() {
		if s.Step <= step {
			since = max(since, s.Step)
		}
	}
	for _, s := range r.Schedule.Spans() {
		if s.Phase == schedule.PhaseWarmup {
			since = max(since, s.To)
		}
	}
	return r.Spikes.Limits(&r.Loop.Spikes, step, since)
}

// lr is the learning rate of a step: the schedule's, less what rollbacks took off.
func (r *Run) lr(step int64) float64 {
	return r.Schedule.LR(step) * r.Spikes.LRFactor(&r.Loop.Spikes, step)
}

// watch takes down whether the step was a spike.
func (r *Run) watch(o outcome) {
	if r.Spikes.Observe(&r.Loop.Spikes, o.step, o.metrics.Loss, o.metrics.GradNorm, !o.metrics.Skipped) {
		r.trips = append(r.trips, trip{o.step, float64(o.metrics.Loss), r.lr(o.step), float64(o.metrics.GradNorm), o.limits})
	}
}

// actOnSpikes documents the spikes seen since it was last called and does as the policy says. The device is idle.
func (r *Run) actOnSpikes() error {
	trips := r.trips
	r.trips = nil
	for _, t := range trips {
		where := ""
		if path, err := r.fileSpike(t); err != nil {
			r.Forensics.Say("warning: %v", err)
		} else if path != "" {
			where = ": see " + path
		}
		r.Forensics.Say("spike at step %d: %s; its update was left out%s", t.step, t, where)
	}
	first, last := trips[0].step, trips[len(trips)-1].step
	switch state := &r.Loop.Spikes; {
	case r.Spikes.Spent(state, last):
		err := fmt.Errorf("%w: step %d is one of more than spikes.budget, %d, within %d steps: the learning rate, the data or the machine wants mending", ErrSpike, last, r.Spikes.Budget, r.Spikes.Window)
		return errors.Join(err, r.save(true))
	case r.Spikes.Policy == spike.Stop:
		err := fmt.Errorf("%w at step %d, as spikes.policy wants: the same command goes on without its update", ErrSpike, first)
		return errors.Join(err, r.save(true))
	case r.Spikes.Policy == spike.Rollback:
		return &RollbackError{first}
	}
	return nil
}

// fileSpike writes what there is to know of a spike and returns where, "" if there are bundles enough.
func (r *Run) fileSpike(t trip) (string, error) {
	f := r.Forensics
	n, err := spike.Count(f.FS, f.Dir)
	if err != nil || n >= r.Spikes.KeepBundles {
		return "", err
	}
	b := &spike.Bundle{
		Step: t.step, Reason: t.String(), Loss: metrics.Number(t.loss), GradNorm: metrics.Number(t.norm), LR: metrics.Number(t.lr),
		LossLimit: metrics.Number(t.limits.Loss), GradNormLimit: metrics.Number(t.limits.GradNorm),
		Policy: r.Spikes.Policy, Count: r.Loop.Spikes.Count, Seed: f.Seed, DataManifest: r.Data.Manifest(),
		WeightsAfter: r.Step, Config: f.Config,
	}
	if b.Sequences, err = r.sequences(t.step); err != nil {
		return "", err
	}
	if b.Recent, err = f.Recent(t.step, spike.RecentSteps); err != nil {
		return "", err
	}
	// A diagnosis that does not fit the device, say, is no reason to file nothing, and none to end the run.
	if err := r.diagnose(b); err != nil {
		b.Failed = err.Error()
	}
	return b.Write(f.FS, f.Dir)
}

// sequences are those of a step's batch, in order.
func (r *Run) sequences(step int64) ([]spike.Sequence, error) {
	plan, err := r.Data.At(step)
	if err != nil {
		return nil, err
	}
	batches, err := r.Assembler.Batch(step)
	if err != nil {
		return nil, err
	}
	sources := r.Data.Sources()
	var out []spike.Sequence
	for i, p := range plan {
		s := spike.Sequence{Index: i, Source: sources[p.Source], Epoch: p.Epoch, Nats: metrics.Unknown}
		for _, seg := range p.Segments {
			s.Pieces = append(s.Pieces, spike.Piece{
				Document: seg.Doc, Name: r.Forensics.Document(s.Source, seg.Doc), Offset: seg.Offset, Tokens: seg.Len,
			})
		}
		b, row := batches[i/r.Assembler.Micro], i%r.Assembler.Micro
		for _, token := range b.Tokens[row*(b.SeqLen+1) : (row+1)*(b.SeqLen+1)] {
			s.Tokens = append(s.Tokens, uint32(token))
		}
		s.Text = r.Forensics.Decode(s.Tokens)
		out = append(out, s)
	}
	return out, nil
}

// diagnose measures the batch of a bundle with the weights there are.
func (r *Run) diagnose(b *spike.Bundle) error {
	batches, err := r.Assembler.Batch(b.Step)
	if err != nil {
		return err
	}
	d, err := r.Program.Diagnose(r.State, batches)
	if err != nil {
		return err
	}
	for i, g := range r.Program.Layout().Groups {
		b.GradientNorms = append(b.GradientNorms, spike.Norm{Parameter: g.Param.Name, Norm: metrics.Number(d.GradNorms[i])})
	}
	for _, v := range d.ResidualRMS {
		b.ResidualRMS = append(b.ResidualRMS, metrics.Number(v))
	}
	for i, v := range d.Nats {
		b.Sequences[i].Nats = metrics.Number(v)
	}
	return nil
}
