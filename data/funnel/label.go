package funnel

import (
	"slices"
	"strings"
)

// maxValues bounds the values of a label that are counted one by one. Labels are for classes; one with more is none.
const maxValues = 200

// others is what the values beyond the bound are counted as.
const others = "(others)"

// Label counts the values of an attribute.
type Label struct {
	Name   string  `json:"name"`
	Values []Value `json:"values"` // sorted
}

// Value is one value of a label.
type Value struct {
	Value     string `json:"value"`
	Documents int64  `json:"documents"`
}

func (l *Label) add(value string, n int64) {
	at, ok := slices.BinarySearchFunc(l.Values, value, func(v Value, s string) int { return strings.Compare(v.Value, s) })
	if !ok && len(l.Values) >= maxValues && value != others {
		l.add(others, n)
		return
	}
	if !ok {
		l.Values = slices.Insert(l.Values, at, Value{Value: strings.Clone(value)})
	}
	l.Values[at].Documents += n
}
