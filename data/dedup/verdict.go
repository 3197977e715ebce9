package dedup

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pretrain/data"
)

// verdict says what becomes of one document. Documents without duplicates have none.
type verdict struct {
	Index      uint32      `json:"index"`
	Cluster    int64       `json:"cluster,omitempty"`
	Reason     data.Reason `json:"reason,omitempty"` // "": it stays
	Of         string      `json:"of,omitempty"`     // SOURCE:ID of the document that is kept in its place
	Similarity float64     `json:"similarity,omitempty"`
	Cut        []uint32    `json:"cut,omitempty"` // paragraphs to cut out
}

// VerdictName is the name of the file with the verdicts on a file, in the folder that [Config.Cluster] wrote.
func VerdictName(file uint32) string { return fmt.Sprintf("verdicts-%d.jsonl", file) }

func verdictPath(dir string, file uint32) string { return filepath.Join(dir, VerdictName(file)) }

// Verdicts is the fourth phase: what becomes of the documents of one file.
type Verdicts struct {
	c        Config
	verdicts []verdict // by index
}

// OpenVerdicts reads the verdicts on a file from the folder that [Config.Cluster] wrote. Memory is proportional to the file's
// duplicates.
func OpenVerdicts(dir string, file uint32) (*Verdicts, error) {
	path := verdictPath(dir, file)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	v, err := readVerdicts(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return v, nil
}

func readVerdicts(r io.Reader) (*Verdicts, error) {
	d := json.NewDecoder(bufio.NewReader(r))
	var v Verdicts
	if err := d.Decode(&v.c); err != nil {
		return nil, err
	}
	if err := v.c.Validate(); err != nil {
		return nil, err
	}
	for {
		var one verdict
		if err := d.Decode(&one); err == io.EOF {
			return &v, nil
		} else if err != nil {
			return nil, err
		}
		if n := len(v.verdicts); n > 0 && one.Index <= v.verdicts[n-1].Index || !slices.IsSorted(one.Cut) {
			return nil, errors.New("the verdicts are out of order; remove the folder and run the step again")
		}
		v.verdicts = append(v.verdicts, one)
	}
}

// Apply returns the reason why document index of the file goes, "" where it stays, and cuts duplicate paragraphs out of its text.
// The text must be the one that was signed.
func (v *Verdicts) Apply(index uint32, d *data.Document) (data.Reason, string) {
	i, ok := slices.BinarySearchFunc(v.verdicts, index, func(x verdict, index uint32) int { return int(int64(x.Index) - int64(index)) })
	if !ok {
		return "", ""
	}
	found := v.verdicts[i]
	if v.c.Mode == data.Tag {
		if found.Cluster > 0 {
			d.SetNumber("dedup.cluster", float64(found.Cluster))
			kept := 0.0
			if found.Reason == "" {
				kept = 1
			}
			d.SetNumber("dedup.kept", kept)
		}
		if len(found.Cut) > 0 {
			d.SetNumber("dedup.paragraphs", float64(len(found.Cut)))
		}
		return "", ""
	}
	if found.Reason != "" {
		return found.Reason, fmt.Sprintf("as %s (cluster %d, similarity %.2f)", found.Of, found.Cluster, found.Similarity)
	}
	if len(found.Cut) > 0 {
		var b strings.Builder
		sub := 0
		for p := range v.c.Paragraph.split(d.Text) {
			if len(found.Cut) > 0 && uint32(sub) == found.Cut[0] {
				found.Cut = found.Cut[1:]
			} else {
				b.WriteString(p)
			}
			sub++
		}
		d.SetNumber("dedup.paragraphs_removed", float64(len(v.verdicts[i].Cut)))
		if d.Text = b.String(); strings.TrimSpace(d.Text) == "" {
			return Paragraphs, fmt.Sprintf("all of its text is in other documents (%d paragraphs)", len(v.verdicts[i].Cut))
		}
	}
	return "", ""
}
