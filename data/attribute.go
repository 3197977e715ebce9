package data

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// Attribute is one thing that a step found out about a document. Names are those of the step and the figure, joined by a dot:
// "gopher.mean_word_length", "label.edu", "lm.bucket". It is a number or a word.
type Attribute struct {
	Name  string
	Value float64 // where Text is ""
	Text  string
}

// SetNumber records a number under name, in place of what was there.
func (a *Attributes) SetNumber(name string, value float64) {
	a.set(Attribute{Name: name, Value: value})
}

// SetText records a word under name, in place of what was there. An empty text records nothing.
func (a *Attributes) SetText(name, text string) {
	if text != "" {
		a.set(Attribute{Name: name, Text: text})
	}
}

func (a *Attributes) set(t Attribute) {
	for i := range a.Tags {
		if a.Tags[i].Name == t.Name {
			a.Tags[i] = t
			return
		}
	}
	a.Tags = append(a.Tags, t)
}

// Number is the number recorded under name.
func (a *Attributes) Number(name string) (float64, bool) {
	for _, t := range a.Tags {
		if t.Name == name && t.Text == "" {
			return t.Value, true
		}
	}
	return 0, false
}

// TextOf is the word recorded under name, "" if there is none.
func (a *Attributes) TextOf(name string) string {
	for _, t := range a.Tags {
		if t.Name == name {
			return t.Text
		}
	}
	return ""
}

// Tags are attributes in the order in which they were recorded. As JSON they are an object.
type Tags []Attribute

// MarshalJSON writes {"name": value, …}. A number that JSON cannot hold is null.
func (t Tags) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, a := range t {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(a.Name)
		if err != nil {
			return nil, err
		}
		b = append(append(b, name...), ':')
		if a.Text != "" {
			text, err := json.Marshal(a.Text)
			if err != nil {
				return nil, err
			}
			b = append(b, text...)
		} else if a.Value-a.Value != 0 { // NaN or infinite
			b = append(b, "null"...)
		} else {
			b = strconv.AppendFloat(b, a.Value, 'g', 6, 64)
		}
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads what MarshalJSON wrote, in its order. Numbers have six digits by then.
func (t *Tags) UnmarshalJSON(b []byte) error {
	*t = nil
	d := json.NewDecoder(bytes.NewReader(b))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return fmt.Errorf("attributes: want an object: %w", err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		value, err := d.Token()
		if err != nil {
			return err
		}
		a := Attribute{Name: name.(string)} // a key is always text
		switch v := value.(type) {
		case string:
			a.Text = v
		case float64:
			a.Value = v
		case nil:
			a.Value = math.NaN()
		default:
			return fmt.Errorf("attribute %s: want a number or text", a.Name)
		}
		*t = append(*t, a)
	}
	_, err := d.Token()
	return err
}
