package spike

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"pretrain/internal/atomicfile"
	"pretrain/internal/vfs"
)

// Window is a range of steps, From ≤ step < To, whose updates are left out because of a spike at one of them.
type Window struct {
	From  int64 `json:"from"`
	To    int64 `json:"to"`
	Spike int64 `json:"spike"`
}

// Around is the window of a spike at a step, for a run that can go back no further than to the state before step earliest.
func (c Config) Around(step, earliest int64) Window {
	return Window{From: min(step, max(0, step-c.SkipBefore, earliest)), To: step + 1 + c.SkipAfter, Spike: step}
}

// Windows are in the order of their spikes.
type Windows []Window

// At is the window that a step is in: of several, one whose spike it is, if there is one.
func (w Windows) At(step int64) (in Window, ok bool) {
	for _, each := range w {
		if each.From <= step && step < each.To && (!ok || each.Spike == step) {
			in, ok = each, true
		}
	}
	return in, ok
}

// With is the list with another window.
func (w Windows) With(add Window) Windows {
	if slices.Contains(w, add) {
		return w
	}
	all := append(slices.Clone(w), add)
	slices.SortFunc(all, func(a, b Window) int { return cmp.Compare(a.Spike, b.Spike) })
	return all
}

// Holds reports whether a state after step updates, of a run that knew the windows known, is one of a run with all of w:
// no step it was trained on is in a window it did not know of.
func (w Windows) Holds(known Windows, step int64) bool {
	for _, each := range w {
		if step > each.From && !slices.Contains(known, each) {
			return false
		}
	}
	return true
}

// windowsFile has the windows of a run. It is written before anything is undone, so that a run killed while it goes back
// does so on its next start.
const windowsFile = "windows.json"

// ReadWindows reads the windows from a run's folder of spikes; there are none where there is no file.
func ReadWindows(fsys vfs.FS, dir string) (Windows, error) {
	path := filepath.Join(dir, windowsFile)
	text, err := vfs.ReadFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var w Windows
	if err == nil {
		err = json.Unmarshal(text, &w)
	}
	if err != nil {
		return nil, fmt.Errorf("the steps that this run leaves out: %s: %w", path, err)
	}
	return w, nil
}

// WriteWindows makes the windows durable.
func WriteWindows(fsys vfs.FS, dir string, w Windows) error {
	text, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if err := vfs.MkdirAllSync(fsys, dir); err != nil {
		return err
	}
	return atomicfile.WriteFile(fsys, filepath.Join(dir, windowsFile), func(out io.Writer) error {
		_, err := out.Write(append(text, '\n'))
		return err
	})
}
