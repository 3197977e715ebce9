package main

import (
	"errors"
	"fmt"
	"io"

	"pretrain/configs"
	"pretrain/internal/backend"
	"pretrain/internal/gpu"
	"pretrain/model"
	"pretrain/schedule"
	"pretrain/train"
	"pretrain/train/loss"
	"pretrain/train/mesh"
)

// memoryPlan is what training takes of each device's memory, in bytes, by the account of the compiler that was asked.
type memoryPlan struct {
	// Compiler is the platform whose compiler was asked, Devices the number of devices it compiled for.
	Compiler string `json:"compiler"`
	Devices  int    `json:"devices"`
	// MicroBatch is the number of sequences it is for, on all devices together.
	MicroBatch int64 `json:"micro_batch"`
	Parameters int64 `json:"parameters_bytes"`
	Optimizer  int64 `json:"optimizer_bytes"`
	// Activations grow with the micro-batch; Temporaries, such as gradients and workspace, do not.
	Activations int64 `json:"activations_bytes"`
	Temporaries int64 `json:"temporaries_bytes"`
	Peak        int64 `json:"peak_bytes"`
	// Device is what --device names, with its memory; Usable is what of it a run can have.
	Device  string `json:"device,omitempty"`
	Memory  int64  `json:"device_bytes,omitempty"`
	Usable  int64  `json:"usable_bytes,omitempty"`
	Fits    bool   `json:"fits"`
	Largest int64  `json:"largest_micro_batch"` // that fits and divides the batch; 0: none does
}

// memoryPlanner compiles a run's programs for one micro-batch or another.
type memoryPlanner struct {
	run     *configs.Resolved
	program *train.Program
	mesh    *mesh.Mesh
}

// planMemory compiles what the run would run, without running it. device may be "". The configuration it returns has the number that
// batch.micro_batch: auto stands for.
func planMemory(r *configs.Resolved, spec, device string, stderr io.Writer) (*memoryPlan, *configs.Resolved, error) {
	fail := func(err error) (*memoryPlan, *configs.Resolved, error) { return nil, nil, err }
	var target gpu.GPU
	if device != "" {
		var err error
		if target, err = gpu.ByKey(device); err != nil {
			return fail(usageError{fmt.Errorf("--device: %w", err)})
		}
	}
	be, info, err := backend.Open(spec, backend.Options{})
	if err != nil {
		return fail(err)
	}
	defer be.Finalize()
	m, err := mesh.New(be, r.Run.Train.Mesh)
	if err != nil {
		return fail(usageError{err})
	}
	config := r.Run.Model
	if config.VocabSize == 0 {
		config.VocabSize = r.Run.Tokenizer.VocabSize
	}
	numerics := numericsFor(be, r.Run.Train.Precision, r.Run.Train.Attention)
	decoder := model.Decoder{Config: config, Numerics: numerics, Remat: r.Run.Train.Remat}
	head := loss.Head{Numerics: numerics, SoftCap: config.LogitSoftCap, ZLoss: r.Run.Loss.ZLoss, ChunkTokens: r.Run.Loss.ChunkTokens}
	program, err := train.NewProgram(m, decoder, head, r.Run.Optimizer)
	if err != nil {
		return fail(err)
	}
	defer program.Finalize()
	params, optimizer := program.StateBytes()
	p := &memoryPlanner{r, program, m}

	out := &memoryPlan{
		Compiler: info.Platform, Devices: m.Devices(), Parameters: params, Optimizer: optimizer,
		Memory: info.Devices[0].MemoryBytes, Device: info.Devices[0].Kind, Usable: info.UsableBytes(),
	}
	if device != "" {
		out.Device, out.Memory = target.Name, int64(target.Bytes())
		out.Usable = backend.Usable(out.Memory)
		if info.Platform != "cuda" {
			fmt.Fprintf(stderr, "note: compiled for %s: a GPU's compiler fuses otherwise, and has kernels for attention; ask on the GPU for what it takes\n", info.Platform)
		}
	}
	if out.Largest, _, err = p.largest(out.Usable); err != nil && !errors.Is(err, train.ErrNoRoom) {
		return fail(err)
	}
	if r.Run.Batch.MicroBatch == schedule.Auto && out.Largest > 0 {
		if r, err = r.WithMicroBatch(out.Largest); err != nil {
			return fail(err)
		}
		p.run = r
	}
	out.MicroBatch = r.Derived.MicroBatch
	micro := p.microBatches(out.MicroBatch)
	if out.Peak, err = p.peak(out.MicroBatch, micro); err != nil {
		return fail(err)
	}
	// Another size says what of it grows with the micro-batch.
	parts := int64(m.BatchParts())
	other := max(parts, out.MicroBatch/2/parts*parts)
	if other == out.MicroBatch {
		other = 2 * out.MicroBatch
	}
	peak, err := p.peak(other, micro)
	if err != nil {
		return fail(err)
	}
	slope := float64(out.Peak-peak) / float64(out.MicroBatch-other)
	out.Activations = int64(slope * float64(out.MicroBatch))
	out.Temporaries = out.Peak - out.Parameters - out.Optimizer - out.Activations
	out.Fits = out.Peak <= out.Usable
	return out, r, nil
}

