package configs

import (
	"reflect"
	"slices"
	"strings"
)

// field is a key of a section: its place in the struct and in the order of the file.
type field struct {
	key   string
	index []int
}

// orderedFields are the keys of a struct in the order of its declaration, those of inlined structs where they stand. A
// field without a yaml tag, or with "-", is none.
func orderedFields(t reflect.Type) []field {
	var fields []field
	for _, f := range reflect.VisibleFields(t) {
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if key == "" || key == "-" || options == "inline" || !f.IsExported() {
			continue
		}
		fields = append(fields, field{key, f.Index})
	}
	slices.SortStableFunc(fields, func(a, b field) int { return slices.Compare(a.index, b.index) })
	return fields
}

func fieldsOf(t reflect.Type) map[string]field {
	fields := map[string]field{}
	if t.Kind() == reflect.Struct {
		for _, f := range orderedFields(t) {
			fields[f.key] = f
		}
	}
	return fields
}

func keysOf(fields map[string]field) []string {
	list := make([]field, 0, len(fields))
	for _, f := range fields {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b field) int { return slices.Compare(a.index, b.index) })
	keys := make([]string, len(list))
	for i, f := range list {
		keys[i] = f.key
	}
	return keys
}

// Keys lists every key of a configuration in order; [] stands for a list's index and * for a name of the user's.
func Keys() []string {
	var keys []string
	var walk func(path string, t reflect.Type)
	walk = func(path string, t reflect.Type) {
		switch {
		case t.Kind() == reflect.Pointer:
			walk(path, t.Elem())
		case t.Kind() == reflect.Struct && len(orderedFields(t)) > 0:
			for _, f := range orderedFields(t) {
				walk(join(path, f.key), t.FieldByIndex(f.index).Type)
			}
		case t.Kind() == reflect.Map:
			walk(path+".*", t.Elem())
		case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct && len(orderedFields(t.Elem())) > 0:
			walk(path+"[]", t.Elem())
		default:
			keys = append(keys, path)
		}
	}
	walk("", reflect.TypeFor[Run]())
	return keys
}

// suggest is the mend for an unknown key: the nearest key of its section, else a key of that name in another section,
// else the keys there are.
func suggest(name, section string, fields map[string]field) string {
	keys := keysOf(fields)
	if near := nearest(name, keys); near != "" {
		return `did you mean "` + near + `"?`
	}
	for _, key := range Keys() {
		if parts := strings.Split(key, "."); slices.Contains(parts[1:], name) && !strings.ContainsAny(key, "[*") {
			i := slices.Index(parts[1:], name) + 1
			return `did you mean "` + strings.Join(parts[:i+1], ".") + `"?`
		}
	}
	where := "the keys here are "
	if section != "" {
		where = "the keys of " + section + " are "
	}
	return where + strings.Join(keys, ", ")
}

// nearest is the candidate with the fewest edits from name, "" if none is near: more than a third of the letters, and
// more than two, makes it another word.
func nearest(name string, candidates []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, c := range candidates {
		if d := edits(strings.ToLower(name), c); d < least && d < max(len(c), len(name)) {
			best, least = c, d
		}
	}
	return best
}

// edits is the Damerau–Levenshtein distance (optimal string alignment): insert, delete, replace, swap neighbours.
func edits(a, b string) int {
	s, t := []rune(a), []rune(b)
	rows := make([][]int, len(s)+1)
	for i := range rows {
		rows[i] = make([]int, len(t)+1)
		rows[i][0] = i
	}
	for j := range t {
		rows[0][j+1] = j + 1
	}
	for i := range s {
		for j := range t {
			cost := 1
			if s[i] == t[j] {
				cost = 0
			}
			rows[i+1][j+1] = min(rows[i][j+1]+1, rows[i+1][j]+1, rows[i][j]+cost)
			if i > 0 && j > 0 && s[i] == t[j-1] && s[i-1] == t[j] {
				rows[i+1][j+1] = min(rows[i+1][j+1], rows[i-1][j-1]+1)
			}
		}
	}
	return rows[len(s)][len(t)]
}
