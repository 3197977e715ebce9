// Html extracts the main text of web pages, as `pretrain data prepare` does with `format: html`, one JSON object a page, for
// html_trafilatura.py to compare.
//
//	go run ./bench/data/html FILE.jsonl.zst > ours.jsonl
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"

	"pretrain/data/extract"
	"pretrain/data/read"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(files []string) error {
	out := json.NewEncoder(os.Stdout)
	for _, f := range files {
		source, err := read.Open(context.Background(), read.Default(f))
		if err != nil {
			return err
		}
		for d, err := range source.Documents(context.Background(), nil) {
			if err != nil {
				return err
			}
			begin := used()
			text, _, err := extract.Page(d.Text)
			page := struct {
				ID      string  `json:"id"`
				Text    string  `json:"text"`
				Error   string  `json:"error,omitempty"`
				Seconds float64 `json:"seconds"`
			}{ID: d.ID, Text: text, Seconds: (used() - begin).Seconds()}
			if err != nil {
				page.Error = err.Error()
			}
			if err := out.Encode(page); err != nil {
				return err
			}
		}
	}
	return nil
}

// used is the processor time so far.
func used() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail for the process itself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
