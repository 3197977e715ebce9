package openai

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"
)

// server answers requests one after the other.
type server struct {
	model   Model
	name    string
	created int64
	limits  Limits
	turn    chan struct{} // whose holder is answered
	queue   chan struct{} // those answered and waiting
}

// Handler serves a model under a name.
func Handler(m Model, name string, limits Limits) http.Handler {
	s := &server{
		model: m, name: name, created: time.Now().Unix(), limits: limits,
		turn: make(chan struct{}, 1), queue: make(chan struct{}, 1+limits.MaxWaiting),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/completions", func(w http.ResponseWriter, r *http.Request) { s.complete(w, r, false) })
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { s.complete(w, r, true) })
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{"object": "list", "data": []any{s.card()}})
	})
	mux.HandleFunc("GET /v1/models/{name...}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("name") != s.name {
			fail(w, &Problem{http.StatusNotFound, "model", fmt.Sprintf("model %q: there is %q", r.PathValue("name"), s.name)})
			return
		}
		reply(w, http.StatusOK, s.card())
	})
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, &Problem{http.StatusNotFound, "", fmt.Sprintf("%s %s: there are POST /v1/completions, POST /v1/chat/completions, GET /v1/models and GET /health", r.Method, r.URL.Path)})
	})
	return mux
}

func (s *server) card() map[string]any {
	return map[string]any{"id": s.name, "object": "model", "created": s.created, "owned_by": "pretrain"}
}

// complete answers a request for text.
func (s *server) complete(w http.ResponseWriter, r *http.Request, chat bool) {
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.Timeout)
	defer cancel()
	body, q, err := s.read(w, r, chat)
	if err != nil {
		fail(w, err)
		return
	}
	leave, err := s.enter(ctx)
	if err != nil {
		fail(w, err)
		return
	}
	defer leave()
	a := &answer{server: s, w: w, chat: chat, request: body, query: q, id: "cmpl-" + randomID(), created: time.Now().Unix()}
	if chat {
		a.id = "chat" + a.id
	}
	a.choices = make([]Choice, max(1, len(q.Prompts)+len(q.Tokens))*q.N)
	if body.Stream {
		err = a.stream(ctx)
	} else {
		err = a.whole(ctx)
	}
	if err != nil {
		a.fail(err)
	}
}

// read reads and checks a request.
func (s *server) read(w http.ResponseWriter, r *http.Request, chat bool) (body request, q Query, err error) {
	// A page of another site can send other types without being asked first.
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return body, q, &Problem{http.StatusUnsupportedMediaType, "", "Content-Type: want application/json"}
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, s.limits.MaxBody)).Decode(&body); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return body, q, &Problem{http.StatusRequestEntityTooLarge, "", fmt.Sprintf("the request is larger than %d bytes", large.Limit)}
		}
		return body, q, &Problem{http.StatusBadRequest, "", "the request is not the JSON that is wanted: " + err.Error()}
	}
	if body.Model != "" && body.Model != s.name {
		return body, q, &Problem{http.StatusNotFound, "model", fmt.Sprintf("model %q: there is %q", body.Model, s.name)}
	}
	q, err = body.query(chat, s.limits)
	return body, q, err
}

// enter waits for the turn; leave ends it.
func (s *server) enter(ctx context.Context) (leave func(), err error) {
	select {
	case s.queue <- struct{}{}:
	default:
		return nil, &Problem{http.StatusTooManyRequests, "", fmt.Sprintf("%d requests are waiting already: try again later", s.limits.MaxWaiting)}
	}
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn; <-s.queue }, nil
	case <-ctx.Done():
		<-s.queue
		return nil, &Problem{http.StatusServiceUnavailable, "", "the request timed out while waiting for others"}
	}
}

// answer is a response under way.
type answer struct {
	*server
	w       http.ResponseWriter
	chat    bool
	request request
	query   Query
	id      string
	created int64
	choices []Choice // what came of each so far
	begun   bool     // the header is written
}

func (a *answer) collect(i int, piece Choice) {
	c := &a.choices[i]
	c.Text += piece.Text
	if piece.Finish != "" {
		c.Finish, c.PromptTokens, c.Tokens = piece.Finish, piece.PromptTokens, piece.Tokens
	}
}

