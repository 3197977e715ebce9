package pipeline

import (
	"context"
	"errors"
	"math"
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

// candidates are those with the lowest hashes, or the one with the lowest of all.
type candidates []candidate

// consider takes a document whose hash is below the limit, or, while there is none, the lowest above it.
func (c *candidates) consider(x candidate, limit uint64) {
	switch none := len(*c) == 0 || (*c)[0].Hash >= limit; {
	case x.Hash < limit && !none:
		*c = append(*c, x)
	case none && (len(*c) == 0 || x.Hash < (*c)[0].Hash):
		*c = candidates{x}
	}
}

// finish takes the cleaned documents through the steps that need to know the others.
func (p *preparation) finish(ctx context.Context, cleaned []exec.Done) ([]exec.Done, error) {
	step := exec.Step{Name: "documents", Key: keyOf(version, p.Validation.Fraction)}
	for i, in := range p.inputs {
		documents, _ := cleaned[i].File(documentsName)
		step.Tasks = append(step.Tasks, exec.Task{
			Name: in.task(), Size: outputSize(cleaned[i], documentsName), Inputs: []exec.Input{documents},
			Run: func(ctx context.Context, dir string) (exec.Counts, error) {
				return p.finishFiles(ctx, in, cleaned[i].Dir, dir)
			},
		})
	}
	return p.runner.Run(ctx, step)
}

func (p *preparation) finishFiles(ctx context.Context, in input, from, dir string) (exec.Counts, error) {
	counts := funnel.New(in.source)
	n := exec.Counts{}
	var held candidates
	below := holdout.Below(float64(p.Validation.Fraction))
	err := writeDocuments(dir, func(out *record.Writer) error {
		for d, err := range record.Read(filepath.Join(from, documentsName)) {
			if err := errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			counts.Keep(&d)
			counts.Observe("bytes", float64(d.Bytes()))
			for _, t := range d.Tags {
				if t.Text == "" {
					counts.Observe(t.Name, t.Value)
				}
			}
			held.consider(candidate{holdout.Hash(d.Plain()), d.Bytes()}, below)
			if err := out.Write(&d); err != nil {
				return err
			}
			n["kept"]++
			n["bytes"] += d.Bytes()
		}
		return nil
	})
	return n, errors.Join(err, writeJSON(filepath.Join(dir, candidatesName), held), writeJSON(filepath.Join(dir, countsName), counts))
}

// heldOut is the hash up to which the documents of a source are held out, by source: always one document at least.
func (p *preparation) heldOut(finished []exec.Done) (map[string]uint64, error) {
	limits := map[string]uint64{}
	below := holdout.Below(float64(p.Validation.Fraction))
	err := p.each(func(source string, inputs []int) error {
		lowest, least := holdout.NewLowest(below, int64(p.Validation.MaxBytes)), uint64(math.MaxUint64)
		for _, i := range inputs {
			var list candidates
			if err := readJSON(filepath.Join(finished[i].Dir, candidatesName), &list); err != nil {
				return err
			}
			for _, c := range list {
				lowest.Add(c.Hash, c.Bytes)
				least = min(least, c.Hash)
			}
		}
		var ok bool
		if limits[source], ok = lowest.Highest(); !ok {
			limits[source] = least
		}
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
