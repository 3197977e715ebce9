package read

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"pretrain/data"
	"pretrain/internal/units"
)

var utf8BOM = []byte("\xef\xbb\xbf")

// readText reads a file that is one document. generated leaves out Go files that say they are generated.
func (p *pass) readText(f file, generated bool) error {
	c, err := p.open(f)
	if err != nil {
		return p.unreadable(f, 0, 0, err)
	}
	defer c.Close()
	limit := int64(p.spec.MaxDocument)
	var buf bytes.Buffer
	if !c.packed {
		buf.Grow(int(min(f.size, limit)) + bytes.MinRead)
	}
	if _, err := io.Copy(&buf, io.LimitReader(c, limit+1)); err != nil {
		return p.unreadable(f, 0, int64(buf.Len()), err)
	}
	if int64(buf.Len()) > limit {
		return p.drop(data.Drop{Reason: data.TooLong, Path: f.path,
			Detail: fmt.Sprintf("the file holds more than max_document (%v)", p.spec.MaxDocument)})
	}
	b := bytes.TrimPrefix(buf.Bytes(), utf8BOM)
	if generated && isGenerated(b) {
		return p.leaveOut(data.Drop{Reason: data.Generated, Path: f.path, Detail: "marked as generated"})
	}
	b, encoding, _ := p.repair(b)
	d := data.Document{Text: string(b)}
	d.SetText(encodingName, encoding)
	return p.emit(f, d)
}

// check finds what disqualifies a document in any format.
func check(d *data.Document, limit units.Bytes) (data.Drop, bool) {
	if d.Bytes() > int64(limit) {
		return data.Drop{Reason: data.TooLong, Detail: fmt.Sprintf("the text holds more than max_document (%v)", limit)}, true
	}
	empty := true
	for i := -1; i < len(d.Messages); i++ {
		s := d.Text
		if i >= 0 {
			s = d.Messages[i].Content
		}
		if at := invalidUTF8(s); at >= 0 {
			return data.Drop{Reason: data.NotUTF8, Detail: fmt.Sprintf("not UTF-8: byte 0x%02x at offset %d", s[at], at)}, true
		}
		if at := strings.IndexByte(s, 0); at >= 0 {
			return data.Drop{Reason: data.NULByte, Detail: fmt.Sprintf("a NUL byte at offset %d of the text: binary data?", at)}, true
		}
		empty = empty && strings.TrimSpace(s) == ""
	}
	return data.Drop{Reason: data.Empty, Detail: "empty"}, empty
}

// invalidUTF8 is the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(s string) int {
	if utf8.ValidString(s) {
		return -1
	}
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return i
			}
		}
	}
	return -1
}
