package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pretrain/train/eval/sandbox"

	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/txtar"
)

// The commands of the documentation are run as their reader runs them: those of a page from its first to its last, in one shell, in a
// folder of the page's own. A block of YAML that begins with "# name.yaml" is the file that the commands after it take.
//
// testdata/docs.txtar has what a reader is expected to have: texts, configurations of his own, runs. Beside them lie files with the
// names of embedded configurations ("quickstart"), which take their place and are small, so that the lines can stay as they are.
// What a line itself says of size is in smaller; what cannot be run at all is in notRun, with the reason. A line that is none of
// these and fails, fails the test.

// smaller are parts of commands that are replaced, on one page or on all (""). Every one has to be found.
var smaller = []struct{ page, from, to string }{
	{"", "runs/trunk@20Mtok --set train.tokens=22.3Mtok", "runs/trunk@76800tok --set train.tokens=89600tok"},
	// The bounds of an export in few bits hold for models wider than this one; export.txtar exports q8_0 and bf16.
	{"docs/export.md", "--dtype q8_0", "--dtype fp16"},
	{"docs/commands/export.md", "--dtype q8_0", "--dtype fp16"},
	{"docs/commands/export.md", "--dtype bf16", "--dtype fp16"},
	{"", "--stride 128", "--stride 16"},
	{"", "@1000 ", "@600 "},
	{"", "batch.tokens=16384tok", "batch.tokens=256tok"},
	{"", "verify-resume --config", "verify-resume --kills 1 --config"},
	{"", "verify-resume --short", "verify-resume --kills 1"},
	{"", "--kills 100", "--kills 1"},
	{"", "train.tokens=200ktok", "train.tokens=1280tok"},
	{"", "train.tokens=400ktok", "train.tokens=1280tok"},
	{"", "--draws 100000", "--draws 64"},
	{"", "--data items.jsonl\n", "--data items.jsonl --draws 64\n"},
	{"", "pretrain serve", "briefly pretrain serve --max-tokens 8"},
	{"", "pretrain dashboard", "briefly pretrain dashboard"},
	{"README.md", "train.tokens=3.2Mtok", "train.tokens=84480tok"},
	{"docs/analysis.md", "trunk@782", "trunk@600"},
	{"docs/analysis.md", "train.tokens=2400ktok", "train.tokens=89600tok"},
	{"docs/analysis.md", "decay.length=600ktok", "decay.length=6400tok"},
	{"docs/commands/ablate.md", "--seeds 5 --tokens 2Mtok", "--seeds 1 --tokens 1280tok"},
	{"docs/commands/analyze.md", "--data gsm8k.jsonl", "--data gsm8k.jsonl --draws 64"},
	{"docs/commands/data.md", "--step 41000", "--step 4"},
	{"docs/commands/tokenizer.md", "tokenizer.vocab_size=8192", "tokenizer.vocab_size=320"},
	{"docs/commands/pretrain.md", "--config my.yaml --set train.mesh.fsdp=-1", "--config my.yaml --set train.mesh.fsdp=-1 --run-dir runs/sharded"},
	{"docs/commands/serve.md", "--max-tokens 8 --checkpoint runs/mine@600", "--checkpoint runs/mine@600"},
	{"docs/mixture.md", "@20Btok", "@1280tok"},
	{"docs/mixture.md", "--step 41000", "--step 29"},
	{"docs/tutorial.md", "train: {tokens: 2Mtok}", "train: {tokens: 20ktok}\nmodel: {d_model: 64, num_layers: 2, num_heads: 2, head_dim: 32}\neval: {tokens: 2ktok, at_end: false}"},
	{"docs/tutorial.md", "train: {tokens: 2.5Mtok}", "train: {tokens: 40ktok}"},
	{"docs/tutorial.md", "pretrain eval ", "pretrain eval --tokens 2000 "},
	{"docs/tutorial.md", "pretrain generate ", "pretrain generate --tokens 8 "},
}

