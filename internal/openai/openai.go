// Package openai is the HTTP side of a language model: OpenAI's completions and chat completions, whole and as server-sent
// events, and the list of models. What makes the text is the caller's.
package openai

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Message is one message of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Query is a request for text: one of Prompts (several are continued side by side), Tokens or Messages is set.
type Query struct {
	Prompts  []string
	Tokens   [][]uint32
	Messages []Message
	// N is the number of continuations of each prompt.
	N         int
	MaxTokens int
	// Temperature 0 takes the most likely token always. TopK 0, TopP 1, MinP 0 and RepetitionPenalty 1 are none.
	Temperature, TopP, MinP, RepetitionPenalty float64
	TopK                                       int
	Stop                                       []string
	// IgnoreEOS goes on after the token that ends a text.
	IgnoreEOS bool
	// Seed makes the text reproducible; nil: another one each time.
	Seed *uint64
}

// Choice is one text, or the end of it.
type Choice struct {
	Text string
	// Finish is "stop" (the model ended the text, or a stop string did) or "length"; "" while there is more to come.
	Finish string
	// PromptTokens and Tokens were read and drawn. Set with Finish.
	PromptTokens, Tokens int
}

// Model makes text. Complete calls emit with pieces of choice i, counted over the prompts and then the continuations of each,
// until each has had its Finish. It ends with ctx. An error that is a [*Problem] is the client's to mend.
type Model interface {
	Complete(ctx context.Context, q Query, emit func(i int, piece Choice) error) error
}

// Problem is what is wrong with a request.
type Problem struct {
	Status  int
	Param   string
	Message string
}

// Error implements error.
func (p *Problem) Error() string { return p.Message }

// Badf makes a Problem of a parameter.
func Badf(param, format string, args ...any) *Problem {
	return &Problem{400, param, param + ": " + fmt.Sprintf(format, args...)}
}

