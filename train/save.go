package train

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pretrain/internal/safetensors"
	"pretrain/train/checkpoint"
	"pretrain/train/mesh"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// Saver decides when a run is saved and copies its state off the device.
type Saver struct {
	Writer *checkpoint.Writer
	Config checkpoint.Config
	// Meta is what every checkpoint of the run says of itself; step, tokens and loop state are filled in.
	Meta checkpoint.Meta
	// First also saves the state that training begins with, for a run that may have to go back to it.
	First bool

	saved   int64     // step of the last save
	savedAt time.Time // when; zero before the first
}

// due reports whether the state after step updates is to be saved now. A save that comes due while the one before is
// still being written is put off, so the loop does not wait for the disk; but for one that was asked for at this very step.
func (s *Saver) due(step int64) bool {
	if s.savedAt.IsZero() {
		if s.First {
			return true
		}
		s.saved, s.savedAt = step, time.Now()
	}
	if step != s.saved && s.Config.DueAt(step) {
		return true
	}
	if step == s.saved || !s.Config.Due(step, time.Since(s.savedAt)) && !s.overdue(step) {
		return false
	}
	return s.Writer.Idle()
}

// overdue reports whether a save by steps was put off.
func (s *Saver) overdue(step int64) bool {
	return s.Config.EverySteps > 0 && step/s.Config.EverySteps > s.saved/s.Config.EverySteps
}

// save copies the state to the host and submits it; wait waits until it is durable. Where the state of this step was
// saved already it only waits.
func (s *Saver) save(state *State, step, tokens int64, loop checkpoint.LoopState, wait bool) error {
	// Not the run's context: a run that was told to stop must still save.
	ctx := context.Background()
	if step != s.saved || s.savedAt.IsZero() || step == 0 {
		host, err := state.Snapshot()
		if err != nil {
			return fmt.Errorf("save step %d: %w", step, err)
		}
		meta := s.Meta
		meta.Step, meta.Tokens, meta.Loop = step, tokens, loop
		if err := s.Writer.Submit(ctx, meta, toCheckpoint(host)); err != nil {
			return fmt.Errorf("save step %d: %w", step, err)
		}
		s.saved, s.savedAt = step, time.Now()
	}
	if wait {
		if err := s.Writer.Flush(ctx); err != nil {
			return fmt.Errorf("save step %d: %w", step, err)
		}
	}
	return s.Writer.Err()
}

// Follows takes over from another saver of the same run what was saved when.
func (s *Saver) Follows(old *Saver) { s.saved, s.savedAt = old.saved, old.savedAt }

// Resumed tells the saver that the state of a step is on the disk already.
func (s *Saver) Resumed(step int64) { s.saved, s.savedAt = step, time.Now() }

var dtypeNames = map[dtypes.DType]safetensors.DType{dtypes.Float32: safetensors.F32, dtypes.Int32: safetensors.I32}

func toCheckpoint(host []HostTensor) []checkpoint.Tensor {
	out := make([]checkpoint.Tensor, len(host))
	for i, t := range host {
		out[i] = checkpoint.Tensor{Name: t.Name, DType: dtypeNames[t.Shape.DType], Shape: t.Shape.Dimensions, Data: t.Data}
	}
	return out
}

// FromCheckpoint puts a saved state on the device. The error says what does not fit the model and optimizer.
func FromCheckpoint(m *mesh.Mesh, l Layout, saved []checkpoint.Tensor) (*State, error) {
	host := make([]HostTensor, 0, len(saved))
	for _, t := range saved {
		dtype := dtypes.InvalidDType
		for d, name := range dtypeNames {
			if name == t.DType {
				dtype = d
			}
		}
		if dtype == dtypes.InvalidDType {
			return nil, errors.New("the saved " + t.Name + " has type " + string(t.DType) + ", which no training state has")
		}
		host = append(host, HostTensor{TensorSpec{Name: t.Name, Shape: shapes.Make(dtype, t.Shape...)}, t.Data})
	}
	return Restore(m, l, host)
}
