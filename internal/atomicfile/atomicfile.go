// Package atomicfile writes a file so that, whatever happens, its name holds the whole old content or the
// whole new one: temporary name in the same directory, write, fsync, rename, fsync of the directory.
package atomicfile

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"pretrain/internal/vfs"
)

// tempMark is between the final name and the random part of a temporary name. The leading dot
// that goes with it keeps these files out of globs.
const tempMark = ".tmp-"

// WriteFile replaces the file at path by what write produces. When it returns nil the file is durable;
// when it fails, write's own error included, the old file is untouched and the temporary one
// is gone (a crash may leave it: see [RemoveTemps]). The directory must exist. Writes are
// buffered. Two concurrent calls for one path are safe; the later rename wins.
func WriteFile(fsys vfs.FS, path string, write func(io.Writer) error) error {
	if err := writeFile(fsys, path, write); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Write is [WriteFile] for content that is at hand.
func Write(fsys vfs.FS, path string, content []byte) error {
	return WriteFile(fsys, path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

func writeFile(fsys vfs.FS, path string, write func(io.Writer) error) error {
	dir, base := filepath.Split(filepath.Clean(path))
	if dir == "" {
		dir = "."
	}
	var unique [8]byte
	rand.Read(unique[:]) // never fails; random so that concurrent writers do not share a temporary file
	temp := filepath.Join(dir, "."+base+tempMark+hex.EncodeToString(unique[:]))

	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(f, 64<<10)
	err = write(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(temp, path)
	}
	if err != nil {
		_ = fsys.Remove(temp) // best effort: the first error is the one to report
		return err
	}
	return fsys.SyncDir(dir)
}

// RemoveTemps removes the temporary files that crashed calls of [WriteFile] left in a directory and
// returns their names. Call it only while no one else may be writing there: it cannot tell a
// leftover from a file being written.
func RemoveTemps(fsys vfs.FS, dir string) (removed []string, err error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") || !strings.Contains(e.Name(), tempMark) || e.IsDir() {
			continue
		}
		if err := fsys.Remove(filepath.Join(dir, e.Name())); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, e.Name())
	}
	return removed, errors.Join(errs...)
}
