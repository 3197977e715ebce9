package scaling

import (
	"fmt"
	"math"

	"pretrain/internal/gpu"
	"pretrain/internal/units"
	"pretrain/model"
	"pretrain/schedule"
	"pretrain/train/mesh"
)

// Request is what a plan is asked for. One of Tokens and Params may be given, both, or neither.
type Request struct {
	GPUs int     `json:"gpus"`
	GPU  gpu.GPU `json:"-"`
	Days float64 `json:"days"`
	// MFU is the part of the GPUs' bf16 peak that the model's own FLOPs use, above 0 and at most 1.
	MFU float64 `json:"mfu"`
	// Measured names the run that measured the MFU; "": it is an assumption.
	Measured string `json:"mfu_measured_by,omitempty"`
	// Tokens to train on, or parameters besides the embedding; 0: what follows from the rest, by the law if both are 0.
	Tokens float64 `json:"tokens"`
	Params float64 `json:"params"`
	// Inference is how many tokens the model is expected to read and write in its life, paid from the same compute. It counts only
	// where the law chooses the size.
	Inference float64 `json:"inference_tokens"`
	// Batch in tokens; 0: by MiniCPM's law.
	Batch float64 `json:"-"`
	// Vocab and SeqLen of the model.
	Vocab  int `json:"vocab_size"`
	SeqLen int `json:"max_seq_len"`
	// Dollars an hour and GPU; 0: that of the table.
	Dollars float64 `json:"dollars_per_gpu_hour"`
	Law     Sourced `json:"law"`
}

// Plan is a run that fits the request.
type Plan struct {
	Request
	// FLOPs that the GPUs do in the time, of which Training are the run's and Inference those kept for its use.
	Available float64 `json:"available_flops"`
	Training  float64 `json:"training_flops"`
	// Shape of the model, and its counts. N is what the law counts of it.
	Shape
	model.Counts
	FLOPsPerToken float64 `json:"flops_per_token"`
	N             float64 `json:"n"`
	// D tokens in Steps of Batch tokens, which are Sequences.
	D         float64 `json:"d"`
	Steps     int64   `json:"steps"`
	BatchSize int64   `json:"batch_tokens"`
	Sequences int64   `json:"batch_sequences"`
	// BatchLaw is what the law says; BatchSize is it in whole sequences for every device, and within what others have trained with.
	BatchLaw float64 `json:"batch_law_tokens"`
	// Loss that the law predicts.
	Loss float64 `json:"loss"`
	// Phases of the schedule, in tokens.
	Warmup float64 `json:"warmup_tokens"`
	Stable float64 `json:"stable_tokens"`
	Decay  float64 `json:"decay_tokens"`
	// Mesh that fits the memory, with so many sequences at once on each device.
	Mesh       mesh.Config `json:"mesh"`
	MicroBatch int         `json:"micro_batch_per_device"`
	Memory     Memory      `json:"memory_per_device"`
	// Hours of all GPUs, what they cost, and the energy of the boards at their limit.
	Hours    float64 `json:"hours"`
	GPUHours float64 `json:"gpu_hours"`
	Cost     float64 `json:"dollars"`
	Energy   float64 `json:"megawatt_hours"`
	// Best is what the law would do with the same compute, BestServed with the inference paid from it.
	Best       Allocation  `json:"best"`
	BestServed *Allocation `json:"best_with_inference,omitempty"`
	// Sensitivity says how much the answer hangs on what is not known.
	Sensitivity []Variation `json:"sensitivity"`
	Notes       []string    `json:"notes"`
}

// Variation is a plan with one thing different.
type Variation struct {
	What string `json:"what"`
	Allocation
	Ratio float64 `json:"tokens_per_parameter"`
}

// The bounds of the batch, in tokens: what large runs have been trained with (Llama 3 405B: 16M).
const (
	minBatch = 65_536
	maxBatch = 16_777_216
)

// Shares of the run: MiniCPM finds a decay of a tenth enough (§4.3); its warmup it does not print.
const (
	warmupShare = 0.01
	decayShare  = 0.1
)

