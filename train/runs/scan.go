package runs

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"pretrain/internal/section"
	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
	"pretrain/train/metrics"
)

// Run is a run directory as it lies on disk.
type Run struct {
	// Dir is where it lies.
	Dir string
	// Identity is zero for a run from before there were any.
	Identity
	// Step is the number of updates done and Tokens what they trained on; Phase is that of the last one.
	Step, Tokens int64
	Phase        string
	// ValLoss is the last validation loss of the run's own updates, nats per token; BestValLoss the lowest, after BestStep
	// updates. Unknown where there was none.
	ValLoss, BestValLoss metrics.Number
	BestStep             int64
	// Config is the run's configuration as YAML, TrunkConfig its parent's at the step it branched off at; "" where not found.
	Config, TrunkConfig string
	// Trunk is the place of its parent among the runs of a scan; -1 for a run of its own, or one whose parent was not found.
	Trunk int
	// Problem says why the records could not be read to their end; nil if they could.
	Problem error
}

// Scan finds the run directories in dir and below it, sorted by path, and links branches to their trunks: by identity, so that
// a renamed trunk is found, else by path.
func Scan(fsys vfs.FS, dir string) ([]Run, error) {
	dirs, err := Find(fsys, dir)
	if err != nil {
		return nil, err
	}
	var list []Run
	for _, dir := range dirs {
		r, err := read(fsys, dir)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	byID, byDir := map[string]int{}, map[string]int{}
	for i, r := range list {
		byDir[r.Dir] = i
		if r.ID != "" {
			byID[r.ID] = i
		}
	}
	for i := range list {
		r := &list[i]
		if r.Trunk = -1; r.Parent == nil {
			continue
		}
		trunk := ParentDir(r.Dir, *r.Parent)
		if at, ok := byID[r.Parent.ID]; ok {
			r.Trunk, trunk = at, list[at].Dir
		} else if at, ok := byDir[trunk]; ok && (list[at].ID == "" || r.Parent.ID == "") { // else it is another run, in the parent's place
			r.Trunk = at
		}
		store, err := checkpoint.Open(fsys, filepath.Join(trunk, "checkpoints"), checkpoint.Options{ReadOnly: true})
		if err != nil {
			return nil, err
		}
		if meta, err := store.Meta(r.Parent.Step); err == nil {
			r.TrunkConfig = meta.Config
		}
	}
	return list, nil
}

// Find lists the run directories in dir and below it, sorted by path, without reading them.
func Find(fsys vfs.FS, dir string) (list []string, err error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	has := func(name string) bool {
		return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name })
	}
	if has(identityFile) || has("config.yaml") && (has("metrics.jsonl") || has("checkpoints")) {
		list = append(list, dir)
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") || slices.Contains(notRuns, e.Name()) {
			continue
		}
		below, err := Find(fsys, filepath.Join(dir, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // one removed meanwhile
			return nil, err
		}
		list = append(list, below...)
	}
	return list, nil
}

// notRuns are the folders of a run directory that hold no other run.
var notRuns = []string{"checkpoints", "tensorboard", "spikes", SampleFolder, section.Folder}

// SampleFolder is where a run keeps the texts it generated, one file for each step after which it did so.
const SampleFolder = "samples"

// SampleFile is the name of the samples after step updates.
func SampleFile(step int64) string { return fmt.Sprintf("step-%09d.txt", step) }

// read reads a run directory.
func read(fsys vfs.FS, dir string) (Run, error) {
	r := Run{Dir: dir, ValLoss: metrics.Unknown, BestValLoss: metrics.Unknown}
	id, err := ReadIdentity(fsys, dir)
	if err != nil {
		return r, err
	}
	if id != nil {
		r.Identity = *id
	}
	if id != nil && id.Parent != nil { // until it has made a step of its own
		r.Step, r.Tokens = id.Parent.Step, id.Parent.Tokens
	}
	if text, err := vfs.ReadFile(fsys, filepath.Join(dir, "config.yaml")); err == nil {
		r.Config = string(text)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	for record, err := range Records(fsys, dir) {
		if err != nil {
			r.Problem = err
			break
		}
		r.Step, r.Tokens, r.Phase = record.Step+1, record.Tokens, record.Phase
		if record.Eval == nil {
			continue
		}
		if r.ValLoss = record.ValLoss; !math.IsNaN(float64(r.ValLoss)) && !(r.BestValLoss <= r.ValLoss) {
			r.BestValLoss, r.BestStep = r.ValLoss, r.Step
		}
	}
	return r, nil
}
