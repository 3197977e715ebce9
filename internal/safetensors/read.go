package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// maxHeader is the largest header accepted, as in the reference implementation: what keeps a
// forged length from allocating memory.
const maxHeader = 100_000_000

// ErrFormat is wrapped by every error about a file that is not valid safetensors.
var ErrFormat = errors.New("not a valid safetensors file")

// Entry is a tensor in a file.
type Entry struct {
	Info
	Offset int64 // of the first data byte, from the start of the file
	Size   int64 // bytes of data
}

// Reader gives access to the tensors of one file. It reads data only when asked, and may be used by several goroutines.
type Reader struct {
	r        io.ReaderAt
	entries  []Entry // in the order of their data
	byName   map[string]int
	metadata map[string]string
}

// NewReader reads and checks the header of a file of size bytes. An error about the content wraps [ErrFormat].
func NewReader(r io.ReaderAt, size int64) (*Reader, error) {
	var prefix [8]byte
	if size < 8 {
		return nil, fmt.Errorf("%w: %d bytes is too short", ErrFormat, size)
	}
	if err := readAt(r, prefix[:], 0); err != nil {
		return nil, err
	}
	length := binary.LittleEndian.Uint64(prefix[:])
	if length > maxHeader || int64(length) > size-8 {
		return nil, fmt.Errorf("%w: a header of %d bytes does not fit a file of %d (limit %d)", ErrFormat, length, size, maxHeader)
	}
	header := make([]byte, length)
	if err := readAt(r, header, 8); err != nil {
		return nil, err
	}
	file := &Reader{r: r, byName: map[string]int{}}
	if err := file.parse(header, size); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return file, nil
}

// parse reads the header key by key, as a map would swallow duplicates.
func (f *Reader) parse(header []byte, size int64) error {
	if !utf8.Valid(header) { // the decoder would replace bad bytes, and so make names collide
		return errors.New("the header is not valid UTF-8")
	}
	if len(header) == 0 || header[0] != '{' {
		return errors.New("the header does not start with {")
	}
	dec := json.NewDecoder(bytes.NewReader(header))
	if _, err := dec.Token(); err != nil { // the opening brace
		return err
	}
	seenMetadata := false
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		name := token.(string) // the decoder only lets strings be keys
		if name == metadataKey {
			if seenMetadata {
				return errors.New("two " + metadataKey)
			}
			seenMetadata = true
			if err := dec.Decode(&f.metadata); err != nil {
				return fmt.Errorf("%s: %w", metadataKey, err)
			}
			continue
		}
		var h headerEntry
		if err := dec.Decode(&h); err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		entry, err := h.entry(name)
		if err != nil {
			return err
		}
		f.entries = append(f.entries, entry)
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return err
	}
	if rest := bytes.TrimRight(header[dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return fmt.Errorf("%d bytes after the header's JSON", len(rest))
	}
	return f.place(8+int64(len(header)), size)
}

func (h headerEntry) entry(name string) (Entry, error) {
	info := Info{Name: name, DType: h.DType, Shape: h.Shape}
	if h.Shape == nil {
		return Entry{}, fmt.Errorf("tensor %q: no shape", name)
	}
	want, err := info.Bytes()
	if err != nil {
		return Entry{}, err
	}
	if len(h.Offsets) != 2 || h.Offsets[0] < 0 || h.Offsets[1] < h.Offsets[0] {
		return Entry{}, fmt.Errorf("tensor %q: bad data_offsets %v", name, h.Offsets)
	}
	if got := h.Offsets[1] - h.Offsets[0]; got != want {
		return Entry{}, fmt.Errorf("tensor %q: %s %v is %d bytes, but data_offsets span %d", name, h.DType, h.Shape, want, got)
	}
	return Entry{Info: info, Offset: h.Offsets[0], Size: want}, nil
}

// place turns offsets into positions in the file and checks that the data fill the file without
// holes or overlaps, as the format demands.
func (f *Reader) place(dataStart, size int64) error {
	slices.SortStableFunc(f.entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Size, b.Size)) // empty tensors first
	})
	next := int64(0)
	for i := range f.entries {
		e := &f.entries[i]
		if e.Offset != next {
			return fmt.Errorf("tensor %q: its data start at %d, where %d was expected: a hole or an overlap", e.Name, e.Offset, next)
		}
		next += e.Size // at most the end offset read from the header: no overflow
		e.Offset += dataStart
		if e.Offset < 0 || e.Offset+e.Size > size || e.Offset+e.Size < 0 {
			return fmt.Errorf("tensor %q: its data end at byte %d of a file of %d: truncated", e.Name, e.Offset+e.Size, size)
		}
		if _, twice := f.byName[e.Name]; twice {
			return fmt.Errorf("tensor %q: two tensors have this name", e.Name)
		}
		f.byName[e.Name] = i
	}
	if dataStart+next != size {
		return fmt.Errorf("%d bytes after the last tensor", size-dataStart-next)
	}
	return nil
}

// Metadata returns the file's metadata; nil if it has none. The map belongs to the Reader.
func (f *Reader) Metadata() map[string]string { return f.metadata }

// Entries returns the tensors in the order of their data. The slice belongs to the Reader.
func (f *Reader) Entries() []Entry { return f.entries }

// Lookup finds a tensor by name.
func (f *Reader) Lookup(name string) (Entry, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Entry{}, false
	}
	return f.entries[i], true
}

// ReadTensor returns a tensor's data in a new slice.
func (f *Reader) ReadTensor(name string) ([]byte, error) {
	e, ok := f.Lookup(name)
	if !ok {
		return nil, fmt.Errorf("tensor %q: not in this file", name)
	}
	data := make([]byte, e.Size)
	if err := readAt(f.r, data, e.Offset); err != nil {
		return nil, fmt.Errorf("tensor %q: %w", name, err)
	}
	return data, nil
}

// readAt fills p. A file that ends before its stated size is io.ErrUnexpectedEOF.
func readAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
