package synth

import (
	"context"
	"fmt"
	"net/http/httptest"
	"testing"

	"pretrain/internal/openai"
)

// parrot is a model that answers with the length of what it was asked.
type parrot struct{}

func (parrot) Complete(_ context.Context, q openai.Query, emit func(int, openai.Choice) error) error {
	text := fmt.Sprintf("You asked %d bytes.", len(q.Messages[0].Content))
	return emit(0, openai.Choice{Text: text, Finish: "stop", PromptTokens: 30, Tokens: 6})
}

// The program's own server (pretrain serve) is an endpoint like any other: the requests are what it takes, the answers are read, and with more
// requests at once than it lets wait its refusals are asked again.
func TestOwnServer(t *testing.T) {
	limits := openai.DefaultLimits()
	limits.MaxWaiting = 1
	s := httptest.NewServer(openai.Handler(parrot{}, "big-model", limits))
	defer s.Close()
	c, _ := config(t, s.URL)
	r, err := Run(t.Context(), c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Asked != 12 || r.Documents != 12 || r.Usage != (Usage{12 * 30, 12 * 6}) {
		t.Errorf("%+v", r)
	}
	c.Endpoint.Model, c.Output = "other", t.TempDir()
	if _, err := Run(t.Context(), c, Options{}); err == nil {
		t.Error("a model that the server does not have answered")
	}
}
