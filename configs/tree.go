package configs

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// node is a configuration as text: what show prints, explain lists and a resume compares. A leaf has text and no kids.
type node struct {
	key, path string
	text      string // of a leaf, as YAML
	json      string // of a leaf
	section   bool   // a mapping
	list      bool   // of sections; lists of scalars are leaves
	items     int    // of a list of scalars
	kids      []*node
}

// tree turns a value into a node; nil for a value that is not given (a nil pointer, list or mapping, an empty length).
func tree(path, key string, v reflect.Value) *node {
	n := &node{path: path, key: key}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		return tree(path, key, v.Elem())
	}
	if t, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := t.MarshalText()
		if err != nil || len(text) == 0 {
			return nil
		}
		n.text, n.json = yamlString(string(text)), jsonString(string(text))
		return n
	}
	switch v.Kind() {
	case reflect.Struct:
		n.section = true
		for _, f := range orderedFields(v.Type()) {
			sf, fv := v.Type().FieldByIndex(f.index), v.FieldByIndex(f.index)
			if strings.Contains(sf.Tag.Get("yaml"), "omitempty") && fv.Kind() == reflect.String && fv.Len() == 0 {
				continue
			}
			n.add(tree(join(path, f.key), f.key, fv))
		}
	case reflect.Map:
		if v.IsNil() {
			return nil
		}
		n.section = true
		names := v.MapKeys()
		slices.SortFunc(names, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, name := range names {
			n.add(tree(join(path, name.String()), name.String(), v.MapIndex(name)))
		}
	case reflect.Slice, reflect.Array:
		if v.Kind() == reflect.Slice && v.IsNil() {
			return nil
		}
		for i := range v.Len() {
			n.add(tree(fmt.Sprintf("%s[%d]", path, i), "", v.Index(i)))
		}
		if n.list = len(n.kids) > 0 && n.kids[0].section; !n.list {
			n.text, n.json, n.items, n.kids = n.flow(), n.flowJSON(), len(n.kids), nil
		}
	case reflect.String:
		n.text, n.json = yamlString(v.String()), jsonString(v.String())
	case reflect.Float32, reflect.Float64:
		n.text = strconv.FormatFloat(v.Float(), 'g', -1, v.Type().Bits())
		n.json = n.text
	default:
		n.text = fmt.Sprint(v.Interface())
		if n.json = n.text; !json.Valid([]byte(n.json)) { // a number that has a word for one of its values
			n.json = jsonString(n.text)
		}
	}
	return n
}

func (n *node) add(kid *node) {
	if kid != nil {
		n.kids = append(n.kids, kid)
	}
}

// leaves calls f for every leaf in order.
func (n *node) leaves(f func(*node)) {
	if !n.section && !n.list {
		f(n)
	}
	for _, kid := range n.kids {
		kid.leaves(f)
	}
}

// write prints a section as block YAML; comment may add to the line of a leaf or a list.
func (n *node) write(b *bytes.Buffer, indent string, comment func(*node) string) {
	for _, kid := range n.kids {
		line := indent + yamlString(kid.key) + ":"
		block := kid.section && len(kid.kids) > 0
		if !block && !kid.list {
			line += " " + kid.flow()
		}
		if c := comment(kid); c != "" && !block {
			line = fmt.Sprintf("%-47s # %s", line, c)
		}
		b.WriteString(line + "\n")
		if block {
			kid.write(b, indent+"  ", comment)
		}
		for _, item := range kid.kids {
			if kid.list {
				b.WriteString(indent + "  - " + item.flow() + "\n")
			}
		}
	}
}

// flow is the node on one line.
func (n *node) flow() string {
	if n.text != "" {
		return n.text
	}
	parts := make([]string, len(n.kids))
	for i, kid := range n.kids {
		parts[i] = kid.flow()
		if n.section {
			parts[i] = yamlString(kid.key) + ": " + parts[i]
		}
	}
	if n.section {
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func (n *node) flowJSON() string {
	if n.json != "" {
		return n.json
	}
	parts := make([]string, len(n.kids))
	for i, kid := range n.kids {
		parts[i] = kid.flowJSON()
		if n.section {
			parts[i] = jsonString(kid.key) + ":" + parts[i]
		}
	}
	if n.section {
		return "{" + strings.Join(parts, ",") + "}"
	}
	return "[" + strings.Join(parts, ",") + "]"
}

var (
	plainText = regexp.MustCompile(`^[\pL0-9_/][\pL0-9_./%+:-]*( [\pL0-9_./%+-]+)*$`)
	reserved  = regexp.MustCompile(`(?i)^(null|true|false|yes|no|on|off|y|n|\.?inf|\.?nan|[0-9][0-9_.:xob]*(e[+-]?[0-9]+)?)$`)
)

// yamlString is s as a YAML scalar that stands in any context: plain where nobody could read it as something else.
func yamlString(s string) string {
	if plainText.MatchString(s) && !reserved.MatchString(s) && !strings.HasSuffix(s, ":") && !strings.Contains(s, ": ") && !strings.Contains(s, ":%") {
		return s
	}
	return jsonString(s) // a JSON string is a double-quoted YAML scalar
}

func jsonString(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return strconv.Quote(s) // not reached: strings always encode
	}
	return strings.TrimSuffix(b.String(), "\n")
}
