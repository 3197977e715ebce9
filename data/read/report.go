package read

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"pretrain/data"
)

// MaxSamples is the number of dropped documents of each reason that a [Report] keeps: enough to see a pattern.
const MaxSamples = 20

// Report counts what a reading used and what it left out. The zero value is ready.
type Report struct {
	Files     int                   `json:"files"`     // read to their end
	Documents int64                 `json:"documents"` // passed on
	Bytes     int64                 `json:"bytes"`     // content of those documents
	RawBytes  int64                 `json:"raw_bytes"` // read from disk, compressed where the files are
	Dropped   map[data.Reason]int64 `json:"dropped,omitempty"`
	Samples   []data.Drop           `json:"samples,omitempty"` // the first MaxSamples of each reason
}

func (r *Report) drop(d data.Drop) {
	if r.Dropped == nil {
		r.Dropped = map[data.Reason]int64{}
	}
	r.Dropped[d.Reason]++
	if r.Dropped[d.Reason] <= MaxSamples {
		r.Samples = append(r.Samples, d)
	}
}

// String is one line for a log: "2501 documents, 17.4 MB from 2502 files; left out: 1 not_utf8".
func (r *Report) String() string {
	s := fmt.Sprintf("%d documents, %.1f MB from %d files", r.Documents, float64(r.Bytes)/1e6, r.Files)
	if len(r.Dropped) == 0 {
		return s
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(r.Dropped)) {
		parts = append(parts, fmt.Sprintf("%d %s", r.Dropped[reason], reason))
	}
	return s + "; left out: " + strings.Join(parts, ", ")
}
