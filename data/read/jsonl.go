package read

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"pretrain/data"
	"pretrain/data/charset"
)

// readJSONL reads a file with one JSON object a line. Blank lines do not count.
func (p *pass) readJSONL(f file) error {
	c, err := p.open(f)
	if err != nil {
		return p.unreadable(f, 0, 0, err)
	}
	defer c.Close()
	lines := lineReader{r: bufio.NewReaderSize(c, 256<<10), limit: int64(p.spec.MaxDocument)}
	decode := newDecoder(p.spec)
	var offset int64 // of the line's first byte, in the decompressed content
	for n := int64(1); ; n++ {
		line, size, err := lines.next()
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, errLineTooLong):
			err = p.drop(data.Drop{Reason: data.TooLong, Path: f.path, Line: n,
				Detail: fmt.Sprintf("the line at offset %d holds more than max_document (%v)", offset, p.spec.MaxDocument)})
		case err != nil:
			return p.unreadable(f, n, offset, err)
		default:
			if n == 1 {
				line = bytes.TrimPrefix(line, utf8BOM)
			}
			err = p.readRecord(f, n, offset, line, decode)
		}
		if err != nil {
			return err
		}
		offset += size
	}
}

func (p *pass) readRecord(f file, n, offset int64, line []byte, decode *decoder) error {
	line = bytes.TrimSpace(line)
	if len(line) == 0 {
		return nil
	}
	line, encoding, valid := p.repair(line)
	if !valid { // encoding/json would replace the bytes silently
		at := invalidUTF8(string(line))
		return p.drop(data.Drop{Reason: data.NotUTF8, Path: f.path, Line: n,
			Detail: fmt.Sprintf("not UTF-8: byte 0x%02x at byte %d of the line (offset %d)", line[at], at, offset+int64(at))})
	}
	d, reason, err := decode.document(line)
	if err != nil {
		return p.drop(data.Drop{Reason: reason, Path: f.path, Line: n, Detail: fmt.Sprintf("%v (offset %d)", err, offset)})
	}
	d.Line = n
	d.SetText(encodingName, encoding)
	return p.emit(f, d)
}

// encodingName is the attribute of a document that was not in UTF-8.
const encodingName = "encoding"

// repair turns text of another encoding into UTF-8, where the source is to be repaired, and says which it was. valid: the text is
// UTF-8 now.
func (p *pass) repair(b []byte) (text []byte, encoding string, valid bool) {
	if utf8.Valid(b) {
		return b, "", true
	}
	if p.spec.Encoding != Detect {
		return b, "", false
	}
	text, name := charset.ToUTF8(b)
	if name == charset.Unknown {
		return b, "", false
	}
	return text, string(name), true
}

// decoder decodes records whose field names are chosen at run time, into a struct type made for them: one pass at
// encoding/json's full speed.
type decoder struct {
	typ                      reflect.Type
	textField, messagesField string
	chat                     bool
	names                    []string // of the fields, by index
	simple                   bool     // quick may be used
}

// The fields of a decoder's struct type, by index.
const (
	textIndex = iota
	idIndex
	messagesIndex
	langIndex
	languageIndex
	licenseIndex
	otherIndex // of none
)

func newDecoder(s Spec) *decoder {
	names := []string{s.TextField, s.IDField, s.MessagesField, "lang", "language", "license"}
	field := func(name, key string, v any) reflect.StructField {
		return reflect.StructField{Name: name, Type: reflect.TypeOf(v), Tag: reflect.StructTag(`json:"` + key + `"`)}
	}
	// Raw messages: a record may hold other types than we expect in fields we can do without.
	simple := !s.Chat && isQuick(names)
	return &decoder{textField: s.TextField, messagesField: s.MessagesField, chat: s.Chat, names: names, simple: simple, typ: reflect.StructOf([]reflect.StructField{
		field("Text", s.TextField, (*string)(nil)),
		field("ID", s.IDField, json.RawMessage(nil)),
		field("Messages", s.MessagesField, []data.Message(nil)),
		field("Lang", names[langIndex], json.RawMessage(nil)),
		field("Language", names[languageIndex], json.RawMessage(nil)),
		field("License", names[licenseIndex], json.RawMessage(nil)),
	})}
}

