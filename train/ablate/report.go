package ablate

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat"

	"pretrain/internal/prng"
	"pretrain/train/metrics"
)

// Verdict on a variant.
type Verdict string

// The verdicts. Better and Worse hold for the whole ablation at once with error rate Alpha.
const (
	IsBaseline Verdict = "baseline"
	Better     Verdict = "better"
	Worse      Verdict = "worse"
	CannotTell Verdict = "cannot tell"
	Stopped    Verdict = "stopped"  // early, by successive halving
	Unstable   Verdict = "unstable" // some of its runs diverged, so the mean of the others says too little
)

// Report is what an ablation found.
type Report struct {
	Name     string   `json:"name"`
	Question string   `json:"question,omitempty"`
	Baseline string   `json:"baseline"`
	Seeds    []uint64 `json:"seeds"`
	// Variants in the ablation's order.
	Variants []VariantReport `json:"variants"`
	Noise    Noise           `json:"noise"`
	// Sweeps along a numeric key, one for each combination of the others.
	Sweeps []Sweep `json:"sweeps,omitempty"`
	// Transfers between widths, where the ablation asks for it.
	Transfers []TransferReport `json:"transfers,omitempty"`
	// Sources by name, where the runs validated several.
	Sources []string `json:"sources,omitempty"`
	// Warnings say what the reader must know before believing the rest.
	Warnings []string `json:"warnings,omitempty"`
	// Seconds of training in all runs.
	Seconds float64 `json:"seconds"`
}

// VariantReport is what became of one variant.
type VariantReport struct {
	Variant
	// Order says which data the variant sees beside the baseline.
	Order Order `json:"order"`
	// Stopped is the share of the run at which the variant was stopped early; 0 where it was not.
	Stopped float64 `json:"stopped,omitempty"`
	// Done runs, and those that diverged, failed for good, or are not at their end.
	Done     int `json:"done"`
	Diverged int `json:"diverged"`
	Failed   int `json:"failed"`
	Missing  int `json:"missing"`
	Measured
	// Loss is the mean of the last validation in nats per token, SD the standard deviation of BPB between seeds.
	Loss metrics.Number `json:"val_loss"`
	SD   metrics.Number `json:"sd"`
	// Sources has the same for each source, where there are several.
	Sources map[string]*Measured `json:"val_sources,omitempty"`
	Verdict Verdict              `json:"verdict"`
	// MoreSeeds is how many more seeds a verdict needs, if the true difference is the one seen; 0 where it is known, or
	// more than [MostSeeds].
	MoreSeeds int `json:"more_seeds,omitempty"`
	// Reason is the verdict in words.
	Reason string    `json:"reason"`
	Runs   []Outcome `json:"runs"`
}

// Measured is the mean over a variant's finished runs, and how it differs from the baseline's.
type Measured struct {
	// BPB is the last validation in bits per byte; its Delta decides the verdict. Area is that under the curve.
	BPB  metrics.Number `json:"val_bpb"`
	Area metrics.Number `json:"area"`
	// Delta and DeltaArea are nil for the baseline.
	Delta     *Comparison `json:"delta,omitempty"`
	DeltaArea *Comparison `json:"delta_area,omitempty"`
}

// Noise is how far apart two runs are that differ in their seed only.
type Noise struct {
	// SeedSD is the standard deviation of the final bits per byte between seeds, pooled over the variants, with DF degrees
	// of freedom: the noise floor of a single run.
	SeedSD metrics.Number `json:"seed_sd"`
	DF     int            `json:"df"`
	// PairSD is the standard deviation of the paired differences, pooled in the same way. Unpaired it would be √2·SeedSD:
	// what it is below that, pairing gained.
	PairSD metrics.Number `json:"pair_sd"`
	// Detectable is the smallest difference that this many seeds find with chance Power, after the correction.
	Detectable metrics.Number `json:"detectable"`
}

// Order is what two variants share of the data.
type Order string

// The orders, from the most that a pair can share to the least.
const (
	SameOrder    Order = "same tokens in the same order"
	OtherBatches Order = "same tokens in the same order, cut into other batches"
	OtherLength  Order = "same order, another number of tokens"
	OtherData    Order = "other tokens" // another tokenizer, sequence length or mixture: seeds pair the initial weights only
)

// OrderOf says what a variant shares with the baseline, from the keys in which their configurations differ.
func OrderOf(keys []string) Order {
	order := SameOrder
	for _, key := range keys {
		section, _, _ := strings.Cut(key, ".")
		switch {
		case section == "tokenizer" || section == "data" || key == "model.max_seq_len":
			return OtherData
		case key == "train.tokens":
			order = OtherLength
		case section == "batch" && key != "batch.micro_batch" && order == SameOrder:
			order = OtherBatches
		}
	}
	return order
}

// MostSeeds bounds the number of seeds that a verdict may ask for: a difference that needs more is not worth its cost at
// this size of run.
const MostSeeds = 100

