package charset_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"

	"pretrain/data/charset"
)

var texts = map[string]string{
	"simplified":  "软件工程是一门研究用工程化方法构建和维护有效、实用和高质量的软件的学科。它涉及程序设计语言、数据库、软件开发工具等方面。",
	"traditional": "軟體工程是一門研究用工程化方法構建和維護有效、實用和高品質的軟體的學科。它涉及程式語言、資料庫、軟體開發工具等方面。",
	"mixed":       "安装 Go 1.26 之后，运行 `go build ./...` 编译全部代码；如果出错，请看日志（log）。",
	"french":      "Les élèves français étudient à l’école où l’on apprend les œuvres complètes — « garçon », naïveté, château.",
	"german":      "Die Straße über den Fluß führt zu schönen Häusern; Größe und Übermut gehören dazu.",
	"english":     "The “naïve” café costs £5 – or 6 €.",
}

// Text comes back whole from each encoding that it can be written in, also from a few characters of it.
func TestToUTF8(t *testing.T) {
	for _, c := range []struct {
		text string
		in   encoding.Encoding
		want charset.Name
	}{
		{"simplified", simplifiedchinese.GB18030, charset.GB18030},
		{"simplified", simplifiedchinese.GBK, charset.GB18030},
		{"mixed", simplifiedchinese.GBK, charset.GB18030},
		{"traditional", traditionalchinese.Big5, charset.Big5},
		{"french", charmap.Windows1252, charset.Latin1},
		{"german", charmap.ISO8859_1, charset.Latin1},
		{"english", charmap.Windows1252, charset.Latin1},
		{"simplified", unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), charset.UTF16LE},
		{"french", unicode.UTF16(unicode.BigEndian, unicode.UseBOM), charset.UTF16BE},
		{"traditional", encoding.Nop, charset.UTF8},
	} {
		for _, text := range []string{texts[c.text], strings.Repeat(texts[c.text]+"\n", 3000)} {
			b, err := c.in.NewEncoder().Bytes([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			got, name := charset.ToUTF8(b)
			if name != c.want || string(got) != text {
				t.Errorf("%s in %s: found %q, %.40q", c.text, c.want, name, got)
			}
		}
	}
}

// Binary data is no text.
func TestUnknown(t *testing.T) {
	for _, b := range []string{"\x89PNG\r\n\x1a\n\x00\x00", "\xff\xd8\xff\xe0\x10JFIF", strings.Repeat("\x80\x81\x82\x83", 100), "\xc0\x80\x01"} {
		if got, name := charset.ToUTF8([]byte(b)); name != charset.Unknown || got != nil {
			t.Errorf("%q is taken for %s", b, name)
		}
	}
}

// Whatever comes in, what comes out is UTF-8 or nothing.
func FuzzToUTF8(f *testing.F) {
	for _, text := range texts {
		for _, e := range []encoding.Encoding{simplifiedchinese.GB18030, traditionalchinese.Big5, charmap.Windows1252} {
			if b, err := e.NewEncoder().Bytes([]byte(text)); err == nil {
				f.Add(b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		text, name := charset.ToUTF8(b)
		if !utf8.Valid(text) || (text == nil) != (name == charset.Unknown) && len(b) > 0 {
			t.Errorf("%q: %q as %s", b, text, name)
		}
	})
}
