package configs

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"pretrain/data/pipeline"
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
	d := newDecoder()
	src, err := open(nameOrPath, source{})
	if errors.Is(err, errNoConfig) || err == nil && src.embedded {
		src, err = open(filepath.Join(preparations, nameOrPath), source{embedded: true})
	}
	if errors.Is(err, errNoConfig) {
		d.report(Origin{}, "", "got %q: no such file, and the embedded ones are %s", nameOrPath, strings.Join(PreparationNames(), ", "))
		return nil, d.err(nameOrPath)
	} else if err != nil {
		return nil, err
	}
	c := pipeline.Default()
	root := reflect.ValueOf(&c).Elem()
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
		return nil, d.err(nameOrPath)
	}
	c.EachPath(func(key string, p *string) { err = errors.Join(err, d.absolutePath(key, p, key != "output")) })
	if err != nil {
		return nil, err
	}
	d.decoded = len(d.list)
	d.section("", c.Validate())
	if err := d.err(nameOrPath); err != nil {
		return nil, err
	}
	return &c, nil
}
