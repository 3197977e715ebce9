package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"pretrain/data/dedup"
	"pretrain/data/exec"
	"pretrain/data/funnel"
	"pretrain/data/prepare"
)

const (
	reportStep = "report"
	reportName = "funnel.json"
	pageName   = "report.html"
)

// Report is the account of a preparation.
type Report struct {
	// Sources in the order of their names.
	Sources []SourceReport `json:"sources"`
	// Duplicates is what deduplication found; nil where it did not run.
	Duplicates *dedup.Stats `json:"duplicates,omitempty"`
}

// ReadReport reads the report of a preparation from its output folder. Errors name the file.
func ReadReport(output string) (*Report, error) {
	r := new(Report)
	return r, readJSON(filepath.Join(output, reportStep, "all", reportName), r)
}

// SourceReport is the account of one source.
type SourceReport struct {
	*funnel.Counts
	// Shards is the folder with the result.
	Shards string `json:"shards"`
	// Train and Validation are what is in it.
	Train      Part `json:"train"`
	Validation Part `json:"validation"`
}

// Part is one shard.
type Part struct {
	Documents int64 `json:"documents"`
	Bytes     int64 `json:"bytes"`
	Tokens    int64 `json:"tokens"`
}

func part(c exec.Counts, name string) Part {
	return Part{c[name+"_documents"], c[name+"_bytes"], c[name+"_tokens"]}
}

// report adds up the accounts of all files.
func (p *preparation) report(ctx context.Context, verdicts *exec.Done, cleaned, finished, shards []exec.Done) (*Report, error) {
	t := exec.Task{Name: "all"}
	if verdicts != nil {
		t.Inputs = append(t.Inputs, verdicts.Input())
	}
	for _, list := range [][]exec.Done{cleaned, finished} {
		for _, d := range list {
			in, _ := d.File(countsName)
			t.Inputs = append(t.Inputs, in)
		}
	}
	for _, d := range shards {
		t.Inputs = append(t.Inputs, d.Input())
	}
	t.Run = func(_ context.Context, dir string) (exec.Counts, error) {
		r := new(Report)
		err := p.each(func(source string, inputs []int) error {
			d := shards[len(r.Sources)]
			s := SourceReport{Counts: funnel.New(source), Shards: filepath.Join("shards", source), Train: part(d.Counts, prepare.TrainName), Validation: part(d.Counts, prepare.ValidationName)}
			r.Sources = append(r.Sources, s)
			return addCounts(s.Counts, inputs, cleaned, finished)
		})
		if err == nil && verdicts != nil {
			r.Duplicates = new(dedup.Stats)
			err = readJSON(filepath.Join(verdicts.Dir, dedup.StatsFile), r.Duplicates)
		}
		if err != nil {
			return nil, err
		}
		if err := writeJSON(filepath.Join(dir, reportName), r); err != nil {
			return nil, err
		}
		page, err := os.Create(filepath.Join(dir, pageName))
		if err != nil {
			return nil, err
		}
		return nil, errors.Join(r.HTML(page), page.Close())
	}
	if _, err := p.runner.Run(ctx, exec.Step{Name: reportStep, Key: keyOf(version, pageText), Tasks: []exec.Task{t}}); err != nil {
		return nil, err
	}
	return ReadReport(p.Output)
}

// addCounts adds the accounts of some inputs.
func addCounts(to *funnel.Counts, inputs []int, lists ...[]exec.Done) error {
	for _, i := range inputs {
		for _, list := range lists {
			var c funnel.Counts
			if err := readJSON(filepath.Join(list[i].Dir, countsName), &c); err != nil {
				return err
			}
			to.Add(&c)
		}
	}
	return nil
}

// empty is the error that no document of a source is left, with what became of them; nil where there is one.
func (p *preparation) empty(cleaned, finished []exec.Done) error {
	return p.each(func(source string, inputs []int) error {
		for _, i := range inputs {
			if finished[i].Counts["kept"] > 0 {
				return nil
			}
		}
		all := funnel.New(source)
		if err := addCounts(all, inputs, cleaned, finished); err != nil {
			return err
		}
		var steps []string
		for _, s := range all.Steps {
			if reasons := s.Reasons(); reasons != "" {
				steps = append(steps, s.Name+" dropped "+reasons)
			}
		}
		if len(steps) == 0 {
			return fmt.Errorf("sources.%s: there is no document in it", source)
		}
		return fmt.Errorf("sources.%s: no document is left: %s", source, strings.Join(steps, "; "))
	})
}
