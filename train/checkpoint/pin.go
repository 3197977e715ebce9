package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"pretrain/internal/atomicfile"
	"pretrain/internal/vfs"
)

// Pin keeps a checkpoint from being deleted.
type Pin struct {
	Step int64
	Name string // who needs it, such as the name of a branch; may be empty
}

func (p Pin) file() string {
	if p.Name == "" {
		return stepName(p.Step)
	}
	return stepName(p.Step) + "." + p.Name
}

var pinPattern = regexp.MustCompile(`^step-(\d+)(?:\.([A-Za-z0-9][A-Za-z0-9._-]{0,99}))?$`)

// Pin keeps a step's checkpoint from retention until [Store.Unpin], under a name of letters, digits and "._-".
// The note goes into the file for people to read. It works on a store opened read-only, as a branch
// pins its trunk's checkpoint while the trunk trains. Pinning twice is one pin. Pin before loading.
func (s *Store) Pin(pin Pin, note string) error {
	if !pinPattern.MatchString(pin.file()) {
		return fmt.Errorf("pin %q of step %d: a name has letters, digits and ._- only", pin.Name, pin.Step)
	}
	dir := filepath.Join(s.dir, pinsDir)
	if err := vfs.MkdirAllSync(s.fsys, dir); err != nil {
		return fmt.Errorf("pin step %d: %w", pin.Step, err)
	}
	err := atomicfile.WriteFile(s.fsys, filepath.Join(dir, pin.file()), func(w io.Writer) error {
		_, err := io.WriteString(w, note+"\n")
		return err
	})
	if err != nil {
		return fmt.Errorf("pin step %d: %w", pin.Step, err)
	}
	there, err := s.exists(s.Path(pin.Step))
	if err == nil && !there {
		err = fmt.Errorf("%s: %w of that step (deleted by retention, or never saved)", s.dir, ErrNone)
	}
	if err != nil {
		return fmt.Errorf("pin step %d: %w", pin.Step, errors.Join(err, s.Unpin(pin)))
	}
	return nil
}

// Unpin takes a pin away; one that is not there is no error.
func (s *Store) Unpin(pin Pin) error {
	dir := filepath.Join(s.dir, pinsDir)
	err := s.fsys.Remove(filepath.Join(dir, pin.file()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("unpin step %d: %w", pin.Step, err)
	}
	return s.fsys.SyncDir(dir)
}

// Pins lists all pins. A file in the pins folder that is not a pin is an error: somebody may have made it by hand and
// misspelled it. Hidden files are passed over.
func (s *Store) Pins() ([]Pin, error) {
	dir := filepath.Join(s.dir, pinsDir)
	entries, err := s.fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pins []Pin
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		match := pinPattern.FindStringSubmatch(e.Name())
		if match == nil {
			return nil, fmt.Errorf("%s: not a pin; name it like %s.why, or remove it", filepath.Join(dir, e.Name()), stepName(1000))
		}
		step, err := strconv.ParseInt(match[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, e.Name()), err)
		}
		pins = append(pins, Pin{Step: step, Name: match[2]})
	}
	return pins, nil
}
