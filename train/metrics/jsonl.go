package metrics

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"pretrain/internal/atomicfile"
	"pretrain/internal/vfs"
)

// JSONL is the sink of metrics.jsonl: one JSON object a line, one line a step. A line is handed to the system as soon as it
// is written, so the file can be followed, and is on the disk after [JSONL.Flush].
type JSONL struct {
	file *appendFile
}

// OpenJSONL opens the file for the records of a run that goes on with update step; the file need not exist. Lines of step
// and later ones, which will be made again, are cut off, and so is the half line a crash may have left. The cut is atomic:
// the old file or the new one, whatever happens. So after any crash, a run whose records were flushed before each checkpoint
// leaves the file an uninterrupted one would have left, but for the measured times.
//
// A disk that refuses is put up with as patience says.
//
// A line that is not a record is an error if one to be kept comes after it: that is no crash of ours, and nothing is changed.
func OpenJSONL(fsys vfs.FS, path string, step int64, patience Patience) (*JSONL, error) {
	if err := cut(fsys, path, step); err != nil {
		return nil, fmt.Errorf("open metrics %s: %w", path, err)
	}
	file, err := openAppend(fsys, path, patience)
	if err != nil {
		return nil, fmt.Errorf("open metrics: %w", err)
	}
	return &JSONL{file}, nil
}

// cut leaves the lines of the steps before the given one.
func cut(fsys vfs.FS, path string, step int64) error {
	old, err := fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer old.Close()
	info, err := old.Stat()
	if err != nil {
		return err
	}
	keep, err := prefix(old, step)
	if err != nil || keep == info.Size() {
		return err
	}
	return atomicfile.WriteFile(fsys, path, func(w io.Writer) error {
		_, err := io.Copy(w, io.NewSectionReader(old, 0, keep))
		return err
	})
}

// prefix is the length of the lines before the first one of step or later, or the first one that is damaged.
func prefix(r io.Reader, step int64) (int64, error) {
	var end int64
	var damaged error
	last := int64(-1)
	for l, err := range lines(r) {
		if err != nil && !errors.As(err, new(*LineError)) {
			return 0, err
		}
		var record Record
		if err == nil {
			record, err = l.record()
		}
		if err == nil && record.Step <= last {
			err = &LineError{l.number, l.offset, fmt.Errorf("step %d comes after step %d", record.Step, last)}
		}
		switch {
		case err != nil:
			damaged = cmp.Or(damaged, err)
		case record.Step >= step:
			return end, nil
		case damaged != nil:
			return 0, fmt.Errorf("%w, but records to keep follow it; mend or move the file", damaged)
		default:
			end, last = l.offset+int64(len(l.text)), record.Step
		}
	}
	return end, nil
}

// Write implements [Sink].
func (j *JSONL) Write(r Record) error {
	text, err := json.Marshal(r)
	if err == nil {
		err = j.file.write(append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write metrics %s, step %d: %w", j.file.path, r.Step, err)
	}
	return nil
}

// Flush implements [Sink].
func (j *JSONL) Flush() error {
	if err := j.file.flush(); err != nil {
		return fmt.Errorf("flush metrics %s: %w", j.file.path, err)
	}
	return nil
}

// Close implements [Sink].
func (j *JSONL) Close() error {
	if err := j.file.close(); err != nil {
		return fmt.Errorf("close metrics %s: %w", j.file.path, err)
	}
	return nil
}
