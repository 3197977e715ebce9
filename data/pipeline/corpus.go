package pipeline

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"pretrain/data"
	"pretrain/data/dedup"
	"pretrain/data/exec"
	"pretrain/data/record"
)

// dedupRuns reports whether anything of the deduplication is asked for.
func (p *preparation) dedupRuns() bool {
	c := p.Dedup
	return c.Mode != data.Off && (c.Exact || c.MinHash.Enabled || c.Paragraph.Enabled)
}

// dedup finds the duplicates among all documents. It returns the task that has the verdicts on each input; nil where there is
// nothing to find.
func (p *preparation) dedup(ctx context.Context, documents []exec.Done) (*exec.Done, error) {
	if !p.dedupRuns() {
		return nil, nil
	}
	key := keyOf(version, p.Dedup)
	signed, err := p.sign(ctx, documents, key)
	if err != nil {
		return nil, err
	}
	dirs := make([]string, len(signed))
	inputs := make([]exec.Input, len(signed))
	for i, d := range signed {
		dirs[i], inputs[i] = d.Dir, d.Input()
	}
	match := exec.Step{Name: "match", Key: key}
	for part := range p.Dedup.Parts() {
		match.Tasks = append(match.Tasks, exec.Task{
			Name: fmt.Sprintf("part-%02d", part), Inputs: inputs,
			Run: func(ctx context.Context, dir string) (exec.Counts, error) {
				return nil, p.Dedup.Match(ctx, part, dirs, dir)
			},
		})
	}
	matched, err := p.runner.Run(ctx, match)
	if err != nil {
		return nil, err
	}
	all := exec.Task{Name: "all", Inputs: inputs}
	var pairs []string
	for _, d := range matched {
		pairs = append(pairs, d.Dir)
		all.Inputs = append(all.Inputs, d.Input())
	}
	all.Run = func(ctx context.Context, dir string) (exec.Counts, error) {
		s, err := p.Dedup.Cluster(ctx, dirs, pairs, dir)
		return exec.Counts{"documents": s.Documents, "exact": s.Exact, "near": s.Near, "clusters": s.Clusters}, err
	}
	done, err := p.runner.Run(ctx, exec.Step{Name: "clusters", Key: key, Tasks: []exec.Task{all}})
	if err != nil {
		return nil, err
	}
	return &done[0], nil
}

// sign computes the keys of every document.
func (p *preparation) sign(ctx context.Context, documents []exec.Done, key string) ([]exec.Done, error) {
	step := exec.Step{Name: "signatures", Key: key}
	for i, in := range p.inputs {
		from, _ := documents[i].File(documentsName)
		step.Tasks = append(step.Tasks, exec.Task{
			Name: in.task(), Size: outputSize(documents[i], documentsName),
			// The number is in the keys: it decides which of several documents is the first.
			Inputs: []exec.Input{from, {Name: "number", Hash: strconv.Itoa(i)}},
			Run: func(ctx context.Context, dir string) (exec.Counts, error) {
				s, err := dedup.NewSigner(dir, uint32(i), p.Dedup)
				if err != nil {
					return nil, err
				}
				n := uint32(0)
				for d, rerr := range record.Read(filepath.Join(documents[i].Dir, documentsName)) {
					if err = errors.Join(rerr, ctx.Err()); err == nil {
						err = s.Add(n, &d)
					}
					if err != nil {
						break
					}
					n++
				}
				return exec.Counts{"documents": int64(n)}, errors.Join(err, s.Close())
			},
		})
	}
	return p.runner.Run(ctx, step)
}

// duplicates is the step that drops what the verdicts on an input say. Documents come in the order in which they were signed.
func duplicates(v *dedup.Verdicts) link {
	next := uint32(0)
	return link{"dedup", func() data.Step {
		return data.StepFunc(func(d *data.Document) (data.Reason, string) {
			next++
			return v.Apply(next-1, d)
		})
	}}
}
