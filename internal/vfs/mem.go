package vfs

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// ErrCrashed is what every operation returns from the crash on, until [Mem.Crash] restarts the file system.
var ErrCrashed = errors.New("vfs: the file system has crashed")

// Mem is an in-memory file system that knows what a power cut would leave of it. It is at
// least as forgetful as a real one: nothing survives that was not synced, unless [Mem.Crash] is
// asked to let some of it survive. Safe for concurrent use.
type Mem struct {
	mu      sync.Mutex
	root    *node
	ops     []Op
	crashAt int // index of the operation that fails; -1 = none
	crashed bool
	boots   int // restarts so far; a file opened before the last one is dead
}

// node is a file or a directory; names belong to the directory that lists it.
type node struct {
	dir bool

	data   []byte // of a file: what a reader sees now
	synced []byte // of a file: what a power cut leaves

	names   map[string]*node   // of a directory: what a reader sees now
	durable map[string]*node   // of a directory: what a power cut leaves
	history []map[string]*node // of a directory: each listing since the last SyncDir, oldest first
}

var _ FS = (*Mem)(nil)

// NewCrashableMem returns an empty file system that has a root directory and nothing else.
// Relative names are taken from the root.
func NewCrashableMem() *Mem { return &Mem{root: newDir(), crashAt: -1} }

func newDir() *node {
	return &node{dir: true, names: map[string]*node{}, durable: map[string]*node{}}
}

// CrashAt makes the n-th changing operation from now (0 = the next) fail with [ErrCrashed] and have no effect, and
// every later one too. A negative n takes that back.
func (m *Mem) CrashAt(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashAt = -1
	if n >= 0 {
		m.crashAt = len(m.ops) + n
	}
}

// Crashed reports whether the operation chosen by [Mem.CrashAt] was reached.
func (m *Mem) Crashed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.crashed
}

// Ops returns the changing operations done since the start or the last [Mem.ResetOps], in order.
func (m *Mem) Ops() []Op {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.ops)
}

// ResetOps empties the operation log.
func (m *Mem) ResetOps() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ops, m.crashAt = nil, -1
}

// Crash takes the power away and starts the file system again. With a nil pick all that was not
// synced is lost. Otherwise pick(n) chooses among n outcomes, for each file and directory
// with un-synced changes, where 0 is the total loss and n-1 is no loss: of a directory, any of its
// listings since its last sync (a rename within it is one change, as with a journal); of a
// file, its old bytes, a torn half of the new, zeros in their place, or all. Every open file is dead afterwards.
func (m *Mem) Crash(pick func(n int) int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if pick == nil {
		pick = func(int) int { return 0 }
	}
	m.root.settle(pick, map[*node]bool{})
	m.crashed, m.crashAt = false, -1
	m.boots++
}

func (n *node) settle(pick func(int) int, done map[*node]bool) {
	if done[n] { // listed twice: a rename across directories of which one was synced
		return
	}
	done[n] = true
	if !n.dir {
		if !bytes.Equal(n.data, n.synced) {
			torn := n.data[:len(n.data)/2]
			zeros := make([]byte, len(n.data))
			n.data = [][]byte{n.synced, torn, zeros, n.data}[pick(4)]
		}
		n.data = bytes.Clone(n.data)
		n.synced = bytes.Clone(n.data)
		return
	}
	outcomes := append([]map[string]*node{n.durable}, n.history...)
	n.names = outcomes[0]
	if len(outcomes) > 1 {
		n.names = outcomes[pick(len(outcomes))]
	}
	n.names, n.durable, n.history = maps.Clone(n.names), maps.Clone(n.names), nil
	for _, name := range slices.Sorted(maps.Keys(n.names)) { // sorted: a seeded pick is repeatable
		n.names[name].settle(pick, done)
	}
}

// begin counts and logs one changing operation, or crashes at it. The caller holds mu.
func (m *Mem) begin(op Op) error {
	if !m.crashed && m.crashAt == len(m.ops) {
		m.crashed = true
	}
	if m.crashed {
		return &fs.PathError{Op: op.Kind.String(), Path: op.Path, Err: ErrCrashed}
	}
	m.ops = append(m.ops, op)
	return nil
}

// split returns the path's components, none for the root.
func split(name string) []string {
	const separator = string(filepath.Separator)
	name = strings.Trim(filepath.Clean(name), separator)
	if name == "" || name == "." {
		return nil
	}
	return strings.Split(name, separator)
}

// lookup finds a node. The caller holds mu.
func (m *Mem) lookup(kind OpKind, name string) (*node, error) {
	if m.crashed {
		return nil, &fs.PathError{Op: kind.String(), Path: name, Err: ErrCrashed}
	}
	n := m.root
	for _, part := range split(name) {
		if !n.dir {
			return nil, &fs.PathError{Op: kind.String(), Path: name, Err: syscall.ENOTDIR}
		}
		child := n.names[part]
		if child == nil {
			return nil, &fs.PathError{Op: kind.String(), Path: name, Err: syscall.ENOENT}
		}
		n = child
	}
	return n, nil
}

// parent finds the directory that holds, or would hold, name.
func (m *Mem) parent(kind OpKind, name string) (*node, error) {
	dir, err := m.lookup(kind, filepath.Dir(filepath.Clean(name)))
	if err != nil {
		return nil, err
	}
	if !dir.dir {
		return nil, &fs.PathError{Op: kind.String(), Path: name, Err: syscall.ENOTDIR}
	}
	return dir, nil
}

