package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"
)

// chatserver NAME: starts a server that plays a model behind an OpenAI-compatible endpoint until the script ends, and puts its address into
// the variable NAME. The first request is refused as one too many; answers are about the hundred bytes they were asked with.
func chatServer(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "chatserver NAME")
	ts.Setenv(args[0], chatEndpoint(ts.Defer))
}

// chatEndpoint starts the server and returns the address of its API; deferred closes it.
func chatEndpoint(deferred func(func())) string {
	var requests atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Messages []struct{ Content string }
			Seed     int
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.URL.Path != "/v1/chat/completions" || len(q.Messages) != 1 {
			http.Error(w, "no such thing", http.StatusNotFound)
			return
		}
		if requests.Add(1) == 1 {
			http.Error(w, "slow down", http.StatusTooManyRequests)
			return
		}
		text, _ := json.Marshal(fmt.Sprintf("Answer %d. What was asked: %.100q.", q.Seed, q.Messages[0].Content))
		fmt.Fprintf(w, `{"choices":[{"message":{"content":%s},"finish_reason":"stop"}],"usage":{"prompt_tokens":200,"completion_tokens":100}}`, text)
	}))
	deferred(s.Close)
	return s.URL + "/v1"
}