// notRun are the command lines, comments aside, that are not run. Every one has to be found.
var notRun = []struct{ line, why string }{
	{"make quickstart", "six minutes; its last step, pretrain --config quickstart, is run"},
	{"make test", "runs this test"},
	{"pretrain setup --backend cuda13", "downloads several GB"},
	{"cd bench/pages && npm install && node check.mjs PRETRAIN OUT RUN [RUN…]", "downloads Playwright, needs Chromium"},
	{"python3 bench/science/critical_batch.py --pretrain bin/pretrain --from runs/ladder/d128-l4/trunk@782 --out runs/cbs --window 300ktok --factors 1,2,4,8,16", "minutes of training off a trunk of the ladder"},
	{"python3 bench/science/critical_batch.py … --out runs/cbs-decay --factors 1,2,4,16 --decay 50%", "the same"},
	{"go run ./bench/science/looks -svg docs/science/looks.svg runs/looks", "it is no command of the program"},
	{"bench/science/claims/run.sh TEXT OUT", "hours of training"},
	{"go run ./bench/science/coordinates -out docs/science", "minutes of training; it is no command of the program"},
	{"go run ./bench/science/sources -report OUT/report.json -svg docs/science/schemes.svg", "draws what an ablation of minutes measured; it is no command of the program"},
	{"bench/science/ladder.sh en-standardebooks.jsonl.zst runs/ladder", "hours of training"},
	{"bench/science/labels/run.sh DATA OUT", "hours of training"},
	{"python3 bench/science/emergence_items.py --text CACHE/data/KEY/validation.txt --items 5 --letters 8-9 > items.jsonl", "of the ladder's runs, which take hours"},
	{"pretrain analyze emergence --checkpoint runs/ladder/d64-l2/decay-16.9262 --data items.jsonl --over params --json > 64.json", "the same"},
	{"…", "the same"},
	{"pretrain analyze emergence --checkpoint runs/ladder/d288-l5/decay-0.335258 --data items.jsonl --draws 10000 --with 64.json --with …", "the same"},
}

