package synth

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"pretrain/data"
	"pretrain/data/read"
	"pretrain/internal/atomicfile"
	"pretrain/internal/vfs"
)

// The files of the output folder.
const (
	TopicsName    = "topics.json"
	ResponsesName = "responses.jsonl"
	// DocumentsName is JSON Lines that data/read reads.
	DocumentsName = "documents.jsonl"
)

// Options are what [Run] needs beside the configuration.
type Options struct {
	// Key of the endpoint; "": none is sent.
	Key string
	// TopicsOnly ends when topics.json is written, so that topics can be chosen.
	TopicsOnly bool
	// Progress is told of each answer, one call at a time. May be nil.
	Progress func(Result)
}

// Result is what a run did.
type Result struct {
	Topics    []Topic `json:"topics"`
	Prompts   int     `json:"prompts"`
	Cached    int     `json:"cached"`  // answered by an earlier run
	Asked     int     `json:"asked"`   // answered by this one
	Retries   int64   `json:"retries"` // of requests that failed
	Usage     Usage   `json:"usage"`   // of all answers, the cached ones too
	Cost      float64 `json:"cost"`    // of all answers
	CutOff    int     `json:"cut_off"` // answers that are not used because they end at max_tokens
	Empty     int     `json:"empty"`   // answers that are not used because nothing is in them
	Documents int     `json:"documents"`
	// Unasked prompts are left because max_cost was reached.
	Unasked int `json:"unasked"`
}

// response is a line of responses.jsonl.
type response struct {
	Key    string `json:"key"`
	Text   string `json:"text"`
	Finish string `json:"finish"`
	Usage  Usage  `json:"usage"`
}

// Run makes the documents. What an earlier run was answered is not asked again. The documents are in the order of the topics and
// prompts, whatever the order of the answers.
func Run(ctx context.Context, c Config, o Options) (*Result, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := vfs.MkdirAllSync(vfs.OS, c.Output); err != nil {
		return nil, err
	}
	r := new(Result)
	var err error
	if r.Topics, err = findTopics(ctx, c.Seeds.documents(ctx), c.Seeds.Max, c.Topics, c.Prompts.Extract); err != nil {
		return nil, fmt.Errorf("find topics: %w", err)
	}
	if err := writeJSON(filepath.Join(c.Output, TopicsName), r.Topics); err != nil {
		return nil, err
	}
	if o.TopicsOnly {
		return r, nil
	}
	prompts, err := c.prompts(r.Topics)
	if err != nil {
		return nil, err
	}
	if r.Prompts = len(prompts); r.Prompts == 0 {
		return nil, errors.New("no topic is left to write about: see topics.choose and topics.skip")
	}
	a, err := openArchive(filepath.Join(c.Output, ResponsesName))
	if err != nil {
		return nil, err
	}
	err = c.ask(ctx, prompts, a, r, o)
	if err := errors.Join(err, a.close()); err != nil {
		return nil, err
	}
	return r, c.write(prompts, a.known, r)
}

// documents reads the seeds.
func (s Seeds) documents(ctx context.Context) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		spec := read.Default(s.Path)
		spec.Files, spec.TextField, spec.OnBad = s.Files, s.Text, read.Skip
		source, err := read.Open(ctx, spec)
		if err != nil {
			yield(Document{}, err)
			return
		}
		for d, err := range source.Documents(ctx, nil) {
			if !yield(Document{d.ID, d.Plain()}, err) || err != nil {
				return
			}
		}
	}
}

