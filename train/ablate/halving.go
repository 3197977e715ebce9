package ablate

import (
	"cmp"
	"math"
	"slices"

	"pretrain/internal/problem"
	"pretrain/train/metrics"
)

// Halving stops bad variants early (successive halving, Jamieson and Talwalkar, 1502.07943). All runs of a rung are trained to a
// share of their length, under the schedule of the whole run; then the best 1/Eta of the variants, by the mean over seeds
// of the validation there, go on exactly from where they stand, and the others stay stopped. The baseline always goes on.
//
// It is for searches over many variants. Stopped variants get no verdict, since the middle of a run says little about its
// end: a smaller learning rate, or a schedule that decays early, is ahead there.
type Halving struct {
	// Eta is how many variants compete for a place at each rung. Default 0: no early stopping; else 2 or more.
	Eta int `yaml:"eta"`
	// Rungs is how often variants are stopped: at the shares 1/Eta^Rungs … 1/Eta of the run.
	Rungs int `yaml:"rungs"`
}

func (h Halving) check(p *problem.List) {
	p.Check(h.Eta == 0 || h.Eta >= 2 && h.Eta <= 16, "halving.eta", h.Eta, "0 (no early stopping) or 2 to 16")
	p.Check((h.Rungs > 0) == (h.Eta > 0) && h.Rungs >= 0 && h.Rungs <= 8, "halving.rungs", h.Rungs, "1 to 8 with eta, 0 without")
}

// On reports whether variants are stopped early at all.
func (h Halving) On() bool { return h.Eta > 0 }

// Race is how far a successive halving is.
type Race struct {
	// Until is the share of their steps that the runs of the variants not dropped must reach next; 1 is the end.
	Until float64
	// Dropped has the share of the run at which each stopped variant was stopped, by name.
	Dropped map[string]float64
}

// Judge drops variants as far as the outcomes allow: a rung is judged when all its runs have their validation there, or
// will never have it. Without early stopping all variants go to the end.
func (h Halving) Judge(variants []Variant, baseline string, outcomes []Outcome) Race {
	race := Race{Until: 1, Dropped: map[string]float64{}}
	alive := Names(variants)
	for rung := range h.Rungs {
		share := math.Pow(float64(h.Eta), float64(rung-h.Rungs))
		scores := map[string]float64{}
		for _, name := range alive {
			sum, n := 0.0, 0.0
			for _, o := range outcomes {
				if o.Variant != name {
					continue
				}
				p, ok := o.Reached(share)
				if !ok && o.Status != Failed && o.Status != Diverged {
					race.Until = share
					return race
				}
				bpb := math.Inf(1) // what failed or is not finite comes last
				if ok && known(p.BPB) {
					bpb = float64(p.BPB)
				}
				sum, n = sum+bpb, n+1
			}
			scores[name] = sum / n
		}
		ranked := slices.Clone(alive)
		slices.SortStableFunc(ranked, func(a, b string) int { return cmp.Compare(scores[a], scores[b]) })
		keep := (len(alive) + h.Eta - 1) / h.Eta
		for _, name := range ranked[keep:] {
			if name != baseline {
				race.Dropped[name] = share
			}
		}
		alive = slices.DeleteFunc(alive, func(name string) bool { return race.Dropped[name] > 0 })
	}
	return race
}

// Reached is the first validation at or after a share of the run's steps.
func (o *Outcome) Reached(share float64) (Point, bool) {
	for _, p := range o.Curve {
		if float64(p.Step) >= share*float64(o.Steps) {
			return p, true
		}
	}
	return Point{BPB: metrics.Unknown}, false
}
