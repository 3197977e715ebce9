package checkpoint

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/zeebo/xxh3"

	"pretrain/internal/safetensors"
)

const (
	manifestName   = "MANIFEST.json"
	manifestFormat = "pretrain-checkpoint"
)

// manifest is MANIFEST.json: written last, it makes a checkpoint complete.
type manifest struct {
	Format        string        `json:"format"`
	FormatVersion int           `json:"format_version"`
	Meta          Meta          `json:"meta"`
	Files         []fileEntry   `json:"files"`
	Tensors       []tensorEntry `json:"tensors"` // in the order they were given to Save
}

type fileEntry struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	Hash  string `json:"xxh3_128"`
}

type tensorEntry struct {
	Name   string            `json:"name"`
	DType  safetensors.DType `json:"dtype"`
	Shape  []int             `json:"shape"`
	File   string            `json:"file"`
	Offset int64             `json:"offset"` // of its first byte in File
	Bytes  int64             `json:"bytes"`
	Hash   string            `json:"xxh3_128"`
}

// A manifest ends with the hash of all bytes before that: selfHash, 32 digits, sealEnd.
const (
	selfHash = ",\n\"manifest_xxh3_128\": \""
	sealEnd  = "\"\n}\n"
)

func sum128(h *xxh3.Hasher) string {
	sum := h.Sum128().Bytes()
	return hex.EncodeToString(sum[:])
}

func hash128(data []byte) string {
	sum := xxh3.Hash128(data).Bytes()
	return hex.EncodeToString(sum[:])
}

// encode returns the manifest as JSON with one line for each file and tensor.
func (m manifest) encode() ([]byte, error) {
	meta, err := json.MarshalIndent(m.Meta, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%w: meta: %w", ErrInvalid, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n\"format\": %q,\n\"format_version\": %d,\n\"meta\": %s,\n\"files\": [", m.Format, m.FormatVersion, meta)
	if err := writeLines(&b, m.Files); err != nil {
		return nil, err
	}
	b.WriteString("],\n\"tensors\": [")
	if err := writeLines(&b, m.Tensors); err != nil {
		return nil, err
	}
	b.WriteString("]")
	hash := hash128(b.Bytes())
	b.WriteString(selfHash + hash + sealEnd)
	return b.Bytes(), nil
}

func writeLines[T any](b *bytes.Buffer, entries []T) error {
	for i, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n  ")
		b.Write(line)
	}
	return nil
}

// decodeManifest reads a manifest. One that is whole but of another version is called that; one
// whose bytes are not those written is called damaged even where the damage hit the version.
func decodeManifest(raw []byte) (manifest, *Problem) {
	problem := func(kind Kind, format string, args ...any) (manifest, *Problem) {
		return manifest{}, &Problem{Kind: kind, File: manifestName, Detail: fmt.Sprintf(format, args...)}
	}
	var m manifest
	err := json.Unmarshal(raw, &m)
	at := bytes.LastIndex(raw, []byte(selfHash))
	ours := m.Format == manifestFormat && m.FormatVersion == FormatVersion
	switch {
	case at >= 0 && string(raw[at:]) == selfHash+hash128(raw[:at])+sealEnd:
		if !ours {
			return problem(ForeignVersion, "format %q version %d", m.Format, m.FormatVersion)
		}
		if err != nil {
			return problem(Damaged, "%v", err)
		}
	case !json.Valid(raw) && !bytes.HasSuffix(raw, []byte(sealEnd)):
		return problem(Truncated, "%d bytes, without the line that ends it", len(raw))
	case at < 0 && !ours: // sealed in another way, or not at all
		return problem(ForeignVersion, "format %q version %d", m.Format, m.FormatVersion)
	default:
		return problem(Damaged, "it does not match the hash in its last line")
	}
	m.Meta.FormatVersion = m.FormatVersion
	if err := m.check(); err != nil {
		return problem(Damaged, "%v", err)
	}
	return m, nil
}

// check refuses a manifest that points outside its directory or at bytes that cannot be.
func (m manifest) check() error {
	sizes := map[string]int64{}
	for _, f := range m.Files {
		if f.Name != filepath.Base(f.Name) || f.Name == ".." || f.Name == "." {
			return fmt.Errorf("file name %q is not plain", f.Name)
		}
		sizes[f.Name] = f.Bytes
	}
	end := map[string]int64{}
	for _, t := range m.byOffset() {
		size, ok := sizes[t.File]
		if !ok {
			return fmt.Errorf("tensor %q is in file %q, which is not listed", t.Name, t.File)
		}
		want, err := safetensors.Info{Name: t.Name, DType: t.DType, Shape: t.Shape}.Bytes()
		if err != nil {
			return err
		}
		if t.Bytes != want || t.Offset < end[t.File] || t.Offset > size-t.Bytes {
			return fmt.Errorf("tensor %q: %d bytes at %d do not fit %s %v in a file of %d", t.Name, t.Bytes, t.Offset, t.DType, t.Shape, size)
		}
		end[t.File] = t.Offset + t.Bytes
	}
	return nil
}
