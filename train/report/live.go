package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"pretrain/internal/vfs"
	"pretrain/train/metrics"
	"pretrain/train/runs"
)

//go:embed live.html
var liveHTML string

//go:embed live.js
var liveScript string

var livePage = template.Must(template.New("live").Funcs(template.FuncMap{
	"css":    func() template.CSS { return template.CSS(css) },
	"script": func() template.JS { return template.JS(script + liveScript) },
}).Parse(liveHTML))

// Live serves the report of the runs in a folder while they train. The server draws; the page only swaps what it gets. Use
// [NewLive].
type Live struct {
	fsys     vfs.FS
	dir      string
	describe func(*Page) error
	every    time.Duration

	mu   sync.Mutex
	open map[string]*Run // read so far, by name
	used []string        // their names, the one used last at the end
}

// maxOpen runs stay in memory, at about 2 MB each.
const maxOpen = 32

// pollEvery is how often the folder is looked at while somebody looks on. Steps are rarely faster than the eye.
const pollEvery = time.Second

// NewLive serves the runs in dir and below it. describe adds to a page what its caller knows of configurations and families.
func NewLive(fsys vfs.FS, dir string, describe func(*Page) error) *Live {
	return &Live{fsys: fsys, dir: dir, describe: describe, every: pollEvery, open: map[string]*Run{}}
}

// Item is a run in the list.
type Item struct {
	Name    string         `json:"name"`
	Step    int64          `json:"step"` // updates done
	Tokens  int64          `json:"tokens"`
	Phase   string         `json:"phase"`
	Loss    metrics.Number `json:"loss"`
	ValBPB  metrics.Number `json:"val_bpb"` // of the last update with a validation, if it is among the last ones
	State   string         `json:"state"`   // running, finished or stopped
	Written time.Time      `json:"written"` // when the last record was
}

// The states of a run, as far as its files tell.
const (
	running  = "running"
	finished = "finished"
	stopped  = "stopped"
)

// stillRunning is how recent the last record of a run is that is taken to be running: longer than a step or a validation takes.
const stillRunning = 2 * time.Minute

// list is every run in the folder, from the ends of their files.
func (l *Live) list() ([]Item, error) {
	dirs, err := runs.Find(l.fsys, l.dir)
	if err != nil {
		return nil, err
	}
	items := []Item{}
	for _, dir := range dirs {
		name, err := filepath.Rel(l.dir, dir)
		if err != nil {
			return nil, err
		}
		items = append(items, l.item(dir, filepath.ToSlash(name)))
	}
	return items, nil
}

func (l *Live) item(dir, name string) Item {
	item := Item{Name: name, Loss: metrics.Unknown, ValBPB: metrics.Unknown, State: stopped}
	path := filepath.Join(dir, "metrics.jsonl")
	info, err := l.fsys.Stat(path)
	if err != nil { // one that has made no step yet
		return item
	}
	item.Written = info.ModTime()
	if time.Since(item.Written) < stillRunning {
		item.State = running
	}
	if result, err := l.fsys.Stat(filepath.Join(dir, "result.json")); err == nil && !result.ModTime().Before(item.Written.Add(-time.Second)) {
		item.State = finished
	}
	const recent = 200
	records, err := metrics.Tail(l.fsys, path, 1<<62, recent)
	if err != nil || len(records) == 0 {
		return item
	}
	last := records[len(records)-1]
	item.Step, item.Tokens, item.Phase, item.Loss = last.Step+1, last.Tokens, last.Phase, last.Loss
	for _, r := range records {
		if r.Eval != nil {
			item.ValBPB = r.ValBPB
		}
	}
	return item
}

// runs are those of the names, read up to now.
func (l *Live) runs(names []string) ([]*Run, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, err := runs.Find(l.fsys, l.dir)
	if err != nil {
		return nil, err
	}
	var list []*Run
	for _, name := range names {
		dir := filepath.Join(l.dir, filepath.FromSlash(name))
		if !slices.Contains(known, dir) { // nothing outside the folder, whatever the name
			return nil, fmt.Errorf("%q is no run in this folder", name)
		}
		r := l.open[name]
		if r == nil {
			if r, err = Open(l.fsys, dir, name); err != nil {
				return nil, err
			}
			l.open[name] = r
		} else if _, err := r.Refresh(); err != nil {
			return nil, err
		}
		l.used = append(slices.DeleteFunc(l.used, func(n string) bool { return n == name }), name)
		list = append(list, r)
	}
	for len(l.used) > max(maxOpen, len(names)) {
		delete(l.open, l.used[0])
		l.used = l.used[1:]
	}
	return list, nil
}

// ServeHTTP implements [http.Handler]. It answers requests to this machine by its loopback names only: a page of another site that
// has its name point here gets nothing.
func (l *Live) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !local(r.Host) {
		http.Error(w, "this page is for this machine alone: open it as http://127.0.0.1", http.StatusForbidden)
		return
	}
	if r.Method != http.MethodGet {
		http.Error(w, "nothing can be changed here", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	var err error
	switch r.URL.Path {
	case "/":
		err = l.page(w)
	case "/report":
		err = l.report(w, r.URL.Query()["run"])
	case "/events":
		l.events(w, r)
	default:
		http.NotFound(w, r)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// local reports whether a Host header names this machine's loopback.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (l *Live) page(w http.ResponseWriter) error {
	var b bytes.Buffer
	if err := livePage.Execute(&b, struct{ Dir string }{l.dir}); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, err := w.Write(b.Bytes())
	return err
}

// report answers with the part of a page about some runs.
func (l *Live) report(w http.ResponseWriter, names []string) error {
	const most = 16
	if len(names) == 0 || len(names) > most {
		return fmt.Errorf("want 1 to %d runs, got %d", most, len(names))
	}
	list, err := l.runs(names)
	if err != nil {
		return err
	}
	l.mu.Lock() // another request may read the runs on
	defer l.mu.Unlock()
	p := &Page{Title: strings.Join(names, ", "), Runs: list}
	if err := l.describe(p); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := p.Fragment(&b); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, err = w.Write(b.Bytes())
	return err
}

// events sends the list of runs at once and whenever it has changed, as server-sent events.
func (l *Live) events(w http.ResponseWriter, r *http.Request) {
	flusher, ok := w.(http.Flusher)
	if !ok {
		http.Error(w, "this connection cannot stream", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	var sent []byte
	for {
		var message any
		message, err := l.list()
		if err != nil {
			message = map[string]string{"problem": err.Error()}
		}
		text, err := json.Marshal(message)
		if err != nil {
			return
		}
		if !bytes.Equal(text, sent) {
			if _, err := fmt.Fprintf(w, "data: %s\n\n", text); err != nil {
				return
			}
			flusher.Flush()
			sent = text
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}
