package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The tutorial is run, command by command, as its reader runs it: in one shell, in an empty folder. Only the model and the runs are
// smaller.
func TestTutorial(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	translated, err := os.ReadFile("../../docs/tutorial.zh.md")
	if err != nil {
		t.Fatal(err)
	}
	// Its translation has the same commands, comments aside.
	comment := regexp.MustCompile(` +# .*`)
	commands := comment.ReplaceAllString(shell(text), "")
	if diff := cmp.Diff(commands, comment.ReplaceAllString(shell(translated), "")); diff != "" {
		t.Errorf("the translated tutorial's commands differ (-en +zh):\n%s", diff)
	}
	smaller := [][2]string{
		{"train: {tokens: 2Mtok}", "train: {tokens: 20ktok}\nmodel: {d_model: 64, num_layers: 2, num_heads: 2, head_dim: 32}\neval: {tokens: 2ktok, at_end: false}"},
		{"train: {tokens: 2.5Mtok}", "train: {tokens: 40ktok}"},
		{"pretrain eval ", "pretrain eval --tokens 2000 "},
		{"pretrain generate ", "pretrain generate --tokens 8 "},
	}
	shrunk := "set -eux\n" + commands
	for _, s := range smaller {
		if !strings.Contains(shrunk, s[0]) {
			t.Errorf("the tutorial has no longer %q: say how it is made smaller", s[0])
		}
		shrunk = strings.ReplaceAll(shrunk, s[0], s[1])
	}

	dir := t.TempDir()
	env := append(os.Environ(), "PWD="+dir)
	goEnv, err := exec.Command("go", "env", "GOCACHE", "GOPATH").Output()
	if err != nil {
		t.Fatal(err)
	}
	paths := strings.Fields(string(goEnv)) // go list must not fill the empty home
	env = append(env, "GOCACHE="+paths[0], "GOPATH="+paths[1])
	if err := setUp(dir, func(key, value string) { env = append(env, key+"="+value) }); err != nil {
		t.Fatal(err)
	}
	sh := exec.Command("sh", "-c", shrunk)
	sh.Dir, sh.Env = dir, env
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, path := range []string{
		"data/report/all/report.html", "runs/chat/result.json", "compare.html", "export/hf/receipt.json", "export/gguf/receipt.json",
	} {
		if _, err := os.Stat(filepath.Join(dir, "tutorial", path)); err != nil {
			t.Error(err)
		}
	}
}

// shell is what a page's blocks of shell commands hold.
func shell(page []byte) string {
	var b strings.Builder
	inShell := false
	for line := range strings.Lines(string(page)) {
		switch {
		case strings.HasPrefix(line, "```"):
			inShell = strings.TrimSpace(line) == "```sh"
		case inShell:
			b.WriteString(line)
		}
	}
	return b.String()
}
