package report

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pretrain/internal/atomicfile"
	"pretrain/internal/section"
	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
	"pretrain/train/runs"
)

func write(t *testing.T, fsys vfs.FS, path, text string) {
	t.Helper()
	if err := vfs.MkdirAllSync(fsys, filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.WriteFile(fsys, path, func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
		t.Fatal(err)
	}
}

// lines are records of steps from one to another, validated each tenth.
func lines(from, to int64, loss float64) string {
	var b strings.Builder
	for step := from; step < to; step++ {
		phase, eval := "stable", ""
		if step >= 40 {
			phase = "decay"
		}
		if step%10 == 9 {
			eval = fmt.Sprintf(`,"val_loss":%v,"val_bpb":%v,"val_sources":{"中文":{"loss":1,"bpb":0.5,"tokens":1,"bytes":1},"code":{"loss":1,"bpb":0.7,"tokens":1,"bytes":1}}`, loss, loss/2)
		}
		fmt.Fprintf(&b, `{"step":%d,"tokens":%d,"loss":%v,"lr":0.01,"grad_norm":1,"tokens_per_second":100,"mfu":0.4,"stage":"all","phase":%q,"batch_tokens":10,"step_ms":100,"data_wait_ms":1%s}`+"\n",
			step, 10*(step+1), loss, phase, eval)
	}
	return b.String()
}

func TestOpen(t *testing.T) {
	m := vfs.NewCrashableMem()
	if _, err := runs.Identify(m, "/runs/trunk", nil); err != nil {
		t.Fatal(err)
	}
	write(t, m, "/runs/trunk/metrics.jsonl", lines(0, 50, 3))
	if _, err := runs.Identify(m, "/runs/decay", &checkpoint.Parent{Run: "../trunk", Step: 30, Tokens: 300}); err != nil {
		t.Fatal(err)
	}
	write(t, m, "/runs/decay/metrics.jsonl", lines(30, 60, 2))
	r, err := Open(m, "/runs/decay", "decay")
	if err != nil {
		t.Fatal(err)
	}
	if r.Records != 60 || r.Last.Step != 59 || r.LastEval == nil || len(r.sources) != 2 || r.Problem != nil {
		t.Errorf("records %d, last step %d, sources %v, problem %v", r.Records, r.Last.Step, r.sources, r.Problem)
	}
	if len(r.phases) != 2 || r.phases[1].From != 400 || r.phases[1].To != 600 {
		t.Errorf("phases %v", r.phases)
	}
	if points := r.curves[keyLoss].Points(1000); points[29].Y != 3 || points[30].Y != 2 {
		t.Errorf("at the branch: %v, %v", points[29], points[30])
	}
}

// A run that goes on, goes back and is cut in the middle of a line is followed.
func TestRefresh(t *testing.T) {
	m := vfs.NewCrashableMem()
	path := "/run/metrics.jsonl"
	steps := func(r *Run) [2]int64 { return [2]int64{r.Records, r.Last.Step} }
	write(t, m, path, lines(0, 20, 3))
	r, err := Open(m, "/run", "run")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text string
		changed    bool
		want       [2]int64
	}{
		{"nothing new", lines(0, 20, 3), false, [2]int64{20, 19}},
		{"half a line", lines(0, 20, 3) + lines(20, 21, 3)[:30], true, [2]int64{20, 19}},
		{"its rest, and more", lines(0, 25, 3), true, [2]int64{25, 24}},
		{"gone back", lines(0, 12, 3), true, [2]int64{12, 11}},
		{"gone back and past it between two looks", lines(0, 5, 3) + lines(5, 40, 2.5), true, [2]int64{40, 39}},
	} {
		write(t, m, path, c.text)
		changed, err := r.Refresh()
		if err != nil || changed != c.changed || steps(r) != c.want {
			t.Errorf("%s: changed %v, %v, want %v, %v (%v)", c.name, changed, steps(r), c.changed, c.want, err)
		}
	}
}

