package configs

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Kinds of Origin.
const (
	FromDefault OriginKind = iota // not given
	FromFile                      // a line of a file
	FromSet                       // a --set
	FromPreset                    // model.preset
	FromFormula                   // computed from other values
)

// OriginKind says what sort of place a value came from.
type OriginKind int

// Origin is where a value came from.
type Origin struct {
	Kind OriginKind
	// Name is the file, the whole --set argument ("batch.tokens=4096tok"), the preset, or the formula.
	Name string
	// Line and Column of a file count from 1. Line is the number of a --set.
	Line, Column int

	dir  string // where relative paths start
	text string // of a scalar, as it was given
}

// String names the origin for people: "2b.yaml:12", "--set seed=1", "preset 9m", "= d_model / head_dim", "default".
func (o Origin) String() string {
	switch o.Kind {
	case FromFile:
		return fmt.Sprintf("%s:%d", o.Name, o.Line)
	case FromSet:
		return "--set " + o.Name
	case FromPreset:
		return "preset " + o.Name
	case FromFormula:
		return "= " + o.Name
	}
	return "default"
}

// place is the origin at the head of a problem: with the column, and nothing for what is in no file.
func (o Origin) place() string {
	switch {
	case o.Kind == FromFile && o.Line > 0:
		return fmt.Sprintf("%s:%d:%d", o.Name, o.Line, o.Column)
	case o.Kind == FromFile:
		return o.Name
	case o.Kind == FromSet:
		return o.String()
	}
	return ""
}

// decoder copies YAML into Go values. Where goccy's own decoder stops at the first problem this one goes on and collects
// all; it also notes where each value came from. Structs take exactly the keys of their yaml tags, maps are merged key
// by key (null removes one), lists are replaced, and only units and strings are free text: "12" is no number.
type decoder struct {
	problems
	origins map[string]Origin
	src     Origin              // the file or --set being read
	lines   map[string][]string // of each file read, by Origin.Name
	decoded int                 // the number of problems decoding found; those of Validate follow
	broken  bool                // a file could not be read as a config: what is missing is no news
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

// flow is a type that takes any YAML, as text on one line: what is for another configuration to understand.
type flow interface{ UnmarshalFlow(text string) error }

var flowType = reflect.TypeFor[flow]()

// parse reads one YAML document; a nil node is an empty one. Anchors, aliases, tags and merge keys are refused where
// they stand, by into: a config says each thing once, and extends is the way to share.
func (d *decoder) parse(text string) ast.Node {
	if d.src.Kind == FromFile {
		d.lines[d.src.Name] = strings.Split(text, "\n")
	}
	file, err := parser.ParseBytes([]byte(text), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		at, message := d.src, err.Error()
		if syntax, ok := errors.AsType[yaml.Error](err); ok {
			message = syntax.GetMessage()
			if tk := syntax.GetToken(); tk != nil {
				at.Line, at.Column = tk.Position.Line, tk.Position.Column
			}
		}
		d.report(at, "", "not valid YAML: %s", message)
		d.broken = d.src.Kind == FromFile
		return nil
	}
	docs := slices.DeleteFunc(file.Docs, func(doc *ast.DocumentNode) bool { return doc.Body == nil })
	if len(docs) == 0 {
		return nil
	}
	if len(docs) > 1 {
		d.bad(docs[1].Body, "", "a second YAML document; want one")
		d.broken = true
	}
	return docs[0].Body
}

// at is the place of a node: of its first key for a mapping, whose own token is a colon or a brace.
func (d *decoder) at(n ast.Node) Origin {
	o := d.src
	if m, ok := n.(ast.MapNode); ok {
		if it := m.MapRange(); it.Next() {
			n = it.Key()
		}
	}
	if tk := n.GetToken(); tk != nil && o.Kind == FromFile {
		o.Line, o.Column = tk.Position.Line, tk.Position.Column
	}
	return o
}

func newDecoder() *decoder {
	return &decoder{origins: map[string]Origin{}, lines: map[string][]string{}}
}

// report adds a problem with its line of the file.
func (d *decoder) report(at Origin, key, format string, args ...any) {
	line := ""
	if lines := d.lines[at.Name]; at.Kind == FromFile && at.Line >= 1 && at.Line <= len(lines) {
		line = strings.TrimRight(lines[at.Line-1], "\r")
	}
	d.add(Problem{Origin: at, Key: key, Message: fmt.Sprintf(format, args...), Source: line})
}

func (d *decoder) bad(n ast.Node, key, format string, args ...any) {
	d.report(d.at(n), key, format, args...)
}

// into copies node n into v, which is addressable. key is the path so far.
func (d *decoder) into(key string, n ast.Node, v reflect.Value) {
	switch n := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		d.bad(n, key, "anchors, aliases, tags and merge keys are not supported; write the value out, or share it by extends")
		return
	}
	if f, ok := v.Addr().Interface().(flow); ok {
		if err := f.UnmarshalFlow(flowText(n)); err != nil {
			d.bad(n, key, "%v", err)
			return
		}
		d.origins[key] = d.at(n)
		return
	}
	if _, ok := n.(*ast.NullNode); ok {
		section := v.Kind() == reflect.Struct && !v.Addr().Type().Implements(textType)
		if !section || d.src.Kind == FromSet { // a section all commented out is no mistake
			d.bad(n, key, "got no value; want %s, or leave the key out for its default", want(v.Type()))
		}
		return
	}
	if text, plain, ok := scalar(n); ok {
		if err := setScalar(v, text, plain); err != nil {
			d.bad(n, key, "%v", err)
			return
		}
		at := d.at(n)
		at.text = text
		d.origins[key] = at
		return
	}
	if v.Kind() == reflect.Pointer {
		elem := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			elem.Elem().Set(v.Elem())
		}
		d.into(key, n, elem.Elem())
		v.Set(elem)
		return
	}
	if m, ok := n.(ast.MapNode); ok {
		switch v.Kind() {
		case reflect.Struct:
			if len(fieldsOf(v.Type())) > 0 {
				d.mapping(key, m, v)
				return
			}
		case reflect.Map:
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			d.mapping(key, m, v)
			return
		}
		d.bad(n, key, "got a mapping of keys; want %s", want(v.Type()))
		return
	}
	list, ok := n.(*ast.SequenceNode)
	if !ok || v.Kind() != reflect.Slice && v.Kind() != reflect.Array {
		d.bad(n, key, "got a list; want %s", want(v.Type()))
		return
	}
	if v.Kind() == reflect.Array && len(list.Values) != v.Len() {
		d.bad(n, key, "got a list of %d; want %s", len(list.Values), want(v.Type()))
		return
	}
	maps.DeleteFunc(d.origins, func(k string, _ Origin) bool { return within(k, key) })
	d.origins[key] = d.at(n)
	if v.Kind() == reflect.Slice {
		v.Set(reflect.MakeSlice(v.Type(), len(list.Values), len(list.Values)))
	}
	for i, item := range list.Values {
		d.into(fmt.Sprintf("%s[%d]", key, i), item, v.Index(i))
	}
}

