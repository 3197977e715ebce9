package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"pretrain/internal/atomicfile"
	"pretrain/internal/section"
	"pretrain/internal/units"
	"pretrain/internal/vfs"
)

// sections leaves the account of each source beside its shards, where the report of a run that trains on them finds it.
func (r *Report) sections(output string) error {
	for _, s := range r.Sources {
		v := sourceView{&s}
		out := section.Section{
			Title:   "Preparation of " + s.Source,
			Notes:   []string{"Documents that passed each step, and why the others did not. report/all/report.html of the preparation has samples of both."},
			Columns: []string{"step", "documents", "MB", "dropped"},
		}
		for _, step := range s.Steps {
			out.Rows = append(out.Rows, []string{step.Name, units.Grouped(step.Out.Documents), fmt.Sprintf("%.1f", float64(step.Out.Bytes)/1e6), step.Reasons()})
		}
		out.Rows = append(out.Rows, []string{"tokens", units.Grouped(v.Documents()), fmt.Sprintf("%.1f", float64(v.Bytes())/1e6), fmt.Sprintf("%s tokens, %.2f bytes each", units.Grouped(v.Tokens()), v.BytesPerToken())})
		figures := struct {
			Train      Part `json:"train"`
			Validation Part `json:"validation"`
		}{s.Train, s.Validation}
		// What a kill left: this rank's lock is held, so nobody is writing there.
		_, err := atomicfile.RemoveTemps(vfs.OS, filepath.Join(output, s.Shards, section.Folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, err := section.Write(vfs.OS, filepath.Join(output, s.Shards), "funnel", out, figures); err != nil {
			return err
		}
	}
	return nil
}
