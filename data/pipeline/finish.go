package pipeline

import (
	"context"
	"errors"
	"path/filepath"

	"pretrain/data/exec"
	"pretrain/data/funnel"
	"pretrain/data/holdout"
	"pretrain/data/record"
)

const candidatesName = "held_out.json"

// candidate is a document that may be held out.
type candidate struct {
	Hash  uint64 `json:"hash"`
	Bytes int64  `json:"bytes"`
}

// finish takes the cleaned documents through the steps that need to know the others.
func (p *preparation) finish(ctx context.Context, cleaned []exec.Done) ([]exec.Done, error) {
	step := exec.Step{Name: "documents", Key: keyOf(version, p.Validation.Fraction)}
	for i, in := range p.inputs {
		documents, _ := cleaned[i].File(documentsName)
		step.Tasks = append(step.Tasks, exec.Task{
			Name: in.task(), Size: outputSize(cleaned[i], documentsName), Inputs: []exec.Input{documents},
			Run: func(ctx context.Context, dir string) (exec.Counts, error) {
				return p.finishFile(ctx, in, cleaned[i].Dir, dir)
			},
		})
	}
	return p.runner.Run(ctx, step)
}

func (p *preparation) finishFile(ctx context.Context, in input, from, dir string) (c exec.Counts, err error) {
	counts := funnel.New(in.source)
	out, err := record.Create(filepath.Join(dir, documentsName))
	if err != nil {
		return nil, err
	}
	defer func() {
		if out != nil {
			err = errors.Join(err, out.Close())
		}
	}()
	candidates := []candidate{}
	below := holdout.Below(float64(p.Validation.Fraction))
	kept, bytes := int64(0), int64(0)
	for d, err := range record.Read(filepath.Join(from, documentsName)) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		counts.Keep(&d)
		counts.Observe("bytes", float64(d.Bytes()))
		for _, t := range d.Tags {
			if t.Text == "" {
				counts.Observe(t.Name, t.Value)
			}
		}
		if h := holdout.Hash(d.Text); h < below {
			candidates = append(candidates, candidate{h, d.Bytes()})
		}
		if err := out.Write(&d); err != nil {
			return nil, err
		}
		kept, bytes = kept+1, bytes+d.Bytes()
	}
	err = out.Close()
	out = nil
	return exec.Counts{"kept": kept, "bytes": bytes}, errors.Join(err,
		writeJSON(filepath.Join(dir, candidatesName), candidates), writeJSON(filepath.Join(dir, countsName), counts))
}

// heldOut is the hash up to which the documents of a source are held out, by source.
func (p *preparation) heldOut(finished []exec.Done) (map[string]uint64, error) {
	limits := map[string]uint64{}
	err := p.each(func(source string, files []int) error {
		lowest := holdout.NewLowest(holdout.Below(float64(p.Validation.Fraction)), int64(p.Validation.MaxBytes))
		for _, i := range files {
			var list []candidate
			if err := readJSON(filepath.Join(finished[i].Dir, candidatesName), &list); err != nil {
				return err
			}
			for _, c := range list {
				lowest.Add(c.Hash, c.Bytes)
			}
		}
		limits[source], _ = lowest.Highest()
		return nil
	})
	return limits, err
}

func outputSize(d exec.Done, name string) int64 {
	for _, o := range d.Outputs {
		if o.Name == name {
			return o.Size
		}
	}
	return 0
}
