package record

import (
	"bytes"
	"encoding/json"
	"strconv"

	"pretrain/data"
	"pretrain/internal/quickjson"
)

// parse reads a line. What Writer wrote of a text is read by hand, at several times the speed of encoding/json, which reads all
// else: conversations, and lines that somebody made by other means.
func parse(text []byte) (data.Document, error) {
	if d, ok := quick(text); ok {
		return d, nil
	}
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return data.Document{}, err
	}
	return data.Document{
		ID: l.ID, Text: l.Text, Messages: l.Messages, Source: l.Source, Path: l.Path, Line: l.Line,
		Attributes: data.Attributes{Language: l.Language, License: l.License, Tags: l.Attributes},
	}, nil
}

// quick reads the keys in the order in which Writer writes them. ok is false for anything unexpected.
func quick(b []byte) (d data.Document, ok bool) {
	s := scanner{b: b, ok: true}
	s.key(`{"id":`, &d.ID)
	s.key(`,"text":`, &d.Text)
	s.key(`,"source":`, &d.Source)
	s.key(`,"path":`, &d.Path)
	if s.skip(`,"line":`) {
		n := 0
		for n < len(s.b) && '0' <= s.b[n] && s.b[n] <= '9' {
			n++
		}
		var err error
		d.Line, err = strconv.ParseInt(string(s.b[:n]), 10, 64)
		s.ok, s.b = s.ok && err == nil, s.b[n:]
	}
	s.optional(`,"lang":`, &d.Language)
	s.optional(`,"license":`, &d.License)
	if s.skip(`,"attributes":`) {
		tags, found := bytes.CutSuffix(s.b, []byte("}\n"))
		return d, s.ok && found && d.Tags.UnmarshalJSON(tags) == nil
	}
	return d, s.ok && string(s.b) == "}\n"
}

// scanner takes a line apart from its beginning.
type scanner struct {
	b  []byte
	ok bool // so far
}

func (s *scanner) skip(prefix string) bool {
	rest, found := bytes.CutPrefix(s.b, []byte(prefix))
	if found {
		s.b = rest
	}
	return found
}

func (s *scanner) key(name string, to *string) {
	s.ok = s.ok && s.skip(name)
	s.string(to)
}

func (s *scanner) optional(name string, to *string) {
	if s.skip(name) {
		s.string(to)
	}
}

func (s *scanner) string(to *string) {
	if s.ok {
		*to, s.b, s.ok = quickjson.String(s.b)
	}
}
