package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"pretrain/internal/vfs"
)

const (
	tempPrefix  = ".tmp-"
	oldPrefix   = ".old-"
	trashPrefix = ".trash-"
	pinsDir     = "pins"
)

// Options configures [Open].
type Options struct {
	// ReadOnly leaves the folder as it is, leftovers included: for a run that another process
	// may be training.
	ReadOnly bool
	// MaxShardBytes bounds the tensor bytes of a file; 0 = [DefaultMaxShardBytes].
	MaxShardBytes int64
}

// Store is a folder of checkpoints. Its methods may be used by several goroutines; saving and
// deleting exclude each other. At most one process may have it open for writing: see [Lock].
type Store struct {
	fsys          vfs.FS
	dir           string
	readOnly      bool
	maxShardBytes int64

	writing sync.Mutex // held by Save and Prune

	mu       sync.Mutex
	verified map[int64]bool // steps that were read back whole since they were last written
}

// Open opens the folder dir, makes it if it is missing, and clears away what a crash left there,
// unless opts say to only read.
func Open(fsys vfs.FS, dir string, opts Options) (*Store, error) {
	s := &Store{
		fsys: fsys, dir: dir, readOnly: opts.ReadOnly, maxShardBytes: opts.MaxShardBytes,
		verified: map[int64]bool{},
	}
	if s.maxShardBytes == 0 {
		s.maxShardBytes = DefaultMaxShardBytes
	}
	if s.readOnly {
		return s, nil
	}
	if err := vfs.MkdirAllSync(fsys, dir); err != nil {
		return nil, fmt.Errorf("checkpoint folder %s: %w", dir, err)
	}
	// A process that was killed just after it made the folder may not have synced its name.
	if err := fsys.SyncDir(filepath.Dir(dir)); err != nil {
		return nil, fmt.Errorf("checkpoint folder %s: %w", dir, err)
	}
	if err := s.clean(); err != nil {
		return nil, fmt.Errorf("clean checkpoint folder %s: %w", dir, err)
	}
	return s, nil
}

// Dir returns the store's folder.
func (s *Store) Dir() string { return s.dir }

func stepName(step int64) string { return fmt.Sprintf("step-%09d", step) }

// Path returns the directory of a step's checkpoint, whether it exists or not.
func (s *Store) Path(step int64) string { return filepath.Join(s.dir, stepName(step)) }

func (s *Store) hidden(prefix string, step int64) string {
	return filepath.Join(s.dir, prefix+stepName(step))
}

var stepPattern = regexp.MustCompile(`^step-(\d{9,})$`)

// parseStep returns the step of a directory named by stepName.
func parseStep(name string) (int64, bool) {
	match := stepPattern.FindStringSubmatch(name)
	if match == nil {
		return 0, false
	}
	step, err := strconv.ParseInt(match[1], 10, 64)
	return step, err == nil && stepName(step) == name
}

// clean restores the invariant after a crash: see the package's documentation.
func (s *Store) clean() error {
	entries, err := s.fsys.ReadDir(s.dir)
	if err != nil {
		return err
	}
	changed := false
	for _, e := range entries {
		name := e.Name()
		step, isOld := parseStep(strings.TrimPrefix(name, oldPrefix))
		switch {
		case isOld && strings.HasPrefix(name, oldPrefix):
			err = s.restore(step)
		case strings.HasPrefix(name, tempPrefix), strings.HasPrefix(name, trashPrefix):
			err = s.fsys.RemoveAll(filepath.Join(s.dir, name))
		default:
			continue
		}
		if err != nil {
			return err
		}
		changed = true
	}
	if !changed {
		return nil
	}
	return s.fsys.SyncDir(s.dir)
}

// restore ends a replacement that was cut off: the old version gets its name back if the new one
// did not take it, and is removed otherwise.
func (s *Store) restore(step int64) error {
	old := s.hidden(oldPrefix, step)
	there, err := s.exists(old)
	if err != nil || !there {
		return err
	}
	replaced, err := s.exists(s.Path(step))
	if err != nil {
		return err
	}
	if replaced {
		return s.fsys.RemoveAll(old)
	}
	return s.fsys.Rename(old, s.Path(step))
}

func (s *Store) exists(path string) (bool, error) {
	_, err := s.fsys.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// List returns the steps that have a checkpoint, in rising order. It does not read them: one may
// still be damaged. A folder that does not exist holds none.
func (s *Store) List() ([]int64, error) {
	entries, err := s.fsys.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var steps []int64
	for _, e := range entries {
		if step, ok := parseStep(e.Name()); ok && e.IsDir() {
			steps = append(steps, step)
		}
	}
	slices.Sort(steps) // by number: a step of ten digits sorts wrongly by name
	return steps, nil
}

// Latest returns the newest step that has a checkpoint, or [ErrNone].
func (s *Store) Latest() (int64, error) {
	steps, err := s.List()
	if err != nil {
		return 0, err
	}
	if len(steps) == 0 {
		return 0, fmt.Errorf("%s: %w", s.dir, ErrNone)
	}
	return steps[len(steps)-1], nil
}

func (s *Store) setVerified(step int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verified[step] = ok
}

func (s *Store) isVerified(step int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.verified[step]
}
