package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"pretrain/configs"
	"pretrain/internal/vfs"
	"pretrain/schedule"
	"pretrain/train/runs"
	"pretrain/train/scaling"
)

// runPoints are the finished runs of some folders whose learning rate has come down.
func (o fitOptions) runPoints(stderr io.Writer) ([]scaling.Point, *scaling.Report, error) {
	unit := map[string]string{"": "nats per token", "val_loss": "nats per token", "val_bpb": "bits per byte"}[o.columns.Loss]
	if unit == "" {
		return nil, nil, usagef("--loss-col %s: of run directories want val_loss or val_bpb", o.columns.Loss)
	}
	var points []scaling.Point
	tokenizers := map[string]bool{}
	trunks, unfinished := 0, 0
	for _, dir := range o.runs {
		root, err := filepath.Abs(dir)
		if err != nil {
			return nil, nil, err
		}
		list, err := runs.Scan(vfs.OS, root)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, usagef("--runs %s: no such folder", dir)
		} else if err != nil {
			return nil, nil, err
		}
		for _, r := range list {
			done, err := readResult(r.Dir)
			switch {
			case err != nil:
				return nil, nil, err
			case done == nil || done.Step != r.Step:
				unfinished++
				continue
			case r.Phase != string(schedule.PhaseDecay):
				trunks++
				continue
			}
			p := scaling.Point{D: float64(done.Tokens), Loss: float64(done.ValLoss)}
			source, ok := done.ValSources[o.source]
			switch {
			case o.source != "" && !ok:
				return nil, nil, usagef("--source %s: run %s has no such validation source", o.source, r.Dir)
			case o.source != "":
				p.Loss = float64(source.Loss)
				if unit != "nats per token" {
					p.Loss = float64(source.BPB)
				}
			case unit != "nats per token":
				p.Loss = float64(done.ValBPB)
			}
			m, tokenizer, err := configs.ModelOf(configs.Text{Name: filepath.Join(r.Dir, "config.yaml"), YAML: r.Config})
			if err != nil {
				return nil, nil, err
			}
			tokenizers[tokenizer] = true
			p.N = float64(o.params.Of(m))
			if p.Name, err = filepath.Rel(root, r.Dir); err != nil {
				return nil, nil, err
			}
			points = append(points, p)
		}
	}
	fmt.Fprintf(stderr, "%d runs; left out %d that ended without a decay (trunks) and %d that are not finished\n", len(points), trunks, unfinished)
	if len(points) == 0 {
		return nil, nil, fmt.Errorf("no finished run with a decay in %s", strings.Join(o.runs, ", "))
	}
	if len(tokenizers) > 1 && unit == "nats per token" {
		return nil, nil, usagef("the runs have %d different tokenizers, so that their losses per token are of different units: give --loss-col val_bpb", len(tokenizers))
	}
	if o.source != "" {
		unit += " of source " + o.source
	}
	return points, &scaling.Report{Source: "runs in " + strings.Join(o.runs, ", "), Unit: unit, Convention: o.params.String()}, nil
}
