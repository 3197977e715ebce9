package metrics

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"pretrain/internal/vfs"
)

// maxLine bounds what a damaged file without line ends can make the reader hold. A record is a few hundred bytes, and some
// 40 for each source, 150 where there is a validation: this is room for 5,000 sources.
const maxLine = 1 << 20

// LineError is a line that holds no record.
type LineError struct {
	Line   int64 // from 1
	Offset int64 // of the line's first byte
	Err    error
}

func (e *LineError) Error() string {
	return fmt.Sprintf("line %d (byte %d) is not a record: %v", e.Line, e.Offset, e.Err)
}

func (e *LineError) Unwrap() error { return e.Err }

// Records reads metrics.jsonl in constant memory, in the order of the file. A last line without its line end is one that
// is being written, or that a crash cut off, and is left out. The first error ends the sequence: a [*LineError], or one of
// the reader. Keys that are not a Record's are ignored, so newer files can be read.
func Records(r io.Reader) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for line, err := range lines(r) {
			var record Record
			if err == nil {
				record, err = line.record()
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
	}
}

// Tail reads the last n records of a file up to a step, and of the file no more than it takes.
func Tail(fsys vfs.FS, path string, step int64, n int) ([]Record, error) {
	file, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	for size := int64(maxLine); ; size *= 2 {
		from := max(0, info.Size()-size)
		in := bufio.NewReaderSize(io.NewSectionReader(file, from, info.Size()-from), maxLine)
		if from > 0 { // most likely in the middle of a line
			if _, err := in.ReadSlice('\n'); err != nil {
				return nil, fmt.Errorf("read %s: %w", path, err)
			}
		}
		var records []Record
		for r, err := range Records(in) {
			if err != nil {
				return nil, fmt.Errorf("read %s from byte %d: %w", path, from, err)
			}
			if r.Step <= step {
				records = append(records, r)
			}
		}
		if from == 0 || len(records) >= n {
			return records[max(0, len(records)-n):], nil
		}
	}
}

// line is one whole line with where it begins.
type line struct {
	number, offset int64
	text           []byte // with the line end; good until the next line
}

func (l line) record() (Record, error) {
	var r Record
	text := bytes.TrimSpace(l.text)
	err := json.Unmarshal(text, &r)
	if err == nil && !bytes.HasPrefix(text, []byte("{")) {
		err = errors.New("want a JSON object") // null would do for Unmarshal
	}
	if err == nil && r.Step < 0 {
		err = fmt.Errorf("step %d: want 0 or more", r.Step)
	}
	if err != nil {
		return Record{}, &LineError{l.number, l.offset, err}
	}
	return r, nil
}

// lines yields the whole lines of a file.
func lines(r io.Reader) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		in := bufio.NewReaderSize(r, maxLine)
		for l := (line{number: 1}); ; l.number++ {
			var err error
			l.text, err = in.ReadSlice('\n')
			switch {
			case errors.Is(err, io.EOF):
				return
			case errors.Is(err, bufio.ErrBufferFull):
				err = &LineError{l.number, l.offset, fmt.Errorf("longer than %d bytes", maxLine)}
			}
			if !yield(l, err) || err != nil {
				return
			}
			l.offset += int64(len(l.text))
		}
	}
}
