package label

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"pretrain/data"
	"pretrain/data/read"
)

// Example is a labelled text.
type Example struct {
	Text, Label string
	// Attributes are what steps of a preparation found out about it; none where the record does not come from one.
	Attributes data.Attributes
}

// Fields are the keys of a labelled record. Start from [DefaultFields].
type Fields struct{ Text, Label string }

// DefaultFields are text and label.
func DefaultFields() Fields { return Fields{"text", "label"} }

// maxRecord bounds one labelled record.
const maxRecord = 100 << 20

// ReadExamples reads labelled examples from files, or folders of .jsonl files (also .gz and .zst): one JSON object a line, whose label is a
// text, a number or true or false. A record without a label is an error, which names file and line; with skip it is
// left out.
func ReadExamples(ctx context.Context, paths []string, fields Fields, skip bool) iter.Seq2[Example, error] {
	return func(yield func(Example, error) bool) {
		for _, path := range paths {
			files, err := read.ListFiles(ctx, path, "*.jsonl*")
			if err != nil {
				yield(Example{}, err)
				return
			}
			for _, file := range files {
				for line, err := range read.Lines(ctx, file, maxRecord) {
					var e Example
					if err == nil {
						e, err = fields.example(line)
					}
					if err == nil && e.Label == "" {
						if skip {
							continue
						}
						err = line.Bad("no label in %q", fields.Label)
					}
					if !yield(e, err) || err != nil {
						return
					}
				}
			}
		}
	}
}

func (f Fields) example(line read.Record) (e Example, err error) {
	var record map[string]json.RawMessage
	if err := json.Unmarshal(line.JSON, &record); err != nil {
		return e, line.Bad("not a JSON object: %v", err)
	}
	if err := json.Unmarshal(record[f.Text], &e.Text); err != nil {
		return e, line.Bad("no text in %q", f.Text)
	}
	if raw, ok := record["attributes"]; ok {
		if err := json.Unmarshal(raw, &e.Attributes.Tags); err != nil {
			return e, line.Bad("\"attributes\": %v", err)
		}
	}
	label := strings.TrimSpace(string(record[f.Label]))
	switch {
	case label == "" || label == "null":
	case label[0] == '"':
		err = json.Unmarshal([]byte(label), &e.Label)
	case label[0] == '{' || label[0] == '[':
		err = fmt.Errorf("%s", label)
	default:
		e.Label = label
	}
	if err != nil {
		return e, line.Bad("%q holds %.40s; want a text, a number, true or false", f.Label, label)
	}
	return e, nil
}
