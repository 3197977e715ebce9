package read

import (
	"regexp"
	"slices"
	"strings"

	"pretrain/data"
	"pretrain/internal/quickjson"
)

// maxDepth is how deep the values are that a record has in other fields, before encoding/json is asked.
const maxDepth = 16

var plainName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.]*$`)

// isQuick reports whether quick may be used for the names of a decoder's fields: encoding/json has its own ideas of two fields of
// one name, and of names with commas.
func isQuick(names []string) bool {
	for i, a := range names {
		if !plainName.MatchString(a) || slices.ContainsFunc(names[:i], func(b string) bool { return strings.EqualFold(a, b) }) {
			return false
		}
	}
	return true
}

// quick reads a record of text, as document does, at several times its speed. ok is false for anything but strings and numbers
// in the fields that are wanted, and for what is no JSON: document does these.
func (d *decoder) quick(line []byte) (doc data.Document, ok bool) {
	if !d.simple {
		return doc, false
	}
	b, ok := quickjson.Skip(line, '{')
	found, language := false, ""
	for ok {
		var key string
		if key, b, ok = quickjson.String(b); !ok {
			break
		}
		if b, ok = quickjson.Skip(b, ':'); !ok {
			break
		}
		switch i := d.index(key); i {
		case otherIndex:
			b, ok = quickjson.Value(b, maxDepth)
		case textIndex:
			found = true
			doc.Text, b, ok = quickjson.String(b)
		case idIndex:
			doc.ID, b, ok = quickScalar(b)
		case langIndex:
			doc.Language, b, ok = quickScalar(b)
		case languageIndex:
			language, b, ok = quickScalar(b)
		case licenseIndex:
			doc.License, b, ok = quickScalar(b)
		default:
			return doc, false
		}
		if !ok {
			break
		}
		if b = quickjson.Space(b); len(b) == 1 && b[0] == '}' {
			if doc.Language == "" {
				doc.Language = language
			}
			return doc, found
		}
		b, ok = quickjson.Skip(b, ',')
	}
	return doc, false
}

// index is which of a decoder's fields a key names; otherIndex: none, -1: one in other case, which encoding/json takes too.
func (d *decoder) index(key string) int {
	for i, name := range d.names {
		if key == name {
			return i
		}
	}
	for _, name := range d.names {
		if len(key) >= len(name) && strings.EqualFold(key, name) {
			return -1
		}
	}
	return otherIndex
}

func quickScalar(b []byte) (s string, rest []byte, ok bool) {
	if len(b) > 0 && b[0] == '"' {
		return quickjson.String(b)
	}
	number, rest, ok := quickjson.Number(b)
	return string(number), rest, ok
}
