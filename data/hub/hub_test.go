package hub_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"pretrain/data/hub"
	"pretrain/data/read"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

// fakeHub plays a hub with one data set, and fails as asked.
type fakeHub struct {
	*httptest.Server
	files map[string][]byte

	mu     sync.Mutex
	asked  map[string]int // requests by path
	ranges []string       // Range headers of downloads
	fail   func(path string, n int, w http.ResponseWriter) bool
	token  string
	moved  bool // "main" is another commit by now
}

func newHub(t *testing.T, files map[string][]byte) *fakeHub {
	h := &fakeHub{files: files, asked: map[string]int{}}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *fakeHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked[r.URL.Path]++
	if h.token != "" && r.Header.Get("Authorization") != "Bearer "+h.token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if h.fail != nil && h.fail(r.URL.Path, h.asked[r.URL.Path], w) {
		return
	}
	api, resolve := "/api/datasets/owner/name/", "/datasets/owner/name/resolve/"+commit+"/"
	switch {
	case strings.HasPrefix(r.URL.Path, api+"revision/"):
		sha := commit
		if h.moved {
			sha = strings.Repeat("f", 40)
		}
		fmt.Fprintf(w, `{"id": "owner/name", "sha": %q}`, sha)
	case r.URL.Path == api+"tree/"+commit:
		h.tree(w, r)
	case strings.HasPrefix(r.URL.Path, resolve):
		b, ok := h.files[strings.TrimPrefix(r.URL.Path, resolve)]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		h.ranges = append(h.ranges, r.Header.Get("Range"))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// tree lists the files, in two pages.
func (h *fakeHub) tree(w http.ResponseWriter, r *http.Request) {
	list := []map[string]any{{"type": "directory", "path": "data", "size": 0}}
	page := r.URL.Query().Get("page")
	for name, b := range h.files {
		if (len(name)%2 == 0) == (page == "") {
			list = append(list, map[string]any{"type": "file", "path": name, "size": len(b), "lfs": map[string]any{"oid": fmt.Sprintf("%x", sha256.Sum256(b))}})
		}
	}
	if page == "" {
		w.Header().Set("Link", fmt.Sprintf(`<%s%s?recursive=true&page=2>; rel="next"`, h.URL, r.URL.Path))
	}
	_ = json.NewEncoder(w).Encode(list)
}

func (h *fakeHub) client() hub.Client { return hub.Client{Endpoint: h.URL, Pause: time.Millisecond} }

// row is a row of a Parquet file, as FineWeb-Edu has them.
type row struct {
	Text  string  `parquet:"text"`
	ID    string  `parquet:"id"`
	Score float64 `parquet:"score"`
}

func parquetFile(t *testing.T, from, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[row](&b)
	for i := from; i < from+n; i++ {
		if _, err := w.Write([]row{{fmt.Sprintf("text %d %s", i, strings.Repeat("word ", 200)), fmt.Sprintf("id-%d", i), 3}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func dataset(t *testing.T) map[string][]byte {
	return map[string][]byte{
		"README.md": []byte("# A data set"), "data/CC-1/train-0.parquet": parquetFile(t, 0, 300), "data/CC-1/train-01.parquet": parquetFile(t, 300, 200),
		"data/CC-2/x.jsonl": []byte(`{"text": "line"}` + "\n"), "data/a b#c.jsonl": []byte(`{"text": "escaped"}` + "\n"),
	}
}

func texts(t *testing.T, spec read.Spec) int {
	t.Helper()
	s, err := read.Open(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range s.Documents(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// A data set is read through its name: Parquet and JSONL, all of it or a folder, and a second time from disk.
func TestRead(t *testing.T) {
	h := newHub(t, dataset(t))
	h.token = "secret"
	t.Setenv("HF_ENDPOINT", h.URL)
	t.Setenv("HF_TOKEN", "secret")
	cache := t.TempDir()
	spec := read.Default("hf://datasets/owner/name")
	spec.CacheDir = cache
	if n := texts(t, spec); n != 503 { // README.md is text, too
		t.Errorf("%d documents, want 503", n)
	}
	h.moved = true
	before := len(h.ranges)
	spec.Path = "hf://datasets/owner/name/data/CC-1"
	if n := texts(t, spec); n != 500 || len(h.ranges) != before {
		t.Errorf("%d documents, want 500; %d downloads", n, len(h.ranges)-before)
	}
	spec.Path = "hf://datasets/owner/name@" + commit
	spec.Files = []string{"*.jsonl"}
	spec.CacheDir = t.TempDir()
	if n := texts(t, spec); n != 2 || len(h.ranges) != before+2 {
		t.Errorf("%d documents of %d files, want 2 of 2", n, len(h.ranges)-before)
	}
}

// A busy or broken hub is asked again, a transfer that breaks off goes on where it stopped, and what cannot be mended is not
// tried twice.
func TestFailures(t *testing.T) {
	files := dataset(t)
	h := newHub(t, files)
	big := "/datasets/owner/name/resolve/" + commit + "/data/CC-1/train-0.parquet"
	h.fail = func(path string, n int, w http.ResponseWriter) bool {
		switch {
		case strings.HasPrefix(path, "/api/") && n == 1:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		case path == big && n == 1:
			w.WriteHeader(http.StatusBadGateway)
			return true
		case path == big && n == 2: // the connection breaks
			b := files["data/CC-1/train-0.parquet"]
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			_, _ = w.Write(b[:1000])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		return false
	}
	d, err := hub.Parse("hf://datasets/owner/name")
	if err != nil {
		t.Fatal(err)
	}
	all := func(string) bool { return true }
	cache := t.TempDir()
	dir, err := h.client().Fetch(t.Context(), d, cache, all, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if !strings.Contains(strings.Join(h.ranges, " "), "bytes=1000-") {
		t.Errorf("not resumed: ranges %q", h.ranges)
	}
	small := filepath.Join(dir, "data/CC-2/x.jsonl") // an earlier download left more than the file has
	if err := os.Rename(small, filepath.Join(filepath.Dir(small), ".x.jsonl.part")); err != nil {
		t.Fatal(err)
	}
	part, err := os.OpenFile(filepath.Join(filepath.Dir(small), ".x.jsonl.part"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if err := part.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.client().Fetch(t.Context(), d, cache, all, nil); err != nil {
		t.Errorf("a part that is too long: %v", err)
	}
	if got, err := os.ReadFile(small); err != nil || !bytes.Equal(got, files["data/CC-2/x.jsonl"]) {
		t.Errorf("after a part that is too long: %q, %v", got, err)
	}
	h.fail = func(_ string, _ int, w http.ResponseWriter) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	}
	if _, err := h.client().Fetch(t.Context(), d, t.TempDir(), all, nil); err == nil || !strings.Contains(err.Error(), "given up after 6 tries") {
		t.Errorf("a broken hub: %v", err)
	}
	h.fail, h.asked, h.token = nil, map[string]int{}, "other"
	if _, err := h.client().Fetch(t.Context(), d, t.TempDir(), all, nil); !errors.Is(err, hub.ErrDenied) || len(h.asked) != 1 {
		t.Errorf("no token: %v, after %v", err, h.asked)
	}
	h.token = ""
	if _, err := h.client().Fetch(t.Context(), d, t.TempDir(), func(string) bool { return false }, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing wanted: %v", err)
	}
	files["data/CC-2/x.jsonl"] = bytes.ToUpper(files["data/CC-2/x.jsonl"]) // the list has the old sum
	h.fail = nil
	cached := t.TempDir()
	lists := filepath.Join(cached, "datasets--owner--name", "lists")
	if err := os.MkdirAll(lists, 0o755); err != nil {
		t.Fatal(err)
	}
	list := fmt.Sprintf(`[{"type":"file","path":"data/CC-2/x.jsonl","size":17,"lfs":{"oid":"%064d"}}]`, 0)
	if err := os.WriteFile(filepath.Join(lists, commit+".json"), []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := h.client().Fetch(t.Context(), d, cached, all, nil); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("a wrong file: %v", err)
	}
}

func TestParse(t *testing.T) {
	for in, want := range map[string]hub.Dataset{
		"hf://datasets/Skywork/SkyPile-150B":                 {ID: "Skywork/SkyPile-150B", Revision: "main"},
		"hf://datasets/a/b@v1.0":                             {ID: "a/b", Revision: "v1.0"},
		"hf://datasets/a/b@" + commit + "/data/CC-MAIN-2024": {ID: "a/b", Revision: commit, Folder: "data/CC-MAIN-2024"},
		"hf://datasets/a/b/data/":                            {ID: "a/b", Revision: "main", Folder: "data"},
	} {
		if got, err := hub.Parse(in); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"hf://a/b", "hf://datasets/a", "hf://datasets/a b/c", ""} {
		if _, err := hub.Parse(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