// document decodes one record.
func (d *decoder) document(line []byte) (data.Document, data.Reason, error) {
	if doc, ok := d.quick(line); ok {
		return doc, "", nil
	}
	rec := reflect.New(d.typ)
	if err := json.Unmarshal(line, rec.Interface()); err != nil {
		var typeErr *json.UnmarshalTypeError
		if errors.As(err, &typeErr) && typeErr.Field != "" {
			if strings.HasPrefix(typeErr.Field, d.messagesField) {
				return data.Document{}, data.NoTalk, fmt.Errorf("%q holds a JSON %s; want a list of {role, content}", typeErr.Field, typeErr.Value)
			}
			return data.Document{}, data.NoText, fmt.Errorf("%q holds a JSON %s, not text", typeErr.Field, typeErr.Value)
		}
		return data.Document{}, data.BadRecord, badJSON(line, err)
	}
	v := rec.Elem()
	raw := func(i int) string { return scalar(v.Field(i).Interface().(json.RawMessage)) }
	doc := data.Document{ID: raw(idIndex), Messages: v.Field(messagesIndex).Interface().([]data.Message)}
	doc.Language, doc.License = raw(langIndex), raw(licenseIndex)
	if doc.Language == "" {
		doc.Language = raw(languageIndex)
	}
	if d.chat && doc.Messages == nil {
		return data.Document{}, data.NoTalk, fmt.Errorf("no field %q; the record has %s; name it by fields: {messages: …}", d.messagesField, keys(line))
	}
	switch text := v.Field(textIndex).Interface().(*string); {
	case text != nil:
		doc.Text = *text
	case doc.Messages == nil:
		return data.Document{}, data.NoText, fmt.Errorf("no field %q; the record has %s; name it by fields: {text: …}", d.textField, keys(line))
	}
	return doc, "", nil
}

// badJSON says what is wrong with a line and where, which encoding/json knows only in part.
func badJSON(line []byte, err error) error {
	if line[0] == '[' {
		return errors.New("a JSON array, not one JSON object a line; convert it with: jq -c '.[]'")
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("not valid JSON at byte %d of the line: %w", syntax.Offset, err)
	}
	return fmt.Errorf("not a JSON object: %w", err)
}

// scalar is a JSON string's value or a number's digits, "" for anything else.
func scalar(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	switch c := raw[0]; {
	case c == '"':
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return s
		}
	case c == '-' || '0' <= c && c <= '9':
		return string(raw)
	}
	return ""
}

// keys lists a record's fields for an error message.
func keys(line []byte) string {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(line, &m); err != nil || len(m) == 0 {
		return "no fields"
	}
	all := slices.Sorted(maps.Keys(m))
	if len(all) > 12 {
		all = append(all[:12], "…")
	}
	return strings.Join(all, ", ")
}

// errLineTooLong is lineReader's for a line above its limit; the line has been skipped.
var errLineTooLong = errors.New("line too long")

// lineReader reads lines in bounded memory.
type lineReader struct {
	r     *bufio.Reader
	limit int64
	buf   []byte
}

// next is the next line, valid until the next call, and its size with the line end. io.EOF: there is none. Any other
// reading error loses the line it happened in, because that line is not whole.
func (l *lineReader) next() (line []byte, size int64, err error) {
	l.buf = l.buf[:0]
	long := false
	for {
		part, err := l.r.ReadSlice('\n')
		size += int64(len(part))
		switch {
		case size > l.limit+1: // the line end does not count
			long, l.buf = true, l.buf[:0]
		case err == bufio.ErrBufferFull || len(l.buf) > 0:
			l.buf = append(l.buf, part...)
			part = l.buf
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err != nil && err != io.EOF:
			return nil, size, err
		case err == io.EOF && size == 0:
			return nil, 0, io.EOF
		case long:
			return nil, size, errLineTooLong
		}
		return part, size, nil
	}
}