// ask asks what has not been answered, several at a time. The first error that will not pass stops the others.
func (c Config) ask(ctx context.Context, prompts []prompt, a *archive, r *Result, o Options) error {
	var waiting []prompt
	queued := map[string]bool{}
	for _, p := range prompts {
		if known, ok := a.known[p.key]; ok {
			r.Cached++
			r.count(known, c.Endpoint)
		} else if !queued[p.key] {
			queued[p.key] = true
			waiting = append(waiting, p)
		}
	}
	client := newClient(c.Endpoint, o.Key)
	var mu sync.Mutex
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(c.Endpoint.Concurrency)
	for i, p := range waiting {
		mu.Lock()
		spent := c.Endpoint.MaxCost > 0 && r.Cost >= c.Endpoint.MaxCost
		mu.Unlock()
		if spent {
			r.Unasked = len(waiting) - i
			break
		}
		group.Go(func() error {
			if err := inner.Err(); err != nil {
				return err
			}
			answer, err := client.ask(inner, p.body)
			if err != nil {
				return fmt.Errorf("ask %s: %w", c.Endpoint.Model, err)
			}
			mu.Lock()
			defer mu.Unlock()
			answered := response{p.key, answer.Text, answer.Finish, answer.Usage}
			if err := a.add(answered); err != nil {
				return err
			}
			r.Asked++
			r.count(answered, c.Endpoint)
			if o.Progress != nil {
				o.Progress(*r)
			}
			return nil
		})
	}
	err := group.Wait()
	r.Retries = client.retries.Load()
	return err
}

func (r *Result) count(a response, e Endpoint) {
	r.Usage.Input += a.Usage.Input
	r.Usage.Output += a.Usage.Output
	r.Cost += (float64(a.Usage.Input)*e.InputPrice + float64(a.Usage.Output)*e.OutputPrice) / 1e6
}

// document is a line of documents.jsonl.
type document struct {
	ID         string    `json:"id"`
	Text       string    `json:"text"`
	Language   string    `json:"lang"`
	Attributes data.Tags `json:"attributes"`
}

// write makes the documents from the answers.
func (c Config) write(prompts []prompt, known map[string]response, r *Result) error {
	return atomicfile.WriteFile(vfs.OS, filepath.Join(c.Output, DocumentsName), func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		for _, p := range prompts {
			a, ok := known[p.key]
			switch {
			case !ok:
				continue
			case a.Finish == "length":
				r.CutOff++
				continue
			case strings.TrimSpace(a.Text) == "":
				r.Empty++
				continue
			}
			var t data.Attributes
			t.SetText("synth.topic", p.topic.Name())
			t.SetText("synth.format", p.format)
			t.SetText("synth.audience", p.audience)
			t.SetText("synth.model", c.Endpoint.Model)
			r.Documents++
			if err := e.Encode(document{p.key, strings.TrimSpace(a.Text), c.Prompts.Language, t.Tags}); err != nil {
				return err
			}
		}
		return nil
	})
}

func writeJSON(path string, v any) error {
	return atomicfile.WriteFile(vfs.OS, path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(v)
	})
}

// archive is responses.jsonl.
type archive struct {
	file  *os.File
	known map[string]response
}

// openArchive reads what there is and cuts off a line that a crash left unfinished.
func openArchive(path string) (*archive, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	a := &archive{file: f, known: map[string]response{}}
	good, err := a.read(f)
	if err == nil {
		err = f.Truncate(good)
	}
	if err == nil {
		_, err = f.Seek(good, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return a, nil
}

// read returns how many bytes are whole lines.
func (a *archive) read(r io.Reader) (good int64, err error) {
	in := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return good, nil
		} else if err != nil {
			return good, err
		}
		var one response
		if err := json.Unmarshal(bytes.TrimSpace(line), &one); err != nil || one.Key == "" {
			return good, fmt.Errorf("line %d is no answer; remove it, and it will be asked for again", n)
		}
		a.known[one.Key] = one
		good += int64(len(line))
	}
}

// add keeps an answer: it has been paid for, so it is synced at once.
func (a *archive) add(r response) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := a.file.Write(append(line, '\n')); err != nil {
		return err
	}
	a.known[r.Key] = r
	return a.file.Sync()
}

func (a *archive) close() error { return a.file.Close() }
