package prepare

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"pretrain/internal/vfs"
)

const (
	manifestName = "MANIFEST.json"
	tmpSuffix    = ".tmp"
	lockSuffix   = ".lock"
)

// lock takes the lock of one result, telling waiting if someone else has it. The system releases it when the process
// dies, however it does. Lock files stay: removing one could pull it from under a process that has just opened it.
func lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	l := flock.New(path)
	got, err := l.TryLock()
	if err == nil && !got {
		waiting()
		_, err = l.TryLockContext(ctx, 100*time.Millisecond)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { l.Close() }, nil
}

// removeStale removes the unfinished folders of processes that are gone. The caller holds the lock of own.
func removeStale(fsys vfs.FS, root, own string) error {
	entries, err := fsys.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		key, unfinished := strings.CutSuffix(e.Name(), tmpSuffix)
		if !unfinished || !e.IsDir() {
			continue
		}
		if key != own {
			l := flock.New(filepath.Join(root, key+lockSuffix))
			if got, err := l.TryLock(); err != nil || !got {
				l.Close()
				continue // someone is at work in it
			}
			defer l.Close()
		}
		if err := fsys.RemoveAll(filepath.Join(root, e.Name())); err != nil {
			return fmt.Errorf("remove what an interrupted run left: %w", err)
		}
	}
	return nil
}

// every calls f now and then until stop, which calls it a last time.
func every(f func()) (stop func()) {
	ticker, done, ended := time.NewTicker(100*time.Millisecond), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ticker.C:
				f()
			case <-done:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(done)
		<-ended
		f()
	}
}