// Analysis is what a report is made from.
type Analysis struct {
	Config   Config
	Variants []Variant
	// Orders of the variants; SameOrder for the baseline.
	Orders   []Order
	Outcomes []Outcome
}

// Report analyses the outcomes.
func (a Analysis) Report() *Report {
	r := &Report{Name: a.Config.Name, Question: a.Config.Question, Baseline: a.Config.BaselineOf(a.Variants), Seeds: a.Config.Seeds}
	race := a.Config.Halving.Judge(a.Variants, r.Baseline, a.Outcomes)
	for i, v := range a.Variants {
		vr := VariantReport{Variant: v, Order: a.Orders[i], Stopped: race.Dropped[v.Name]}
		for _, o := range a.Outcomes {
			if o.Variant == v.Name {
				vr.Runs = append(vr.Runs, o)
				r.Seconds += o.Seconds
			}
		}
		vr.summarise()
		for source := range vr.Sources {
			if !slices.Contains(r.Sources, source) {
				r.Sources = append(r.Sources, source)
			}
		}
		r.Variants = append(r.Variants, vr)
	}
	slices.Sort(r.Sources)
	base := r.Variant(r.Baseline)
	for i := range r.Variants {
		if v := &r.Variants[i]; v.Name != r.Baseline {
			v.compare(base)
		}
	}
	r.judge()
	r.Sweeps = r.sweeps(a.Config.Transfer.Tune)
	if a.Config.Transfer.Width != "" {
		r.Transfers = transfers(r.Sweeps, a.Config.Transfer)
	}
	r.warn(a.Config.Halving)
	return r
}

// Variant by name; nil if there is none.
func (r *Report) Variant(name string) *VariantReport {
	for i := range r.Variants {
		if r.Variants[i].Name == name {
			return &r.Variants[i]
		}
	}
	return nil
}

// measure is a number of a run that is compared.
type measure func(Outcome) (float64, bool)

func finalBPB(o Outcome) (float64, bool) { return float64(o.BPB), o.Status == Done }
func runArea(o Outcome) (float64, bool)  { return float64(o.Area), o.Status == Done }
func sourceBPB(name string) measure {
	return func(o Outcome) (float64, bool) {
		s, ok := o.Sources[name]
		return float64(s.BPB), ok && o.Status == Done
	}
}
func sourceArea(name string) measure {
	return func(o Outcome) (float64, bool) {
		area, ok := o.SourceAreas[name]
		return float64(area), ok && o.Status == Done
	}
}

// values of the finished runs.
func (v *VariantReport) values(m measure) []float64 {
	var list []float64
	for _, o := range v.Runs {
		if x, ok := m(o); ok && !math.IsNaN(x) {
			list = append(list, x)
		}
	}
	return list
}

func mean(values []float64) metrics.Number {
	if len(values) == 0 {
		return metrics.Unknown
	}
	return metrics.Number(stat.Mean(values, nil))
}

func (v *VariantReport) summarise() {
	for _, o := range v.Runs {
		switch o.Status {
		case Done:
			v.Done++
		case Diverged:
			v.Diverged++
		case Failed:
			v.Failed++
		default:
			v.Missing++
		}
	}
	final := v.values(finalBPB)
	v.BPB, v.Area, v.SD = mean(final), mean(v.values(runArea)), metrics.Unknown
	v.Loss = mean(v.values(func(o Outcome) (float64, bool) { return float64(o.Loss), o.Status == Done }))
	if len(final) > 1 {
		v.SD = metrics.Number(stat.StdDev(final, nil))
	}
	for _, o := range v.Runs {
		for name := range o.Sources {
			if v.Sources == nil {
				v.Sources = map[string]*Measured{}
			}
			v.Sources[name] = &Measured{BPB: mean(v.values(sourceBPB(name))), Area: mean(v.values(sourceArea(name)))}
		}
	}
}

// differences to the baseline of the seeds that both finished.
func (v *VariantReport) differences(base *VariantReport, m measure) []float64 {
	var list []float64
	for _, o := range v.Runs {
		for _, b := range base.Runs {
			x, ok := m(o)
			y, also := m(b)
			if o.Seed == b.Seed && ok && also && !math.IsNaN(x-y) {
				list = append(list, x-y)
			}
		}
	}
	return list
}

func (v *VariantReport) compare(base *VariantReport) {
	key := prng.New(1).Split("bootstrap").Split(v.Name)
	difference := func(m measure) *Comparison {
		c := Compare(v.differences(base, m), key)
		return &c
	}
	v.Delta, v.DeltaArea = difference(finalBPB), difference(runArea)
	for name, s := range v.Sources {
		s.Delta, s.DeltaArea = difference(sourceBPB(name)), difference(sourceArea(name))
	}
}