func TestDocumentation(t *testing.T) {
	t.Parallel()
	pages := documentation(t, "../..")
	checkReplacements(t, pages)
	w := newWorld(t)
	for _, p := range pages {
		if strings.HasSuffix(p.name, ".zh.md") {
			continue // its commands are those of the page it translates: TestTranslatedCommands
		}
		script := p.script(w.sandbox)
		if script == "" {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			dir := w.folder(t, p.name)
			w.run(t, dir, script)
			if p.name != "docs/tutorial.md" {
				return
			}
			for _, path := range []string{"data/report/all/report.html", "runs/chat/result.json", "compare.html", "export/hf/receipt.json", "export/gguf/receipt.json"} {
				if _, err := os.Stat(filepath.Join(dir, "tutorial", path)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A translation has no commands but those of the page it translates, where they are run.
func TestTranslatedCommands(t *testing.T) {
	byName := map[string][]string{}
	for _, p := range documentation(t, "../..") {
		for _, d := range p.commands() {
			byName[p.name] = append(byName[p.name], d.command())
		}
	}
	for name, lines := range byName {
		of, translated := strings.CutSuffix(name, ".zh.md")
		for _, line := range lines {
			if translated && !slices.Contains(byName[of+".md"], line) {
				t.Errorf("%s: %s.md has no command %q", name, of, line)
			}
		}
		if name == "docs/tutorial.zh.md" && len(lines) != len(byName[of+".md"]) {
			t.Errorf("%s has %d commands, %s.md %d", name, len(lines), of, len(byName[of+".md"]))
		}
	}
}

// checkReplacements reports what is in smaller or notRun and no longer in the pages.
func checkReplacements(t *testing.T, pages []page) {
	var all []string
	scripts := map[string]string{}
	for _, p := range pages {
		for _, d := range p.commands() {
			all = append(all, d.command())
		}
		scripts[p.name] = p.plain(true)
		scripts[""] += p.plain(true)
	}
	for _, n := range notRun {
		if !slices.Contains(all, n.line) {
			t.Errorf("notRun: no page has the command %q", n.line)
		}
	}
	for _, s := range smaller {
		script := scripts[s.page]
		for _, before := range smaller { // they apply in order
			if before == s {
				break
			}
			if before.page == "" || before.page == s.page {
				script = strings.ReplaceAll(script, before.from, before.to)
			}
		}
		if !strings.Contains(script, s.from) {
			t.Errorf("smaller: %q is not in the commands of page %q", s.from, s.page)
		}
	}
}

var namedYAML = regexp.MustCompile(`^# (\S+\.yaml)\n`)

// plain is the page's commands, and the files that its YAML blocks are, without the lines of notRun. confined is whether programs
// can be run in the sandbox here.
func (p page) plain(confined bool) string {
	var out strings.Builder
	for _, b := range p.blocks {
		if m := namedYAML.FindStringSubmatch(b.text); b.language == "yaml" && m != nil {
			fmt.Fprintf(&out, "cat > %s <<'END-OF-FILE'\n%sEND-OF-FILE\n", m[1], b.text)
		}
		if b.language != "sh" {
			continue
		}
		for line := range strings.Lines(b.text) {
			command := docLine{text: strings.TrimSuffix(line, "\n")}.command()
			skipped := slices.ContainsFunc(notRun, func(n struct{ line, why string }) bool { return n.line == command })
			if skipped || !confined && strings.Contains(command, "--allow-code-execution") {
				continue
			}
			out.WriteString(comment.ReplaceAllString(strings.TrimSuffix(line, "\n"), "") + "\n")
		}
	}
	return out.String()
}

// script is what a shell is given for the page, "" if it has no commands.
func (p page) script(confined bool) string {
	script := p.plain(confined)
	for _, s := range smaller {
		if s.page == "" || s.page == p.name {
			script = strings.ReplaceAll(script, s.from, s.to)
		}
	}
	return strings.TrimSpace(script)
}

// world is what readers have.
type world struct {
	files   *txtar.Archive
	dir     string // runs and texts that every page's folder has a copy of
	env     []string
	sandbox bool
}

// newWorld makes the files and runs of testdata/docs.txtar.
func newWorld(t *testing.T) *world {
	t.Helper()
	files, err := txtar.ParseFile("testdata/docs.txtar")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	w := &world{files: files, dir: filepath.Join(home, "world")}
	if _, err := sandbox.Run(context.Background(), "pass", sandbox.Default()); err == nil {
		w.sandbox = true
	} else {
		t.Logf("without --allow-code-execution, as there is no sandbox here: %v", err)
	}
	env := map[string]string{"ENDPOINT": chatEndpoint(t.Cleanup)}
	goEnv, err := exec.Command("go", "env", "GOCACHE", "GOPATH", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	paths := strings.Fields(string(goEnv)) // go list must not fill the empty home
	env["GOCACHE"], env["GOPATH"] = paths[0], paths[1]
	if err := setUp(home, func(key, value string) { env[key] = value }); err != nil {
		t.Fatal(err)
	}
	w.env = os.Environ()
	for key, value := range env {
		w.env = append(w.env, key+"="+value)
	}
	if err := copySources(filepath.Join(w.dir, "std"), filepath.Join(paths[2], "src")); err != nil {
		t.Fatal(err)
	}
	w.write(t, "", w.dir)
	w.run(t, w.dir, "sh world.sh")
	return w
}

// copySources copies two packages of the Go library, tests left out: 250 kB.
func copySources(to, from string) error {
	for _, dir := range []string{"archive/tar", "archive/zip"} {
		list, err := filepath.Glob(filepath.Join(from, dir, "*.go"))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(to, dir), 0o755); err != nil {
			return err
		}
		for _, path := range list {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			text, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(filepath.Join(to, dir, filepath.Base(path)), text, 0o644)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// write writes the files of a page, those of all where it is "". One whose name ends in .zst is compressed.
func (w *world) write(t *testing.T, page, dir string) {
	t.Helper()
	for _, f := range w.files.Files {
		name, ok := strings.CutPrefix(f.Name, page+"/")
		if page == "" {
			name, ok = f.Name, !strings.Contains(f.Name, ".md/")
		}
		if !ok {
			continue
		}
		data := []byte(os.Expand(string(f.Data), func(key string) string {
			return map[string]string{"WORLD": w.dir, "ENDPOINT": w.getenv("ENDPOINT")}[key]
		}))
		if name == "world.sh" || name == "before.sh" {
			data = f.Data
		}
		if strings.HasSuffix(name, ".zst") {
			e, err := zstd.NewWriter(nil)
			if err != nil {
				t.Fatal(err)
			}
			data = e.EncodeAll(data, nil)
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) getenv(key string) string {
	for _, e := range w.env {
		if value, ok := strings.CutPrefix(e, key+"="); ok {
			return value
		}
	}
	return ""
}

// folder is a new folder for a page, with what readers have.
func (w *world) folder(t *testing.T, page string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "page")
	if err := os.CopyFS(dir, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	w.write(t, page, dir)
	if _, err := os.Stat(filepath.Join(dir, "before.sh")); err == nil {
		w.run(t, dir, "sh before.sh")
	}
	return dir
}

// run gives a shell the script. "hello" is what there is to read for a command that asks.
func (w *world) run(t *testing.T, dir, script string) {
	t.Helper()
	sh := exec.Command("sh", "-c", "set -eux\n"+script)
	sh.Dir, sh.Env, sh.Stdin = dir, append(w.env, "PWD="+dir), strings.NewReader("hello\n")
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// briefly is the program of `briefly pretrain serve|dashboard args...`: it starts the server on a free port, asks it for its page and
// ends it by a signal, as its user does.
func briefly() {
	if err := serveBriefly(os.Args[2], os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "briefly:", err)
		os.Exit(1)
	}
}

func serveBriefly(verb string, args []string) error {
	path := "/health"
	if verb == "dashboard" {
		path = "/"
	}
	cmd := exec.Command(args[0], append(args[1:], "--listen", "127.0.0.1:0")...)
	var out bytes.Buffer
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	host := regexp.MustCompile(`http://[0-9.:]+`)
	for chunk := make([]byte, 4096); !host.Match(out.Bytes()); {
		n, err := r.Read(chunk)
		if out.Write(chunk[:n]); err != nil {
			return fmt.Errorf("no address: %v: %s", cmd.Wait(), out.String())
		}
	}
	resp, err := http.Get(string(host.Find(out.Bytes())) + path)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return cmd.Wait()
}
