package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"pretrain/data"
	"pretrain/internal/openai"
	"pretrain/model/generate"

	"github.com/spf13/cobra"
)

// serveOptions are the flags of pretrain serve.
type serveOptions struct {
	modelFlags
	listen, name, template string
	limits                 openai.Limits
	drain                  time.Duration
}

func newServe(stderr io.Writer) *cobra.Command {
	o := serveOptions{limits: openai.DefaultLimits()}
	cmd := &cobra.Command{
		Use: "serve --checkpoint RUN", Short: "Serve a model with OpenAI's API, on this machine", Args: noArgs,
		Long: `Serve a trained model over HTTP, as OpenAI's API has it: POST /v1/completions and /v1/chat/completions (also as a stream),
GET /v1/models, and GET /health. Beside OpenAI's parameters there are top_k, min_p, repetition_penalty and ignore_eos; what this
server does not have (logprobs, tools, …) is refused.

Requests are answered one after the other; the texts of one request are made side by side. Ctrl-C or SIGTERM: no new requests,
those under way are finished.

It listens on loopback, and has no passwords: put something that has before it where others are to reach it.`,
		Example: `  pretrain serve --checkpoint runs/quickstart
  pretrain serve --checkpoint runs/mine@1000 --listen 127.0.0.1:9000 --name mine --max-tokens 512`,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), o, stderr) },
	}
	o.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "127.0.0.1:8000", "`HOST:PORT`")
	f.StringVar(&o.name, "name", "", "of the model, for clients (default: the run's folder)")
	f.StringVar(&o.template, "chat-template", "", "minicpm, chatml or none (default: that of the run's conversations)")
	f.IntVar(&o.limits.MaxTokens, "max-tokens", o.limits.MaxTokens, "the most tokens of a text")
	f.IntVar(&o.limits.MaxChoices, "max-choices", o.limits.MaxChoices, "the most texts of a request")
	f.IntVar(&o.limits.MaxWaiting, "max-waiting", o.limits.MaxWaiting, "requests that wait for their turn; more are refused")
	f.Int64Var(&o.limits.MaxBody, "max-body", o.limits.MaxBody, "the most bytes of a request")
	f.DurationVar(&o.limits.Timeout, "timeout", o.limits.Timeout, "ends a request, waiting included")
	f.DurationVar(&o.drain, "drain", 30*time.Second, "how long requests under way are finished when the server stops")
	return cmd
}

func serve(ctx context.Context, o serveOptions, stderr io.Writer) error {
	if o.limits.MaxTokens < 1 || o.limits.MaxChoices < 1 || o.limits.MaxWaiting < 0 || o.limits.MaxBody < 1 || o.limits.Timeout <= 0 {
		return usagef("--max-tokens, --max-choices, --max-body and --timeout want 1 or more, --max-waiting 0 or more")
	}
	host, _, err := net.SplitHostPort(o.listen)
	if err != nil {
		return usagef("--listen: %v: want HOST:PORT, such as 127.0.0.1:8000", err)
	}
	d, err := o.open(ctx, stderr)
	if err != nil {
		return err
	}
	c, err := newCompleter(d, o.template)
	if err != nil {
		d.Close()
		return err
	}
	defer c.Close()
	if o.name == "" {
		o.name = filepath.Base(d.Dir)
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen on %s (choose another with --listen): %w", o.listen, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		fmt.Fprintf(stderr, "warning: %s can be reached from other machines, and this server asks nobody for a password\n", o.listen)
	}
	fmt.Fprintf(stderr, "serving %s, step %d, at http://%s/v1\n", o.name, d.Meta.Step, listener.Addr())
	return answerUntil(ctx, listener, openai.Handler(c, o.name, o.limits), o.drain, stderr)
}

// answerUntil answers requests until ctx ends and then, for drain at most, finishes those under way.
func answerUntil(ctx context.Context, listener net.Listener, handler http.Handler, drain time.Duration, stderr io.Writer) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	rest, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if err := server.Shutdown(rest); err != nil {
		return errors.Join(fmt.Errorf("requests were still under way after %v", drain), server.Close())
	}
	fmt.Fprintln(stderr, "stopped: every request was answered")
	return nil
}

// Complete implements [openai.Model].
func (c *completer) Complete(ctx context.Context, q openai.Query, emit func(i int, piece openai.Choice) error) error {
	prompts, err := c.prompts(q)
	if err != nil {
		return err
	}
	var seed uint64
	if q.Seed != nil {
		seed = *q.Seed
	} else {
		var b [8]byte
		rand.Read(b[:]) // never fails
		seed = binary.LittleEndian.Uint64(b[:])
	}
	sampling := generate.Sampling{
		Temperature: q.Temperature, TopK: q.TopK, TopP: q.TopP, MinP: q.MinP, RepetitionPenalty: q.RepetitionPenalty,
	}
	stops := c.stops
	if q.IgnoreEOS {
		stops = nil
	}
	var list []asked
	for _, p := range prompts {
		for range q.N {
			list = append(list, asked{
				Request: generate.Request{Prompt: p, Sampling: sampling, MaxTokens: q.MaxTokens, Stop: stops, Key: keyOf(seed, len(list))},
				stops:   q.Stop,
			})
		}
	}
	counts := make([]int, len(list))
	return c.run(ctx, list, func(i int, piece made) error {
		counts[i] += len(piece.tokens)
		out := openai.Choice{Text: shown(piece.text), Finish: piece.finish}
		if out.Finish != "" {
			out.PromptTokens, out.Tokens = len(list[i].Prompt), counts[i]
		} else if out.Text == "" {
			return nil
		}
		return emit(i, out)
	})
}

// prompts are the tokens of a query's prompts.
func (c *completer) prompts(q openai.Query) (list [][]uint32, err error) {
	if len(q.Messages) > 0 {
		var messages []data.Message
		for _, m := range q.Messages {
			messages = append(messages, data.Message{Role: m.Role, Content: m.Content})
		}
		ids, err := c.conversation(messages)
		if err != nil {
			return nil, openai.Badf("messages", "%v", err)
		}
		return [][]uint32{ids}, nil
	}
	for _, p := range q.Prompts {
		ids, err := c.text(p)
		if err != nil {
			return nil, openai.Badf("prompt", "%v", err)
		}
		list = append(list, ids)
	}
	for _, p := range q.Tokens {
		for _, id := range p {
			if int(id) >= c.Decoder.VocabSize {
				return nil, openai.Badf("prompt", "token %d: the model has %d", id, c.Decoder.VocabSize)
			}
		}
		list = append(list, p)
	}
	return list, nil
}
