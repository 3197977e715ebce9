package plugin

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// FreeSpace returns the bytes that an ordinary user can still write on the disk of an existing folder.
func FreeSpace(dir string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(fs.Bavail) * int64(fs.Bsize), nil
}
