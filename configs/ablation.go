package configs

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"pretrain/train/ablate"
)

// Ablation is an ablation with every run's configuration resolved.
type Ablation struct {
	ablate.Config
	// Base is the run configuration that the variants start from, as --config takes it: a whole path or an embedded name.
	Base string
	// Variants in order.
	Variants []AblationVariant
}

// AblationVariant is a variant and what it comes to.
type AblationVariant struct {
	ablate.Variant
	// Sets are all its --set arguments but that of the seed.
	Sets []string
	// Resolved is its configuration under the first seed.
	Resolved *Resolved
}

// AblationOverrides are what the command line adds to an ablation.
type AblationOverrides struct {
	// Sets are "key=value" for all runs. What makes a variant comes after them.
	Sets []string
	// Seeds in place of the file's, as there: a count or a list. "" keeps them.
	Seeds string
	// Tokens of each run in place of the file's. "" keeps them.
	Tokens string
	// Files that the variants' configurations name must exist, as for training.
	Files bool
}

const ablations = "ablations"

// AblationNames lists the embedded ablations.
func AblationNames() []string {
	entries, _ := embedded.ReadDir(ablations) // an embedded folder can always be read
	var names []string
	for _, e := range entries {
		// Beside them lie the run that they vary and a plan of branches ([LoadTree]).
		if name := strings.TrimSuffix(e.Name(), ".yaml"); name != "base" && name != "wsd-branches" {
			names = append(names, name)
		}
	}
	return names
}

// LoadAblation reads an ablation: a file or, where there is none of that name, an embedded one. It is read as strictly as
// a run's configuration, and every variant's configuration must be one that loads. The error is an [*Error] unless a file could not be read.
func LoadAblation(nameOrPath string, o AblationOverrides) (*Ablation, error) {
	a := &Ablation{Config: ablate.Default()}
	d := newDecoder()
	src, err := open(nameOrPath, source{})
	if errors.Is(err, errNoConfig) || err == nil && src.embedded {
		src, err = open(filepath.Join(ablations, nameOrPath), source{embedded: true})
	}
	if errors.Is(err, errNoConfig) {
		d.report(Origin{}, "", "got %q: no such file, and the embedded ablations are %s", nameOrPath, strings.Join(AblationNames(), ", "))
		return nil, d.err(nameOrPath)
	} else if err != nil {
		return nil, err
	}
	d.src = Origin{Kind: FromFile, Name: src.shown, dir: src.dir}
	root := reflect.ValueOf(&a.Config).Elem()
	if n := d.parse(src.text); n != nil {
		if _, ok := n.(ast.MapNode); !ok {
			d.broken = true
		}
		d.into("", n, root)
	}
	for i, override := range []string{"seeds=" + o.Seeds, "tokens=" + o.Tokens} {
		if !strings.HasSuffix(override, "=") {
			d.src = Origin{Kind: FromSet, Name: override, Line: i + 1}
			d.override(override, root)
		}
	}
	if d.broken || len(d.list) > 0 {
		return nil, d.err(nameOrPath)
	}
	if a.Name == "" {
		a.Name = strings.TrimSuffix(filepath.Base(nameOrPath), ".yaml")
	}
	if d.section("", a.Validate()); len(d.list) > 0 {
		return nil, d.err(nameOrPath)
	}
	base, err := open(a.Config.Base, src)
	if errors.Is(err, errNoConfig) {
		d.report(d.origins["base"], "base", "got %q: no such file, and the embedded configs are %s", a.Config.Base, strings.Join(Names(), ", "))
		return nil, d.err(nameOrPath)
	} else if err != nil {
		return nil, err
	}
	a.Base = base.name
	if base.embedded {
		a.Base = strings.TrimPrefix(base.name, "embedded:")
	}
	return a, a.resolve(d, nameOrPath, o)
}

// resolve loads every variant's configuration. A problem of a value that the ablation sets is reported where it stands.
func (a *Ablation) resolve(d *decoder, name string, o AblationOverrides) error {
	for _, v := range a.Expand() {
		av := AblationVariant{Variant: v}
		var origins []Origin
		add := func(set string, at Origin) { av.Sets, origins = append(av.Sets, set), append(origins, at) }
		for _, key := range slices.Sorted(maps.Keys(a.Set)) {
			add(key+"="+string(a.Set[key]), d.origins["set."+key])
		}
		if a.Tokens > 0 {
			add("train.tokens="+a.Tokens.String(), d.origins["tokens"])
		}
		for i, set := range o.Sets {
			add(set, Origin{Kind: FromSet, Name: set, Line: i + 1})
		}
		for _, s := range v.Settings {
			at := d.origins[s.Path]
			if at.Kind == FromDefault { // a sampled value stands nowhere; its range does
				at = d.origins[s.Path+".low"]
			}
			add(s.Key+"="+string(s.Value), at)
		}
		r, err := resolve(readDraft(nil, a.Base, append(slices.Clone(av.Sets), fmt.Sprintf("seed=%d", a.Seeds[0])), o.Files))
		var bad *Error
		if errors.As(err, &bad) {
			for _, p := range bad.Problems {
				d.variantProblem(v.Name, p, origins)
			}
			continue
		} else if err != nil {
			return err
		}
		av.Resolved = r
		a.Variants = append(a.Variants, av)
	}
	return d.err(name)
}

// variantProblem files a problem of a variant's configuration under the ablation's own line, where that gave the value.
// One that all variants share is reported once.
func (d *decoder) variantProblem(variant string, p Problem, origins []Origin) {
	if at := p.Origin; at.Kind == FromSet && at.Line >= 1 && at.Line <= len(origins) && origins[at.Line-1].Kind == FromFile {
		n := len(d.list)
		d.report(origins[at.Line-1], p.Key, "%s", p.Message)
		p, d.list = d.list[n], d.list[:n]
	} else if at.Kind != FromFile && at.Kind != FromSet {
		p.Message = fmt.Sprintf("variant %s: %s", variant, p.Message)
	}
	if !slices.Contains(d.list, p) {
		d.add(p)
	}
}

// Configuration of a variant under a seed, as its run directory keeps it.
func (v AblationVariant) Configuration(seed uint64) string {
	r := *v.Resolved
	r.Run.Seed = seed
	return string(r.YAML(false))
}

// Order is what a variant shares of the data with the baseline.
func (v AblationVariant) Order(baseline AblationVariant) ablate.Order {
	var keys []string
	for _, d := range Compare(baseline.Resolved, v.Resolved, 0) {
		keys = append(keys, d.Key)
	}
	return ablate.OrderOf(keys)
}

// BaselineVariant is the variant that the others are compared with.
func (a *Ablation) BaselineVariant() AblationVariant {
	i := slices.IndexFunc(a.Variants, func(v AblationVariant) bool { return v.Name == a.Baseline })
	return a.Variants[max(0, i)]
}
