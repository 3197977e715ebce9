// Command dedup measures data/dedup: how fast it signs and deduplicates files, and how well it finds what is a duplicate.
//
//	go run ./bench/data/dedup speed -out DIR FILE…
//	go run ./bench/data/dedup injected FILE…
//	go run ./bench/data/dedup revisions FILE…
//
// FILEs are JSON Lines of {"id", "text", "source"}, plain or compressed. compare.py runs it beside datatrove.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"pretrain/data"
	"pretrain/data/dedup"
	"pretrain/data/read"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dedup:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 1 {
		return fmt.Errorf("want speed, injected or revisions")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	out := flags.String("out", "", "folder for what speed writes")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	ctx := context.Background()
	switch args[0] {
	case "speed":
		return speed(ctx, flags.Args(), *out)
	case "injected":
		return injected(ctx, flags.Args())
	case "revisions":
		return revisions(ctx, flags.Args())
	}
	return fmt.Errorf("%s: want speed, injected or revisions", args[0])
}

// record is a document with the file of a repository that it came from.
type record struct {
	ID     string `json:"id"`
	Text   string `json:"text"`
	Source string `json:"source"`
}

func readAll(ctx context.Context, files []string) ([]record, error) {
	var all []record
	for _, file := range files {
		for line, err := range read.Lines(ctx, file, 1<<30) {
			var r record
			if err == nil {
				err = json.Unmarshal(line.JSON, &r)
			}
			if err != nil {
				return nil, err
			}
			all = append(all, r)
		}
	}
	return all, nil
}

// speed deduplicates files from JSON Lines to JSON Lines, on one core, and times the signing alone.
func speed(ctx context.Context, files []string, out string) error {
	runtime.GOMAXPROCS(1)
	c := dedup.Default()
	c.Exact = false // datatrove's MinHash has no such step
	records, err := readAll(ctx, files)
	if err != nil {
		return err
	}
	text := 0
	h := dedup.NewHasher(c.MinHash)
	clock := start()
	for _, r := range records {
		text += len(r.Text)
		h.Signature(r.Text)
	}
	cpu, wall := clock.stop()
	report("MinHash signatures", text, cpu, wall)

	clock = start()
	stats, err := endToEnd(ctx, c, files, out)
	if err != nil {
		return err
	}
	cpu, wall = clock.stop()
	report("MinHash end to end", text, cpu, wall)
	fmt.Printf("documents %d, dropped %d\n", stats.Documents, stats.Near)
	return nil
}

func report(what string, bytes int, cpu, wall time.Duration) {
	fmt.Printf("%s: %.1f MB of text, %.2f s of processor, %.2f s of wall clock\n@ %s %.4f\n",
		what, float64(bytes)/1e6, cpu.Seconds(), wall.Seconds(), what, float64(bytes)/1e6/cpu.Seconds())
}

// endToEnd is the whole chain over files: read, sign, match, cluster, read again and write what is kept.
func endToEnd(ctx context.Context, c dedup.Config, files []string, out string) (stats dedup.Stats, err error) {
	folder := func(name string, n int) string {
		dir := filepath.Join(out, fmt.Sprintf("%s-%d", name, n))
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		return dir
	}
	signed, matched := make([]string, len(files)), make([]string, c.Parts())
	sources := make([]*read.Source, len(files))
	for i, file := range files {
		if sources[i], err = read.Open(ctx, read.Default(file)); err != nil {
			return stats, err
		}
		signed[i] = folder("signed", i)
		s, serr := dedup.NewSigner(signed[i], uint32(i), c)
		if serr != nil {
			return stats, serr
		}
		index := uint32(0)
		for d, derr := range sources[i].Documents(ctx, nil) {
			if derr != nil {
				return stats, derr
			}
			if err := s.Add(index, &d); err != nil {
				return stats, err
			}
			index++
		}
		if err := s.Close(); err != nil {
			return stats, err
		}
	}
	for part := range matched {
		if matched[part] = folder("matched", part); err == nil {
			err = c.Match(ctx, part, signed, matched[part])
		}
	}
	verdicts := folder("verdicts", 0)
	if err != nil {
		return stats, err
	}
	if stats, err = c.Cluster(ctx, signed, matched, verdicts); err != nil {
		return stats, err
	}
	for i := range files {
		if err := keep(ctx, sources[i], verdicts, uint32(i), filepath.Join(out, fmt.Sprintf("kept-%d.jsonl", i))); err != nil {
			return stats, err
		}
	}
	return stats, nil
}

func keep(ctx context.Context, source *read.Source, verdicts string, file uint32, out string) error {
	v, err := dedup.OpenVerdicts(verdicts, file)
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	index := uint32(0)
	for d, err := range source.Documents(ctx, nil) {
		if err != nil {
			return err
		}
		if reason, _ := v.Apply(index, &d); reason == "" {
			if err := e.Encode(record{d.ID, d.Text, d.Source}); err != nil {
				return err
			}
		}
		index++
	}
	return w.Flush()
}

// documents numbers records as the one file of a corpus.
func documents(records []record) []data.Document {
	docs := make([]data.Document, len(records))
	for i, r := range records {
		docs[i] = data.Document{ID: fmt.Sprint(i), Source: "bench", Text: r.Text}
	}
	return docs
}

type stopwatch struct {
	cpu  time.Duration
	wall time.Time
}

func start() stopwatch { return stopwatch{processor(), time.Now()} }

func (s stopwatch) stop() (cpu, wall time.Duration) { return processor() - s.cpu, time.Since(s.wall) }

// processor is the processor time of the process so far: what a busy machine does not change.
func processor() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
