package scaling

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"pretrain/model"
)

// Sourced is a law with what must be known to use it.
type Sourced struct {
	Name   string `json:"name"`
	Source string `json:"source"`
	// Unit of the loss: "nats per token" or another.
	Unit string `json:"unit"`
	// Counts says what N counts.
	Counts Convention `json:"n_counts"`
	Law
	// AlphaRange and BetaRange are 95% intervals of the exponents; zero where nobody gave them.
	AlphaRange [2]float64 `json:"alpha_ci"`
	BetaRange  [2]float64 `json:"beta_ci"`
	// CentreN and CentreD are the geometric means of the points that were fitted. There the law is known best: with another exponent
	// the curve still goes through it, A or B making up for the exponent.
	CentreN float64 `json:"centre_n,omitempty"`
	CentreD float64 `json:"centre_d,omitempty"`
}

// Convention is what N counts.
type Convention string

// The conventions, by the name that a command line gives them.
const (
	NonEmbedding Convention = "non-embedding" // without the embedding and output projection: MiniCPM's and Kaplan's
	Compute      Convention = "compute"       // with the output projection: what a token is multiplied by
	Total        Convention = "total"         // every stored parameter, a tied embedding once: Chinchilla's
)

// Conventions lists them.
var Conventions = []Convention{NonEmbedding, Compute, Total}

// Of counts a model's parameters.
func (c Convention) Of(m model.Config) int64 {
	switch n := m.Count(); c {
	case Compute:
		return n.Compute
	case Total:
		return n.Total
	default:
		return n.NonEmbedding
	}
}

// String says what is counted, in words.
func (c Convention) String() string {
	switch c {
	case Compute:
		return "parameters without the embedding, but with the output projection: what a token is multiplied by"
	case Total:
		return "all stored parameters, a tied embedding once (Chinchilla's convention)"
	default:
		return "parameters without the embedding and output projection (MiniCPM's and Kaplan's convention)"
	}
}

const nats = "nats per token"

// Published are laws from the literature, by the name that a command line gives them, N and D in single parameters and tokens.
// The first is the default: unlike the second it agrees with the best sizes that Chinchilla's points show by themselves (isoflop). Its
// intervals and centre are what this program finds on its 240 points (docs/science/scaling.md).
var Published = []Sourced{
	{
		Name: "epoch", Source: "Besiroglu et al. 2404.10102, a refit of Chinchilla's points", Unit: nats, Counts: Total,
		Law:        Law{1.8172, 482.01, 2085.43, 0.3478, 0.3658},
		AlphaRange: [2]float64{0.315, 0.372}, BetaRange: [2]float64{0.334, 0.414}, CentreN: 8.49e8, CentreD: 1.69e10,
	},
	{Name: "chinchilla", Source: "Hoffmann et al. 2203.15556, approach 3, as printed", Unit: nats, Counts: Total, Law: Law{1.69, 406.4, 410.7, 0.34, 0.28}},
	{Name: "minicpm", Source: "MiniCPM 2404.06395, Fig. 10, average", Unit: "nats per byte", Counts: NonEmbedding, Law: perGiga(0.31, 7.15e-2, 3.00e-1, 0.29, 0.23)},
}

// perGiga is a law whose A and B were given for N and D in units of 1e9.
func perGiga(e, a, b, alpha, beta float64) Law {
	return Law{e, a * math.Pow(1e9, alpha), b * math.Pow(1e9, beta), alpha, beta}
}

// ByName finds a published law.
func ByName(name string) (Sourced, error) {
	var names []string
	for _, s := range Published {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Sourced{}, fmt.Errorf("unknown law %q: want one of %s", name, strings.Join(names, ", "))
}

// ParseFit reads the JSON of a [Report] of the form chinchilla.
func ParseFit(text []byte) (Sourced, error) {
	var f struct {
		Form   Form                  `json:"form"`
		Source string                `json:"source"`
		Unit   string                `json:"loss_unit"`
		Counts string                `json:"n_counts"`
		CI     map[string][2]float64 `json:"ci"`
		Centre Point                 `json:"centre"`
		Law
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return Sourced{}, err
	}
	if f.Form != Additive || !(f.E >= 0 && f.A > 0 && f.B > 0 && f.Alpha > 0 && f.Beta > 0) {
		return Sourced{}, fmt.Errorf("it is no fit of the form %s with exponents above 0: make it by pretrain scaling fit --out FILE", Additive)
	}
	s := Sourced{Name: "fit", Source: f.Source, Unit: f.Unit, Counts: Total, Law: f.Law, AlphaRange: f.CI["alpha"], BetaRange: f.CI["beta"], CentreN: f.Centre.N, CentreD: f.Centre.D}
	for _, c := range Conventions {
		if f.Counts == c.String() {
			s.Counts = c
		}
	}
	return s, nil
}

// with is the law with other exponents, through the same point.
func (s Sourced) with(alpha, beta float64) Law {
	l := s.Law
	l.A *= math.Pow(s.CentreN, alpha-l.Alpha)
	l.B *= math.Pow(s.CentreD, beta-l.Beta)
	l.Alpha, l.Beta = alpha, beta
	return l
}
