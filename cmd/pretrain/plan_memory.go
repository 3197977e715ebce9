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
	// MicroBatch is the number of sequences it is for, on all devices together, and Remat how the backward pass recomputes.
	MicroBatch int64       `json:"micro_batch"`
	Remat      model.Remat `json:"remat"`
	Parameters int64       `json:"parameters_bytes"`
	Optimizer  int64       `json:"optimizer_bytes"`
	// Activations grow with the micro-batch; Temporaries, such as gradients and workspace, do not.
	Activations int64 `json:"activations_bytes"`
	Temporaries int64 `json:"temporaries_bytes"`
	Peak        int64 `json:"peak_bytes"`
	// Device is what --device names, with its memory; Usable is what of it a run can have.
	Device  string `json:"device,omitempty"`
	Memory  int64  `json:"device_bytes,omitempty"`
	Usable  int64  `json:"usable_bytes,omitempty"`
	Fits    bool   `json:"fits"`                // with Usable 0: not known
	Largest int64  `json:"largest_micro_batch"` // that fits and divides the batch; 0: none does
}

// memoryPlanner compiles a run's program for one micro-batch or another and under one remat or another.
type memoryPlanner struct {
	run     *configs.Resolved
	mesh    *mesh.Mesh
	decoder model.Decoder
	head    loss.Head
	usable  int64          // bytes of each device that a run can have
	program *train.Program // under the run's remat; see fit
}

// newMemoryPlanner is for a run on a mesh, with a model that has its vocabulary. It compiles nothing.
func newMemoryPlanner(r *configs.Resolved, m *mesh.Mesh, config model.Config, usable int64) *memoryPlanner {
	n := numericsFor(m.Backend(), r.Run.Train.Precision, r.Run.Train.Attention)
	return &memoryPlanner{
		run: r, mesh: m, usable: usable, decoder: model.Decoder{Config: config, Numerics: n},
		head: loss.Head{Numerics: n, SoftCap: config.LogitSoftCap, ZLoss: r.Run.Loss.ZLoss, ChunkTokens: r.Run.Loss.ChunkTokens},
	}
}

// planMemory compiles what the run would run, without running it. device may be "". The configuration it returns has what auto stands
// for in batch.micro_batch and train.remat.
func planMemory(r *configs.Resolved, spec, device string, stderr io.Writer) (*memoryPlan, *configs.Resolved, error) {
	fail := func(err error) (*memoryPlan, *configs.Resolved, error) { return nil, nil, err }
	var target gpu.GPU
	if device != "" {
		var err error
		if target, err = gpu.ByKey(device); err != nil {
			return fail(usageError{fmt.Errorf("--device: %w", err)})
		}
	}
	be, info, err := openBackend(spec, r.Run.Train.Precision, backend.Options{})
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
	out := &memoryPlan{
		Compiler: info.Platform, Devices: m.Devices(),
		Memory: info.Devices[0].MemoryBytes, Device: info.Devices[0].Kind, Usable: info.UsableBytes(),
	}
	if device != "" {
		out.Device, out.Memory = target.Name, int64(target.Bytes())
		out.Usable = backend.Usable(out.Memory)
		if info.Platform != "cuda" {
			fmt.Fprintf(stderr, "note: compiled for %s: a GPU's compiler fuses otherwise, and has kernels for attention; ask on the GPU for what it takes\n", info.Platform)
		}
	}
	p := newMemoryPlanner(r, m, config, out.Usable)
	defer p.close()
	if _, err = p.fit(); err != nil && !errors.Is(err, train.ErrNoRoom) {
		return fail(err)
	}
	r = p.run
	if p.usable > 0 {
		if out.Largest, _, err = p.largest(); err != nil && !errors.Is(err, train.ErrNoRoom) {
			return fail(err)
		}
	}
	out.Parameters, out.Optimizer = p.program.StateBytes()
	out.MicroBatch, out.Remat = r.Derived.MicroBatch, r.Run.Train.Remat
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
	if p.run.Run.Metrics.Looks { // the step before's gradients and state are kept beside it, and the new state is made beside the old
		params, optimizer := p.program.StateBytes()
		n += 3*params + 2*optimizer
	}
	return n, err
}