// request is the body of both endpoints. What it does not name is ignored, as clients send much; what would change the answer
// and is not there is refused.
type request struct {
	Model               string          `json:"model"`
	Prompt              json.RawMessage `json:"prompt"`
	Messages            []inputMessage  `json:"messages"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	Temperature         *float64        `json:"temperature"`
	TopP                *float64        `json:"top_p"`
	N                   *int            `json:"n"`
	Stream              bool            `json:"stream"`
	StreamOptions       *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Stop json.RawMessage `json:"stop"`
	Seed *int64          `json:"seed"`
	Echo bool            `json:"echo"`
	// Not OpenAI's; vLLM and llama.cpp have them, too.
	TopK              *int     `json:"top_k"`
	MinP              *float64 `json:"min_p"`
	RepetitionPenalty *float64 `json:"repetition_penalty"`
	IgnoreEOS         bool     `json:"ignore_eos"`
	// Refused.
	Suffix           *string           `json:"suffix"`
	BestOf           *int              `json:"best_of"`
	Logprobs         json.RawMessage   `json:"logprobs"`
	FrequencyPenalty float64           `json:"frequency_penalty"`
	PresencePenalty  float64           `json:"presence_penalty"`
	LogitBias        map[string]any    `json:"logit_bias"`
	Tools            []json.RawMessage `json:"tools"`
	ResponseFormat   *struct {
		Type string `json:"type"`
	} `json:"response_format"`
}

// inputMessage is a message whose content is a text or a list of parts.
type inputMessage struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

// query checks a request and fills in the defaults.
func (r request) query(chat bool, limits Limits) (q Query, err error) {
	if err := r.refuse(); err != nil {
		return q, err
	}
	if chat {
		q.Messages, err = messages(r.Messages)
	} else {
		q.Prompts, q.Tokens, err = prompts(r.Prompt)
	}
	if err != nil {
		return q, err
	}
	if q.Stop, err = texts("stop", r.Stop); err != nil {
		return q, err
	}
	q.N, q.Temperature, q.TopP, q.RepetitionPenalty = or(r.N, 1), or(r.Temperature, 1), or(r.TopP, 1), or(r.RepetitionPenalty, 1)
	q.TopK, q.MinP, q.IgnoreEOS = or(r.TopK, 0), or(r.MinP, 0), r.IgnoreEOS
	q.MaxTokens = or(r.MaxTokens, or(r.MaxCompletionTokens, limits.MaxTokens))
	if !chat && r.MaxTokens == nil {
		q.MaxTokens = min(16, limits.MaxTokens) // OpenAI's default
	}
	if r.Seed != nil {
		seed := uint64(*r.Seed)
		q.Seed = &seed
	}
	within := func(param string, value, low, high float64) {
		if err == nil && !(value >= low && value <= high) {
			err = Badf(param, "%v: want %v to %v", decimal(value), decimal(low), decimal(high))
		}
	}
	within("n", float64(q.N), 1, float64(limits.MaxChoices))
	within("max_tokens", float64(q.MaxTokens), 1, float64(limits.MaxTokens))
	within("temperature", q.Temperature, 0, 100)
	within("top_p", q.TopP, math.SmallestNonzeroFloat64, 1)
	within("top_k", float64(q.TopK), 0, math.MaxInt32)
	within("min_p", q.MinP, 0, 1)
	within("repetition_penalty", q.RepetitionPenalty, 0.01, 100)
	within("stop", float64(len(q.Stop)), 0, 16)
	within("prompt", float64((len(q.Prompts)+len(q.Tokens))*q.N), 0, float64(limits.MaxChoices))
	return q, err
}

func (r request) refuse() error {
	switch {
	case r.Suffix != nil && *r.Suffix != "":
		return Badf("suffix", "this server only continues texts")
	case r.BestOf != nil && *r.BestOf > or(r.N, 1):
		return Badf("best_of", "this server has no log-probabilities to choose by")
	case len(r.Logprobs) > 0 && string(r.Logprobs) != "null" && string(r.Logprobs) != "false":
		return Badf("logprobs", "this server has none; pretrain eval measures texts")
	case r.FrequencyPenalty != 0 || r.PresencePenalty != 0:
		return Badf("frequency_penalty, presence_penalty", "this server has repetition_penalty")
	case len(r.LogitBias) > 0:
		return Badf("logit_bias", "this server has none")
	case len(r.Tools) > 0:
		return Badf("tools", "this server has none")
	case r.ResponseFormat != nil && r.ResponseFormat.Type != "text":
		return Badf("response_format", "%s: this server has text", r.ResponseFormat.Type)
	}
	return nil
}

// decimal spells a number without an exponent where it is a count.
func decimal(v float64) string {
	if v == math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func or[T any](v *T, otherwise T) T {
	if v == nil {
		return otherwise
	}
	return *v
}

func messages(in []inputMessage) ([]Message, error) {
	if len(in) == 0 {
		return nil, Badf("messages", "missing or empty")
	}
	var out []Message
	for i, m := range in {
		var text string
		if json.Unmarshal(m.Content, &text) != nil {
			var parts []struct{ Type, Text string }
			if json.Unmarshal(m.Content, &parts) != nil {
				return nil, Badf("messages", "the content of message %d is neither a text nor a list of parts", i+1)
			}
			for _, p := range parts {
				if p.Type != "text" {
					return nil, Badf("messages", "message %d has a part of type %q: this server reads text", i+1, p.Type)
				}
				text += p.Text
			}
		}
		out = append(out, Message{m.Role, text})
	}
	return out, nil
}

// prompts reads a text, several, the tokens of one or of several.
func prompts(raw json.RawMessage) ([]string, [][]uint32, error) {
	if list, err := texts("prompt", raw); err == nil && len(list) > 0 {
		return list, nil, nil
	}
	var tokens []uint32
	if json.Unmarshal(raw, &tokens) == nil && len(tokens) > 0 {
		return nil, [][]uint32{tokens}, nil
	}
	var many [][]uint32
	if json.Unmarshal(raw, &many) == nil && len(many) > 0 {
		for i, p := range many {
			if len(p) == 0 {
				return nil, nil, Badf("prompt", "prompt %d has no tokens", i+1)
			}
		}
		return nil, many, nil
	}
	return nil, nil, Badf("prompt", "want a text, a list of texts, or tokens")
}

// texts reads nothing, a text or a list of them.
func texts(param string, raw json.RawMessage) ([]string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, nil
	}
	var list []string
	if json.Unmarshal(raw, &list) != nil {
		return nil, Badf(param, "want a text or a list of texts")
	}
	return list, nil
}

// Limits bound what one client can ask for.
type Limits struct {
	// MaxTokens a choice, MaxChoices (prompts times n) a request, MaxBody bytes a request.
	MaxTokens, MaxChoices int
	MaxBody               int64
	// MaxWaiting requests wait while one is answered; more are refused with 429.
	MaxWaiting int
	// Timeout ends a request, waiting included.
	Timeout time.Duration
}

// DefaultLimits suit one user, or a few.
func DefaultLimits() Limits {
	return Limits{MaxTokens: 1024, MaxChoices: 16, MaxBody: 1 << 20, MaxWaiting: 16, Timeout: 10 * time.Minute}
}
