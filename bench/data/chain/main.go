// Chain measures `pretrain data prepare`, step by step, in processor seconds of one core, and its peak memory.
//
//	go run ./bench/data/chain -data DIR [-repeat N] [-profile FILE]
//
// DIR has JSON Lines files named en-…, zh-… and code-…. With -repeat the same files are read N times over, each time with other noise (one
// word in twenty is another one), to see that memory does not grow with the input.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/xxh3"

	"pretrain/data/exec"
	"pretrain/data/pipeline"
)

// sample are the files measured where -files does not say otherwise: about 25 MB of each kind.
var sample = map[string][]string{
	"en":   {"en-openstax-cc-by-nc-sa.jsonl.zst", "en-nltk-speeches-news.jsonl.zst", "en-openstax-cc-by.jsonl.zst"},
	"zh":   {"zh-javaguide.jsonl.zst", "zh-wiki-mrc.jsonl.zst", "zh-classical-modern-bitext.jsonl.zst"},
	"code": {"code-go-etcd.jsonl.zst", "code-py-sympy.jsonl.zst", "code-c-curl.jsonl.zst"},
}

func main() {
	dir := flag.String("data", "", "folder of the raw files")
	repeat := flag.Int("repeat", 1, "read the files so often, with noise")
	profile := flag.String("profile", "", "write a CPU profile here")
	flag.Parse()
	if err := run(*dir, *repeat, *profile); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir string, repeat int, profile string) (err error) {
	temp, err := os.MkdirTemp("", "chain")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	c := pipeline.Default()
	c.Output, c.Sources = filepath.Join(temp, "out"), map[string]pipeline.Source{}
	c.Tokenizer.VocabSize = 16384
	var size int64
	for name, files := range sample {
		raw := filepath.Join(temp, name)
		if err := os.Mkdir(raw, 0o755); err != nil {
			return err
		}
		for _, f := range files {
			for i := range repeat {
				n, err := noisy(filepath.Join(dir, f), filepath.Join(raw, fmt.Sprintf("%03d-%s", i, f)), i)
				if err != nil {
					return err
				}
				size += n
			}
		}
		s := pipeline.Source{Path: raw}
		if name == "code" {
			s.Domain = pipeline.Code
		}
		c.Sources[name] = s
	}
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer func() { pprof.StopCPUProfile(); err = errors.Join(err, f.Close()) }()
	}
	return measure(c, size)
}

// measure runs a preparation with one worker and prints what each step took.
func measure(c pipeline.Config, size int64) error {
	step, begin := "list", used()
	all := begin
	rest := time.Duration(0) // of all steps but those of the tokenizer
	report := func(name string) {
		took := used() - begin
		if step != "tokenizer" && step != "tokens" && step != "shards" {
			rest += took
		}
		fmt.Printf("%-12s %7.2f s %8.1f MB/s\n", step, took.Seconds(), float64(size)/1e6/took.Seconds())
		step, begin = name, used()
	}
	_, err := pipeline.Run(context.Background(), c, pipeline.Options{Workers: 1, Tokenizer: trained{c.Tokenizer}, Progress: func(p exec.Progress) {
		if p.Step != step {
			report(p.Step)
		}
	}})
	if err != nil {
		return err
	}
	report("")
	fmt.Printf("%.1f MB of JSON Lines: %.1f MB/s a core without the tokenizer, %.1f with it; peak memory %.0f MiB\n", float64(size)/1e6,
		float64(size)/1e6/rest.Seconds(), float64(size)/1e6/(used()-all).Seconds(), peak())
	return nil
}

// used is the processor time so far.
func used() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail for the process itself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peak is the largest resident set so far, in MiB.
func peak() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Maxrss) / 1024
}

// noisy copies a file with other words here and there, and returns the size of its JSON Lines. Number 0 is the file as it is.
func noisy(from, to string, number int) (size int64, err error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	unzip, err := zstd.NewReader(in)
	if err != nil {
		return 0, err
	}
	defer unzip.Close()
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	zip, err := zstd.NewWriter(out)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, zip.Close()) }()
	lines := bufio.NewReaderSize(unzip, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return size, nil
		} else if err != nil {
			return size, err
		}
		if number > 0 {
			line = disturb(line, number)
		}
		n, err := zip.Write(line)
		if size += int64(n); err != nil {
			return size, err
		}
	}
}

// disturb replaces one word in twenty of a record's text.
func disturb(line []byte, number int) []byte {
	var record map[string]any
	if json.Unmarshal(line, &record) != nil {
		return line
	}
	text, ok := record["text"].(string)
	if !ok {
		return line
	}
	words := strings.SplitAfter(text, " ")
	for i, word := range words {
		if h := xxh3.HashStringSeed(word, uint64(i)<<32|uint64(number)); h%20 == 0 {
			words[i] = fmt.Sprintf("w%d ", h%1e6)
		}
	}
	record["text"] = strings.Join(words, "")
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(record) != nil {
		return line
	}
	return b.Bytes()
}
