package configs

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"pretrain/data/pipeline"
	"pretrain/data/synth"
)

// preparations is the folder of the embedded configurations of data preparation.
const preparations = "data"

// PreparationNames lists the embedded configurations of data preparation.
func PreparationNames() []string {
	entries, _ := embedded.ReadDir(preparations) // an embedded folder can always be read
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// LoadPreparation reads the configuration of a data preparation: a file or, where there is none of that name, an embedded one.
// It is read as strictly as a run's; sets and paths are as in [Load]. The files that it names must exist. The error is an
// [*Error] unless the file could not be read.
func LoadPreparation(nameOrPath string, sets []string) (*pipeline.Config, error) {
	src, err := open(nameOrPath, source{})
	if errors.Is(err, errNoConfig) || err == nil && src.embedded {
		src, err = open(filepath.Join(preparations, nameOrPath), source{embedded: true})
	}
	c := pipeline.Default()
	return &c, loadOther(nameOrPath, src, err, "and the embedded ones are "+strings.Join(PreparationNames(), ", "), sets, &c)
}

// LoadSynthesis reads the configuration of the making of synthetic text from a file, as [LoadPreparation] does.
func LoadSynthesis(path string, sets []string) (*synth.Config, error) {
	src, err := open(path, source{})
	if err == nil && src.embedded {
		err = errNoConfig
	}
	c := synth.Default()
	return &c, loadOther(path, src, err, "and none is embedded", sets, &c)
}

// other is a configuration that is not a run's.
type other interface {
	Validate() error
	EachPath(f func(key string, path *string))
}

// loadOther reads src into c, which has the defaults. err is that of opening src.
func loadOther(name string, src source, err error, embedded string, sets []string, c other) error {
	d := newDecoder()
	if errors.Is(err, errNoConfig) {
		d.report(Origin{}, "", "got %q: no such file, %s", name, embedded)
		return d.err(name)
	} else if err != nil {
		return err
	}
	root := reflect.ValueOf(c).Elem()
	d.src = Origin{Kind: FromFile, Name: src.shown, dir: src.dir}
	if n := d.parse(src.text); n != nil {
		if _, ok := n.(ast.MapNode); !ok {
			d.broken = true
		}
		d.into("", n, root)
	}
	for i, set := range sets {
		d.src = Origin{Kind: FromSet, Name: set, Line: i + 1}
		d.override(set, root)
	}
	if d.broken {
		return d.err(name)
	}
	c.EachPath(func(key string, p *string) { err = errors.Join(err, d.absolutePath(key, p, key != "output")) })
	if err != nil {
		return err
	}
	d.decoded = len(d.list)
	d.section("", c.Validate())
	return d.err(name)
}