// Make plans a run.
func Make(r Request) (*Plan, error) {
	p := &Plan{Request: r}
	p.Available = float64(r.GPUs) * r.GPU.FLOPS() * r.MFU * r.Days * 86400
	p.shape()
	p.Best = Optimal(r.Law, p.lawful(1), 0)
	if r.Inference > 0 {
		served := Optimal(r.Law, p.lawful(1), r.Inference)
		p.BestServed = &served
	}
	switch {
	case r.Tokens > 0:
		p.D = r.Tokens
	case r.Params > 0:
		p.D = p.Available / p.FLOPsPerToken
	default:
		p.D = p.Available/p.FLOPsPerToken - r.Inference/3 // using a token is a third of training on it
	}
	p.Loss = r.Law.Loss(p.N, p.D)
	p.batch()
	var err error
	if p.Mesh, p.MicroBatch, p.Memory, err = FitMesh(p.Model, r.GPUs, r.GPU.Bytes(), int(max(1, p.Sequences/int64(r.GPUs)))); err != nil {
		return nil, err
	}
	p.round()
	p.Warmup, p.Decay = warmupShare*p.D, decayShare*p.D
	p.Stable = p.D - p.Warmup - p.Decay
	p.Training = p.FLOPsPerToken * p.D
	p.Hours = p.Training / (float64(r.GPUs) * r.GPU.FLOPS() * r.MFU) / 3600
	p.GPUHours = p.Hours * float64(r.GPUs)
	if p.Dollars == 0 {
		p.Dollars = r.GPU.DollarsPerHour
	}
	p.Cost = p.GPUHours * p.Dollars
	p.Energy = p.GPUHours * r.GPU.Watts / 1e6
	p.vary()
	p.note()
	return p, nil
}

// shape chooses the decoder. Where the law does, its best size hangs on what a token really costs, and that on the size.
func (p *Plan) shape() {
	p.FLOPsPerToken, p.N = 6, 1
	for range 4 {
		switch {
		case p.Params > 0:
			p.Shape = shapeOf(p.Params, NonEmbedding, p.Vocab, p.SeqLen)
		case p.Request.Tokens > 0:
			p.Shape = ShapeFor(p.Available/p.Request.Tokens, p.Vocab, p.SeqLen)
		default:
			p.Shape = shapeOf(Optimal(p.Law, p.lawful(1), p.Inference).N, p.Law.Counts, p.Vocab, p.SeqLen)
		}
		p.Counts, p.FLOPsPerToken, p.N = p.Model.Count(), p.Model.FLOPsPerToken().Total(), float64(p.Law.Counts.Of(p.Model))
	}
}

// lawful is the compute in the law's coin, which is 6·N FLOPs a token: attention, and what N does not count, take some more.
func (p *Plan) lawful(factor float64) float64 {
	return factor * p.Available * 6 * p.N / p.FLOPsPerToken
}

// batch asks MiniCPM's law. It is of the loss per token on C4; where the law of the request is of another unit, the published one
// stands in.
func (p *Plan) batch() {
	loss := p.Loss
	if p.Law.Unit != nats {
		epoch := Published[0]
		loss = epoch.Loss(float64(epoch.Counts.Of(p.Model)), p.D)
	}
	p.BatchLaw = schedule.LawTokens(loss)
	tokens := p.Request.Batch
	if tokens == 0 {
		tokens = min(max(p.BatchLaw, minBatch), maxBatch)
	}
	p.Sequences = max(1, int64(math.Round(tokens/float64(p.SeqLen))))
}

// round makes the batch whole for the devices, as many sequences for each in whole micro-batches, and the run whole batches.
func (p *Plan) round() {
	unit := int64(p.Mesh.Data * p.Mesh.FSDP * p.MicroBatch)
	p.Sequences = max(1, p.Sequences/unit) * unit
	p.BatchSize = p.Sequences * int64(p.SeqLen)
	p.Steps = max(1, int64(math.Round(p.D/float64(p.BatchSize))))
	p.D = float64(p.Steps * p.BatchSize)
}