// change applies one atomic change to a directory's names and remembers the listing for Crash.
func (n *node) change(edit func(names map[string]*node)) {
	edit(n.names)
	n.history = append(n.history, maps.Clone(n.names))
}

// Create implements [FS].
func (m *Mem) Create(name string) (File, error) { return m.openWrite(OpCreate, name) }

// OpenAppend implements [FS].
func (m *Mem) OpenAppend(name string) (File, error) { return m.openWrite(OpOpenAppend, name) }

func (m *Mem) openWrite(kind OpKind, name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, err := m.parent(kind, name)
	if err != nil {
		return nil, err
	}
	base := filepath.Base(name)
	n := dir.names[base]
	if n != nil && n.dir {
		return nil, &fs.PathError{Op: kind.String(), Path: name, Err: syscall.EISDIR}
	}
	if err := m.begin(Op{Kind: kind, Path: name}); err != nil {
		return nil, err
	}
	if n == nil {
		n = &node{}
		dir.change(func(names map[string]*node) { names[base] = n })
	}
	if kind == OpCreate {
		n.data = nil
	}
	return &memFile{m: m, n: n, name: name, boots: m.boots, writable: true}, nil
}

// Open implements [FS].
func (m *Mem) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(OpOpen, name)
	if err != nil {
		return nil, err
	}
	return &memFile{m: m, n: n, name: name, boots: m.boots}, nil
}

// Rename implements [FS].
func (m *Mem) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(OpRename, oldname)
	if err != nil {
		return err
	}
	from, err := m.parent(OpRename, oldname)
	if err != nil {
		return err
	}
	to, err := m.parent(OpRename, newname)
	if err != nil {
		return err
	}
	oldBase, newBase := filepath.Base(oldname), filepath.Base(newname)
	if there := to.names[newBase]; there != nil && there != n {
		var bad error
		switch {
		case there.dir && !n.dir:
			bad = syscall.EISDIR
		case !there.dir && n.dir:
			bad = syscall.ENOTDIR
		case len(there.names) > 0:
			bad = syscall.ENOTEMPTY
		}
		if bad != nil {
			return &fs.PathError{Op: OpRename.String(), Path: newname, Err: bad}
		}
	}
	if err := m.begin(Op{Kind: OpRename, Path: oldname, To: newname}); err != nil {
		return err
	}
	if from == to {
		from.change(func(names map[string]*node) { delete(names, oldBase); names[newBase] = n })
		return nil
	}
	from.change(func(names map[string]*node) { delete(names, oldBase) })
	to.change(func(names map[string]*node) { names[newBase] = n })
	return nil
}

// Remove implements [FS].
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.remove(name)
}

func (m *Mem) remove(name string) error {
	n, err := m.lookup(OpRemove, name)
	if err != nil {
		return err
	}
	if len(n.names) > 0 {
		return &fs.PathError{Op: OpRemove.String(), Path: name, Err: syscall.ENOTEMPTY}
	}
	dir, err := m.parent(OpRemove, name)
	if err != nil {
		return err
	}
	if err := m.begin(Op{Kind: OpRemove, Path: name}); err != nil {
		return err
	}
	dir.change(func(names map[string]*node) { delete(names, filepath.Base(name)) })
	return nil
}

// RemoveAll implements [FS], one removal after the other.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(OpRemove, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return m.removeTree(name, n)
}

func (m *Mem) removeTree(name string, n *node) error {
	for _, child := range slices.Sorted(maps.Keys(n.names)) {
		if err := m.removeTree(filepath.Join(name, child), n.names[child]); err != nil {
			return err
		}
	}
	return m.remove(name)
}

// MkdirAll implements [FS]; each missing directory is one operation.
func (m *Mem) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, path := m.root, ""
	if filepath.IsAbs(name) {
		path = string(filepath.Separator)
	}
	for _, part := range split(name) {
		path = filepath.Join(path, part)
		child := n.names[part]
		if child == nil {
			if err := m.begin(Op{Kind: OpMkdir, Path: path}); err != nil {
				return err
			}
			child = newDir()
			n.change(func(names map[string]*node) { names[part] = child })
		}
		if !child.dir {
			return &fs.PathError{Op: OpMkdir.String(), Path: path, Err: syscall.ENOTDIR}
		}
		n = child
	}
	return nil
}

// ReadDir implements [FS].
func (m *Mem) ReadDir(name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(OpReadDir, name)
	if err != nil {
		return nil, err
	}
	if !n.dir {
		return nil, &fs.PathError{Op: OpReadDir.String(), Path: name, Err: syscall.ENOTDIR}
	}
	var entries []fs.DirEntry
	for _, child := range slices.Sorted(maps.Keys(n.names)) {
		entries = append(entries, fs.FileInfoToDirEntry(n.names[child].info(child)))
	}
	return entries, nil
}

// Stat implements [FS].
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(OpStat, name)
	if err != nil {
		return nil, err
	}
	return n.info(filepath.Base(name)), nil
}

// SyncDir implements [FS].
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(OpSyncDir, name)
	if err != nil {
		return err
	}
	if !n.dir {
		return &fs.PathError{Op: OpSyncDir.String(), Path: name, Err: syscall.ENOTDIR}
	}
	if err := m.begin(Op{Kind: OpSyncDir, Path: name}); err != nil {
		return err
	}
	n.durable, n.history = maps.Clone(n.names), nil
	return nil
}
