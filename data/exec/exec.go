// Package exec runs the steps of a data preparation so that they can be killed, repeated and spread over machines. A step is
// a list of independent tasks and a barrier: the next step begins when all of them are done. All state is in the output
// folder, so any engine can run the ranks (a Slurm array, a Kubernetes indexed Job, Ray) and start one again, twice without
// harm.
//
//	DIR/STEP/TASK/       what the task wrote, and DONE.json, its completion [Marker]
//	DIR/STEP/.TASK.tmp-RANK   a task under way
//	DIR/.rank-I-of-N.lock
//
// A task works in a folder of its own. When it returns, its files are hashed and synced, the marker is written, and the folder
// gets its name; so a folder without a leading dot is complete. The marker carries the hashes of what the task read: a task
// whose inputs or settings changed runs again, one whose inputs are the same does not, and what depends on a task that ran
// again but wrote the same bytes does not run either.
package exec

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	"pretrain/internal/vfs"
)

// Input is one thing that a task reads, by name, with a hash of its content.
type Input struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
}

// Task is a part of a step that needs no other part of it.
type Task struct {
	// Name is unique within the step, and a file name that does not begin with a dot.
	Name string
	// Inputs are all that the task reads. With the step's Key and the task's name they decide what it writes.
	Inputs []Input
	// Size weighs the task: large ones begin first, so that the last one running is not the longest. 0: unknown.
	Size int64
	// Run writes files into dir, no folders. It returns counts for the marker. The same inputs must give the same bytes.
	Run func(ctx context.Context, dir string) (Counts, error)
}

// Counts are what a task wants remembered of its work, such as the number of documents.
type Counts map[string]int64

// Step is what runs before a barrier.
type Step struct {
	Name string
	// Key changes with everything but the inputs that decides the result: the settings, the version of the code.
	Key   string
	Tasks []Task
}

// Runner runs the tasks of one rank. Fields may be left zero, Dir aside.
type Runner struct {
	// Dir is the output folder, shared by all ranks.
	Dir string
	// Workers is the number of tasks at once. 0: one a core.
	Workers int
	// Rank of Ranks runs every Ranks-th task, beginning with the Rank-th. Ranks 0: one rank.
	Rank, Ranks int
	// Poll is how often the barrier looks for the work of other ranks. 0: a second.
	Poll time.Duration
	// FS is the disk by default; tests crash it.
	FS vfs.FS
	// Progress is told when a step begins, of each finished task and, at the barrier, how many are left to others; one call at a
	// time. May be nil.
	Progress func(Progress)

	mu sync.Mutex
}

// Progress is how far a step is.
type Progress struct {
	Step        string
	Task        string // that has just finished; "" at the beginning and at the barrier
	Done, Total int    // tasks of all ranks
	Cached      bool   // the task had been done before
}

// Done is a finished task.
type Done struct {
	Marker
	// Dir holds what it wrote.
	Dir string
	// Cached tells that nothing was done: it had been before.
	Cached bool
}

// Input is everything the task wrote, as an input of another one.
func (d Done) Input() Input {
	return Input{Name: filepath.Base(filepath.Dir(d.Dir)) + "/" + filepath.Base(d.Dir), Hash: d.Marker.hash()}
}

// File is one file that the task wrote, as an input of another one. ok is false where it wrote none of that name.
func (d Done) File(name string) (in Input, ok bool) {
	i := slices.IndexFunc(d.Outputs, func(o Output) bool { return o.Name == name })
	if i < 0 {
		return Input{}, false
	}
	return Input{Name: d.Input().Name + "/" + name, Hash: d.Outputs[i].Hash}, true
}

// Lock takes the output folder for this rank; call the function it returns when all steps are done. A second process with the
// same rank waits, after a call of waiting; the system lets go of the lock of a process that dies.
func (r *Runner) Lock(ctx context.Context, waiting func()) (unlock func(), err error) {
	r.defaults()
	if r.Rank < 0 || r.Rank >= r.Ranks {
		return nil, fmt.Errorf("rank %d of %d ranks: want 0 to %d", r.Rank, r.Ranks, r.Ranks-1)
	}
	if err := vfs.MkdirAllSync(r.FS, r.Dir); err != nil {
		return nil, err
	}
	l := flock.New(filepath.Join(r.Dir, fmt.Sprintf(".rank-%d-of-%d.lock", r.Rank, r.Ranks)))
	got, err := l.TryLock()
	if err == nil && !got {
		waiting()
		_, err = l.TryLockContext(ctx, 100*time.Millisecond)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("lock %s: %w", l.Path(), err)
	}
	return func() { l.Close() }, nil
}

func (r *Runner) defaults() {
	if r.FS == nil {
		r.FS = vfs.OS
	}
	r.Ranks = max(r.Ranks, 1)
	if r.Workers <= 0 {
		r.Workers = runtime.GOMAXPROCS(0)
	}
	if r.Poll <= 0 {
		r.Poll = time.Second
	}
}

