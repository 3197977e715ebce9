package read

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"pretrain/data"
)

const (
	// maxExpansion bounds how many bytes a compressed byte may become. Text compresses 3 to 20 times, the most repetitive
	// logs some 100 times; gzip can reach 1,030 and zstd 30,000, which no text does.
	maxExpansion = 500
	// expansionFloor is what any file may expand to: the bound is about time and memory, not about small files.
	expansionFloor = 16 << 20
	// maxWindow bounds the memory of a zstd stream; it is the window that the zstd command refuses to exceed, too.
	maxWindow = 128 << 20
)

// errExpansion says that a compressed file is a bomb.
var errExpansion = fmt.Errorf("expands more than %d times: not text, or a decompression bomb", maxExpansion)

// content is a file's content, decompressed. It counts the bytes on both sides.
type content struct {
	io.Reader
	file    io.Closer
	release func()
	out     int64        // bytes handed out
	in      atomic.Int64 // compressed bytes taken in; the decompressor may read in its own goroutine
	packed  bool
}

// open opens f for reading. Its Read fails where a compressed file is truncated, broken or a bomb; drop tells why.
func (p *pass) open(f file) (*content, error) {
	h, err := f.open(p.ctx)
	if err != nil {
		return nil, err
	}
	c := &content{file: h, release: func() {}}
	raw := io.TeeReader(h, counter{&c.in, &p.raw})
	switch compression(f.path) {
	case ".gz":
		z, err := gzip.NewReader(raw)
		if err != nil {
			h.Close()
			return nil, broken(err)
		}
		c.Reader, c.packed = z, true
	case ".zst":
		z, err := zstd.NewReader(raw, zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			h.Close()
			return nil, fmt.Errorf("zstd: %w", err)
		}
		c.Reader, c.packed, c.release = z, true, z.Close
	default:
		c.Reader = raw
	}
	return c, nil
}

// OpenFile opens a file for reading, decompressing .gz and .zst. Its Read fails where the compressed data is truncated, damaged or
// expands as no text does.
func OpenFile(path string) (io.ReadCloser, error) { return new(pass).open(file{path: path}) }

// Read decompresses. Errors of the compressed stream wrap errBroken, errors of the disk do not.
func (c *content) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.out += int64(n)
	if !c.packed {
		return n, err
	}
	if in := c.in.Load(); c.out > expansionFloor && c.out/maxExpansion > in {
		return n, errExpansion
	}
	if err == io.EOF && c.in.Load() == 0 {
		return n, broken(io.ErrUnexpectedEOF) // an empty file is no zstd stream, though the decoder takes it for one
	}
	if err != nil && err != io.EOF {
		return n, broken(err)
	}
	return n, err
}

// Close releases the decompressor and the file.
func (c *content) Close() error {
	c.release()
	return c.file.Close()
}

// errBroken is in the chain of errors about a compressed stream itself.
var errBroken = errors.New("the compressed data is truncated or damaged")

func broken(err error) error {
	if pathError := (*fs.PathError)(nil); errors.As(err, &pathError) {
		return err // the disk failed, not the stream
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", errBroken, err)
}

// unreadable turns a reading error into the drop of the rest of the file, or returns it where the disk is at fault.
// offset is how much of the decompressed content was good.
func (p *pass) unreadable(f file, line, offset int64, err error) error {
	switch {
	case errors.Is(err, errExpansion):
		return p.drop(data.Drop{Reason: data.Expansion, Path: f.path, Line: line, Detail: err.Error()})
	case errors.Is(err, errBroken):
		return p.drop(data.Drop{Reason: data.Truncated, Path: f.path, Line: line,
			Detail: fmt.Sprintf("%v, after %d bytes of text", err, offset)})
	}
	return fmt.Errorf("read %s: %w", f.path, err)
}

// counter adds up the bytes written to it, twice.
type counter [2]*atomic.Int64

func (c counter) Write(b []byte) (int, error) {
	c[0].Add(int64(len(b)))
	c[1].Add(int64(len(b)))
	return len(b), nil
}
