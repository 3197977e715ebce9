package synth

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pretrain/data/read"
	"pretrain/internal/prng"
	"pretrain/internal/units"
)

// words are those of each subject.
var words = map[string][]string{
	"cooking": strings.Fields("oven butter dough salt onion roast flour recipe kitchen spoon"),
	"sailing": strings.Fields("harbour mast anchor sail rudder deck captain voyage compass island"),
	"chess":   {"国际象棋", "王后", "骑士", "开局", "残局", "棋盘", "将军", "兑子"},
}

// corpus writes documents of three subjects, each with words of its own among common ones, and returns the file and the ids by subject.
func corpus(t *testing.T, dir string) (path string, subject map[string]string) {
	t.Helper()
	common := strings.Fields("the and with from this that have been more some very well")
	subject = map[string]string{}
	key := prng.New(7)
	var b strings.Builder
	for i := range 90 {
		name := []string{"cooking", "sailing", "chess"}[i%3]
		k := key.SplitN(uint64(i))
		var text strings.Builder
		for j := range 40 {
			from := common
			if j%2 == 0 {
				from = words[name]
			}
			text.WriteString(from[k.Uint64At(uint64(j))%uint64(len(from))] + " ")
		}
		id := fmt.Sprintf("%s-%d", name, i)
		subject[id] = name
		line, err := json.Marshal(map[string]string{"id": id, "text": text.String()})
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	path = filepath.Join(dir, "seeds.jsonl")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path, subject
}

// endpoint plays a model: it answers with what it was asked about. fail, if not nil, may answer in its stead.
type endpoint struct {
	*httptest.Server
	mu    sync.Mutex
	asked []request
	keys  []string
	busy  atomic.Int32
	most  atomic.Int32
}

func serve(t *testing.T, fail func(n int, w http.ResponseWriter) bool) *endpoint {
	e := new(endpoint)
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if now := e.busy.Add(1); now > e.most.Load() {
			e.most.Store(now)
		}
		defer e.busy.Add(-1)
		var q request
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.URL.Path != "/v1/chat/completions" || r.Method != http.MethodPost {
			http.Error(w, "what?", http.StatusNotFound)
			return
		}
		e.mu.Lock()
		e.asked = append(e.asked, q)
		e.keys = append(e.keys, r.Header.Get("Authorization"))
		n := len(e.asked)
		e.mu.Unlock()
		if fail != nil && fail(n, w) {
			return
		}
		fmt.Fprintf(w, `{"choices":[{"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":50}}`,
			fmt.Sprintf("About: %.60s <%d>", q.Messages[0].Content, q.Seed))
	}))
	t.Cleanup(e.Close)
	return e
}

func config(t *testing.T, url string) (Config, map[string]string) {
	t.Helper()
	dir := t.TempDir()
	c := Default()
	c.Output = filepath.Join(dir, "out")
	var subject map[string]string
	c.Seeds.Path, subject = corpus(t, dir)
	c.Topics.Count, c.Topics.Dimensions = 3, 1<<12
	c.Prompts.PerTopic = 4
	c.Prompts.Template = "{format} for {audience} on {topic}: {extract}"
	c.Endpoint.URL, c.Endpoint.Model, c.Endpoint.Concurrency = url+"/v1/", "big-model", 4
	c.Endpoint.InputPrice, c.Endpoint.OutputPrice = 2, 10
	c.Endpoint.Timeout = units.Duration(10 * time.Second)
	return c, subject
}

