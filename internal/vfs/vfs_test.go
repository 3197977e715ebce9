package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pretrain/internal/vfs"
)

func write(t *testing.T, fsys vfs.FS, name, data string, sync bool) {
	t.Helper()
	f, err := fsys.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	if sync {
		must(t, f.Sync())
	}
	must(t, f.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, fsys vfs.FS, name string) string {
	t.Helper()
	data, err := vfs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "(missing)"
	}
	must(t, err)
	return string(data)
}

// The memory file system must do what the operating system's does: the same script runs on both.
func TestContract(t *testing.T) {
	systems := map[string]struct {
		fsys vfs.FS
		dir  string
	}{
		"os":     {vfs.OS, t.TempDir()},
		"mem":    {vfs.NewCrashableMem(), "/"},
		"errors": {vfs.WithErrors(vfs.NewCrashableMem(), func(vfs.Op) error { return nil }), "/"},
	}
	for name, s := range systems {
		t.Run(name, func(t *testing.T) {
			fsys, at := s.fsys, func(name string) string { return filepath.Join(s.dir, name) }
			must(t, vfs.MkdirAllSync(fsys, at("a/b")))
			must(t, fsys.MkdirAll(at("a/b")))
			write(t, fsys, at("a/x"), "hello", true)
			write(t, fsys, at("a/b/y"), "y", false)

			f, err := fsys.Open(at("a/x"))
			must(t, err)
			p := make([]byte, 3)
			if n, err := f.ReadAt(p, 3); n != 2 || err != io.EOF || string(p[:n]) != "lo" {
				t.Errorf("ReadAt past the end = %d, %v, %q; want 2, EOF, \"lo\"", n, err, p[:n])
			}
			if info, err := f.Stat(); err != nil || info.Size() != 5 || info.IsDir() {
				t.Errorf("Stat of the open file = %v, %v", info, err)
			}
			must(t, fsys.Remove(at("a/x")))
			if all, err := io.ReadAll(f); string(all) != "hello" || err != nil {
				t.Errorf("reading a removed open file = %q, %v", all, err)
			}
			must(t, f.Close())
			if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("second Close = %v", err)
			}

			g, err := fsys.OpenAppend(at("a/b/y"))
			must(t, err)
			_, err = g.Write([]byte("z"))
			must(t, err)
			must(t, g.Close())
			write(t, fsys, at("a/z"), "old", false)
			must(t, fsys.Rename(at("a/b/y"), at("a/z")))
			if got := read(t, fsys, at("a/z")); got != "yz" {
				t.Errorf("after append and rename: %q", got)
			}

			must(t, fsys.MkdirAll(at("c")))
			write(t, fsys, at("c/1"), "", false)
			for what, err := range map[string]error{
				"rename onto a full directory":   fsys.Rename(at("a/b"), at("c")),
				"remove a full directory":        fsys.Remove(at("c")),
				"rename a file onto a directory": fsys.Rename(at("a/z"), at("c")),
				"create below a file":            second(fsys.Create(at("a/z/q"))),
				"create over a directory":        second(fsys.Create(at("c"))),
				"mkdir over a file":              fsys.MkdirAll(at("a/z")),
				"list a file":                    second(fsys.ReadDir(at("a/z"))),
			} {
				if err == nil || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: error = %v", what, err)
				}
			}
			for what, err := range map[string]error{
				"open":     second(fsys.Open(at("nothing"))),
				"stat":     second(fsys.Stat(at("nothing"))),
				"list":     second(fsys.ReadDir(at("nothing"))),
				"remove":   fsys.Remove(at("nothing")),
				"rename":   fsys.Rename(at("nothing"), at("x")),
				"create":   second(fsys.Create(at("nothing/x"))),
				"sync dir": fsys.SyncDir(at("nothing")),
			} {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s of a missing name: error = %v", what, err)
				}
			}
			must(t, fsys.RemoveAll(at("nothing")))
			must(t, fsys.Rename(at("a/b"), at("empty")))
			must(t, fsys.RemoveAll(at("c")))
			must(t, fsys.SyncDir(at("a")))
			entries, err := fsys.ReadDir(s.dir)
			must(t, err)
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
				if !e.IsDir() {
					t.Errorf("%s is listed as a file", e.Name())
				}
			}
			if diff := cmp.Diff([]string{"a", "empty"}, names); diff != "" {
				t.Errorf("listing (-want +got):\n%s", diff)
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

// What a power cut leaves, by what was synced before it.
func TestCrashLosesUnsynced(t *testing.T) {
	for _, c := range []struct {
		name     string
		syncFile bool
		syncDir  bool
		want     string
	}{
		{"nothing synced", false, false, "(missing)"},
		{"file only: its name is lost", true, false, "(missing)"},
		{"directory only: an empty file", false, true, ""},
		{"both", true, true, "data"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := vfs.NewCrashableMem()
			write(t, m, "tmp", "data", c.syncFile)
			must(t, m.Rename("tmp", "f"))
			if c.syncDir {
				must(t, m.SyncDir("."))
			}
			f, err := m.Open("f")
			must(t, err)
			m.Crash(nil)
			if got := read(t, m, "f"); got != c.want {
				t.Errorf("after the crash: %q, want %q", got, c.want)
			}
			if got := read(t, m, "tmp"); got != "(missing)" {
				t.Errorf("the old name holds %q", got)
			}
			if _, err := f.Read(make([]byte, 1)); !errors.Is(err, vfs.ErrCrashed) {
				t.Errorf("a file from before the crash still reads: %v", err)
			}
		})
	}
}

