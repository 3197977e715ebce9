package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"pretrain/data"
	"pretrain/model/generate"

	"github.com/spf13/cobra"
)

// generateOptions are the flags of pretrain generate.
type generateOptions struct {
	modelFlags
	generate.Sampling
	prompts        []string
	file           string
	tokens, number int
	stops          []string
	seed           uint64
	greedy         bool
	ignoreEOS      bool
	chat           bool
	system         string
	template       string
	asJSON         bool
}

func newGenerate(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	var o generateOptions
	cmd := &cobra.Command{
		Use: "generate --checkpoint RUN", Short: "Continue texts, or talk with a model", Args: noArgs,
		Long: `Continue texts with a trained model, or talk with it.

A prompt is continued as a document that begins with it. One text is shown as it comes, several once all are there. The same
seed gives the same text. Where prompt and text outgrow the model's window, its older half is forgotten.

--chat has the template of the conversations that the model was trained on. With --prompt it answers once; without, it
reads what you say line by line and remembers the conversation, until the end of input (Ctrl-D).`,
		Example: `  pretrain generate --checkpoint runs/quickstart --prompt "func main() {"
  pretrain generate --checkpoint runs/quickstart --prompt "// Read " --greedy --tokens 64 --stop "}"
  pretrain generate --checkpoint runs/quickstart --prompt "package " --number 4 --temperature 0.9 --top-p 0.95 --seed 7
  pretrain generate --checkpoint runs/mine --chat
  pretrain generate --checkpoint runs/mine --prompts prompts.jsonl --json   # lines {"prompt": …} or {"messages": […]}`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return generateTexts(cmd.Context(), o, stdin, stdout, stderr)
		},
	}
	o.add(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&o.prompts, "prompt", nil, "a `text` to continue (in a chat: what you say); may be given again")
	f.StringVar(&o.file, "prompts", "", "a `FILE` of JSON Lines with prompts, or - for stdin")
	f.IntVar(&o.tokens, "tokens", 256, "the most tokens of a text")
	f.IntVar(&o.number, "number", 1, "texts for each prompt")
	f.Float64Var(&o.Temperature, "temperature", 0.8, "divides the logits; 0 takes the most likely token always")
	f.IntVar(&o.TopK, "top-k", 0, "draw from the so many most likely tokens (0: all)")
	f.Float64Var(&o.TopP, "top-p", 1, "draw from the most likely tokens that together have this probability")
	f.Float64Var(&o.MinP, "min-p", 0, "draw from tokens at least so likely relative to the most likely one")
	f.Float64Var(&o.RepetitionPenalty, "repetition-penalty", 1, "lowers the logits of tokens that the text has; 1 is none")
	f.BoolVar(&o.greedy, "greedy", false, "the most likely token always: --temperature 0")
	f.StringArrayVar(&o.stops, "stop", nil, "a `text` that ends the result and is not part of it; may be given again")
	f.BoolVar(&o.ignoreEOS, "ignore-eos", false, "go on after the token that ends a text")
	f.Uint64Var(&o.seed, "seed", 1, "of the draws")
	f.BoolVar(&o.chat, "chat", false, "answer instead of continuing")
	f.StringVar(&o.system, "system", "", "what stands before a chat, a `text`")
	f.StringVar(&o.template, "chat-template", "", "minicpm, chatml or none (default: that of the run's conversations)")
	f.BoolVar(&o.asJSON, "json", false, "a JSON object for each text: prompt, text, finish, prompt_tokens, tokens")
	return cmd
}

// generateResult is a text as --json prints it.
type generateResult struct {
	Prompt       string   `json:"prompt,omitempty"`
	Text         string   `json:"text"`
	Finish       string   `json:"finish"` // stop or length
	PromptTokens []uint32 `json:"prompt_tokens"`
	Tokens       []uint32 `json:"tokens"`
}

// prompted is a prompt of the command line or of a file.
type prompted struct {
	Prompt   string         `json:"prompt"`
	Messages []data.Message `json:"messages"`
}