// mapping copies a mapping into a struct or a map.
func (d *decoder) mapping(key string, m ast.MapNode, v reflect.Value) {
	first := map[string]int{}
	for it := m.MapRange(); it.Next(); {
		k := it.Key()
		name, _, ok := scalar(k)
		if !ok {
			d.bad(k, key, "got a key of another sort than text; merge keys and complex keys are not supported")
			continue
		}
		path := join(key, name)
		if line := first[name]; line > 0 {
			d.bad(k, path, "given twice; the first is in line %d", line)
			continue
		}
		first[name] = k.GetToken().Position.Line
		d.child(path, name, k, v, func(elem reflect.Value) {
			if d.into(path, it.Value(), elem); elem.Kind() == reflect.Struct {
				d.origins[path] = d.at(k)
			}
		}, it.Value().Type() == ast.NullType)
	}
}

// child hands set the field or the map entry called name, or reports that there is none.
func (d *decoder) child(path, name string, at ast.Node, v reflect.Value, set func(reflect.Value), remove bool) {
	if v.Kind() == reflect.Map {
		k := reflect.ValueOf(name).Convert(v.Type().Key())
		if remove && !reflect.PointerTo(v.Type().Elem()).Implements(flowType) {
			v.SetMapIndex(k, reflect.Value{})
			maps.DeleteFunc(d.origins, func(k string, _ Origin) bool { return within(k, path) })
			return
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		if old := v.MapIndex(k); old.IsValid() {
			elem.Set(old)
		}
		set(elem)
		v.SetMapIndex(k, elem)
		return
	}
	fields := fieldsOf(v.Type())
	if f, ok := fields[name]; ok {
		set(v.FieldByIndex(f.index))
		return
	}
	d.bad(at, path, "unknown key; %s", suggest(name, strings.TrimSuffix(path[:len(path)-len(name)], "."), fields))
}

// override applies one --set, "a.b[0].c=value".
func (d *decoder) override(arg string, root reflect.Value) {
	key, text, ok := strings.Cut(arg, "=")
	if !ok || key == "" {
		d.report(d.src, "", `want key=value, such as --set schedule.peak_lr=0.01`)
		return
	}
	d.descend("", strings.FieldsFunc(strings.ReplaceAll(key, "[", ".["), func(r rune) bool { return r == '.' }), text, root)
}

func (d *decoder) descend(path string, rest []string, text string, v reflect.Value) {
	if len(rest) == 0 {
		d.overrideValue(path, text, v)
		return
	}
	name := rest[0]
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.Struct && len(fieldsOf(v.Type())) > 0 || v.Kind() == reflect.Map:
		if v.Kind() == reflect.Map && v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		path = join(path, name)
		at := ast.String(token.New(name, name, &token.Position{}))
		d.child(path, name, at, v, func(elem reflect.Value) { d.descend(path, rest[1:], text, elem) }, len(rest) == 1 && text == "null")
	case v.Kind() == reflect.Slice || v.Kind() == reflect.Array:
		i, err := strconv.Atoi(strings.Trim(name, "[]"))
		if err != nil || i < 0 || i >= v.Len() {
			d.report(d.src, path, "got the index %q; want 0 to %d of this list, or set the whole list", strings.Trim(name, "[]"), v.Len()-1)
			return
		}
		d.descend(fmt.Sprintf("%s[%d]", path, i), rest[1:], text, v.Index(i))
	default:
		d.report(d.src, path, "has no key %q below it; want %s", name, want(v.Type()))
	}
}

