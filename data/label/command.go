package label

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"pretrain/data"
	"pretrain/internal/problem"
)

// Command is a labeller of the user's own: a program that reads documents and writes labels.
//
// It reads one JSON object a line from its standard input, {"id", "text", "source"}, and writes one line for each, in the same
// order, {"NAME": number or text, …}: each becomes the attribute label.NAME. An id, where it writes one, must be that of the
// document. It must flush after each line, or at the latest when it has read [BatchSize] of them, and end when its input ends.
type Command struct {
	// Argv is the program and its arguments. No shell is involved.
	Argv []string `yaml:"argv" json:"argv"`
	// Version is yours to change when the labeller gives other labels for the same texts: it makes the step run again.
	Version string `yaml:"version" json:"version"`
}

// Validate reports every problem at once, as joined [problem.Problem] errors.
func (c Command) Validate() error {
	var p problem.List
	p.Check(len(c.Argv) > 0 && c.Argv[0] != "", "argv", c.Argv, "a program and its arguments, such as [python3, label.py]")
	return p.Err()
}

// BatchSize is the most documents that are written before their labels are waited for.
const BatchSize = 256

// Labeller is a running [Command]. One goroutine uses it at a time.
type Labeller struct {
	c      Command
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr tail
	wait   func() error
}

// Start starts the program. It is killed when ctx ends.
func (c Command) Start(ctx context.Context) (*Labeller, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	l := &Labeller{c: c, cmd: exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)}
	l.cmd.Stderr = &l.stderr
	l.cmd.WaitDelay = 5 * time.Second
	var err error
	if l.in, err = l.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l.out = bufio.NewReaderSize(out, 64<<10)
	if err := l.cmd.Start(); err != nil {
		return nil, fmt.Errorf("labeller: %w", err)
	}
	l.wait = sync.OnceValue(l.cmd.Wait)
	return l, nil
}

// Label sets the attributes of documents.
func (l *Labeller) Label(docs []*data.Document) error {
	for len(docs) > 0 {
		n := min(BatchSize, len(docs))
		if err := l.batch(docs[:n]); err != nil {
			return l.failed(err)
		}
		docs = docs[n:]
	}
	return nil
}

func (l *Labeller) batch(docs []*data.Document) error {
	written := make(chan error, 1)
	go func() { // the program may write before it has read all
		w := bufio.NewWriterSize(l.in, 64<<10)
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		for _, d := range docs {
			if err := e.Encode(struct {
				ID     string `json:"id"`
				Text   string `json:"text"`
				Source string `json:"source"`
			}{d.ID, textOf(d), d.Source}); err != nil {
				written <- err
				return
			}
		}
		written <- w.Flush()
	}()
	for _, d := range docs {
		line, err := l.out.ReadBytes('\n')
		if err == io.EOF {
			return errors.New("it ended before it had labelled all documents")
		} else if err != nil {
			return err
		}
		if err := apply(line, d); err != nil {
			return fmt.Errorf("for document %q it wrote %.80q: %w", d.ID, bytes.TrimSpace(line), err)
		}
	}
	return <-written
}

// apply sets a document's attributes from a line of labels.
func apply(line []byte, d *data.Document) error {
	var labels data.Tags
	if err := json.Unmarshal(line, &labels); err != nil {
		return err
	}
	for _, a := range labels {
		switch {
		case a.Name == "id":
			if a.Text != d.ID {
				return errors.New("that is another document's id: labels must come in the order of the documents")
			}
		case !isName(a.Name):
			return fmt.Errorf("label %q: want lower-case letters, digits and underscores", a.Name)
		case a.Text != "":
			d.SetText("label."+a.Name, a.Text)
		default:
			d.SetNumber("label."+a.Name, a.Value)
		}
	}
	return nil
}

// Close ends the program by closing its input, and waits for it.
func (l *Labeller) Close() error {
	l.in.Close()
	rest, err := io.Copy(io.Discard, l.out)
	if werr := l.wait(); werr != nil {
		return l.failed(werr)
	}
	if err == nil && rest > 0 {
		return l.failed(errors.New("it wrote more lines than it had read"))
	}
	return err
}

// failed ends the program, if it has not ended, and names it and what it said last.
func (l *Labeller) failed(err error) error {
	_ = l.in.Close()
	_ = l.cmd.Process.Kill() // of no effect where it has ended
	_ = l.wait()
	if said := strings.TrimSpace(l.stderr.String()); said != "" {
		return fmt.Errorf("labeller %s: %w; its last words: %s", l.c.Argv[0], err, said)
	}
	return fmt.Errorf("labeller %s: %w", l.c.Argv[0], err)
}

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

const tailSize = 1 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.b = append(t.b, b...)
	if n := len(t.b) - tailSize; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(b), nil
}

func (t *tail) String() string { return strings.ToValidUTF8(string(t.b), "?") }
