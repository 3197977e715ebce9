// Package record keeps documents between the steps of a preparation, and for whoever wants them: JSON Lines, compressed by
// zstd. [data/read] reads the files too, as it does any JSONL.
//
//	{"id":"…","text":"…","source":"web","path":"a.jsonl","line":3,"lang":"en","attributes":{"gopher.words":120}}
package record

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"

	"github.com/klauspost/compress/zstd"

	"pretrain/data"
	"pretrain/internal/quickjson"
)

// Extension is what the names of these files end in.
const Extension = ".jsonl.zst"

// line is a document as JSON. Its keys are in the order that Writer writes.
type line struct {
	ID         string         `json:"id"`
	Text       string         `json:"text"`
	Messages   []data.Message `json:"messages"`
	Source     string         `json:"source"`
	Path       string         `json:"path"`
	Line       int64          `json:"line"`
	Language   string         `json:"lang"`
	License    string         `json:"license"`
	Attributes data.Tags      `json:"attributes"`
}

// Writer writes documents. Its output depends on them only.
type Writer struct {
	file *os.File
	zip  *zstd.Encoder
	buf  []byte
}

// Create makes or replaces a file.
func Create(path string) (*Writer, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	// One goroutine: whoever writes records has a task for every core already, and the bytes must not depend on their number.
	zip, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Writer{file: f, zip: zip}, nil
}

// Write appends a document.
func (w *Writer) Write(d *data.Document) (err error) {
	b := append(w.buf[:0], `{"id":`...)
	b = quickjson.Append(b, d.ID)
	if d.Messages == nil {
		b = quickjson.Append(append(b, `,"text":`...), d.Text)
	} else {
		b = append(b, `,"messages":[`...)
		for i, m := range d.Messages {
			if i > 0 {
				b = append(b, ',')
			}
			b = quickjson.Append(append(b, `{"role":`...), m.Role)
			b = quickjson.Append(append(b, `,"content":`...), m.Content)
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	b = quickjson.Append(append(b, `,"source":`...), d.Source)
	b = quickjson.Append(append(b, `,"path":`...), d.Path)
	if d.Line > 0 {
		b = strconv.AppendInt(append(b, `,"line":`...), d.Line, 10)
	}
	if d.Language != "" {
		b = quickjson.Append(append(b, `,"lang":`...), d.Language)
	}
	if d.License != "" {
		b = quickjson.Append(append(b, `,"license":`...), d.License)
	}
	if len(d.Tags) > 0 {
		tags, err := d.Tags.MarshalJSON()
		if err != nil {
			return err
		}
		b = append(append(b, `,"attributes":`...), tags...)
	}
	w.buf = append(b, "}\n"...)
	_, err = w.zip.Write(w.buf)
	return err
}

// Close ends the file. It does not sync it.
func (w *Writer) Close() error { return errors.Join(w.zip.Close(), w.file.Close()) }

// Read reads a file that Writer wrote. The first error ends it.
func Read(path string) iter.Seq2[data.Document, error] {
	return func(yield func(data.Document, error) bool) {
		if err := read(path, func(d data.Document) bool { return yield(d, nil) }); err != nil {
			yield(data.Document{}, fmt.Errorf("read %s: %w", path, err))
		}
	}
}

func read(path string, yield func(data.Document) bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	zip, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer zip.Close()
	r := bufio.NewReaderSize(zip, 256<<10)
	var long []byte // of a line that the reader's buffer does not hold
	for {
		text, err := r.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			for long = append(long[:0], text...); err == bufio.ErrBufferFull; long = append(long, text...) {
				text, err = r.ReadSlice('\n')
			}
			text = long
		}
		switch {
		case err == io.EOF && len(text) == 0:
			return nil
		case err == io.EOF: // within a line: the file is not whole
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
		d, err := parse(text)
		if err != nil {
			return err
		}
		if !yield(d) {
			return nil
		}
	}
}
