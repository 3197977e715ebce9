// Package checkpoint keeps the state of a training run on disk so that no crash, full disk or
// flipped bit loses more than the steps since the last save.
//
// A [Store] is a folder of checkpoints, each a directory:
//
//	step-000001000/
//	    state-00001-of-00002.safetensors   tensors, in shards of at most MaxShardBytes
//	    state-00002-of-00002.safetensors
//	    MANIFEST.json                      meta, and size and hash of every file and tensor
//	pins/step-000001000.anneal-10n         a branch descends from this one: retention leaves it
//
// The invariant: a directory named step-N is complete and durable. It is built as .tmp-step-N
// (shards synced, then MANIFEST.json, then the directory), renamed, and the parent synced. What has another name than
// step-N is nobody's state, and [Open] removes it: .tmp- is a save that did not end, .trash- a
// deletion that did not. The one exception is .old-step-N, the version that a second save of
// step N replaces: it gets its name back if its successor did not get it.
//
// Hashes are XXH3 (128 bits, as `xxhsum -H2` prints it), taken in the pass that writes, over each file and over
// each tensor so that damage can be named. Not SHA-256: they guard against disks and bugs, not against
// a forger, and XXH3 runs at memory speed where SHA-256 would be slower than the disk.
//
// [Writer] saves off the training thread; [Lock] keeps a second process out of the run.
package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"pretrain/internal/safetensors"
	"pretrain/train/noise"
	"pretrain/train/spike"
)

// FormatVersion is the version of the directory's layout and of MANIFEST.json that this package writes and
// the only one it reads.
const FormatVersion = 1

var (
	// ErrNone says that a store holds no checkpoint at all: the run has not begun.
	ErrNone = errors.New("no checkpoint")
	// ErrNoneIntact says that a store holds checkpoints of which none can be used. It is never
	// to be taken for a new run.
	ErrNoneIntact = errors.New("no intact checkpoint")
	// ErrInvalid is wrapped by errors of a save that would fail again: bad tensors, not a bad disk.
	ErrInvalid = errors.New("invalid checkpoint")
	// ErrReadOnly is returned by what would change a store opened with Options.ReadOnly.
	ErrReadOnly = errors.New("the checkpoint store is open for reading only")
)

// Tensor is a named array on the host.
type Tensor struct {
	Name  string // unique within a checkpoint
	DType safetensors.DType
	Shape []int  // empty for a scalar
	Data  []byte // little-endian, row-major; exactly as long as DType and Shape say
}

func (t Tensor) info() safetensors.Info {
	return safetensors.Info{Name: t.Name, DType: t.DType, Shape: t.Shape}
}

// Meta is what a checkpoint knows besides its tensors: where the run was, and all that a resume
// must compare.
type Meta struct {
	FormatVersion    int               `json:"-"`                            // of the directory; set by Save and Load
	Step             int64             `json:"step"`                         // optimizer steps done
	Tokens           int64             `json:"tokens"`                       // tokens trained on so far
	Config           string            `json:"config"`                       // the resolved configuration as YAML
	ConfigHash       string            `json:"config_hash"`                  // of Config
	DataManifestHash string            `json:"data_manifest_hash,omitempty"` // of the token shards' manifest
	TokenizerHash    string            `json:"tokenizer_hash,omitempty"`     // of tokenizer.json
	Versions         map[string]string `json:"versions,omitempty"`           // program, modules, plugin: name to version
	CreatedAt        time.Time         `json:"created_at"`                   // set by Save if zero
	Loop             LoopState         `json:"loop"`
	Parent           *Parent           `json:"parent,omitempty"` // of a branch; nil for a run of its own
	Past             []Segment         `json:"past,omitempty"`   // what decided earlier steps, where that was not Config
}

// Segment is a configuration that decided the steps before Until, from the segment before on.
type Segment struct {
	Until  int64  `json:"until"`
	Config string `json:"config"` // resolved, as YAML
	// Sequences is the batch from Until on where the validation loss made it grow; 0 where another configuration followed.
	Sequences int64 `json:"sequences,omitempty"`
}

// LoopState is what the training loop carries from step to step outside the tensors. Every float
// survives bit for bit, NaN (payloads aside) and infinities included.
type LoopState struct {
	LossEMA         float64 // smoothed training loss, nats per token
	BestValLoss     float64 // lowest validation loss so far, nats per token; +Inf before the first evaluation
	SkippedUpdates  int64   // updates left out: not finite, a spike, or near one
	TrainSeconds    float64 // wall time spent training, over all restarts
	DataWaitSeconds float64 // part of it that the device was idle because a batch was late
	Spikes          spike.State
	// Noise has the moving averages of the gradient noise scale by parameter group, where looks are on; else nil.
	Noise map[string]noise.Average
}

// Parent names the checkpoint a branch began from.
type Parent struct {
	// Run is the parent's run directory, with slashes: relative to the branch's where both lie in a common folder, so that this
	// can be moved.
	Run string `json:"run"`
	// ID is the parent's, which stays when it is moved; "" where it has none.
	ID     string `json:"id,omitempty"`
	Step   int64  `json:"step"`
	Tokens int64  `json:"tokens,omitempty"`
	// ConfigHash is of the configuration in the parent's checkpoint.
	ConfigHash string `json:"config_hash,omitempty"`
}

// loopJSON is LoopState in JSON, which has no NaN and no infinity.
type loopJSON struct {
	LossEMA         jsonFloat   `json:"loss_ema"`
	BestValLoss     jsonFloat   `json:"best_val_loss"`
	SkippedUpdates  int64       `json:"skipped_updates"`
	TrainSeconds    jsonFloat   `json:"train_seconds"`
	DataWaitSeconds jsonFloat   `json:"data_wait_seconds"`
	Spikes          spike.State `json:"spikes,omitzero"`

	Noise map[string]noise.Average `json:"noise,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (l LoopState) MarshalJSON() ([]byte, error) {
	return json.Marshal(loopJSON{jsonFloat(l.LossEMA), jsonFloat(l.BestValLoss), l.SkippedUpdates, jsonFloat(l.TrainSeconds), jsonFloat(l.DataWaitSeconds), l.Spikes, l.Noise})
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *LoopState) UnmarshalJSON(data []byte) error {
	var j loopJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*l = LoopState{float64(j.LossEMA), float64(j.BestValLoss), j.SkippedUpdates, float64(j.TrainSeconds), float64(j.DataWaitSeconds), j.Spikes, j.Noise}
	return nil
}

// jsonFloat is a float64 that JSON has as a number, or as one of the strings "NaN", "+Inf", "-Inf".
type jsonFloat float64

func (f jsonFloat) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
		return json.Marshal(fmt.Sprint(float64(f)))
	}
	return json.Marshal(float64(f)) // the shortest digits that read back as the same bits
}

func (f *jsonFloat) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case `"NaN"`:
		*f = jsonFloat(math.NaN())
	case `"+Inf"`:
		*f = jsonFloat(math.Inf(1))
	case `"-Inf"`:
		*f = jsonFloat(math.Inf(-1))
	default:
		return json.Unmarshal(data, (*float64)(f))
	}
	return nil
}

// State is a checkpoint read back, every hash verified.
type State struct {
	Meta    Meta
	Tensors []Tensor // in the order they were saved in
	Path    string   // the checkpoint's directory
}
