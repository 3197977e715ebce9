package read

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// asNobody runs f without root's right to read everything, which CI containers often have.
func asNobody(t *testing.T, f func()) {
	if os.Geteuid() != 0 {
		f()
		return
	}
	runtime.LockOSThread() // the file-system user is the thread's; it is not unlocked, so the thread ends with the test
	if err := unix.Setfsuid(65534); err != nil {
		t.Skip(err)
	}
	defer unix.Setfsuid(0)
	f()
}

func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/ok/a.txt", []byte("x"))
	file := put(t, dir+"/file/secret.txt", []byte("x"))
	put(t, dir+"/folder/sub/a.txt", []byte("x"))
	closed := filepath.Join(dir, "folder/sub")
	for _, path := range []string{file, closed} {
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
	}
	defer os.Chmod(closed, 0o777)
	asNobody(t, func() {
		if _, _, err := readAll(t, Default(dir+"/ok")); err != nil {
			t.Skipf("cannot test: %v", err)
		}
		for _, c := range []struct{ path, names string }{{dir + "/file", file}, {dir + "/folder", closed}} {
			for _, policy := range []Policy{Fail, Skip} { // a right that is missing is no bad document
				spec := Default(c.path)
				spec.OnBad = policy
				_, _, err := readAll(t, spec)
				if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), c.names) {
					t.Errorf("%s: %v: want it to name %s", policy, err, c.names)
				}
			}
		}
	})
}
