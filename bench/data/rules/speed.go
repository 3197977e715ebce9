package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"pretrain/data"
	"pretrain/data/pii"
	"pretrain/data/quality"
	"pretrain/data/read"
)

// speed runs Gopher's and FineWeb's rules and the masking of private data over a file, and prints the MB of text a second of
// processor time.
func speed(path string) error {
	source, err := read.Open(context.Background(), read.Default(path))
	if err != nil {
		return err
	}
	var texts []string
	size := 0
	for d, err := range source.Documents(context.Background(), nil) {
		if err != nil {
			return err
		}
		texts = append(texts, d.Text)
		size += len(d.Text)
	}
	c, w := quality.Default(), new(quality.Words)
	steps := []data.Step{c.Gopher.Step(quality.Word, w), c.Repetition.Step(quality.Word, w), c.FineWeb.Step(quality.Word, w), pii.Default().Step()}
	begin := used()
	for _, text := range texts {
		d := data.Document{Text: text}
		for _, s := range steps {
			s.Apply(&d)
		}
	}
	took := (used() - begin).Seconds()
	fmt.Printf("@ rules and PII %.4f\n", float64(size)/1e6/took)
	return nil
}

// used is the processor time so far.
func used() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail for the process itself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
