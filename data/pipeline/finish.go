package pipeline

import (
	"context"
	"errors"
	"math"
	"path/filepath"

	"pretrain/data/dedup"
	"pretrain/data/exec"
	"pretrain/data/funnel"
	"pretrain/data/holdout"
	"pretrain/data/lm"
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

// corpus is what is known of all documents together; nil where nobody asked.
type corpus struct {
	verdicts *exec.Done // of the deduplication
	cuts     *exec.Done // of the perplexities
}

// finish takes the documents through the steps that need to know the others.
func (p *preparation) finish(ctx context.Context, documents []exec.Done, all corpus) ([]exec.Done, error) {
	step := exec.Step{Name: "documents", Key: keyOf(version, p.Validation.Fraction)}
	for i, in := range p.inputs {
		file, _ := documents[i].File(documentsName)
		t := exec.Task{
			Name: in.task(), Size: outputSize(documents[i], documentsName),
			Inputs: []exec.Input{file, {Name: "settings", Hash: p.finishKey(in.source)}},
			Run: func(ctx context.Context, dir string) (exec.Counts, error) {
				links, err := p.corpusLinks(i, all)
				if err != nil {
					return nil, err
				}
				return p.finishFiles(ctx, in, links, documents[i].Dir, dir)
			},
		}
		if all.verdicts != nil {
			verdicts, _ := all.verdicts.File(dedup.VerdictName(uint32(i)))
			t.Inputs = append(t.Inputs, verdicts)
		}
		if all.cuts != nil && p.judged(in.source) {
			t.Inputs = append(t.Inputs, all.cuts.Input())
		}
		step.Tasks = append(step.Tasks, t)
	}
	return p.runner.Run(ctx, step)
}

// finishKey is all settings that decide which documents of a source stay.
func (p *preparation) finishKey(source string) string {
	keys := []any{p.Select}
	if p.judged(source) {
		keys = append(keys, p.Perplexity.Mode, p.Perplexity.Drop)
	}
	return keyOf(keys...)
}

// corpusLinks are the steps of an input that need to know all documents.
func (p *preparation) corpusLinks(i int, all corpus) (links []link, err error) {
	if all.verdicts != nil {
		v, err := dedup.OpenVerdicts(all.verdicts.Dir, uint32(i))
		if err != nil {
			return nil, err
		}
		links = append(links, duplicates(v))
	}
	source := p.inputs[i].source
	if all.cuts != nil && p.judged(source) {
		var cuts lm.Cuts
		if err := readJSON(filepath.Join(all.cuts.Dir, cutsName), &cuts); err != nil {
			return nil, err
		}
		links = append(links, p.buckets(cuts))
	}
	return append(links, p.selection(source)...), nil
}

func (p *preparation) finishFiles(ctx context.Context, in input, links []link, from, dir string) (exec.Counts, error) {
	var names []string
	for _, l := range links {
		names = append(names, l.name)
	}
	counts := funnel.New(in.source, names...)
	steps := newChain(counts, 0, links)
	n := exec.Counts{}
	var held candidates
	below := holdout.Below(float64(p.Validation.Fraction))
	err := writeDocuments(dir, func(out *record.Writer) error {
		for d, err := range record.Read(filepath.Join(from, documentsName)) {
			if err := errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			if !steps.pass(&d) {
				continue
			}
			counts.Keep(&d)
			counts.Observe("bytes", float64(d.Bytes()))
			for _, t := range d.Tags {
				if t.Text == "" {
					counts.Observe(t.Name, t.Value)
				} else {
					counts.Note(t.Name, t.Text)
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
