// Chain measures `pretrain data prepare`, step by step, in processor seconds of one core, and its peak memory.
//
//	go run ./bench/data/chain -data DIR [-repeat N] [-profile FILE] [-program bin/pretrain]
//
// DIR has JSON Lines files named en-…, zh-… and code-…. With -repeat the same files are read N times over, each time with other noise (one
// word or Chinese character in eight is another one, so that few copies are near-duplicates), to see that memory does not grow
// with the input. With -program that program prepares them, in a process of its own and on all cores.
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"pretrain/data/exec"
	"pretrain/data/pipeline"
	"pretrain/internal/prng"
)

// sample are the files measured: about 25 MB of each kind.
var sample = map[string][]string{
	"en":   {"en-openstax-cc-by-nc-sa.jsonl.zst", "en-nltk-speeches-news.jsonl.zst", "en-openstax-cc-by.jsonl.zst"},
	"zh":   {"zh-javaguide.jsonl.zst", "zh-wiki-mrc.jsonl.zst", "zh-classical-modern-bitext.jsonl.zst"},
	"code": {"code-go-etcd.jsonl.zst", "code-py-sympy.jsonl.zst", "code-c-curl.jsonl.zst"},
}

func main() {
	dir := flag.String("data", "", "folder of the raw files")
	repeat := flag.Int("repeat", 1, "read the files so often, with noise")
	profile := flag.String("profile", "", "write a CPU profile here")
	program := flag.String("program", "", "measure this program as a whole")
	flag.Parse()
	if err := run(*dir, *repeat, *profile, *program); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir string, repeat int, profile, program string) (err error) {
	temp, err := os.MkdirTemp("", "chain")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	c := pipeline.Default()
	c.Output, c.Sources = filepath.Join(temp, "out"), map[string]pipeline.Source{}
	c.Tokenizer.VocabSize = 16384
	size, err := sources(dir, temp, repeat, &c)
	if err != nil {
		return err
	}
	if program != "" {
		return whole(program, temp, c, size)
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

// sources writes the raw files below temp, adds them to c, and returns the size of their JSON Lines.
func sources(dir, temp string, repeat int, c *pipeline.Config) (size int64, err error) {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	var sum atomic.Int64
	for name, files := range sample {
		raw := filepath.Join(temp, name)
		if err := os.Mkdir(raw, 0o755); err != nil {
			return 0, err
		}
		for _, f := range files {
			for i := range repeat {
				group.Go(func() error {
					n, err := noisy(filepath.Join(dir, f), filepath.Join(raw, fmt.Sprintf("%03d-%s", i, f)), i)
					sum.Add(n)
					return err
				})
			}
		}
		s := pipeline.Source{Path: raw}
		if name == "code" {
			s.Domain = pipeline.Code
		}
		c.Sources[name] = s
	}
	err = group.Wait()
	return sum.Load(), err
}

// whole runs the program and prints what it took.
func whole(program, temp string, c pipeline.Config, size int64) error {
	config := fmt.Sprintf("output: %s\ntokenizer: {vocab_size: %d}\nsources:\n", c.Output, c.Tokenizer.VocabSize)
	for name, s := range c.Sources {
		config += fmt.Sprintf("  %s: {path: %s, domain: %s}\n", name, s.Path, cmp.Or(s.Domain, pipeline.Text))
	}
	file := filepath.Join(temp, "prepare.yaml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return err
	}
	cmd := osexec.Command(program, "data", "prepare", "--config", file)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return err
	}
	took := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	memory := float64(0)
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		memory = float64(u.Maxrss) / 1024
	}
	fmt.Printf("%.1f MB of JSON Lines in %.0f s, %.0f s of processor time: %.1f MB/s a core; peak memory %.0f MiB\n", float64(size)/1e6, time.Since(begin).Seconds(),
		took.Seconds(), float64(size)/1e6/took.Seconds(), memory)
	return nil
}

// measure runs a preparation with one worker and prints what each step took.
func measure(c pipeline.Config, size int64) error {
	step, begin := "list", used()
	all := begin
	training, tokenising := time.Duration(0), time.Duration(0)
	report := func(name string) {
		took := used() - begin
		switch step {
		case "tokenizer":
			training += took
		case "tokens", "shards":
			tokenising += took
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
	rate := func(without time.Duration) float64 { return float64(size) / 1e6 / (used() - all - without).Seconds() }
	fmt.Printf("%.1f MB of JSON Lines: %.1f MB/s a core to clean documents, %.1f to shards, %.1f with the training of the tokenizer; peak memory %.0f MiB\n",
		float64(size)/1e6, rate(training+tokenising), rate(training), rate(0), peak())
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
	zip, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
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

// disturb replaces one word in eight of a record, or Chinese character. It works on the JSON as it stands: what lies between spaces in
// lower case is no key.
func disturb(line []byte, number int) []byte {
	out := make([]byte, 0, len(line)+len(line)/8)
	key := prng.New(uint64(number))
	chance := func(at int) (r uint64, hit bool) {
		r = key.Uint64At(uint64(at))
		return r >> 3, r%8 == 0
	}
	for i := 0; i < len(line); {
		c := line[i]
		switch {
		case c >= 0xe5 && c <= 0xe8 && i+3 <= len(line): // U+5000 to U+8FFF
			if r, hit := chance(i); hit {
				out = utf8.AppendRune(out, rune(0x5000+r%5000))
			} else {
				out = append(out, line[i:i+3]...)
			}
			i += 3
		case c == ' ':
			end := i + 1
			for end < len(line) && 'a' <= line[end] && line[end] <= 'z' {
				end++
			}
			r, hit := chance(i)
			if hit && end > i+1 && end < len(line) && line[end] == ' ' {
				out = strconv.AppendUint(append(out, " w"...), r%1e6, 10)
			} else {
				out = append(out, line[i:end]...)
			}
			i = end
		default:
			out = append(out, c)
			i++
		}
	}
	return out
}