// page is the report of runs as text.
func page(t *testing.T, p *Page) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPage(t *testing.T) {
	m := vfs.NewCrashableMem()
	write(t, m, "/a/metrics.jsonl", lines(0, 50, 3))
	write(t, m, "/a/config.yaml", "name: <script>alert(1)</script>\n")
	write(t, m, "/a/samples/step-000000025.txt", "早安 <b>\x01")
	write(t, m, "/a/samples/step-000000050.txt", "later")
	write(t, m, "/a/spikes/step-000000017/spike.json", `{"step":17,"reason":"loss 9 above 4","loss":9,"grad_norm":null,"policy":"skip"}`)
	_, err := section.Write(m, "/a", "layers", section.Section{Title: "Layers", Columns: []string{"layer"}, Rows: [][]string{{"<7>"}}}, nil, section.Drawing{Name: "x", SVG: "<svg><script>alert(2)</script></svg>"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := Open(m, "/a", "<a>")
	if err != nil {
		t.Fatal(err)
	}
	text := page(t, &Page{Title: "T & T", Runs: []*Run{a}, Facts: []Fact{{"seed", []string{"1"}}}, Tree: "<tree>"})
	for _, want := range []string{
		"T &amp; T", "&lt;tree&gt;", "早安 &lt;b&gt;�", "after step 25", "after step 50", "loss 9 above 4", "<h3>Layers</h3>", "&lt;7&gt;",
		"Validation by source", "data:image/svg&#43;xml;base64,", `class="band0"`, ">decay<", "中文", "Gradient norm", "1.00% of the time",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, bad := range []string{"<script>alert", "http://", "https://", "<tree>", "<a>"} {
		if strings.Contains(strings.ReplaceAll(text, "http://www.w3.org/", ""), bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if strings.Contains(text, "Updates left out so far") {
		t.Error("a drawing of nothing but zeros")
	}

	write(t, m, "/b/metrics.jsonl", lines(0, 30, 2))
	b, err := Open(m, "/b", "b")
	if err != nil {
		t.Fatal(err)
	}
	text = page(t, &Page{Title: "two", Runs: []*Run{a, b}, Differences: []Fact{{"seed", []string{"1", "2"}}}})
	for _, want := range []string{"What differs in the configuration", "Validation of 中文", "Validation of code", `class="swatch k1"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the comparison lacks %q", want)
		}
	}
}

// A run that has only begun has a page, too.
func TestEmptyRun(t *testing.T) {
	m := vfs.NewCrashableMem()
	write(t, m, "/new/config.yaml", "name: new\n")
	r, err := Open(m, "/new", "new")
	if err != nil {
		t.Fatal(err)
	}
	if text := page(t, &Page{Title: "new", Runs: []*Run{r}}); !strings.Contains(text, "validation loss") || strings.Contains(text, "NaN") {
		t.Error("a page without records is not whole")
	}
}

func TestLive(t *testing.T) {
	m, dir := vfs.OS, t.TempDir()
	write(t, m, dir+"/runs/one/metrics.jsonl", lines(0, 30, 3))
	write(t, m, dir+"/runs/one/config.yaml", "name: one\n")
	write(t, m, dir+"/runs/two/x/metrics.jsonl", lines(0, 10, 3))
	write(t, m, dir+"/runs/two/x/config.yaml", "name: x\n")
	write(t, m, dir+"/secret/metrics.jsonl", lines(0, 10, 3))
	write(t, m, dir+"/secret/config.yaml", "name: secret\n")
	live := NewLive(m, dir+"/runs", func(p *Page) error { p.Tree = "described"; return nil })
	live.every = time.Millisecond
	get := func(host, path string) (int, string) {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = host
		w := httptest.NewRecorder()
		live.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	if code, text := get("127.0.0.1:8088", "/"); code != 200 || !strings.Contains(text, "EventSource") {
		t.Errorf("page: %d", code)
	}
	for _, host := range []string{"evil.example", "evil.example:8088", "10.0.0.1:80"} {
		if code, _ := get(host, "/"); code != http.StatusForbidden {
			t.Errorf("asked as %s: %d", host, code)
		}
	}
	for _, host := range []string{"localhost:1", "[::1]:8088", "127.0.0.1"} {
		if code, text := get(host, "/report?run=one&run=two/x"); code != 200 || !strings.Contains(text, "described") || strings.Contains(text, "<html") {
			t.Errorf("report asked as %s: %d", host, code)
		}
	}
	for _, path := range []string{"/report", "/report?run=../secret", "/report?run=" + dir + "/secret", "/report?run=gone"} {
		if code, text := get("localhost", path); code != http.StatusBadRequest || strings.Contains(text, "<") {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	if code, _ := get("localhost", "/etc/passwd"); code != http.StatusNotFound {
		t.Errorf("another path: %d", code)
	}

	// The stream has the list at once, and again when a run goes on.
	server := httptest.NewServer(live)
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	stream := json.NewDecoder(&eventData{r: answer.Body})
	next := func() (items []Item) {
		if err := stream.Decode(&items); err != nil {
			t.Fatal(err)
		}
		return items
	}
	items := next()
	if len(items) != 2 || items[0].Name != "one" || items[0].Step != 30 || items[0].State != running || items[1].Name != "two/x" || items[0].ValBPB != 1.5 {
		t.Errorf("list: %+v", items)
	}
	write(t, m, dir+"/runs/one/metrics.jsonl", lines(0, 31, 3))
	if items = next(); items[0].Step != 31 {
		t.Errorf("after a step: %+v", items)
	}
}

// eventData strips "data: " from a stream of events whose data have no such letters.
type eventData struct {
	r    io.Reader
	rest []byte
}

func (e *eventData) Read(p []byte) (int, error) {
	for len(e.rest) == 0 {
		b := make([]byte, 1<<16)
		n, err := e.r.Read(b)
		if err != nil {
			return 0, err
		}
		e.rest = bytes.ReplaceAll(b[:n], []byte("data: "), nil)
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// BenchmarkOpen reads a long run: what the first look at it in the dashboard costs.
func BenchmarkOpen(b *testing.B) {
	m := vfs.NewCrashableMem()
	const steps = 100_000
	file, err := m.Create("/metrics.jsonl")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.WriteString(file, lines(0, steps, 3)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r, err := Open(m, "/", "long")
		if err != nil || r.Records != steps {
			b.Fatal(err)
		}
		var page bytes.Buffer
		if err := (&Page{Title: "long", Runs: []*Run{r}}).Write(&page); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(page.Len()), "bytes/page")
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/steps, "ns/record")
}