// largest is the largest micro-batch that fits, and its peak.
func (p *memoryPlanner) largest() (sequences, peak int64, err error) {
	return p.most(p.run.MicroBatches(int64(p.mesh.BatchParts())))
}

// most is the largest of some micro-batches that fits, and its peak.
func (p *memoryPlanner) most(sizes []int64) (sequences, peak int64, err error) {
	if p.usable <= 0 {
		return 0, 0, usagef("the backend does not say how much memory its devices have: give batch.micro_batch a number and train.remat a name other than auto")
	}
	return train.Fit(sizes, p.usable, func(n int64) (int64, error) {
		return p.peak(n, p.microBatches(n))
	})
}

// fit builds the run's program, and puts what the devices have room for in the places of train.remat: auto, the first under which the
// micro-batch fits, and of batch.micro_batch: auto, the largest that then does. It returns the peak; where both are given, it asks for
// none. With [train.ErrNoRoom] the program is of the last remat there is.
func (p *memoryPlanner) fit() (peak int64, err error) {
	remats := []model.Remat{p.run.Run.Train.Remat}
	if remats[0] == model.RematAuto {
		remats = model.Remats
	}
	micro := p.run.Run.Batch.MicroBatch
	for i, remat := range remats {
		p.close()
		p.decoder.Remat = remat
		if p.program, err = train.NewProgram(p.mesh, p.decoder, p.head, p.run.Run.Optimizer); err != nil {
			return 0, err
		}
		if micro != schedule.Auto && len(remats) == 1 {
			return 0, nil
		}
		sizes := []int64{p.run.Derived.MicroBatch}
		if micro == schedule.Auto {
			sizes = p.run.MicroBatches(int64(p.mesh.BatchParts()))
		}
		n, peak, err := p.most(sizes)
		if errors.Is(err, train.ErrNoRoom) && i+1 < len(remats) {
			continue
		}
		run, wrong := p.run.WithRemat(remat)
		if wrong != nil {
			return 0, wrong
		}
		if p.run = run; err != nil {
			return 0, err
		}
		if micro == schedule.Auto {
			p.run, err = p.run.WithMicroBatch(n)
		}
		return peak, err
	}
	return 0, errors.New("no remat to choose from")
}

// close frees the compiled program.
func (p *memoryPlanner) close() {
	if p.program != nil {
		p.program.Finalize()
	}
	p.program = nil
}

// fit puts numbers and names in the places of auto, and returns the run's program.
func (j *job) fit(p *memoryPlanner) (*train.Program, error) {
	r := j.config.Run
	j.decoder = p.decoder // for an error that says memory ran out
	peak, err := p.fit()
	if err != nil {
		p.close()
		if errors.Is(err, train.ErrNoRoom) {
			err = usagef("%v: see train.remat, train.mesh.fsdp, a smaller batch.micro_batch, a smaller model.max_seq_len", err)
		}
		return nil, err
	}
	j.config, j.decoder = p.run, p.decoder
	if peak > 0 {
		takes := fmt.Sprintf("which take %s of the %s that each device has for a run", gibibytes(peak), gibibytes(p.usable))
		if r.Train.Remat == model.RematAuto {
			j.say("train.remat: auto: %s, with %d sequences at once, %s", p.decoder.Remat, p.run.Derived.MicroBatch, takes)
		} else {
			j.say("batch.micro_batch: auto: %d sequences at once, %s", p.run.Derived.MicroBatch, takes)
		}
	}
	return p.program, nil
}

// rows adds the memory's rows to a plan's.
func (m *memoryPlan) rows(row func(key, format string, args ...any)) {
	row("memory", "%s on each of %d device(s), by the compiler for %s, %d sequences at once", gibibytes(m.Peak), m.Devices, m.Compiler, m.MicroBatch)
	row("  parameters", "%s", gibibytes(m.Parameters))
	row("  optimizer", "%s", gibibytes(m.Optimizer))
	row("  activations", "%s, growing with the micro-batch (train.remat: %s)", gibibytes(m.Activations), m.Remat)
	row("  temporaries", "%s", gibibytes(m.Temporaries))
	verdict := "does not fit"
	if m.Fits {
		verdict = "fits"
	}
	if m.Usable <= 0 {
		row("  fits", "not known: the backend does not say how much memory its devices have; see --device")
		return
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
