package checkpoint

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// lockName is the lock's file in a run directory. It stays when the lock is released: removing it
// would let two processes lock two files of that name.
const lockName = "LOCK"

// Owner says who holds a run directory.
type Owner struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Started time.Time `json:"started"` // when the lock was taken
	Command string    `json:"command"`
}

// HeldError says that another process holds the run directory.
type HeldError struct {
	Dir   string
	Owner Owner // zero if it has not written its name yet
}

// Error implements error.
func (e *HeldError) Error() string {
	who := "another process"
	if e.Owner.PID != 0 {
		since := e.Owner.Started.Local().Format(time.DateTime)
		who = fmt.Sprintf("process %d on %s since %s (%s)", e.Owner.PID, e.Owner.Host, since, e.Owner.Command)
	}
	return fmt.Sprintf("run directory %s is in use by %s: stop it, or choose another run directory", e.Dir, who)
}

// DirLock is an exclusive lock of a run directory.
type DirLock struct{ file *flock.Flock }

// Lock takes the run directory dir, which must exist, for this process. If another holds it, the error
// is a [*HeldError]. The kernel releases the lock when the process ends, kill -9 included, so none is
// ever stale. It is advisory, and a file system without locks is an error.
func Lock(dir string) (*DirLock, error) {
	path := filepath.Join(dir, lockName)
	file := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o644))
	locked, err := file.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock run directory %s (it must be writable, on a file system with locks): %w", dir, err)
	}
	if !locked {
		return nil, &HeldError{Dir: dir, Owner: readOwner(path)}
	}
	host, _ := os.Hostname() // only shown to people
	owner, err := json.Marshal(Owner{PID: os.Getpid(), Host: host, Started: time.Now().Round(0), Command: filepath.Base(os.Args[0])})
	if err == nil {
		err = os.WriteFile(path, owner, 0o644) // the lock belongs to the open file, not to this second one
	}
	if err != nil {
		_ = file.Unlock() // the first error is the one to report
		return nil, fmt.Errorf("lock run directory %s: %w", dir, err)
	}
	return &DirLock{file}, nil
}

// readOwner returns the zero Owner where the file cannot be read: it only serves a message.
func readOwner(path string) (owner Owner) {
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &owner) != nil {
		return Owner{}
	}
	return owner
}

// Unlock gives the directory back. A second call does nothing.
func (l *DirLock) Unlock() error { return l.file.Unlock() }