// Clusters are the subjects, named by their own words, and the same each time.
func TestTopics(t *testing.T) {
	c, subject := config(t, "http://none")
	r, err := Run(t.Context(), c, Options{TopicsOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Topics) != 3 {
		t.Fatalf("%d topics", len(r.Topics))
	}
	seen := map[string]bool{}
	for _, topic := range r.Topics {
		of := subject[topic.Examples[0]]
		seen[of] = true
		for _, id := range topic.Examples {
			if subject[id] != of {
				t.Errorf("topic %d has %v", topic.Number, topic.Examples)
			}
		}
		if topic.Documents != 30 || len(topic.Terms) != 8 {
			t.Errorf("%s: %d documents, terms %v", of, topic.Documents, topic.Terms)
		}
		for _, term := range topic.Terms {
			if !strings.Contains(strings.Join(words[of], " "), term) {
				t.Errorf("%s has the term %q", of, term)
			}
		}
	}
	if len(seen) != 3 {
		t.Errorf("topics of %v", seen)
	}
	first, err := os.ReadFile(filepath.Join(c.Output, TopicsName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), c, Options{TopicsOnly: true}); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(filepath.Join(c.Output, TopicsName)); string(again) != string(first) {
		t.Error("other topics the second time")
	}
	c.Topics.Count = 91
	if _, err := Run(t.Context(), c, Options{TopicsOnly: true}); err == nil || !strings.Contains(err.Error(), "90 documents with words for 91 topics") {
		t.Errorf("more topics than documents: %v", err)
	}
}

// Every chosen topic is written about in every format, answers become documents that data/read reads, and nothing is asked twice.
func TestRun(t *testing.T) {
	e := serve(t, nil)
	c, _ := config(t, e.URL)
	c.Topics.Skip = []int{2}
	r, err := Run(t.Context(), c, Options{Key: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	want := Result{Topics: r.Topics, Prompts: 8, Asked: 8, Usage: Usage{800, 400}, Cost: 8 * (100*2 + 50*10) / 1e6, Documents: 8}
	if diff := cmp.Diff(want, *r, cmp.AllowUnexported(Topic{})); diff != "" {
		t.Error(diff)
	}
	if n := e.most.Load(); n > 4 {
		t.Errorf("%d requests at once", n)
	}
	q := e.asked[0]
	if q.Model != "big-model" || q.MaxTokens != 1024 || q.Temperature != 0.8 || q.Messages[0].Role != "user" || e.keys[0] != "Bearer secret" {
		t.Errorf("asked %+v with %q", q, e.keys[0])
	}
	formats := map[string]int{}
	for _, q := range e.asked {
		if strings.ContainsAny(q.Messages[0].Content, "{}") || strings.Contains(q.Messages[0].Content, r.Topics[1].Name()) {
			t.Errorf("asked %q", q.Messages[0].Content)
		}
		for _, f := range c.Prompts.Formats {
			if strings.HasPrefix(q.Messages[0].Content, f+" for young children on ") {
				formats[f]++
			}
		}
	}
	for _, f := range c.Prompts.Formats {
		if formats[f] != 2 {
			t.Errorf("%q was asked for %d times", f, formats[f])
		}
	}
	first, err := os.ReadFile(filepath.Join(c.Output, DocumentsName))
	if err != nil {
		t.Fatal(err)
	}
	source, err := read.Open(t.Context(), read.Default(filepath.Join(c.Output, DocumentsName)))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for d, err := range source.Documents(t.Context(), nil) {
		if n++; err != nil || !strings.HasPrefix(d.Text, "About: ") || d.Language != "en" {
			t.Errorf("document %+v, %v", d, err)
		}
	}
	if n != 8 {
		t.Errorf("%d documents", n)
	}

	// Again, all from the cache, and one topic more.
	c.Topics.Skip = nil
	r, err = Run(t.Context(), c, Options{})
	if err != nil || r.Cached != 8 || r.Asked != 4 || r.Documents != 12 || len(e.asked) != 12 {
		t.Errorf("the second run: %+v, %v; %d requests in all", r, err, len(e.asked))
	}
	c.Topics.Skip = []int{2}
	if _, err = Run(t.Context(), c, Options{}); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(filepath.Join(c.Output, DocumentsName)); string(again) != string(first) {
		t.Error("other documents from the same answers")
	}
}

// What may pass is asked again; what will not ends the run, and what was answered until then is kept; half a line of a crash is dropped.
func TestFailures(t *testing.T) {
	e := serve(t, func(n int, w http.ResponseWriter) bool {
		switch n {
		case 1:
			w.Header().Set("Retry-After", "0.01")
			http.Error(w, "slow down", http.StatusTooManyRequests)
		case 2:
			http.Error(w, "oops", http.StatusBadGateway)
		case 3:
			io.WriteString(w, `{"choices":[]}`)
		case 4:
			panic(http.ErrAbortHandler) // a broken connection
		default:
			return false
		}
		return true
	})
	c, _ := config(t, e.URL)
	prompts := []prompt{}
	for i := range 3 {
		prompts = append(prompts, prompt{key: fmt.Sprint(i), body: []byte(fmt.Sprintf(`{"messages":[{"content":"%d"}]}`, i))})
	}
	ask := func(c Config, a *archive) (*Result, error) {
		r := new(Result)
		return r, c.ask(context.Background(), prompts, a, r, Options{})
	}
	path := filepath.Join(t.TempDir(), ResponsesName)
	a, err := openArchive(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ask(c, a)
	if err != nil || r.Asked != 3 || r.Retries != 4 {
		t.Errorf("%+v, %v", r, err)
	}
	a.close()

	// A crash in the middle of a line.
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, whole[:len(whole)-3], 0o644); err != nil {
		t.Fatal(err)
	}
	if a, err = openArchive(path); err != nil || len(a.known) != 2 {
		t.Fatalf("%d answers, %v", len(a.known), err)
	}
	r, err = ask(c, a)
	if err != nil || r.Cached != 2 || r.Asked != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	a.close()
	if err := os.WriteFile(path, []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err = openArchive(path); err == nil || !strings.Contains(err.Error(), "line 1 is no answer") {
		t.Errorf("a damaged file: %v", err)
	}

	for status, want := range map[int]string{401: "OPENAI_API_KEY (endpoint.key_env)", 400: "400 Bad Request: no such model", 503: "(asked 2 times)"} {
		e := serve(t, func(_ int, w http.ResponseWriter) bool {
			http.Error(w, "no such model", status)
			return true
		})
		c.Endpoint.URL, c.Endpoint.Retries, c.Endpoint.Concurrency = e.URL+"/v1", 1, 1
		if _, err := ask(c, &archive{known: map[string]response{}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("status %d: %v, want %s", status, err, want)
		}
	}
}

// The budget ends the asking, and cut-off and empty answers make no document.
func TestBudget(t *testing.T) {
	e := serve(t, func(n int, w http.ResponseWriter) bool {
		switch n {
		case 1:
			io.WriteString(w, `{"choices":[{"message":{"content":"cut"},"finish_reason":"length"}],"usage":{"prompt_tokens":1000000}}`)
		case 2:
			io.WriteString(w, `{"choices":[{"message":{"content":" "},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000000}}`)
		default:
			return false
		}
		return true
	})
	c, _ := config(t, e.URL)
	c.Endpoint.Concurrency, c.Endpoint.MaxCost = 1, 4 // at 2 a million
	r, err := Run(t.Context(), c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r.CutOff != 1 || r.Empty != 1 || r.Unasked == 0 || r.Unasked+r.Asked != r.Prompts || r.Asked > 3 || r.Cost < 4 {
		t.Errorf("%+v", r)
	}
}

func TestValidate(t *testing.T) {
	err := Config{Topics: Topics{Choose: []int{9}}}.Validate()
	for _, key := range []string{
		"output", "seeds.path", "seeds.max", "topics.count", "topics.choose", "prompts.template", "prompts.formats", "prompts.audiences",
		"prompts.per_topic", "endpoint.url", "endpoint.model", "endpoint.timeout", "endpoint.concurrency",
	} {
		if err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("%s is missing in %v", key, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"2": 2 * time.Second, "": 0, "soon": 0, "-1": 0, now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}`))
	f.Fuzz(func(t *testing.T, b []byte) { parseAnswer(b) })
}

func FuzzArchive(f *testing.F) {
	f.Add("{\"key\":\"a\",\"text\":\"b\"}\n{")
	f.Fuzz(func(t *testing.T, s string) {
		a := &archive{known: map[string]response{}}
		if good, _ := a.read(strings.NewReader(s)); good > int64(len(s)) || good > 0 && s[good-1] != '\n' {
			t.Errorf("%d bytes of %q are whole lines", good, s)
		}
	})
}

func FuzzTerms(f *testing.F) {
	f.Add("Some words, 中文字 \xff and naïve")
	f.Fuzz(func(t *testing.T, s string) {
		eachTerm(s, func(term string) {
			if term == "" || len(term) > 60 {
				t.Errorf("term %q", term)
			}
		})
	})
}
