package prepare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pretrain/internal/vfs"
)

func TestDiskFull(t *testing.T) {
	source, cache := corpus(t, 20), t.TempDir()
	before := mustRun(t, options(corpus(t, 10), cache))
	kept := tree(t, before.Dir)
	for fail := 0; ; fail++ {
		var mu sync.Mutex
		seen, path := 0, ""
		o := options(source, cache)
		o.fsys = vfs.WithErrors(vfs.OS, func(op vfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			switch op.Kind {
			case vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpMkdir:
			default:
				return nil
			}
			if seen++; seen-1 != fail {
				return nil
			}
			path = op.Path
			return &fs.PathError{Op: op.Kind.String(), Path: op.Path, Err: syscall.ENOSPC}
		})
		_, err := Run(t.Context(), o)
		if path == "" {
			if err != nil || fail < 20 {
				t.Fatalf("%d operations: %v", fail, err)
			}
			break
		}
		if err == nil || !strings.Contains(err.Error(), "the disk is full: free some space") || !strings.Contains(err.Error(), path) {
			t.Errorf("operation %d: got %v: want it to name %s", fail, err, path)
		}
	}
	if !maps.Equal(tree(t, before.Dir), kept) {
		t.Error("an earlier result has changed")
	}
}

// Two runs for the same data: one works, one waits and finds it done.
func TestConcurrentRuns(t *testing.T) {
	source, cache := corpus(t, 20), t.TempDir()
	started := make(chan struct{})
	first := options(source, cache)
	waiting := make(chan struct{})
	first.Tokenizer = byteTokenizer{key: "k", onBuild: func() { close(started); <-waiting }}
	second := options(source, cache)
	second.Tokenizer = byteTokenizer{key: "k", onBuild: func() { t.Error("the work was done twice") }}
	second.Progress = func(p Progress) {
		if p.Stage == Wait {
			close(waiting)
		}
	}
	var group sync.WaitGroup
	group.Go(func() {
		if p, err := Run(t.Context(), first); err != nil || p.Cached {
			t.Errorf("first: %v", err)
		}
	})
	group.Go(func() {
		<-started
		if p, err := Run(t.Context(), second); err != nil || !p.Cached {
			t.Errorf("second: %v", err)
		}
	})
	group.Wait()
}

func TestCancel(t *testing.T) {
	o := options(corpus(t, 20), t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	o.Tokenizer = byteTokenizer{onBuild: cancel}
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if source := os.Getenv("PREPARE_TEST_SOURCE"); source != "" {
		o := options(source, os.Getenv("PREPARE_TEST_CACHE"))
		o.Tokenizer = byteTokenizer{key: os.Getenv("PREPARE_TEST_KEY"), onBuild: func() {
			fmt.Println("building")
			if os.Getenv("PREPARE_TEST_KEY") == "hang" {
				select {}
			}
		}}
		if _, err := Run(context.Background(), o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(source, cache, key string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PREPARE_TEST_SOURCE="+source, "PREPARE_TEST_CACHE="+cache, "PREPARE_TEST_KEY="+key)
	return cmd
}

// kill -9 at moments spread over a run: the next run gives the same bytes and leaves nothing else behind.
func TestKill(t *testing.T) {
	source := corpus(t, 400)
	o := options(source, t.TempDir())
	o.Tokenizer = byteTokenizer{key: "kill"}
	begin := time.Now()
	if out, err := child(source, t.TempDir(), "kill").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	took := time.Since(begin)
	want := tree(t, mustRun(t, o).Dir)
	killed := 0
	for i := range 12 {
		o.CacheDir = t.TempDir()
		cmd := child(source, o.CacheDir, "kill")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(took * time.Duration(i+1) / 12)
		cmd.Process.Kill()
		if cmd.Wait() != nil {
			killed++
		}
		p := mustRun(t, o)
		if got := tree(t, p.Dir); !maps.Equal(got, want) {
			t.Fatalf("killed after %d/12 of the run: other bytes", i+1)
		}
		entries, _ := os.ReadDir(filepath.Join(o.CacheDir, "data"))
		for _, e := range entries {
			if e.Name() != p.Key && e.Name() != p.Key+lockSuffix {
				t.Errorf("left %s", e.Name())
			}
		}
	}
	if killed == 0 {
		t.Error("no process was killed in time")
	}
}

// The folder of a process at work is left alone; once it is dead, any other run removes it.
func TestStaleFolders(t *testing.T) {
	source, cache := corpus(t, 20), t.TempDir()
	cmd := child(source, cache, "hang")
	var out bytes.Buffer
	cmd.Stderr = &out
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	if _, err := stdout.Read(make([]byte, 64)); err != nil { // it is building
		t.Fatalf("%v: %s", err, out.String())
	}
	unfinished := func() int {
		found, _ := filepath.Glob(filepath.Join(cache, "data", "*"+tmpSuffix))
		return len(found)
	}
	mustRun(t, options(source, cache))
	if unfinished() != 1 {
		t.Fatal("the folder of a process at work was removed")
	}
	cmd.Process.Kill()
	cmd.Wait()
	o := options(source, cache)
	o.Tokenizer = byteTokenizer{key: "another"}
	mustRun(t, o)
	if unfinished() != 0 {
		t.Error("the folder of a dead process stays")
	}
}

func TestDamagedManifest(t *testing.T) {
	o := options(corpus(t, 5), t.TempDir())
	p := mustRun(t, o)
	path := filepath.Join(p.Dir, manifestName)
	put(t, path, "{")
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), path+" is damaged") {
		t.Errorf("got %v", err)
	}
}