// overrideValue sets v to the value of a --set. Free text is taken as it stands, so that a path needs no YAML quotes.
func (d *decoder) overrideValue(path, text string, v reflect.Value) {
	if v.Kind() == reflect.String && !strings.HasPrefix(text, `"`) && !strings.HasPrefix(text, "'") {
		v.SetString(text)
		d.origins[path] = d.src
		return
	}
	before := len(d.list)
	n := d.parse(text)
	switch {
	case n != nil:
		d.into(path, n, v)
	case len(d.list) == before:
		d.report(d.src, path, "got no value; want %s", want(v.Type()))
	}
	for i := range d.list[before:] {
		if d.list[before+i].Key == "" {
			d.list[before+i].Key = path
		}
	}
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

// scalar is a node's text, and whether it stands without quotes.
func scalar(n ast.Node) (text string, plain, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		quoted := n.Token.Type == token.SingleQuoteType || n.Token.Type == token.DoubleQuoteType
		return n.Value, !quoted, true
	case *ast.LiteralNode:
		return n.Value.Value, false, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true, true
	}
	return "", false, false
}

// flowText is a node on one line, such that it reads back as the same.
func flowText(n ast.Node) string {
	if text, plain, ok := scalar(n); ok {
		if plain {
			return text
		}
		return jsonString(text) // which is a double-quoted YAML scalar
	}
	var parts []string
	switch n := n.(type) {
	case *ast.SequenceNode:
		for _, item := range n.Values {
			parts = append(parts, flowText(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case ast.MapNode:
		for it := n.MapRange(); it.Next(); {
			parts = append(parts, flowText(it.Key())+": "+flowText(it.Value()))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return "null"
}

// setScalar sets v from the text of a scalar. Numbers are read here and not by goccy, to which 1e-3 is a string.
func setScalar(v reflect.Value, text string, plain bool) error {
	if t, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return t.UnmarshalText([]byte(text))
	}
	wrong := fmt.Errorf("got %q; want %s", shortened(text), want(v.Type()))
	if !plain && v.Kind() != reflect.String {
		return wrong
	}
	number := strings.ReplaceAll(text, "_", "")
	switch v.Kind() {
	case reflect.Pointer:
		elem := reflect.New(v.Type().Elem())
		if err := setScalar(elem.Elem(), text, plain); err != nil {
			return err
		}
		v.Set(elem)
	case reflect.String:
		if plain && (text == "true" || text == "false") {
			return wrong
		}
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return wrong
		}
		v.SetBool(text == "true")
	case reflect.Int, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(number, 10, v.Type().Bits())
		if err != nil {
			return wrong
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(number, 10, v.Type().Bits())
		if err != nil {
			return wrong
		}
		v.SetUint(u)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(number, v.Type().Bits())
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) || strings.ContainsAny(number, "xXpP") {
			return wrong
		}
		v.SetFloat(f)
	default:
		return wrong
	}
	return nil
}

// want says in words what a value of a type looks like.
func want(t reflect.Type) string {
	if reflect.PointerTo(t).Implements(textType) {
		err := reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte("?")) // its error says best
		if err != nil {
			if _, words, ok := strings.Cut(err.Error(), "; want "); ok {
				return words
			}
		}
		return "a value"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return want(t.Elem())
	case reflect.Struct, reflect.Map:
		if fields := fieldsOf(t); t.Kind() == reflect.Struct && len(fields) > 0 {
			return "a section with keys among " + strings.Join(keysOf(fields), ", ")
		}
		return "a mapping of names to values"
	case reflect.Array:
		return fmt.Sprintf("a list of %d, each %s", t.Len(), want(t.Elem()))
	case reflect.Slice:
		return "a list, such as [a, b]"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.String:
		return "text"
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		return "a whole number, 0 or more"
	}
	return "a whole number"
}