// whole answers with one object.
func (a *answer) whole(ctx context.Context) error {
	err := a.model.Complete(ctx, a.query, func(i int, piece Choice) error {
		a.collect(i, piece)
		return nil
	})
	if err != nil {
		return err
	}
	var list []any
	for i, c := range a.choices {
		choice := map[string]any{"index": i, "finish_reason": c.Finish, "logprobs": nil}
		if a.chat {
			choice["message"] = map[string]any{"role": "assistant", "content": c.Text}
		} else {
			choice["text"] = a.echo(i) + c.Text
		}
		list = append(list, choice)
	}
	object := a.object("text_completion", "chat.completion")
	object["choices"], object["usage"] = list, a.usage()
	reply(a.w, http.StatusOK, object)
	return nil
}

// echo is the prompt of choice i where it was asked for.
func (a *answer) echo(i int) string {
	if !a.request.Echo || len(a.query.Prompts) == 0 {
		return ""
	}
	return a.query.Prompts[i/a.query.N]
}

// object is what every object of the answer has.
func (a *answer) object(completion, chat string) map[string]any {
	kind := completion
	if a.chat {
		kind = chat
	}
	return map[string]any{"id": a.id, "object": kind, "created": a.created, "model": a.name}
}

func (a *answer) usage() map[string]int {
	prompt, completion := 0, 0
	for i, c := range a.choices {
		if i%a.query.N == 0 {
			prompt += c.PromptTokens
		}
		completion += c.Tokens
	}
	return map[string]int{"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
}

// writeTimeout is how long a client may take to read a piece before it is given up.
const writeTimeout = 30 * time.Second

// stream answers with server-sent events.
func (a *answer) stream(ctx context.Context) error {
	err := a.model.Complete(ctx, a.query, func(i int, piece Choice) error {
		first := a.choices[i] == (Choice{})
		a.collect(i, piece)
		choice := map[string]any{"index": i, "finish_reason": nil, "logprobs": nil}
		if piece.Finish != "" {
			choice["finish_reason"] = piece.Finish
		}
		if a.chat {
			delta := map[string]any{"content": piece.Text}
			if first {
				delta["role"] = "assistant"
			}
			choice["delta"] = delta
		} else {
			choice["text"] = piece.Text
			if first {
				choice["text"] = a.echo(i) + piece.Text
			}
		}
		object := a.object("text_completion", "chat.completion.chunk")
		object["choices"] = []any{choice}
		return a.event(object)
	})
	if err != nil {
		return err
	}
	if o := a.request.StreamOptions; o != nil && o.IncludeUsage {
		object := a.object("text_completion", "chat.completion.chunk")
		object["choices"], object["usage"] = []any{}, a.usage()
		if err := a.event(object); err != nil {
			return err
		}
	}
	return a.write("data: [DONE]\n\n")
}

func (a *answer) event(object any) error {
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return a.write("data: " + string(text) + "\n\n")
}

func (a *answer) write(text string) error {
	control := http.NewResponseController(a.w)
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) // a recorder of tests has none
	if !a.begun {
		a.begun = true
		a.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		a.w.Header().Set("Cache-Control", "no-cache")
		a.w.WriteHeader(http.StatusOK)
	}
	if _, err := a.w.Write([]byte(text)); err != nil {
		return err
	}
	return control.Flush()
}

// fail ends an answer that went wrong: with a status, or where it has begun with an event.
func (a *answer) fail(err error) {
	if !a.begun {
		fail(a.w, err)
		return
	}
	_, body := problem(err)
	_ = a.event(body) // the client may be gone
}

// problem is the status and body of an error.
func problem(err error) (int, map[string]any) {
	var p *Problem
	kind := "invalid_request_error"
	if !errors.As(err, &p) {
		p, kind = &Problem{http.StatusInternalServerError, "", err.Error()}, "server_error"
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			p = &Problem{http.StatusServiceUnavailable, "", "the request was ended before the text: it took too long, or the server stops"}
		}
	}
	var param any
	if p.Param != "" {
		param, _, _ = strings.Cut(p.Param, ",")
	}
	return p.Status, map[string]any{"error": map[string]any{"message": p.Message, "type": kind, "param": param, "code": nil}}
}

func fail(w http.ResponseWriter, err error) {
	status, body := problem(err)
	reply(w, status, body)
}

func reply(w http.ResponseWriter, status int, body any) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

func randomID() string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
