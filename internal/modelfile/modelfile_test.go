package modelfile

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

type header struct {
	Version int    `json:"version"`
	Body    string `json:"body"`
}

var format = Format{Name: "test model", Version: 2, Maker: "pretrain test"}

func read(file string) (h header, body []byte, err error) {
	r, err := format.Read(strings.NewReader(file), &h)
	if err != nil {
		return h, nil, err
	}
	defer r.Close()
	body, err = io.ReadAll(r)
	return h, body, err
}

func TestRoundTrip(t *testing.T) {
	want := bytes.Repeat([]byte("body\n\x00"), 10_000)
	var file bytes.Buffer
	if err := format.Write(&file, header{2, Hash(want)}, want); err != nil {
		t.Fatal(err)
	}
	h, got, err := read(file.String())
	if err != nil || !bytes.Equal(got, want) || h.Body != Hash(got) || h.Version != 2 {
		t.Errorf("%v, %d bytes, header %v", err, len(got), h)
	}
	if _, _, err := read(file.String()[:file.Len()-9]); err == nil {
		t.Error("a file that was cut is read")
	}
}

// Every other file is refused by what is wrong with it, and with what to do.
func TestRefused(t *testing.T) {
	for file, want := range map[string]string{
		"":                                            "no test model: give a file that `pretrain test` wrote",
		"pretrain other model\n{}":                    "no test model",
		"pretrain test model\n{\"version\":2}":        "damaged header: it has no end",
		"pretrain test model\n{\"version\":2\n":       "damaged header",
		"pretrain test model\n{\"version\":1}\n":      "format 1; this program reads 2: train it again with `pretrain test`",
		"pretrain test model\n{\"version\":2}\nxxxxx": "magic number mismatch",
	} {
		if _, _, err := read(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", file, err, want)
		}
	}
}
