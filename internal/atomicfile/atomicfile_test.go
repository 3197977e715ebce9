package atomicfile_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pretrain/internal/atomicfile"
	"pretrain/internal/vfs"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
}

func ExampleWriteFile() {
	fsys := vfs.NewCrashableMem()
	err := atomicfile.WriteFile(fsys, "state.json", func(w io.Writer) error {
		_, err := fmt.Fprintln(w, `{"step": 7}`)
		return err
	})
	data, _ := vfs.ReadFile(fsys, "state.json")
	fmt.Print(err, "\n", string(data))
	// Output:
	// <nil>
	// {"step": 7}
}

// The order of operations is the whole point, so a change of it must be seen.
func TestOperations(t *testing.T) {
	m := vfs.NewCrashableMem()
	if err := atomicfile.WriteFile(m, "f", text("abc")); err != nil {
		t.Fatal(err)
	}
	var log []string
	unique := regexp.MustCompile("[0-9a-f]{16}")
	for _, op := range m.Ops() {
		log = append(log, unique.ReplaceAllString(op.String(), "X"))
	}
	want := []string{"create .f.tmp-X", "write .f.tmp-X 3", "sync .f.tmp-X", "close .f.tmp-X", "rename .f.tmp-X f", "sync-dir ."}
	if diff := cmp.Diff(want, log); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
}

func TestCrashAtEveryOperation(t *testing.T) {
	long := strings.Repeat("new", 50_000) // several writes
	for seed := range uint64(20) {        // 0: all that is not synced is lost; else a part of it
		for at := 0; ; at++ {
			m := vfs.NewCrashableMem()
			if err := atomicfile.WriteFile(m, "/f", text("old")); err != nil {
				t.Fatal(err)
			}
			m.CrashAt(at)
			err := atomicfile.WriteFile(m, "/f", text(long))
			if (err == nil) == m.Crashed() {
				t.Fatalf("crash at %d: error = %v", at, err)
			}
			var pick func(int) int
			if seed > 0 {
				pick = rand.New(rand.NewPCG(seed, uint64(at))).IntN
			}
			m.Crash(pick)
			got, rerr := vfs.ReadFile(m, "/f")
			if rerr != nil || string(got) != "old" && string(got) != long || err == nil && string(got) != long {
				t.Fatalf("crash at %d, seed %d: %d bytes, %v", at, seed, len(got), rerr)
			}
			if _, err := atomicfile.RemoveTemps(m, "/"); err != nil {
				t.Fatal(err)
			}
			if entries, _ := m.ReadDir("/"); len(entries) != 1 {
				t.Fatalf("crash at %d: left over: %v", at, entries)
			}
			if err == nil {
				break
			}
		}
	}
}

func TestFailureKeepsTheOldFile(t *testing.T) {
	for kind := vfs.OpCreate; kind <= vfs.OpRename; kind++ {
		if kind == vfs.OpOpenAppend {
			continue
		}
		m := vfs.NewCrashableMem()
		if err := atomicfile.WriteFile(m, "f", text("old")); err != nil {
			t.Fatal(err)
		}
		full := vfs.WithErrors(m, func(op vfs.Op) error {
			if op.Kind == kind {
				return syscall.ENOSPC
			}
			return nil
		})
		err := atomicfile.WriteFile(full, "f", text("new"))
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "write f:") {
			t.Errorf("%s: error = %v", kind, err)
		}
		if got, _ := vfs.ReadFile(m, "f"); string(got) != "old" {
			t.Errorf("%s: file holds %q", kind, got)
		}
		if entries, _ := m.ReadDir("."); len(entries) != 1 {
			t.Errorf("%s: left over: %v", kind, entries)
		}
	}

	own := errors.New("own")
	m := vfs.NewCrashableMem()
	err := atomicfile.WriteFile(m, "f", func(io.Writer) error { return own })
	if entries, _ := m.ReadDir("."); !errors.Is(err, own) || len(entries) != 0 {
		t.Errorf("the writer's own error: %v, entries %v", err, entries)
	}
}

func TestRemoveTempsLeavesOthers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"f", ".f.tmp-0011223344556677", ".hidden", "a.tmp-b"} {
		f, err := vfs.OS.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	removed, err := atomicfile.RemoveTemps(vfs.OS, dir)
	if diff := cmp.Diff([]string{".f.tmp-0011223344556677"}, removed); diff != "" || err != nil {
		t.Errorf("removed (-want +got), error %v:\n%s", err, diff)
	}
}
