package synth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// client asks a model. Any number of goroutines may use it.
type client struct {
	Endpoint
	key     string // "": none is sent
	http    *http.Client
	pause   time.Duration // before the first retry
	retries atomic.Int64  // made so far
}

func newClient(e Endpoint, key string) *client {
	return &client{Endpoint: e, key: key, http: &http.Client{Timeout: time.Duration(e.Timeout)}, pause: 500 * time.Millisecond}
}

// answer is what a model says.
type answer struct {
	Text   string
	Finish string // stop, or length where it was cut off
	Usage  Usage
}

// Usage is what an answer takes, in tokens, as the endpoint counts them.
type Usage struct {
	Input  int64 `json:"prompt_tokens"`
	Output int64 `json:"completion_tokens"`
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// request is the body of a request. Its JSON is also what a response is known by.
type request struct {
	Model       string    `json:"model"`
	Messages    []message `json:"messages"`
	MaxTokens   int       `json:"max_tokens"`
	Temperature float64   `json:"temperature"`
	Seed        uint64    `json:"seed"` // so that equal prompts are different requests
}

// maxAnswer bounds the body of a response.
const maxAnswer = 16 << 20

// errPassing is in the chain of errors that may pass.
type errPassing struct {
	error
	after time.Duration // what the endpoint asks to wait; 0: it does not say
}

func (e errPassing) Unwrap() error { return e.error }

// ask sends a request, and again while it fails for reasons that may pass.
func (c *client) ask(ctx context.Context, body []byte) (answer, error) {
	pause := c.pause
	for try := 0; ; try++ {
		a, err := c.once(ctx, body)
		var passing errPassing
		if err == nil || !errors.As(err, &passing) || ctx.Err() != nil {
			return a, err
		}
		if try == c.Retries {
			return a, fmt.Errorf("%w (asked %d times)", err, try+1)
		}
		c.retries.Add(1)
		wait := max(pause, min(passing.after, 10*time.Minute))
		select {
		case <-ctx.Done():
			return a, ctx.Err()
		case <-time.After(wait):
		}
		pause = min(2*pause, time.Minute)
	}
}

func (c *client) once(ctx context.Context, body []byte) (a answer, err error) {
	url := strings.TrimRight(c.URL, "/") + "/chat/completions"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return a, errPassing{error: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return a, errPassing{error: fmt.Errorf("%s: %w", url, err)}
	}
	if resp.StatusCode != http.StatusOK {
		err := fmt.Errorf("%s: %s: %.300s", url, resp.Status, bytes.TrimSpace(text))
		switch code := resp.StatusCode; {
		case code == 408 || code == 409 || code == 425 || code == 429 || code >= 500:
			return a, errPassing{err, retryAfter(resp.Header.Get("Retry-After"), time.Now())}
		case code == 401 || code == 403:
			return a, fmt.Errorf("%w; the key is taken from the environment variable %s (endpoint.key_env)", err, c.KeyEnv)
		}
		return a, err
	}
	a, err = parseAnswer(text)
	if err != nil {
		return a, errPassing{error: fmt.Errorf("%s: %w", url, err)}
	}
	return a, nil
}

func parseAnswer(text []byte) (a answer, err error) {
	var r struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
			FinishReason string `json:"finish_reason"`
		} `json:"choices"`
		Usage Usage `json:"usage"`
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return a, fmt.Errorf("no chat completion: %w: %.100q", err, text)
	}
	if len(r.Choices) == 0 {
		return a, fmt.Errorf("no chat completion: no choices: %.100q", text)
	}
	return answer{Text: r.Choices[0].Message.Content, Finish: r.Choices[0].FinishReason, Usage: r.Usage}, nil
}

// retryAfter reads the header: seconds, or a date.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseFloat(header, 64); err == nil && seconds > 0 && seconds < 1e6 {
		return time.Duration(seconds * float64(time.Second))
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
