package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"pretrain/data"
	"pretrain/data/decontam"
	"pretrain/data/exec"
	"pretrain/data/extract"
	"pretrain/data/funnel"
	"pretrain/data/lm"
	"pretrain/data/pii"
	"pretrain/data/quality"
	"pretrain/data/read"
	"pretrain/data/record"
)

const (
	documentsName = "documents" + record.Extension
	countsName    = "counts.json"
)

// crashed is the reason of a document on which a step panicked.
const crashed data.Reason = "step_crashed"

// link is a step of a chain.
type link struct {
	name string
	make data.Factory
}

// chain takes documents through steps and accounts for each.
type chain struct {
	steps  []data.Step
	names  []string
	counts *funnel.Counts
	first  int // the index in counts of the first step
}

func newChain(counts *funnel.Counts, first int, links []link) *chain {
	c := &chain{counts: counts, first: first}
	for _, l := range links {
		c.steps, c.names = append(c.steps, l.make()), append(c.names, l.name)
	}
	return c
}

// pass reports whether a document passes all steps.
func (c *chain) pass(d *data.Document) bool {
	for i, step := range c.steps {
		before, text := d.Bytes(), d.Text
		var reason data.Reason
		var detail string
		if err := guard(func() { reason, detail = step.Apply(d) }); err != nil {
			reason, detail = crashed, fmt.Sprintf("%s: %v", c.names[i], err)
		}
		if reason != "" {
			c.counts.Drop(c.first+i, d, reason, detail)
			if task := d.TextOf(taskLabel); task != "" && reason == decontam.Contaminated {
				c.counts.Note(taskLabel, task)
			}
			return false
		}
		after := d.Bytes()
		c.counts.Passed(c.first+i, before, after, after != before || d.Text != text)
	}
	return true
}

// clean is the first step: each raw file through the steps that look at one document.
func (p *preparation) clean(ctx context.Context) ([]exec.Done, error) {
	step := exec.Step{Name: "clean", Key: keyOf(version)}
	for _, in := range p.inputs {
		step.Tasks = append(step.Tasks, exec.Task{
			Name: in.task(), Size: in.size(),
			Inputs: append(in.inputs(), exec.Input{Name: "settings", Hash: p.cleanKey(in.source)}),
			Run:    func(ctx context.Context, dir string) (exec.Counts, error) { return p.cleanFiles(ctx, in, dir) },
		})
	}
	return p.runner.Run(ctx, step)
}

// cleanKey is all that decides how the files of a source are cleaned.
func (p *preparation) cleanKey(source string) string {
	spec := p.spec(source)
	spec.Path, spec.CacheDir = "", ""
	keys := []any{spec, p.Sources[source].domain(), p.Sources[source].Format, p.Clean, p.Language, p.Quality, p.PII, p.sensitive.Key(), p.judges.keys}
	if p.judged(source) {
		keys = append(keys, p.model.Key())
	}
	return keyOf(keys...)
}

// links are the steps of a source, for one goroutine. They share the cutting into words.
func (p *preparation) links(source string) ([]link, error) {
	s := p.Sources[source]
	mend, err := p.Clean.Step(s.domain() != Code)
	if err != nil {
		return nil, err
	}
	var links []link
	add := func(name string, on bool, make data.Factory) {
		if on {
			links = append(links, link{name, make})
		}
	}
	add("extract", s.Format == HTML, extract.Step)
	add("clean", true, func() data.Step { return mend })
	q, words, rules := p.Quality, new(quality.Words), s.domain() == Text && s.Format != Chat
	add("language", p.Language.Mode != data.Off && s.domain() != Code, p.detector.Step)
	add("gopher", q.Gopher.Mode != data.Off && rules, func() data.Step { return q.Gopher.Step(q.Units, words) })
	add("repetition", q.Repetition.Mode != data.Off && rules, func() data.Step { return q.Repetition.Step(q.Units, words) })
	add("c4", q.C4.Mode != data.Off && rules, func() data.Step { return q.C4.Step(q.Units, words) })
	add("fineweb", q.FineWeb.Mode != data.Off && rules, func() data.Step { return q.FineWeb.Step(q.Units, words) })
	add("pii", p.PII.Mode != pii.Off, p.PII.Step)
	add("sensitive", p.Sensitive.Mode != data.Off && len(p.Sensitive.Lists) > 0, p.sensitive.Step())
	links = append(links, p.judges.links...)
	if p.judged(source) {
		links = append(links, scorer(p.model))
	}
	return links, nil
}

// cleanFiles takes the documents of an input through the steps of its source.
func (p *preparation) cleanFiles(ctx context.Context, in input, dir string) (exec.Counts, error) {
	links, err := p.links(in.source)
	if err != nil {
		return nil, err
	}
	names := []string{"read"}
	for _, l := range links {
		names = append(names, l.name)
	}
	counts := funnel.New(in.source, names...)
	steps := newChain(counts, 1, links)
	n := exec.Counts{}
	perplexities := lm.Distribution{}
	err = writeDocuments(dir, func(out *record.Writer) error {
		for i := range in.hashes {
			var report read.Report
			for d, err := range in.files.FileDocuments(ctx, in.first+i, &report) {
				if err != nil {
					return err
				}
				size := d.Bytes()
				counts.Passed(0, size, size, false)
				if !steps.pass(&d) {
					continue
				}
				if x, ok := d.Number(perplexityAttr); ok && p.judged(in.source) {
					perplexities.Add(d.Language, x)
				}
				if err := out.Write(&d); err != nil {
					return err
				}
				n["kept"]++
			}
			n["read"] += report.Documents
			unread(counts, &report)
		}
		return nil
	})
	if p.judged(in.source) {
		err = errors.Join(err, writeJSON(filepath.Join(dir, perplexityName), perplexities))
	}
	return n, errors.Join(err, writeJSON(filepath.Join(dir, countsName), counts))
}

// writeDocuments makes the file of documents in dir.
func writeDocuments(dir string, write func(*record.Writer) error) error {
	out, err := record.Create(filepath.Join(dir, documentsName))
	if err != nil {
		return err
	}
	return errors.Join(write(out), out.Close())
}

// unread takes what could not be read into the account: the samples one by one, the others by number.
func unread(counts *funnel.Counts, r *read.Report) {
	left := map[data.Reason]int64{}
	for reason, n := range r.Dropped {
		left[reason] = n
	}
	for _, d := range r.Samples {
		counts.Unread(d, 1)
		left[d.Reason]--
	}
	for reason, n := range left {
		if n > 0 {
			counts.Unread(data.Drop{Reason: reason}, n)
		}
	}
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