// Run does this rank's part of a step and waits for the other ranks'. It returns all tasks in the order of s.Tasks. The first
// error of a task stops the others; what is done by then stays done.
func (r *Runner) Run(ctx context.Context, s Step) ([]Done, error) {
	r.defaults()
	for _, t := range s.Tasks {
		if strings.HasPrefix(t.Name, ".") || t.Name != filepath.Base(t.Name) {
			return nil, fmt.Errorf("task %q of step %s: not a file name", t.Name, s.Name)
		}
	}
	dir := filepath.Join(r.Dir, s.Name)
	if err := vfs.MkdirAllSync(r.FS, dir); err != nil {
		return nil, err
	}
	if err := r.sweep(dir, s); err != nil {
		return nil, fmt.Errorf("remove what an earlier run left in %s: %w", dir, err)
	}
	if r.Progress != nil {
		r.Progress(Progress{Step: s.Name, Total: len(s.Tasks)})
	}
	done := make([]Done, len(s.Tasks))
	finished, err := r.own(ctx, dir, s, done)
	if err != nil {
		return nil, err
	}
	return done, r.barrier(ctx, dir, s, done, finished)
}

// own runs the tasks of this rank and returns their number.
func (r *Runner) own(ctx context.Context, dir string, s Step, done []Done) (int, error) {
	var mine []int
	for i := range s.Tasks {
		if i%r.Ranks == r.Rank {
			mine = append(mine, i)
		}
	}
	slices.SortStableFunc(mine, func(a, b int) int { return cmp.Compare(s.Tasks[b].Size, s.Tasks[a].Size) })
	finished := 0
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(r.Workers)
	for _, i := range mine {
		group.Go(func() error {
			if err := inner.Err(); err != nil {
				return err
			}
			d, err := r.task(inner, dir, s.Key, s.Tasks[i])
			if err != nil {
				return fmt.Errorf("%s %s: %w", s.Name, s.Tasks[i].Name, err)
			}
			done[i] = d
			r.mu.Lock()
			defer r.mu.Unlock()
			finished++
			if r.Progress != nil {
				r.Progress(Progress{Step: s.Name, Task: s.Tasks[i].Name, Done: finished, Total: len(s.Tasks), Cached: d.Cached})
			}
			return nil
		})
	}
	return finished, group.Wait()
}

// barrier waits until the tasks of other ranks are done.
func (r *Runner) barrier(ctx context.Context, dir string, s Step, done []Done, finished int) error {
	for told := 0; ; told++ {
		for i, t := range s.Tasks {
			if done[i].Dir != "" {
				continue
			}
			m, ok, err := load(r.FS, filepath.Join(dir, t.Name), s.Key, t.Inputs)
			if err != nil {
				return err
			}
			if ok {
				done[i] = Done{Marker: m, Dir: filepath.Join(dir, t.Name), Cached: true}
				finished++
			}
		}
		if finished == len(s.Tasks) {
			return nil
		}
		if r.Progress != nil && told == 0 {
			r.Progress(Progress{Step: s.Name, Done: finished, Total: len(s.Tasks)})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(r.Poll):
		}
	}
}

// task runs one task unless its marker says that there is nothing to do.
func (r *Runner) task(ctx context.Context, dir, key string, t Task) (Done, error) {
	final := filepath.Join(dir, t.Name)
	if m, ok, err := load(r.FS, final, key, t.Inputs); err != nil || ok {
		return Done{m, final, true}, err
	}
	temp := r.private(dir, t.Name, "tmp")
	if err := errors.Join(r.FS.RemoveAll(temp), r.FS.MkdirAll(temp)); err != nil {
		return Done{}, err
	}
	m := Marker{Version: markerVersion, Key: key, Inputs: t.Inputs}
	var err error
	if m.Counts, err = t.Run(ctx, temp); err == nil {
		if m.Outputs, err = seal(ctx, r.FS, temp); err == nil {
			err = m.write(r.FS, temp)
		}
	}
	if err != nil {
		r.FS.RemoveAll(temp)
		return Done{}, err
	}
	return Done{m, final, false}, r.publish(dir, t.Name, temp, m)
}

// publish gives a finished folder its name, in place of what had it.
func (r *Runner) publish(dir, name, temp string, m Marker) error {
	final, old := filepath.Join(dir, name), r.private(dir, name, "old")
	if err := r.FS.RemoveAll(old); err != nil {
		return err
	}
	if err := r.FS.Rename(final, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := r.FS.Rename(temp, final); err != nil {
		// Another process may have had the same task and been faster: then there is nothing left to do.
		if theirs, ok, _ := load(r.FS, final, m.Key, m.Inputs); ok && theirs.hash() == m.hash() {
			return r.FS.RemoveAll(temp)
		}
		return err
	}
	if err := r.FS.SyncDir(dir); err != nil {
		return err
	}
	return r.FS.RemoveAll(old)
}

// private is the name of a task's folder that only this rank uses.
func (r *Runner) private(dir, task, what string) string {
	return filepath.Join(dir, fmt.Sprintf(".%s.%s-%d-of-%d", task, what, r.Rank, r.Ranks))
}

// sweep removes what this rank left unfinished and, as the first rank, what belongs to no task any more.
func (r *Runner) sweep(dir string, s Step) error {
	entries, err := r.FS.ReadDir(dir)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(s.Tasks))
	for _, t := range s.Tasks {
		known[t.Name] = true
	}
	own := fmt.Sprintf("-%d-of-%d", r.Rank, r.Ranks)
	for _, e := range entries {
		hidden := strings.HasPrefix(e.Name(), ".")
		if hidden && strings.HasSuffix(e.Name(), own) || hidden && r.Ranks == 1 || !hidden && !known[e.Name()] && r.Rank == 0 {
			if err := r.FS.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
