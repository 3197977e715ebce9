// Package modelfile is the layout of the small models that data preparation trains: a line that says what the file is, a line
// of JSON, and a body compressed by zstd.
//
//	pretrain label model
//	{"version":1,…}
//	<zstd>
package modelfile

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/xxh3"
)

// Format is a kind of model file.
type Format struct {
	// Name is what the first line says, and errors say: "label model".
	Name string
	// Version is that of the header and body.
	Version int
	// Maker is the command that writes such files, for the error about a file of another kind.
	Maker string
}

// maxHeader bounds the JSON.
const maxHeader = 16 << 20

func (f Format) magic() string { return "pretrain " + f.Name + "\n" }

// Write writes a header, which is marshalled and must hold the version under that key, and a body.
func (f Format) Write(w io.Writer, header any, body []byte) error {
	head, err := json.Marshal(header)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "%s%s\n", f.magic(), head); err != nil {
		return err
	}
	z, err := zstd.NewWriter(w)
	if err != nil {
		return err
	}
	_, err = z.Write(body)
	return errors.Join(err, z.Close())
}

// Read fills header and returns the body, which the caller closes. The body is not checked: the header should hold its [Hash].
func (f Format) Read(r io.Reader, header any) (body io.ReadCloser, err error) {
	in := bufio.NewReader(r)
	for _, c := range []byte(f.magic()) {
		if got, err := in.ReadByte(); err != nil || got != c {
			return nil, fmt.Errorf("no %s: give a file that `%s` wrote", f.Name, f.Maker)
		}
	}
	var head []byte
	for {
		c, err := in.ReadByte()
		if err != nil || len(head) > maxHeader {
			return nil, errors.New("damaged header: it has no end")
		}
		if c == '\n' {
			break
		}
		head = append(head, c)
	}
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(head, &v); err != nil {
		return nil, fmt.Errorf("damaged header: %w", err)
	}
	if v.Version != f.Version {
		return nil, fmt.Errorf("format %d; this program reads %d: train it again with `%s`", v.Version, f.Version, f.Maker)
	}
	if err := json.Unmarshal(head, header); err != nil {
		return nil, fmt.Errorf("damaged header: %w", err)
	}
	z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return z.IOReadCloser(), nil
}

// Hash is the XXH3 of a body, 128 bits in hexadecimal.
func Hash(body []byte) string {
	sum := xxh3.Hash128(body)
	return fmt.Sprintf("%016x%016x", sum.Hi, sum.Lo)
}