// vary asks what the unknowns do.
func (p *Plan) vary() {
	add := func(what string, a Allocation) { p.Sensitivity = append(p.Sensitivity, Variation{what, a, a.Ratio()}) }
	at := func(n, d float64) Allocation { return Allocation{n, d, p.Law.Loss(n, d)} }
	for _, v := range []struct {
		name   string
		factor float64
	}{{"MFU −20%", 0.8}, {"MFU +20%", 1.2}} {
		switch {
		case p.Request.Tokens > 0 && p.Params > 0:
			add(fmt.Sprintf("%s: %.0f hours", v.name, p.Hours/v.factor), at(p.N, p.D))
		case p.Request.Tokens > 0:
			add(v.name+", as many tokens", at(p.N*v.factor, p.D))
		case p.Params > 0:
			add(v.name+", the same model", at(p.N, p.D*v.factor))
		default:
			add(v.name+", best", Optimal(p.Law, p.lawful(v.factor), p.Inference))
		}
	}
	add("best for this compute, by "+p.Law.Name, p.Best)
	if p.BestServed != nil {
		add(fmt.Sprintf("… with %s tokens of inference", units.Short(p.Inference)), *p.BestServed)
	}
	if p.Law.CentreN > 0 && p.Law.AlphaRange[1] > 0 && p.Law.BetaRange[1] > 0 {
		for i, end := range []string{"lower", "upper"} {
			add(fmt.Sprintf("… alpha at its %s end, %.3g", end, p.Law.AlphaRange[i]), Optimal(p.Law.with(p.Law.AlphaRange[i], p.Law.Beta), p.lawful(1), 0))
		}
		for i, end := range []string{"lower", "upper"} {
			add(fmt.Sprintf("… beta at its %s end, %.3g", end, p.Law.BetaRange[i]), Optimal(p.Law.with(p.Law.Alpha, p.Law.BetaRange[i]), p.lawful(1), 0))
		}
	}
	for _, s := range Published {
		if s.Name != p.Law.Name {
			add(fmt.Sprintf("best by %s (loss in %s)", s.Name, s.Unit), Optimal(s.Law, p.lawful(1), 0))
		}
	}
}

// note says what the reader must know.
func (p *Plan) note() {
	add := func(format string, args ...any) { p.Notes = append(p.Notes, fmt.Sprintf(format, args...)) }
	best := Optimal(p.Law, 6*p.N*p.D, 0)
	gap := p.Loss - best.Loss
	switch ratio := (p.D / p.N) / best.Ratio(); {
	case ratio < 0.67:
		add("%.3g tokens per parameter: large for its data. The law's best for as much training is %s parameters on %s tokens, %.4f lower in loss", p.D/p.N, units.Short(best.N), units.Short(best.D), gap)
	case ratio > 1.5:
		add("%.3g tokens per parameter: more data than the law's best for training alone (%s parameters on %s tokens, %.4f lower in loss), for a model that is %.2g times as cheap to use", p.D/p.N, units.Short(best.N), units.Short(best.D), gap, best.N/p.N)
	default:
		add("%.3g tokens per parameter, near the law's best for as much training (%s parameters on %s tokens)", p.D/p.N, units.Short(best.N), units.Short(best.D))
	}
	if p.Hours < 24*p.Days*0.9 && p.Inference == 0 {
		add("it takes %.2g%% of the time there is", 100*p.Hours/(24*p.Days))
	}
	if p.Hours > 24*p.Days*1.01 {
		add("it takes %.0f hours, and there are %.0f: fewer tokens, a smaller model or more GPUs", p.Hours, 24*p.Days)
	}
	bound := p.Request.Batch
	if bound == 0 {
		bound = min(max(p.BatchLaw, minBatch), maxBatch)
	}
	if float64(p.BatchSize) > 1.5*bound {
		add("every GPU takes a sequence at least, which makes the batch %s tokens: so many GPUs need shorter sequences or a tensor axis to learn as much from each token", units.Short(float64(p.BatchSize)))
	} else if p.BatchLaw > maxBatch && p.Request.Batch == 0 {
		add("the batch law asks for %s tokens, beyond anything it was measured at; the batch is held to %s, the largest in use", units.Short(p.BatchLaw), units.Short(maxBatch))
	}
	if p.Preset == "" {
		add("no published shape is within %.0f%% of the size: width and layers follow MiniCPM's ladder, continued", 100*nearPreset)
	}
	if hosts := (p.GPUs + devicesPerHost - 1) / devicesPerHost; hosts > 1 {
		add("%d GPUs are %d hosts of %d: MFU over a network is lower than on one host, and this program's own training spans the devices of one host", p.GPUs, hosts, devicesPerHost)
	}
	if p.Measured == "" {
		add("MFU is an assumption: measure it on one host, with the planned shape, before you believe the hours")
	}
	add("memory is an estimate, the price an assumption")
}