func TestCrashUndoesUnsyncedRemoval(t *testing.T) {
	m := vfs.NewCrashableMem()
	must(t, vfs.MkdirAllSync(m, "/d/e"))
	write(t, m, "/d/e/f", "1", true)
	must(t, m.SyncDir("/d/e"))
	must(t, m.RemoveAll("/d"))
	m.Crash(nil)
	if got := read(t, m, "/d/e/f"); got != "1" {
		t.Errorf("after the crash: %q", got)
	}
}

// Two renames in one directory never survive the second without the first, and a partial crash
// reaches each of the allowed outcomes.
func TestPartialCrash(t *testing.T) {
	outcomes := map[string]bool{}
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		m := vfs.NewCrashableMem()
		write(t, m, "a", "aa", true)
		must(t, m.SyncDir("/"))
		must(t, m.Rename("a", "b"))
		must(t, m.Rename("b", "c"))
		f, err := m.OpenAppend("c")
		must(t, err)
		_, err = f.Write([]byte("bbbb"))
		must(t, err)
		m.Crash(rng.IntN)
		var state string
		for _, name := range []string{"a", "b", "c"} {
			if got := read(t, m, name); got != "(missing)" {
				state += name + "=" + got + " "
			}
		}
		outcomes[state] = true
		m.Crash(nil)
	}
	want := map[string]bool{}
	for _, name := range []string{"a", "b", "c"} {
		for _, data := range []string{"aa", "aab", "\x00\x00\x00\x00\x00\x00", "aabbbb"} {
			want[name+"="+data+" "] = true
		}
	}
	if diff := cmp.Diff(want, outcomes); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

func TestCrashAt(t *testing.T) {
	m := vfs.NewCrashableMem()
	write(t, m, "keep", "1", true)
	must(t, m.SyncDir("/"))
	m.ResetOps()
	m.CrashAt(2)
	f, err := m.Create("new")
	must(t, err)
	_, err = f.Write([]byte("x"))
	must(t, err)
	if err := f.Sync(); !errors.Is(err, vfs.ErrCrashed) || !m.Crashed() {
		t.Fatalf("the third operation: %v", err)
	}
	if _, err := m.Stat("keep"); !errors.Is(err, vfs.ErrCrashed) {
		t.Errorf("a read after the crash: %v", err)
	}
	var log bytes.Buffer
	for _, op := range m.Ops() {
		log.WriteString(op.String() + "\n")
	}
	if diff := cmp.Diff("create new\nwrite new 1\n", log.String()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	m.Crash(nil)
	if read(t, m, "keep") != "1" || read(t, m, "new") != "(missing)" {
		t.Error("wrong files after the crash")
	}
}

func TestWithErrors(t *testing.T) {
	for kind := vfs.OpCreate; kind <= vfs.OpRemoveAll; kind++ {
		t.Run(kind.String(), func(t *testing.T) {
			armed := false
			fsys := vfs.WithErrors(vfs.NewCrashableMem(), func(op vfs.Op) error {
				if armed && op.Kind == kind {
					return syscall.ENOSPC
				}
				return nil
			})
			write(t, fsys, "f", "1", true)
			must(t, fsys.MkdirAll("d"))
			armed = true
			if err := everyOperation(fsys); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("error = %v, want ENOSPC", err)
			}
		})
	}
}

// everyOperation does each kind of operation once and joins their errors.
func everyOperation(fsys vfs.FS) error {
	var errs []error
	try := func(err error) {
		if err != nil && err != io.EOF {
			errs = append(errs, err)
		}
	}
	use := func(f vfs.File, err error) {
		try(err)
		if f != nil {
			_, err = f.Write([]byte("x"))
			try(err)
			try(f.Sync())
			try(f.Close())
		}
	}
	use(fsys.Create("g"))
	use(fsys.OpenAppend("g"))
	f, err := fsys.Open("f")
	try(err)
	if f != nil {
		_, err = f.Read(make([]byte, 1))
		try(err)
		_, err = f.ReadAt(make([]byte, 1), 0)
		try(err)
		try(f.Close())
	}
	_, err = fsys.ReadDir("d")
	try(err)
	_, err = fsys.Stat("d")
	try(err)
	try(fsys.MkdirAll("e"))
	try(fsys.SyncDir("d"))
	try(fsys.Rename("g", "h"))
	try(fsys.Remove("f"))
	try(fsys.RemoveAll("d"))
	return errors.Join(errs...)
}