// judge gives the verdicts: the paired t test of the final bits per byte at level Alpha after Holm's correction. The test
// uses each variant's own differences, not a pooled deviation, because variants near divergence are noisier than others.
func (r *Report) judge() {
	var groups, pairs [][]float64
	var tested []*VariantReport
	var ps []float64
	base := r.Variant(r.Baseline)
	for i := range r.Variants {
		v := &r.Variants[i]
		groups = append(groups, v.values(finalBPB))
		switch {
		case v == base:
			v.Verdict, v.Reason = IsBaseline, "the baseline"
			if v.Diverged > 0 {
				v.Reason = fmt.Sprintf("the baseline; %d of %d runs diverged", v.Diverged, len(v.Runs))
			}
		case v.Stopped > 0:
			v.Verdict, v.Reason = Stopped, fmt.Sprintf("stopped at %.3g%% of the run, not among the best there", 100*v.Stopped)
		case v.Diverged > 0 && v.Diverged == len(v.Runs):
			v.Verdict, v.Reason = Worse, fmt.Sprintf("all %d runs diverged", v.Diverged)
		case v.Diverged > 0:
			v.Verdict, v.Reason = Unstable, fmt.Sprintf("%d of %d runs diverged", v.Diverged, len(v.Runs))
		default:
			pairs = append(pairs, v.differences(base, finalBPB))
			v.Verdict = CannotTell
			if v.Delta.Pairs >= 2 {
				tested, ps = append(tested, v), append(ps, float64(v.Delta.P))
			}
		}
	}
	sd, df := pooledSD(groups)
	pairSD, _ := pooledSD(pairs)
	r.Noise = Noise{SeedSD: metrics.Number(sd), DF: df, PairSD: metrics.Number(pairSD), Detectable: metrics.Unknown}
	family := max(1, len(tested))
	r.Noise.Detectable = metrics.Number(detectable(pairSD, Alpha/float64(family), len(r.Seeds)))
	for i, p := range holm(ps) {
		v := tested[i]
		v.Delta.PHolm = metrics.Number(p)
		if p <= Alpha {
			v.Verdict = Better
			if v.Delta.Mean > 0 {
				v.Verdict = Worse
			}
			v.Reason = fmt.Sprintf("%s by %.4f bpb", v.Verdict, math.Abs(float64(v.Delta.Mean)))
		}
	}
	for i := range r.Variants {
		if v := &r.Variants[i]; v.Verdict == CannotTell {
			v.plan(pairSD, Alpha/float64(family))
		}
	}
}

// plan says how many more seeds a variant without a verdict needs. The deviation is the pooled one, as that of two or three
// differences is itself hardly known, and the level is that of Holm's first step. It is a guess all the same: the true
// difference is taken to be the one seen.
func (v *VariantReport) plan(sd, alpha float64) {
	diff := float64(v.Delta.Mean)
	switch needed := 0; {
	case v.Delta.Pairs == 0:
		v.Reason = "cannot tell: no seed has both runs"
	case math.IsNaN(sd):
		v.MoreSeeds, v.Reason = 1, "cannot tell from one seed: the noise between seeds is not known; needs at least 1 more"
	case diff == 0 && sd == 0:
		v.Reason = "cannot tell: the runs are equal to the last digit; the setting has no effect"
	default:
		if sd > 0 {
			needed = seedsFor(diff, sd, alpha, v.Delta.Pairs+MostSeeds)
		}
		if needed == 0 {
			v.Reason = fmt.Sprintf("cannot tell at this budget: needs more than %d more seeds", MostSeeds)
			return
		}
		v.MoreSeeds = max(1, needed-v.Delta.Pairs)
		v.Reason = fmt.Sprintf("cannot tell at this budget: needs about %d more seed%s", v.MoreSeeds, plural(v.MoreSeeds))
	}
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// warn notes what stands in the way of the conclusions.
func (r *Report) warn(h Halving) {
	add := func(format string, args ...any) { r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...)) }
	missing, failed, other := 0, 0, 0
	for _, v := range r.Variants {
		if failed += v.Failed; v.Stopped == 0 {
			missing += v.Missing
		}
		if v.Order == OtherData {
			other++
		}
	}
	if missing > 0 {
		add("%d runs are not finished: the report is of what is there", missing)
	}
	if failed > 0 {
		add("%d runs failed for good and are left out; their seeds are not paired", failed)
	}
	if base := r.Variant(r.Baseline); base.Diverged > 0 {
		add("the baseline diverged in %d of %d seeds, which leave no pair: choose another baseline", base.Diverged, len(base.Runs))
	}
	if len(r.Seeds) == 1 {
		add("one seed: no interval and no verdict can be given")
	}
	if h.On() {
		add("variants were stopped early by their rank in the middle of the run, which favours those that are fast at first; the verdicts are on those that went on")
	}
	if other > 0 {
		add("%d variants train on other tokens than the baseline (another tokenizer, sequence length or mixture): their seeds share the initial weights only, and pairing may gain nothing", other)
	}
}

// JSON is the report for machines, the content of report.json.
func (r *Report) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	return append(text, '\n'), err
}
