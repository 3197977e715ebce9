package read

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"

	"pretrain/data"
)

// Lines reads the lines of a file that are not blank, with their numbers from 1: records of other kinds than documents, such as
// evaluation tasks or labelled examples, one JSON object a line. A file that ends in .gz or .zst is decompressed. A line above
// limit bytes, invalid UTF-8 or a broken stream is a [*data.Drop] that names file and line, and ends the iteration, as any error
// does. A line is valid until the next one.
func Lines(ctx context.Context, path string, limit int64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		f := file{path: path}
		p := &pass{ctx: ctx, spec: Spec{OnBad: Fail}}
		c, err := p.open(f)
		if err != nil {
			yield(Record{}, lineError(path, 0, err))
			return
		}
		defer c.Close()
		lines := lineReader{r: bufio.NewReaderSize(c, 256<<10), limit: limit}
		for n := int64(1); ; n++ {
			line, _, err := lines.next()
			if n == 1 {
				line = bytes.TrimPrefix(line, utf8BOM)
			}
			line = bytes.TrimSpace(line)
			switch {
			case err == io.EOF:
				return
			case err == nil && !utf8.Valid(line):
				err = &data.Drop{Reason: data.NotUTF8, Path: path, Line: n, Detail: fmt.Sprintf("not UTF-8: byte %d of the line", invalidUTF8(string(line)))}
			case errors.Is(err, errLineTooLong):
				err = &data.Drop{Reason: data.TooLong, Path: path, Line: n, Detail: fmt.Sprintf("the line holds more than %d bytes", limit)}
			case err != nil:
				err = lineError(path, n, err)
			case len(line) == 0:
				continue
			}
			if err == nil {
				err = ctx.Err()
			}
			if !yield(Record{path, n, line}, err) || err != nil {
				return
			}
		}
	}
}

// lineError says which file could not be read on.
func lineError(path string, line int64, err error) error {
	switch {
	case errors.Is(err, errExpansion):
		return &data.Drop{Reason: data.Expansion, Path: path, Line: line, Detail: err.Error()}
	case errors.Is(err, errBroken):
		return &data.Drop{Reason: data.Truncated, Path: path, Line: line, Detail: err.Error()}
	}
	return fmt.Errorf("read %s: %w", path, err)
}

// Record is one line of a file.
type Record struct {
	Path string
	Line int64 // from 1
	JSON []byte
}

// Bad is the error of a record that is not what it should be.
func (r Record) Bad(format string, args ...any) error {
	return &data.Drop{Reason: data.BadRecord, Path: r.Path, Line: r.Line, Detail: fmt.Sprintf(format, args...)}
}

// ListFiles lists the files that match one of the patterns (see [Spec]), all below path in the order of their relative paths if it is a
// folder, or path alone.
func ListFiles(ctx context.Context, path string, patterns ...string) ([]string, error) {
	spec := Default(path)
	spec.Files = patterns
	s, err := Open(ctx, spec)
	if err != nil {
		return nil, err
	}
	paths := make([]string, len(s.files))
	for i, f := range s.files {
		paths[i] = f.path
	}
	return paths, nil
}
