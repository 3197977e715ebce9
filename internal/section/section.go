// Package section is what an analysis leaves in a folder for the report that comes later: a titled table with notes and
// drawings, and its figures for programs. A run's report shows every section in the run's folder, whoever wrote it.
package section

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"

	"pretrain/internal/atomicfile"
	"pretrain/internal/vfs"
)

// Folder is where sections lie, below a run's or a prepared source's directory.
const Folder = "analysis"

// Section is the outcome of one analysis.
type Section struct {
	// Title is one line, such as "Layer influence after step 635".
	Title string `json:"title"`
	// Notes are paragraphs above the table: what was measured, with which command, and how to read it.
	Notes []string `json:"notes,omitempty"`
	// Columns and Rows are the table. Cells are text, formatted for people; each row has as many as Columns.
	Columns []string   `json:"columns,omitempty"`
	Rows    [][]string `json:"rows,omitempty"`
	// Drawings name the SVG files beside the section, in the order they are shown in. Write fills it in.
	Drawings []string `json:"drawings,omitempty"`
	// Data is the analysis' own figures, as its --json prints them.
	Data json.RawMessage `json:"data,omitempty"`
}

// Drawing is an SVG of a section.
type Drawing struct {
	Name string // letters, digits and dashes
	SVG  string
}

var goodName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// Write files a section as DIR/analysis/NAME.json, with a drawing as NAME-DRAWING.svg, and returns the section's path. One of the
// same name is replaced. data is marshalled into Data.
func Write(fsys vfs.FS, dir, name string, s Section, data any, drawings ...Drawing) (string, error) {
	folder := filepath.Join(dir, Folder)
	path := filepath.Join(folder, name+".json")
	if !goodName.MatchString(name) {
		return "", fmt.Errorf("section %q: want a name of lower-case letters, digits and dashes", name)
	}
	for i, row := range s.Rows {
		if len(row) != len(s.Columns) {
			return "", fmt.Errorf("section %s: row %d has %d cells for %d columns", name, i, len(row), len(s.Columns))
		}
	}
	if err := vfs.MkdirAllSync(fsys, folder); err != nil {
		return "", fmt.Errorf("make the folder of analyses: %w", err)
	}
	var err error
	if s.Data, err = json.Marshal(data); err != nil {
		return "", fmt.Errorf("section %s: %w", name, err)
	}
	s.Drawings = nil
	for _, d := range drawings {
		if !goodName.MatchString(d.Name) {
			return "", fmt.Errorf("section %s: drawing %q: want a name of lower-case letters, digits and dashes", name, d.Name)
		}
		s.Drawings = append(s.Drawings, name+"-"+d.Name+".svg")
		if err := atomicfile.Write(fsys, filepath.Join(folder, s.Drawings[len(s.Drawings)-1]), []byte(d.SVG)); err != nil {
			return "", err
		}
	}
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return "", fmt.Errorf("section %s: %w", name, err)
	}
	return path, atomicfile.Write(fsys, path, append(text, '\n')) // last: it names the drawings
}

// Filed is a section as it was read.
type Filed struct {
	Name string // the file's, without its ending
	Section
	SVG []string // the drawings' texts, in the order of Drawings
}

// Read reads the sections of a directory, by name. None is no error; one that cannot be read is told to report and left out.
func Read(fsys vfs.FS, dir string, report func(error)) ([]Filed, error) {
	folder := filepath.Join(dir, Folder)
	entries, err := fsys.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Filed
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !goodName.MatchString(name) {
			continue
		}
		f, err := read(fsys, folder, name)
		if err != nil {
			report(err)
			continue
		}
		list = append(list, f)
	}
	return list, nil
}

func read(fsys vfs.FS, folder, name string) (Filed, error) {
	f := Filed{Name: name}
	path := filepath.Join(folder, name+".json")
	text, err := vfs.ReadFile(fsys, path)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(text, &f.Section); err != nil {
		return f, fmt.Errorf("%s: %w", path, err)
	}
	if f.Title == "" {
		return f, fmt.Errorf("%s: it has no title: it is no section of a report", path)
	}
	for _, d := range f.Drawings {
		if filepath.Base(d) != d {
			return f, fmt.Errorf("%s: drawing %q: want a file beside it", path, d)
		}
		svg, err := vfs.ReadFile(fsys, filepath.Join(folder, d))
		if err != nil {
			return f, fmt.Errorf("%s: %w", path, err)
		}
		f.SVG = append(f.SVG, string(svg))
	}
	return f, nil
}
