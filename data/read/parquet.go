package read

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"

	"github.com/parquet-go/parquet-go"

	"pretrain/data"
)

// readParquet reads a file with one document a row, from the columns it needs only.
func (p *pass) readParquet(f file) error {
	h, err := f.openAt(p.ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	t := &table{pass: p, file: f}
	err = t.read(h)
	if corrupt := (*corruptError)(nil); errors.As(err, &corrupt) {
		return p.drop(data.Drop{Reason: data.BadRecord, Path: f.path, Line: t.rows,
			Detail: fmt.Sprintf("broken or truncated Parquet file: %v", corrupt.err)})
	}
	return err
}

// readBuffer is how much of a column is read at once: from an object store each reading is a request.
const readBuffer = 1 << 20

// corruptError separates what is wrong with a Parquet file from what the consumer of its documents says.
type corruptError struct{ err error }

func (e *corruptError) Error() string { return e.err.Error() }

// table is one Parquet file being read.
type table struct {
	*pass
	file file
	rows int64 // read so far
	// One reader a column and row group; nil where the file lacks the column.
	text, id, language, license, roles, contents *column
}

func (t *table) read(h io.ReaderAt) error {
	var f *parquet.File
	err := guard(func() (err error) {
		// The page index and Bloom filters serve searches; reading from end to end needs neither.
		f, err = parquet.OpenFile(h, t.file.size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(readBuffer))
		return err
	})
	if err != nil {
		return err
	}
	for _, group := range f.RowGroups() {
		err := t.readGroup(f.Schema(), group)
		for _, c := range []*column{t.text, t.id, t.language, t.license, t.roles, t.contents} {
			c.close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *table) readGroup(schema *parquet.Schema, group parquet.RowGroup) error {
	var rows int64
	err := guard(func() (err error) {
		chunks := group.ColumnChunks()
		open := func(path string) *column { return openColumn(schema, chunks, path, "") }
		t.text, t.id, t.license = open(t.spec.TextField), open(t.spec.IDField), open("license")
		if t.language = open("lang"); t.language == nil {
			t.language = open("language")
		}
		t.roles, t.contents = openColumn(schema, chunks, t.spec.MessagesField, "role"), openColumn(schema, chunks, t.spec.MessagesField, "content")
		rows = group.NumRows()
		return nil
	})
	if err != nil {
		return err
	}
	if t.spec.Chat && (t.roles == nil || t.contents == nil) {
		return t.drop(data.Drop{Reason: data.NoTalk, Path: t.file.path,
			Detail: fmt.Sprintf("no column %q of {role, content}; the file has %s; name it by fields: {messages: …}", t.spec.MessagesField, columns(schema))})
	}
	if t.text == nil && (t.roles == nil || t.contents == nil) {
		return t.drop(data.Drop{Reason: data.NoText, Path: t.file.path,
			Detail: fmt.Sprintf("no text column %q; the file has %s; name it by fields: {text: …}", t.spec.TextField, columns(schema))})
	}
	for range rows {
		var d data.Document
		if err := guard(func() (err error) { d, err = t.row(); return err }); err != nil {
			return err
		}
		t.rows++
		d.Line = t.rows
		if err := t.emit(t.file, d); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) row() (d data.Document, err error) {
	for _, field := range []struct {
		to   *string
		from *column
	}{{&d.Text, t.text}, {&d.ID, t.id}, {&d.Language, t.language}, {&d.License, t.license}} {
		values, err := field.from.row()
		if err != nil {
			return d, err
		}
		if len(values) > 0 {
			*field.to = valueString(values[0])
		}
	}
	roles, err := t.roles.row()
	if err != nil {
		return d, err
	}
	contents, err := t.contents.row()
	if err != nil {
		return d, err
	}
	for i := range min(len(roles), len(contents)) {
		if !roles[i].IsNull() {
			d.Messages = append(d.Messages, data.Message{Role: valueString(roles[i]), Content: valueString(contents[i])})
		}
	}
	return d, nil
}

// valueString copies a value out of its page: text as it is, numbers (ids) in digits.
func valueString(v parquet.Value) string {
	switch v.Kind() {
	case parquet.ByteArray, parquet.FixedLenByteArray:
		return string(v.ByteArray())
	case parquet.Int32:
		return strconv.Itoa(int(v.Int32()))
	case parquet.Int64:
		return strconv.FormatInt(v.Int64(), 10)
	}
	return ""
}

// guard runs f and turns its errors, and its panics on malformed files, into a corruptError; not the system's errors.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &corruptError{fmt.Errorf("%v", r)}
		} else if errno := syscall.Errno(0); err != nil && !errors.As(err, &errno) {
			err = &corruptError{err}
		}
	}()
	return f()
}

// column reads one column of a row group, row by row. A nil column has only empty rows.
type column struct {
	pages  parquet.Pages
	values parquet.ValueReader
	buf    [64]parquet.Value
	next   []parquet.Value // read from the page and not yet handed out
	out    []parquet.Value
}

// openColumn finds the leaf column that begins at path and, for nested ones, ends in last: writers name the levels of a
// list between them in several ways. nil: there is none.
func openColumn(schema *parquet.Schema, chunks []parquet.ColumnChunk, path, last string) *column {
	for _, leaf := range schema.Columns() {
		if leaf[0] != path || last == "" && len(leaf) > 1 || last != "" && leaf[len(leaf)-1] != last {
			continue
		}
		if found, ok := schema.Lookup(leaf...); ok {
			return &column{pages: chunks[found.ColumnIndex].Pages()}
		}
	}
	return nil
}

func columns(schema *parquet.Schema) string {
	var names []string
	for _, leaf := range schema.Columns() {
		names = append(names, strings.Join(leaf, "."))
	}
	return strings.Join(names, ", ")
}

// row is the next row's values, valid until the next call: one for a flat column, any number for a repeated one.
func (c *column) row() ([]parquet.Value, error) {
	if c == nil {
		return nil, nil
	}
	c.out = c.out[:0]
	for {
		for i, v := range c.next {
			if v.RepetitionLevel() == 0 && len(c.out) > 0 {
				c.next = c.next[i:]
				return c.out, nil
			}
			c.out = append(c.out, v)
		}
		c.next = nil
		if err := c.fill(); err == io.EOF && len(c.out) > 0 {
			return c.out, nil
		} else if err == io.EOF {
			return nil, io.ErrUnexpectedEOF // the row group promised more rows
		} else if err != nil {
			return nil, err
		}
	}
}

// fill reads the next values, from the next page where one is used up.
func (c *column) fill() error {
	for {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if err != nil {
				return err
			}
			c.values = page.Values()
		}
		n, err := c.values.ReadValues(c.buf[:])
		if err != nil {
			c.values = nil
		}
		if n > 0 {
			c.next = c.buf[:n]
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
}

func (c *column) close() {
	if c != nil && c.pages != nil {
		c.pages.Close()
		c.pages = nil
	}
}
