package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"pretrain/configs"
	"pretrain/internal/backendtest"
	"pretrain/internal/openai"
	"pretrain/model"
	"pretrain/tokenizer/hf"
)

// tinyCompleter is a model of random weights with a real tokenizer.
func tinyCompleter(t *testing.T) *completer {
	t.Helper()
	file, err := os.ReadFile("../../tokenizer/testdata/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	tok, err := hf.New(file, "", "</s>")
	if err != nil {
		t.Fatal(err)
	}
	be := backendtest.CPU(t)
	c := model.Config{VocabSize: tok.VocabSize(), DModel: 16, NumLayers: 1, NumHeads: 2, HeadDim: 8, DimModelBase: 8, MaxSeqLen: 64}.Resolve()
	d := &onDevice{trained: &trained{Tokenizer: tok, Config: &configs.Resolved{Run: configs.Default()}}, Backend: be,
		Decoder: model.Decoder{Config: c, Numerics: model.NumericsFor(be, model.FP32)}}
	for i, p := range c.Params() {
		d.Weights = append(d.Weights, backendtest.NormalTensor(uint64(i), p.Shape...))
	}
	out, err := newCompleter(d, "chatml")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(out.generator.Finalize)
	return out
}

func ask(t *testing.T, url, body string) string {
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
	return string(text)
}

// TestServe: the server gives the text that generate gives; a stream joined is that text; a chat has its template; a stop
// string and a seed hold.
func TestServe(t *testing.T) {
	c := tinyCompleter(t)
	s := httptest.NewServer(openai.Handler(c, "tiny", openai.DefaultLimits()))
	defer s.Close()
	type response struct {
		Choices []struct {
			Text    string
			Message struct{ Content string }
			Delta   struct{ Content string }
			Finish  string `json:"finish_reason"`
		}
		Usage map[string]int
	}
	parse := func(text string) (r response) {
		t.Helper()
		if err := json.Unmarshal([]byte(text), &r); err != nil || len(r.Choices) == 0 {
			t.Fatalf("%v: %s", err, text)
		}
		return r
	}
	prompt, err := c.text("hello 中")
	if err != nil {
		t.Fatal(err)
	}
	var o generateOptions
	o.tokens, o.seed, o.Temperature = 40, 5, 3
	want, err := c.all(context.Background(), []asked{o.request(c, prompt, 0)})
	if err != nil {
		t.Fatal(err)
	}
	const body = `"prompt":"hello 中","max_tokens":40,"temperature":3,"seed":5}`
	r := parse(ask(t, s.URL+"/v1/completions", "{"+body))
	if got := r.Choices[0]; got.Text != shown(want[0].text) || got.Text == "" || got.Finish != want[0].finish || r.Usage["prompt_tokens"] != len(prompt) {
		t.Errorf("%+v, want %+v", r, want)
	}
	var streamed strings.Builder
	events := strings.Split(strings.TrimSpace(ask(t, s.URL+"/v1/completions", `{"stream":true,`+body)), "\n\n")
	for _, e := range events[:len(events)-1] {
		streamed.WriteString(parse(strings.TrimPrefix(e, "data: ")).Choices[0].Text)
	}
	if streamed.String() != r.Choices[0].Text || len(events) < 4 || events[len(events)-1] != "data: [DONE]" {
		t.Errorf("streamed %q in %d events, whole %q", streamed.String(), len(events), r.Choices[0].Text)
	}
	stop := []rune(r.Choices[0].Text)[6:8]
	if got := parse(ask(t, s.URL+"/v1/completions", `{"stop":[`+quote(string(stop))+`],`+body)).Choices[0]; got.Finish != "stop" || strings.Contains(got.Text, string(stop)) || !strings.HasPrefix(r.Choices[0].Text, got.Text) {
		t.Errorf("stopped at %q: %+v of %q", string(stop), got, r.Choices[0].Text)
	}
	if got := parse(ask(t, s.URL+"/v1/chat/completions", `{"messages":[{"role":"user","content":"hello"}],"max_tokens":5,"n":3}`)); len(got.Choices) != 3 {
		t.Errorf("chat: %+v", got)
	}
	for body, want := range map[string]string{`{"messages":[{"role":"wizard","content":"x"}]}`: "wizard", `{"prompt":[99999999]}`: "token 99999999"} {
		path := "/v1/completions"
		if strings.Contains(body, "messages") {
			path = "/v1/chat/completions"
		}
		if text := ask(t, s.URL+path, body); !strings.Contains(text, want) || !strings.Contains(text, "invalid_request_error") {
			t.Errorf("%s: %s", body, text)
		}
	}
}

func quote(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// slow answers when it is told to.
type slow struct{ asked, goOn chan struct{} }

func (s slow) Complete(_ context.Context, _ openai.Query, emit func(int, openai.Choice) error) error {
	close(s.asked)
	<-s.goOn
	return emit(0, openai.Choice{Text: "done", Finish: "stop"})
}

// TestDrain: when the server is told to stop, a request under way is answered and new ones are not taken.
func TestDrain(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	m := slow{make(chan struct{}), make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		ended <- answerUntil(ctx, listener, openai.Handler(m, "m", openai.DefaultLimits()), time.Minute, io.Discard)
	}()
	answer := make(chan string, 1)
	go func() { answer <- ask(t, url+"/v1/completions", `{"prompt":"a"}`) }()
	<-m.asked
	stop()
	for {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			break // refused
		}
		conn.Close()
		time.Sleep(5 * time.Millisecond)
	}
	close(m.goOn)
	if text := <-answer; !strings.Contains(text, `"text":"done"`) {
		t.Errorf("the request under way: %s", text)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestDrainGivesUp: a request that does not end in time ends with the server.
func TestDrainGivesUp(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	m := slow{make(chan struct{}), make(chan struct{})}
	go func() {
		_, _ = http.Post("http://"+listener.Addr().String()+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"a"}`)) //nolint:bodyclose // there is no answer
	}()
	go func() { <-m.asked; stop() }()
	err = answerUntil(ctx, listener, openai.Handler(m, "m", openai.DefaultLimits()), 10*time.Millisecond, io.Discard)
	close(m.goOn)
	if err == nil || !strings.Contains(err.Error(), "still under way") {
		t.Errorf("%v", err)
	}
}
