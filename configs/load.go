package configs

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"pretrain/internal/problem"
)

//go:embed *.yaml ablations/*.yaml data/*.yaml
var embedded embed.FS

// Names lists the embedded configurations.
func Names() []string {
	entries, _ := embedded.ReadDir(".") // an embedded folder can always be read
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
		}
	}
	return names
}

// Load reads a configuration: a file or, where there is none of that name, an embedded one, with or without ".yaml". sets
// are "key=value" overrides, applied in order after the file and read as strictly. The files that the configuration names
// must exist. Relative paths are relative to the file they stand in, those of --set and of embedded configurations to
// the working directory; neither ~ nor environment variables are expanded. The error is an [*Error] unless the file
// could not be read.
func Load(nameOrPath string, sets []string) (*Resolved, error) {
	return resolve(Read(nameOrPath, sets))
}

// LoadWithoutFiles is [Load] for a caller that only plans: the data and tokenizer need not be on this machine.
func LoadWithoutFiles(nameOrPath string, sets []string) (*Resolved, error) {
	return resolve(readDraft(nil, nameOrPath, sets, false))
}

func resolve(d *Draft, err error) (*Resolved, error) {
	if err != nil {
		return nil, err
	}
	return d.Resolve(nil)
}

// Draft is a configuration that was read, but not yet laid out over its run: that may need a past, and so the run directory,
// whose name may need the configuration's.
type Draft struct {
	run  Run
	d    *decoder
	name string
}

// Read is the first half of [Load]; [Draft.Resolve] is the second.
func Read(nameOrPath string, sets []string) (*Draft, error) {
	return readDraft(nil, nameOrPath, sets, true)
}

// Text is a configuration that is at hand, such as the one in a checkpoint.
type Text struct {
	Name string // for messages
	YAML string
	Run  string // the name of a run that takes its values; "": its own
}

// ReadOver is [Read] for a configuration given by what differs from base: a patch of nameOrPath, "" for none, then sets. Where
// the patch itself extends a configuration, all that this one gives overrides base.
func ReadOver(base Text, nameOrPath string, sets []string) (*Draft, error) {
	return readDraft(&base, nameOrPath, sets, true)
}

// Resolve lays the configuration out over its run, after the past it has, if any. All problems there are come in one [*Error].
func (c *Draft) Resolve(past *Past) (*Resolved, error) {
	d := *c.d
	d.list = slices.Clone(c.d.list)
	r := &Resolved{Run: c.run, Past: past, name: c.name, decoder: &d}
	r.derive(&d)
	if err := d.err(c.name); err != nil {
		return nil, err
	}
	return r, nil
}

// RunName is the configuration's name for the run.
func (c *Draft) RunName() string { return c.run.Name }

// Mirror is where the run's checkpoints are mirrored, "" if nowhere.
func (c *Draft) Mirror() string { return c.run.Checkpoint.Mirror }

func readDraft(base *Text, nameOrPath string, sets []string, files bool) (*Draft, error) {
	d := newDecoder()
	c := &Draft{run: Default(), d: d, name: nameOrPath}
	if base != nil {
		d.text(*base, &c.run)
		c.name = cmp.Or(nameOrPath, base.Name)
	}
	if base == nil || nameOrPath != "" {
		if err := d.file(nameOrPath, source{}, nil, &c.run); err != nil {
			return nil, err
		}
	}
	for i, set := range sets {
		d.src = Origin{Kind: FromSet, Name: set, Line: i + 1}
		d.override(set, reflect.ValueOf(&c.run).Elem())
	}
	name := strings.TrimSuffix(filepath.Base(c.name), ".yaml")
	if base != nil {
		name = base.Run
	}
	return c, c.complete(name, files)
}

// complete fills in what was not given, the run's name too, and checks each section.
func (c *Draft) complete(name string, files bool) error {
	d := c.d
	if d.broken {
		return d.err(c.name)
	}
	c.run.Extends = ""
	if _, given := d.origins["name"]; !given {
		c.run.Name = name
		d.origins["name"] = Origin{Kind: FromFormula, Name: "the file's name"}
	}
	if err := d.absolute(&c.run, files); err != nil {
		return err
	}
	d.decoded = len(d.list)
	c.run.resolve(d)
	c.run.validate(func(section string, err error) { d.section(section, err) })
	return nil
}

// text decodes a configuration that is at hand.
func (d *decoder) text(t Text, run *Run) {
	d.src = Origin{Kind: FromFile, Name: t.Name}
	if root := d.parse(t.YAML); root != nil {
		d.into("", root, reflect.ValueOf(run).Elem())
	}
	if t.Run != "" {
		delete(d.origins, "name")
	}
}

// source is a file that holds a configuration: on disk, or embedded with dir "".
type source struct {
	name, shown string // full name to tell files apart, and the one to show
	dir         string
	text        string
	embedded    bool
}

