package configs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Whatever a file and a --set hold, loading them gives a configuration that survives show, or an *Error that says
// something. It never panics.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/*.good.yaml", "testdata/*.bad.yaml", "*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatal(pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			// Most fixtures extend another; here they stand alone.
			f.Add(strings.ReplaceAll(string(text), "extends: ", "# "), "model.d_model=64")
		}
	}
	f.Add("", "data.stages[0].mix.a=1")
	f.Add("a: {b: [", "optimizer.betas[1]={a: 1}")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text, set string) {
		file := filepath.Join(dir, "fuzz.yaml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := LoadWithoutFiles(file, []string{set})
		var bad *Error
		switch {
		case errors.As(err, &bad):
			for _, p := range bad.Problems {
				if p.Message == "" || !strings.Contains(bad.Error(), p.Message) {
					t.Fatalf("a problem without a message: %+v", p)
				}
			}
			return
		case err != nil:
			t.Skip(err) // extends of a file that cannot be read
		}
		if err := os.WriteFile(file, r.YAML(true), 0o644); err != nil {
			t.Fatal(err)
		}
		again, err := LoadWithoutFiles(file, nil)
		if err != nil {
			t.Fatalf("show does not load: %v\n%s", err, r.YAML(false))
		}
		if diff := cmp.Diff(r.Run, again.Run); diff != "" {
			t.Fatalf("show loads as another configuration:\n%s", diff)
		}
	})
}

// Any text comes back from the YAML and the JSON spelling, also in a flow list and as a key.
func TestStrings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "strings.yaml")
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringN(0, 12, -1), rapid.StringOfN(rapid.RuneFrom([]rune(" \t\n:#-?{}[],&*!|>'\"%@`~01.eaé第")), 0, 6, -1),
			rapid.SampledFrom([]string{"null", "~", "yes", "1e3", "0x1f", "1_000", ".inf", "---", "...", "- a", "a: b", "a #b", "=", "<<", "-1", "+1", "2026-11-23"}),
		).Draw(t, "text")
		if strings.ContainsRune(text, '\r') || !isPlainText(text) {
			t.Skip("not text that YAML can hold")
		}
		for _, spelled := range []string{yamlString(text), jsonString(text)} {
			if err := os.WriteFile(file, []byte("name: "+spelled+"\nsample: {prompts: ["+spelled+", x]}\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			d, run := newDecoder(), Default()
			if err := d.file(file, source{}, nil, &run); err != nil || len(d.list) > 0 {
				t.Fatalf("%q spelled %s: %v %v", text, spelled, err, d.list)
			}
			if run.Name != text || run.Sample.Prompts[0] != text {
				t.Fatalf("%q spelled %s reads as %q and %q", text, spelled, run.Name, run.Sample.Prompts[0])
			}
		}
	})
}

// isPlainText leaves out what JSON would replace: bytes that are not UTF-8.
func isPlainText(s string) bool { return strings.ToValidUTF8(s, "") == s }
