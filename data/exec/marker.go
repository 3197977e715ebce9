package exec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/zeebo/xxh3"

	"pretrain/internal/atomicfile"
	"pretrain/internal/vfs"
)

const (
	markerName    = "DONE.json"
	markerVersion = 1
)

// Marker is what a finished task leaves beside its files.
type Marker struct {
	Version int      `json:"version"`
	Key     string   `json:"key"`
	Inputs  []Input  `json:"inputs"`
	Outputs []Output `json:"outputs"`
	Counts  Counts   `json:"counts,omitempty"`
}

// Output is a file that a task wrote.
type Output struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	Hash string `json:"xxh3"` // 128 bits, in hex
}

// hash identifies all outputs together.
func (m Marker) hash() string {
	h := xxh3.New()
	for _, o := range m.Outputs {
		fmt.Fprintf(h, "%d %s %s\n", len(o.Name), o.Name, o.Hash)
	}
	return fmt.Sprintf("%x", h.Sum128().Bytes())
}

// load finds the marker of a finished task. ok tells that it was made from these inputs and that its files are there, with
// their sizes; a file that somebody changed without changing its size is not noticed.
func load(fsys vfs.FS, dir, key string, inputs []Input) (m Marker, ok bool, err error) {
	b, err := vfs.ReadFile(fsys, filepath.Join(dir, markerName))
	if errors.Is(err, fs.ErrNotExist) {
		return m, false, nil
	} else if err != nil {
		return m, false, err
	}
	if json.Unmarshal(b, &m) != nil || m.Version != markerVersion || m.Key != key || !slices.Equal(m.Inputs, inputs) {
		return m, false, nil
	}
	for _, o := range m.Outputs {
		info, err := fsys.Stat(filepath.Join(dir, o.Name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() != o.Size {
			return m, false, nil
		} else if err != nil {
			return m, false, err
		}
	}
	return m, true, nil
}

func (m Marker) write(fsys vfs.FS, dir string) error {
	return atomicfile.WriteFile(fsys, filepath.Join(dir, markerName), func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(m)
	})
}

// seal makes the files of a folder durable and sums them up, in the order of their names.
func seal(ctx context.Context, fsys vfs.FS, dir string) ([]Output, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	outputs := []Output{}
	for _, e := range entries {
		if e.IsDir() || e.Name() == markerName {
			return nil, fmt.Errorf("the task wrote %s: want files only, and none of that name", e.Name())
		}
		o, err := sealFile(ctx, fsys, filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		outputs = append(outputs, o)
	}
	return outputs, nil
}

func sealFile(ctx context.Context, fsys vfs.FS, path string) (o Output, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h, buf := xxh3.New(), make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return o, err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		o.Size += int64(n)
		if err == io.EOF {
			break
		} else if err != nil {
			return o, err
		}
	}
	o.Name, o.Hash = filepath.Base(path), fmt.Sprintf("%x", h.Sum128().Bytes())
	return o, f.Sync()
}