// open finds a configuration by name, seen from the one that extends it.
func open(name string, from source) (source, error) {
	path := name
	if from.dir != "" && !filepath.IsAbs(path) {
		path = filepath.Join(from.dir, path)
	}
	info, err := os.Stat(path)
	folder := err == nil && info.IsDir() && !from.embedded
	if err == nil && !folder && !from.embedded {
		text, err := os.ReadFile(path)
		if err != nil {
			return source{}, fmt.Errorf("read config: %w", err)
		}
		full, err := filepath.Abs(path)
		if err != nil {
			return source{}, fmt.Errorf("find config %s: %w", path, err)
		}
		shown := name
		if from.dir != "" && !filepath.IsAbs(name) {
			shown = filepath.Join(filepath.Dir(from.shown), name)
		}
		return source{name: full, shown: shown, dir: filepath.Dir(full), text: strings.TrimPrefix(string(text), "\uFEFF")}, nil // editors on Windows write the mark
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !from.embedded {
		return source{}, fmt.Errorf("read config: %w", err)
	}
	short := strings.TrimSuffix(name, ".yaml")
	if text, err := embedded.ReadFile(short + ".yaml"); err == nil {
		return source{name: "embedded:" + short, shown: "embedded:" + short + ".yaml", text: string(text), embedded: true}, nil
	}
	if folder {
		return source{}, fmt.Errorf("a folder; %w", errNoConfig)
	}
	return source{}, errNoConfig
}

var errNoConfig = errors.New("no such file")

// file decodes the configuration called name over run, after the one it extends. chain has the files that led here.
func (d *decoder) file(name string, from source, chain []string, run *Run) error {
	at := d.src // the extends line, for problems of the name
	src, err := open(name, from)
	cycle := slices.Contains(chain, src.name)
	switch {
	case errors.Is(err, errNoConfig):
		message := fmt.Sprintf("%v, and the embedded configs are %s", err, strings.Join(Names(), ", "))
		if near := nearest(strings.TrimSuffix(name, ".yaml"), Names()); near != "" {
			message += fmt.Sprintf("; did you mean %q?", near)
		}
		key := "extends"
		if len(chain) == 0 {
			key, at = "", Origin{}
		}
		d.report(at, key, "got %q: %s", name, message)
		d.broken = true
		return nil
	case err != nil:
		return err
	case cycle:
		d.report(at, "extends", "a cycle: %s extends itself", src.shown)
		d.broken = true
		return nil
	}
	d.src = Origin{Kind: FromFile, Name: src.shown, dir: src.dir}
	root := d.parse(src.text)
	if _, ok := root.(ast.MapNode); root != nil && !ok {
		d.broken = true
	}
	return d.node(root, src, append(chain, src.name), run)
}

// node decodes a run's configuration, read from src, over run, after the one it extends.
func (d *decoder) node(root ast.Node, src source, chain []string, run *Run) error {
	if m, ok := root.(ast.MapNode); ok {
		for it := m.MapRange(); it.Next(); {
			if key, _, _ := scalar(it.Key()); key == "extends" {
				base, _, ok := scalar(it.Value())
				if d.broken = d.broken || !ok; ok {
					own := d.src
					d.src = d.at(it.Value())
					if err := d.file(base, src, chain, run); err != nil {
						return err
					}
					d.src = own
					run.Name = "" // a run takes another's values, not its name, which is its run directory's
					delete(d.origins, "name")
				}
				break
			}
		}
	}
	if root != nil {
		d.into("", root, reflect.ValueOf(run).Elem())
	}
	return nil
}

// section adds the problems a section's Validate found, each with the place where its value was given. Values that were
// given come first: they explain the computed ones.
func (d *decoder) section(section string, err error) {
	for _, given := range []bool{true, false} {
		eachProblem(err, func(p problem.Problem) {
			key := section
			if p.Key != "" {
				key = join(section, p.Key)
			}
			if d.given(key) == given {
				d.value(key, p.Value, p.Want)
			}
		})
	}
}

// given reports whether a file or a --set gives key a value.
func (d *decoder) given(key string) bool {
	kind := d.origins[key].Kind
	return kind == FromFile || kind == FromSet
}

// value adds a problem with the value of key: where it was given, or else where its section was. A key has one problem at
// most, and what was not given is no news beside the mistake that explains it.
func (d *decoder) value(key, value, want string) {
	at, given := d.origins[key], d.given(key)
	if d.has(key) || !given && d.explained(key, at.Kind == FromFormula) {
		return
	}
	if given && at.text != "" {
		value = at.text
	}
	for k := key; at.Kind != FromFile && at.Kind != FromSet && k != ""; at = d.origins[k] {
		k = k[:max(0, strings.LastIndexAny(k, ".["))]
	}
	message := fmt.Sprintf("got %s; want %s", value, want)
	switch {
	case value == "":
		message = "want " + want
	case value == "not given" || !given && (value == `""` || value == "0" || value == "0tok" || value == "none"):
		message = "not given; want " + want
	case !given:
		message = fmt.Sprintf("got %s by default; want %s", value, want)
	}
	d.report(at, key, "%s", message)
}

// explained reports whether a value that was not given may be so because of a mistyped key in its section, or, if it is
// computed, of any problem there.
func (d *decoder) explained(key string, computed bool) bool {
	list := d.list[:d.decoded]
	if computed {
		list = d.list
	}
	section := key[:max(0, strings.LastIndexByte(key, '.'))]
	return section != "" && slices.ContainsFunc(list, func(p Problem) bool { return within(p.Key, section) })
}
