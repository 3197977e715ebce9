package exec_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pretrain/data/exec"
	"pretrain/internal/vfs"
)

// chain is two steps: upper-case each text, then join all of them. ran notes the tasks that ran.
type chain struct {
	fsys  vfs.FS
	texts []string

	mu  sync.Mutex
	ran []string
}

func (c *chain) note(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ran = append(c.ran, name)
}

func (c *chain) write(path, text string) error {
	f, err := c.fsys.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(text))
	return errors.Join(err, f.Close())
}

func (c *chain) run(ctx context.Context, r *exec.Runner) (string, error) {
	r.Dir, r.FS = "out", c.fsys
	upper := exec.Step{Name: "upper", Key: "1"}
	for i, text := range c.texts {
		name := fmt.Sprint("t", i)
		upper.Tasks = append(upper.Tasks, exec.Task{
			Name: name, Inputs: []exec.Input{{Name: name, Hash: text}},
			Run: func(_ context.Context, dir string) (exec.Counts, error) {
				c.note(name)
				err := errors.Join(c.write(filepath.Join(dir, "a"), strings.ToUpper(text)), c.write(filepath.Join(dir, "b"), "beside"))
				return exec.Counts{"bytes": int64(len(text))}, err
			},
		})
	}
	done, err := r.Run(ctx, upper)
	if err != nil {
		return "", err
	}
	join := exec.Task{Name: "all", Run: func(_ context.Context, dir string) (exec.Counts, error) {
		c.note("all")
		var all []byte
		for _, d := range done {
			b, err := vfs.ReadFile(c.fsys, filepath.Join(d.Dir, "a"))
			if err != nil {
				return nil, err
			}
			all = append(all, b...)
		}
		return nil, c.write(filepath.Join(dir, "text"), string(all))
	}}
	for _, d := range done {
		in, ok := d.File("a")
		if !ok {
			return "", errors.New("no output a")
		}
		join.Inputs = append(join.Inputs, in)
	}
	last, err := r.Run(ctx, exec.Step{Name: "join", Key: "1", Tasks: []exec.Task{join}})
	if err != nil {
		return "", err
	}
	b, err := vfs.ReadFile(c.fsys, filepath.Join(last[0].Dir, "text"))
	return string(b), err
}

func (c *chain) want(t *testing.T, r *exec.Runner, text string, ran ...string) {
	t.Helper()
	c.ran = nil
	got, err := c.run(t.Context(), r)
	if err != nil || got != text {
		t.Fatalf("got %q, %v; want %q", got, err, text)
	}
	if diff := cmp.Diff(ran, c.ran); diff != "" {
		t.Errorf("tasks that ran (-want +got):\n%s", diff)
	}
}

// What changed runs again, with what depends on it; what did not change does not, and an output that comes out the same stops it.
func TestRerun(t *testing.T) {
	c := &chain{fsys: vfs.NewCrashableMem(), texts: []string{"a", "b", "c"}}
	one := &exec.Runner{Workers: 1}
	c.want(t, one, "ABC", "t0", "t1", "t2", "all")
	c.want(t, one, "ABC")
	c.texts[1] = "x"
	c.want(t, one, "AXC", "t1", "all")
	c.texts[1] = "X" // another input, the same output
	c.want(t, one, "AXC", "t1")
	c.texts = c.texts[:2] // a file is gone
	c.want(t, one, "AX", "all")
	if _, err := c.fsys.Stat("out/upper/t2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder of a task that is no more is still there: %v", err)
	}
	if err := c.fsys.Remove("out/upper/t0/a"); err != nil { // somebody removes an output
		t.Fatal(err)
	}
	c.want(t, one, "AX", "t0")
}

// A power cut at any operation leaves a folder from which a rerun comes to the same bytes, whether or not there was an older
// result.
func TestCrashAtEveryOperation(t *testing.T) {
	for seed := range uint64(4) { // 0: all that is not synced is lost; else a part of it
		for at := 0; ; at++ {
			m := vfs.NewCrashableMem()
			c := &chain{fsys: m, texts: []string{"old", "b"}}
			if _, err := c.run(t.Context(), &exec.Runner{Workers: 1}); err != nil {
				t.Fatal(err)
			}
			c.texts[0] = "new"
			m.CrashAt(at)
			_, err := c.run(t.Context(), &exec.Runner{Workers: 1})
			if err == nil {
				if at == 0 {
					t.Fatal("nothing was written")
				}
				break
			}
			if !errors.Is(err, vfs.ErrCrashed) {
				t.Fatalf("operation %d: %v", at, err)
			}
			var pick func(int) int
			if seed > 0 {
				pick = rand.New(rand.NewPCG(seed, uint64(at))).IntN
			}
			m.Crash(pick)
			if got, err := c.run(t.Context(), &exec.Runner{Workers: 1}); err != nil || got != "NEWB" {
				t.Fatalf("after a crash at operation %d: %q, %v", at, got, err)
			}
		}
	}
}

// Three ranks at once, each with its part, all return everything.
func TestRanks(t *testing.T) {
	c := &chain{fsys: vfs.NewCrashableMem(), texts: strings.Split("abcdefg", "")}
	var wait sync.WaitGroup
	for rank := range 3 {
		wait.Go(func() {
			got, err := c.run(t.Context(), &exec.Runner{Rank: rank, Ranks: 3, Poll: time.Millisecond})
			if err != nil || got != "ABCDEFG" {
				t.Errorf("rank %d: %q, %v", rank, got, err)
			}
		})
	}
	wait.Wait()
	if len(c.ran) != 8 {
		t.Errorf("%d tasks ran, want 8: each once", len(c.ran))
	}
}

// A rank that is alone waits for the others until it is told to stop.
func TestBarrierStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := &chain{fsys: vfs.NewCrashableMem(), texts: []string{"a", "b"}}
	waiting := func(p exec.Progress) {
		if p.Task == "" && p.Done > 0 {
			cancel()
		}
	}
	if _, err := c.run(ctx, &exec.Runner{Rank: 1, Ranks: 2, Progress: waiting}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
}

// A task that fails leaves nothing, and its error names it.
func TestFailingTask(t *testing.T) {
	m := vfs.NewCrashableMem()
	r := &exec.Runner{Dir: "out", FS: m}
	bad := errors.New("bad")
	_, err := r.Run(t.Context(), exec.Step{Name: "s", Tasks: []exec.Task{{Name: "x", Run: func(context.Context, string) (exec.Counts, error) { return nil, bad }}}})
	if !errors.Is(err, bad) || !strings.Contains(err.Error(), "s x") {
		t.Errorf("got %v", err)
	}
	if entries, err := m.ReadDir("out/s"); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if _, err := r.Run(t.Context(), exec.Step{Name: "s", Tasks: []exec.Task{{Name: "../x"}}}); err == nil {
		t.Error("a task was named ../x")
	}
}

// Two processes of the same rank do not run at once.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	unlock, err := (&exec.Runner{Dir: dir}).Lock(t.Context(), func() {})
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan bool)
	go func() {
		other, err := (&exec.Runner{Dir: dir}).Lock(t.Context(), func() { close(waited) })
		if err == nil {
			other()
		}
	}()
	<-waited
	unlock()
	if _, err := (&exec.Runner{Dir: dir, Rank: 2, Ranks: 2}).Lock(t.Context(), func() {}); err == nil {
		t.Error("rank 2 of 2 was taken")
	}
}