func generateTexts(ctx context.Context, o generateOptions, stdin io.Reader, stdout, stderr io.Writer) error {
	if o.greedy {
		o.Temperature = 0
	}
	if o.tokens < 1 || o.number < 1 {
		return usagef("--tokens and --number: want 1 or more")
	}
	if err := checkSampling(o.Sampling); err != nil {
		return err
	}
	list, err := o.read(stdin)
	if err != nil {
		return err
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
	if o.chat && len(list) == 0 {
		return o.talk(ctx, c, stdin, stdout)
	}
	return o.continueAll(ctx, c, list, stdout, stderr)
}

// read gathers the prompts.
func (o *generateOptions) read(stdin io.Reader) ([]prompted, error) {
	var list []prompted
	for _, p := range o.prompts {
		list = append(list, prompted{Prompt: p})
	}
	if o.file != "" {
		in := stdin
		if o.file != "-" {
			f, err := os.Open(o.file)
			if err != nil {
				return nil, fmt.Errorf("--prompts: %w", err)
			}
			defer f.Close()
			in = f
		}
		d := json.NewDecoder(in)
		for line := 1; ; line++ {
			var p prompted
			if err := d.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, usagef("--prompts: object %d: %v: want {\"prompt\": …} or {\"messages\": […]}", line, err)
			}
			list = append(list, p)
		}
	}
	if len(list) == 0 && !o.chat {
		return nil, usagef("no prompt: give --prompt TEXT, --prompts FILE, or --chat to talk")
	}
	return list, nil
}

// encode is the tokens of a prompt.
func (o *generateOptions) encode(c *completer, p prompted) ([]uint32, error) {
	messages := p.Messages
	if len(messages) == 0 {
		if !o.chat {
			return c.text(p.Prompt)
		}
		if o.system != "" {
			messages = append(messages, data.Message{Role: data.System, Content: o.system})
		}
		messages = append(messages, data.Message{Role: data.User, Content: p.Prompt})
	}
	return c.conversation(messages)
}

// request is what is asked of the model for the prompt's tokens.
func (o *generateOptions) request(c *completer, prompt []uint32, i int) asked {
	a := asked{Request: generate.Request{Prompt: prompt, Sampling: o.Sampling, MaxTokens: o.tokens, Stop: c.stops, Key: keyOf(o.seed, i)}, stops: o.stops}
	if o.ignoreEOS {
		a.Stop = nil
	}
	return a
}

// continueAll continues the prompts.
func (o *generateOptions) continueAll(ctx context.Context, c *completer, list []prompted, stdout, stderr io.Writer) error {
	var queries []asked
	var from []prompted
	for _, p := range list {
		ids, err := o.encode(c, p)
		if err != nil {
			return err
		}
		for range o.number {
			queries, from = append(queries, o.request(c, ids, len(queries))), append(from, p)
		}
	}
	began, count := time.Now(), 0
	if len(queries) == 1 && !o.asJSON { // as it comes
		if !o.chat {
			fmt.Fprint(stdout, from[0].Prompt)
		}
		err := c.run(ctx, queries, func(_ int, piece made) error {
			count += len(piece.tokens)
			_, err := io.WriteString(stdout, shown(piece.text))
			return err
		})
		fmt.Fprintln(stdout)
		if err != nil {
			return err
		}
	} else {
		texts, err := c.all(ctx, queries)
		if err != nil {
			return err
		}
		for i, m := range texts {
			count += len(m.tokens)
			if o.asJSON {
				err = printJSON(stdout, generateResult{from[i].Prompt, shown(m.text), m.finish, queries[i].Prompt, m.tokens})
			} else {
				_, err = fmt.Fprintf(stdout, "--- %d\n%s%s\n", i+1, from[i].Prompt, shown(m.text))
			}
			if err != nil {
				return err
			}
		}
	}
	seconds := time.Since(began).Seconds()
	fmt.Fprintf(stderr, "%d tokens in %.1fs, compilation included\n", count, seconds)
	return nil
}

// talk reads what is said line by line and answers.
func (o *generateOptions) talk(ctx context.Context, c *completer, stdin io.Reader, stdout io.Writer) error {
	var messages []data.Message
	if o.system != "" {
		messages = append(messages, data.Message{Role: data.System, Content: o.system})
	}
	lines := bufio.NewScanner(stdin)
	lines.Buffer(nil, 1<<20)
	for turn := 0; ; turn++ {
		fmt.Fprint(stdout, "> ")
		if !lines.Scan() {
			fmt.Fprintln(stdout)
			return lines.Err()
		}
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		messages = append(messages, data.Message{Role: data.User, Content: lines.Text()})
		ids, err := c.conversation(messages)
		if err != nil {
			return err
		}
		var answer strings.Builder
		err = c.run(ctx, []asked{o.request(c, ids, turn)}, func(_ int, piece made) error {
			answer.WriteString(piece.text)
			_, err := io.WriteString(stdout, shown(piece.text))
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout)
		messages = append(messages, data.Message{Role: data.Assistant, Content: answer.String()})
	}
}
