package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// parrot answers with its query, a word a piece.
type parrot struct {
	mu    sync.Mutex
	seen  Query
	block chan struct{} // where not nil: closed to go on
	err   error
}

func (p *parrot) Complete(ctx context.Context, q Query, emit func(int, Choice) error) error {
	p.mu.Lock()
	p.seen = q
	p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	if p.block != nil {
		select {
		case <-p.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for i := range max(1, len(q.Prompts)+len(q.Tokens)) * q.N {
		for _, piece := range []Choice{{Text: fmt.Sprint("你", i, " ")}, {Text: "好"}, {Finish: "stop", PromptTokens: 3, Tokens: 2}} {
			if err := emit(i, piece); err != nil {
				return err
			}
		}
	}
	return nil
}

func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func serve(t *testing.T, m Model, limits Limits) string {
	t.Helper()
	s := httptest.NewServer(Handler(m, "tiny", limits))
	t.Cleanup(s.Close)
	return s.URL
}

func TestCompletions(t *testing.T) {
	p := &parrot{}
	url := serve(t, p, DefaultLimits())
	status, text := post(t, url+"/v1/completions", `{"model":"tiny","prompt":["a","b"],"n":2,"max_tokens":5,"temperature":0.5,"top_p":0.9,"top_k":7,"stop":"x","seed":4,"echo":true,"user":"me"}`)
	var got struct {
		Object  string
		Choices []struct {
			Index        int
			Text         string
			FinishReason string `json:"finish_reason"`
		}
		Usage map[string]int
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || status != 200 || got.Object != "text_completion" || len(got.Choices) != 4 {
		t.Fatalf("%d %s %v", status, text, err)
	}
	if c := got.Choices[3]; c.Index != 3 || c.Text != "b你3 好" || c.FinishReason != "stop" {
		t.Errorf("choice %+v", c)
	}
	if got.Usage["prompt_tokens"] != 6 || got.Usage["completion_tokens"] != 8 || got.Usage["total_tokens"] != 14 {
		t.Errorf("usage %v", got.Usage)
	}
	q := p.seen
	if q.MaxTokens != 5 || q.Temperature != 0.5 || q.TopP != 0.9 || q.TopK != 7 || len(q.Stop) != 1 || *q.Seed != 4 || q.RepetitionPenalty != 1 {
		t.Errorf("query %+v", q)
	}
	if post(t, url+"/v1/completions", `{"prompt":[[1,2],[3]]}`); len(p.seen.Tokens) != 2 || p.seen.MaxTokens != 16 || p.seen.Temperature != 1 || p.seen.Seed != nil {
		t.Errorf("tokens: %+v", p.seen)
	}
}

func TestChatStream(t *testing.T) {
	p := &parrot{}
	url := serve(t, p, DefaultLimits())
	status, text := post(t, url+"/v1/chat/completions",
		`{"stream":true,"stream_options":{"include_usage":true},"max_completion_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}`)
	lines := strings.Split(strings.TrimSpace(text), "\n\n")
	if status != 200 || len(lines) != 5 || lines[4] != "data: [DONE]" {
		t.Fatalf("%d %q", status, text)
	}
	content := ""
	for i, line := range lines[:4] {
		var chunk struct {
			Object  string
			Choices []struct {
				Delta        map[string]string
				FinishReason *string `json:"finish_reason"`
			}
			Usage map[string]int
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &chunk); err != nil || chunk.Object != "chat.completion.chunk" {
			t.Fatalf("%s: %v", line, err)
		}
		switch i {
		case 0:
			if chunk.Choices[0].Delta["role"] != "assistant" {
				t.Errorf("first: %s", line)
			}
		case 2:
			if r := chunk.Choices[0].FinishReason; r == nil || *r != "stop" {
				t.Errorf("last: %s", line)
			}
		case 3:
			if len(chunk.Choices) != 0 || chunk.Usage["completion_tokens"] != 2 {
				t.Errorf("usage: %s", line)
			}
			continue
		}
		content += chunk.Choices[0].Delta["content"]
	}
	if content != "你0 好" || p.seen.Messages[0] != (Message{"user", "hi"}) || p.seen.MaxTokens != 9 {
		t.Errorf("%q of %+v", content, p.seen)
	}
}

// TestRefused: each request says what is wrong with it, in the shape that clients know.
func TestRefused(t *testing.T) {
	limits := DefaultLimits()
	limits.MaxBody = 500
	url := serve(t, &parrot{}, limits)
	for body, want := range map[string]string{
		`{"prompt":"a","model":"gpt-4"}`:                `model \"gpt-4\": there is \"tiny\"`,
		`{"prompt":"a","max_tokens":100000}`:            "max_tokens: 100000: want 1 to 1024",
		`{"prompt":"a","temperature":-1}`:               "temperature: -1",
		`{"prompt":"a","top_p":0}`:                      "top_p: 0",
		`{"prompt":"a","n":1000}`:                       "n: 1000",
		`{"prompt":["a","b","c"],"n":10}`:               "prompt: 30: want 0 to 16",
		`{"prompt":"a","logprobs":3}`:                   "logprobs",
		`{"prompt":"a","presence_penalty":1}`:           "repetition_penalty",
		`{"prompt":"a","suffix":"b"}`:                   "suffix",
		`{"prompt":"a","tools":[{}]}`:                   "tools",
		`{"prompt":"a","stop":3}`:                       "stop: want a text",
		`{"prompt":{}}`:                                 "prompt: want a text",
		`{}`:                                            "prompt: want a text",
		`{"prompt":[[1],[]]}`:                           "prompt 2 has no tokens",
		`{"prompt":`:                                    "not the JSON",
		`{"prompt":"` + strings.Repeat("a", 600) + `"}`: "larger than 500 bytes",
	} {
		status, text := post(t, url+"/v1/completions", body)
		if status < 400 || status > 499 || !strings.Contains(text, want) || !strings.Contains(text, `"type":"invalid_request_error"`) {
			t.Errorf("%.60s: %d %s, want %q", body, status, text, want)
		}
	}
	for body, want := range map[string]string{
		`{"messages":[]}`: "messages: missing", `{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`: "image_url", `{"messages":[{"role":"user","content":3}]}`: "message 1",
	} {
		if status, text := post(t, url+"/v1/chat/completions", body); status != 400 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	resp, err := http.Post(url+"/v1/completions", "text/plain", strings.NewReader(`{"prompt":"a"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("text/plain: %s", resp.Status)
	}
	if status, text := post(t, url+"/v1/embeddings", `{}`); status != 404 || !strings.Contains(text, "POST /v1/completions") {
		t.Errorf("%d %s", status, text)
	}
}

func TestModels(t *testing.T) {
	url := serve(t, &parrot{}, DefaultLimits())
	for path, want := range map[string]string{"/v1/models": `"id":"tiny"`, "/v1/models/tiny": `"object":"model"`, "/v1/models/other": "there is", "/health": "ok"} {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.Contains(string(text), want) {
			t.Errorf("%s: %s", path, text)
		}
	}
}

// TestQueue: while one request is answered so many wait, one more is refused; a client that leaves frees its place.
func TestQueue(t *testing.T) {
	p := &parrot{block: make(chan struct{})}
	limits := DefaultLimits()
	limits.MaxWaiting = 1
	url := serve(t, p, limits)
	results := make(chan int, 2)
	ctx, leave := context.WithCancel(context.Background())
	go func() { // answered until it leaves
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/completions", strings.NewReader(`{"prompt":"first"}`))
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("first: %v", err)
		}
		results <- 0
	}()
	asked := func(prompt string) func() bool {
		return func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.seen.Prompts) > 0 && p.seen.Prompts[0] == prompt
		}
	}
	until(t, asked("first"))
	go func() {
		status, _ := post(t, url+"/v1/completions", `{"prompt":"second"}`)
		results <- status
	}()
	until(t, func() bool {
		status, _ := post(t, url+"/v1/completions", `{"prompt":"third","max_tokens":0}`)
		return status == 400 // checked before it waits
	})
	time.Sleep(50 * time.Millisecond) // the second waits now
	if status, text := post(t, url+"/v1/completions", `{"prompt":"third"}`); status != http.StatusTooManyRequests {
		t.Errorf("third: %d %s", status, text)
	}
	leave()
	<-results
	until(t, asked("second"))
	close(p.block)
	if status := <-results; status != 200 {
		t.Errorf("second: %d", status)
	}
}

func until(t *testing.T, done func() bool) {
	t.Helper()
	for range 1000 {
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("waited for nothing")
}

func TestServerErrors(t *testing.T) {
	url := serve(t, &parrot{err: errors.New("out of memory")}, DefaultLimits())
	if status, text := post(t, url+"/v1/completions", `{"prompt":"a"}`); status != 500 || !strings.Contains(text, `"type":"server_error"`) {
		t.Errorf("%d %s", status, text)
	}
	limits := DefaultLimits()
	limits.Timeout = 20 * time.Millisecond
	url = serve(t, &parrot{block: make(chan struct{})}, limits)
	if status, text := post(t, url+"/v1/completions", `{"prompt":"a"}`); status != 503 {
		t.Errorf("%d %s", status, text)
	}
}
