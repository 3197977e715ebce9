package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"unicode/utf8"
)

// metadataKey is the header's one key that is no tensor.
const metadataKey = "__metadata__"

// Tensor is a tensor to be written.
type Tensor struct {
	Info
	// Data writes exactly Info.Bytes bytes. It is asked once, when its turn comes, so a
	// conversion can be done on the fly. For bytes in memory use bytes.NewReader, which copies nothing.
	Data io.WriterTo
}

// Write writes a whole file to w: header, then each tensor, in the reference implementation's order
// (dtype, then name) whatever the order given. metadata may be nil. It buffers nothing but the header.
func Write(w io.Writer, metadata map[string]string, tensors []Tensor) error {
	sorted := slices.SortedStableFunc(slices.Values(tensors), func(a, b Tensor) int { return before(a.Info, b.Info) })
	header, err := encodeHeader(metadata, sorted)
	if err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, t := range sorted {
		want, err := t.Bytes()
		if err != nil {
			return err
		}
		got, err := t.Data.WriteTo(w)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if got != want {
			return fmt.Errorf("tensor %q: %s %v is %d bytes, but its data has %d", t.Name, t.DType, t.Shape, want, got)
		}
	}
	return nil
}

// encodeHeader returns the length and the JSON, padded with spaces so that the data starts at a
// multiple of 8. It is written by hand because the order of keys is part of the format's determinism.
func encodeHeader(metadata map[string]string, sorted []Tensor) ([]byte, error) {
	header := append(make([]byte, 8), '{')
	if len(metadata) > 0 {
		header = append(header, `"`+metadataKey+`":{`...)
		for i, key := range slices.Sorted(maps.Keys(metadata)) {
			if !utf8.ValidString(key) || !utf8.ValidString(metadata[key]) {
				return nil, fmt.Errorf("metadata %q: not valid UTF-8", key)
			}
			if i > 0 {
				header = append(header, ',')
			}
			header = append(append(appendJSON(header, key), ':'), appendJSON(nil, metadata[key])...)
		}
		header = append(header, '}')
	}
	var offset int64
	names := map[string]bool{}
	for _, t := range sorted {
		switch {
		case t.Name == metadataKey:
			return nil, fmt.Errorf("tensor %q: the name is reserved by the format", t.Name)
		case !utf8.ValidString(t.Name):
			return nil, fmt.Errorf("tensor %q: the name is not valid UTF-8", t.Name)
		case names[t.Name]:
			return nil, fmt.Errorf("tensor %q: two tensors have this name", t.Name)
		}
		names[t.Name] = true
		size, err := t.Bytes()
		if err != nil {
			return nil, err
		}
		if len(header) > 9 {
			header = append(header, ',')
		}
		header = append(appendJSON(header, t.Name), ':')
		header = appendJSON(header, headerEntry{t.DType, append([]int{}, t.Shape...), []int64{offset, offset + size}})
		offset += size
	}
	header = append(header, '}')
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	if len(header)-8 > maxHeader {
		return nil, fmt.Errorf("header of %d bytes; the format allows %d: write fewer tensors a file", len(header)-8, maxHeader)
	}
	binary.LittleEndian.PutUint64(header, uint64(len(header)-8))
	return header, nil
}

// headerEntry is a tensor as the header has it; offsets count from the end of the header.
type headerEntry struct {
	DType   DType   `json:"dtype"`
	Shape   []int   `json:"shape"`
	Offsets []int64 `json:"data_offsets"`
}

// appendJSON appends a value that always can be encoded, without the escapes that json.Marshal makes for HTML.
func appendJSON(dst []byte, v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // a string or a headerEntry: cannot fail
	return append(dst, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}