// microBatches is how many micro-batches of so many sequences the largest batch is.
func (p *memoryPlanner) microBatches(sequences int64) int {
	return int(max(1, p.run.Derived.SequencesPerStep/sequences))
}

// peak is the memory of each device while training on so many micro-batches of so many sequences.
func (p *memoryPlanner) peak(sequences int64, microBatches int) (int64, error) {
	n, err := p.program.Peak(int(sequences), p.run.Run.Model.MaxSeqLen, microBatches)
	if errors.Is(err, train.ErrNoAccount) {
		err = usageError{err}
	}
	return n, err
}

// largest is the largest micro-batch with which training takes at most so many bytes of each device, and its peak.
func (p *memoryPlanner) largest(usable int64) (sequences, peak int64, err error) {
	if usable <= 0 {
		return 0, 0, usagef("the backend does not say how much memory its devices have: give batch.micro_batch a number")
	}
	return train.Fit(p.run.MicroBatches(int64(p.mesh.BatchParts())), usable, func(n int64) (int64, error) {
		return p.peak(n, p.microBatches(n))
	})
}

// fitMicroBatch puts a number in the place of batch.micro_batch: auto.
func (j *job) fitMicroBatch(program *train.Program) error {
	if j.config.Run.Batch.MicroBatch != schedule.Auto {
		return nil
	}
	p, usable := &memoryPlanner{j.config, program, j.mesh}, j.device.UsableBytes()
	n, peak, err := p.largest(usable)
	if errors.Is(err, train.ErrNoRoom) {
		return usagef("batch.micro_batch: auto: %v: see train.remat, train.mesh.fsdp, a smaller model.max_seq_len", err)
	}
	if err != nil {
		return err
	}
	j.say("batch.micro_batch: auto: %d sequences at once, which take %s of the %s that each device has for a run", n, gibibytes(peak), gibibytes(usable))
	j.config, err = j.config.WithMicroBatch(n)
	return err
}

// rows adds the memory's rows to a plan's.
func (m *memoryPlan) rows(row func(key, format string, args ...any)) {
	row("memory", "%s on each of %d device(s), by the compiler for %s, %d sequences at once", gibibytes(m.Peak), m.Devices, m.Compiler, m.MicroBatch)
	row("  parameters", "%s", gibibytes(m.Parameters))
	row("  optimizer", "%s", gibibytes(m.Optimizer))
	row("  activations", "%s, growing with the micro-batch", gibibytes(m.Activations))
	row("  temporaries", "%s", gibibytes(m.Temporaries))
	verdict := "does not fit"
	if m.Fits {
		verdict = "fits"
	}
	if m.Memory > 0 {
		row("  "+verdict, "%s has %s, of which a run can have %s", m.Device, gibibytes(m.Memory), gibibytes(m.Usable))
	}
	if m.Largest > 0 {
		row("  largest", "--set batch.micro_batch=%d is the most that fits and divides the batch", m.Largest)
	} else {
		row("  largest", "not one sequence on each device fits: see train.remat, train.mesh.fsdp, a smaller model.max_seq_len")
	}
}
