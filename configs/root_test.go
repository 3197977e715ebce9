package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Relative sources start at data.root, and a source without a path is the root itself; whole paths and go:std stay. A root that
// is missing is one problem, not one for each source.
func TestDataRoot(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"conf", "data/web", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "conf", "run.yaml")
	text := `
extends: quickstart
data:
  path: ""
  root: ../data
  sources: {a: {path: web}, b: {files: ["*.txt"]}, c: {path: ` + filepath.Join(dir, "other") + `}, d: {path: "go:std"}}
`
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := Load(config, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": filepath.Join(dir, "data", "web"), "b": filepath.Join(dir, "data"), "c": filepath.Join(dir, "other"), "d": "go:std"} {
		if got := r.Run.Data.Sources[name].Path; got != want {
			t.Errorf("source %s is in %s, want %s", name, got, want)
		}
	}
	again, err := readDraft(&Text{Name: "shown", YAML: string(r.YAML(false))}, "", nil, true)
	if err != nil || !again.SameCourse(r) || again.run.Data.Sources["a"].Path != r.Run.Data.Sources["a"].Path {
		t.Errorf("what config show prints is another configuration: %v", err)
	}
	moved, err := LoadWithoutFiles(config, []string{"data.root=" + filepath.Join(dir, "moved")})
	if err != nil || moved.Run.Data.Sources["a"].Path != filepath.Join(dir, "moved", "web") {
		t.Errorf("--set data.root: %+v, %v", moved, err)
	}
	_, err = Load(config, []string{"data.root=" + filepath.Join(dir, "moved")})
	if err == nil || !strings.Contains(err.Error(), "data.root: got") || strings.Contains(err.Error(), "sources") {
		t.Errorf("a root that is not there: %v", err)
	}
}
