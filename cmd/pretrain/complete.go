package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"pretrain/data"
	"pretrain/data/mix"
	"pretrain/data/pack"
	"pretrain/internal/prng"
	"pretrain/model/generate"
)

// completer makes texts with a trained model: what pretrain generate and pretrain serve share.
type completer struct {
	*onDevice
	generator *generate.Generator
	template  pack.Template
	stops     []uint32 // tokens that end an answer
}

// newCompleter prepares the model. template "": the run's where it was trained on conversations, else none.
func newCompleter(d *onDevice, template string) (*completer, error) {
	if template != "" && !pack.Template(template).Valid() {
		return nil, usagef("--chat-template: %q: want minicpm, chatml or none", template)
	}
	c := &completer{onDevice: d, template: d.chatTemplate(template), stops: []uint32{d.Tokenizer.EOS()}}
	if end := c.template.EndOfTurn(); end != "" {
		if id, ok := d.Tokenizer.Special(end); ok {
			c.stops = append(c.stops, id)
		}
	}
	var err error
	c.generator, err = generate.New(d.Backend, d.Decoder)
	return c, err
}

// chatTemplate is the one asked for, or that of the run's conversations.
func (t *trained) chatTemplate(asked string) pack.Template {
	if asked != "" {
		return pack.Template(asked)
	}
	for _, s := range sources(t.Config) {
		if s.Format == mix.FormatChat {
			return t.Config.Run.Data.Template
		}
	}
	return pack.NoTemplate
}

// text is a prompt's tokens: the text after the token that stands before a document.
func (c *completer) text(prompt string) ([]uint32, error) {
	ids, err := c.Tokenizer.Encode(prompt)
	return append([]uint32{c.Tokenizer.EOS()}, ids...), err
}

// conversation is the tokens of messages that the model is to answer.
func (c *completer) conversation(messages []data.Message) ([]uint32, error) {
	ids, err := c.template.Prompt(c.Tokenizer, messages)
	return append([]uint32{c.Tokenizer.EOS()}, ids...), err
}

// asked is one text to make.
type asked struct {
	generate.Request
	stops []string // strings that end the text; not part of it
}

// made is a text, or a piece of one: the text so far has no half characters, and its last piece has the finish.
type made struct {
	text   string
	tokens []uint32
	finish string // "stop", "length", or "" where more comes
}

// keyOf is the randomness of text i under a seed.
func keyOf(seed uint64, i int) prng.Key {
	return prng.New(seed).Split("generate").SplitN(uint64(i))
}

// run makes all texts side by side and hands out their pieces as they come.
func (c *completer) run(ctx context.Context, list []asked, emit func(i int, piece made) error) error {
	requests, texts, drawn := make([]generate.Request, len(list)), make([]*generate.Text, len(list)), make([]int, len(list))
	for i, a := range list {
		requests[i], texts[i] = a.Request, generate.NewText(c.Tokenizer.Stream(), a.stops)
	}
	finished := make([]bool, len(list))
	var failed error
	finish := func(i int, piece made) {
		finished[i] = true
		piece.finish = "stop"
		if !texts[i].Stopped() && drawn[i] == list[i].MaxTokens {
			piece.finish = "length"
		}
		piece.text += texts[i].End()
		failed = emit(i, piece)
	}
	err := c.generator.Stream(ctx, c.Weights, requests, func(i int, tokens []uint32) bool {
		if failed != nil {
			return false
		}
		drawn[i] += len(tokens)
		piece := made{text: texts[i].Add(tokens), tokens: tokens}
		if texts[i].Stopped() {
			finish(i, piece)
			return false
		}
		failed = emit(i, piece)
		return failed == nil
	})
	for i := range list {
		if err == nil && failed == nil && !finished[i] {
			finish(i, made{})
		}
	}
	if failed != nil {
		return failed
	}
	return err
}

// shown is text that may hold bytes that are no characters, with U+FFFD for them.
func shown(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// Close frees the programs and the model.
func (c *completer) Close() {
	c.generator.Finalize()
	c.onDevice.Close()
}

// checkSampling refuses flags that are out of range.
func checkSampling(s generate.Sampling) error {
	for _, v := range []struct {
		flag            string
		value, low, top float64
	}{
		{"--temperature", s.Temperature, 0, 100}, {"--top-k", float64(s.TopK), 0, 1 << 30}, {"--top-p", s.TopP, 0, 1},
		{"--min-p", s.MinP, 0, 1}, {"--repetition-penalty", s.RepetitionPenalty, 0, 100},
	} {
		if !(v.value >= v.low && v.value <= v.top) {
			return usagef("%s: %g: want %g to %g", v.flag, v.value, v.low, v.top)
		}
	}
	return nil
}

// all makes texts and returns them whole.
func (c *completer) all(ctx context.Context, list []asked) ([]made, error) {
	out := make([]made, len(list))
	err := c.run(ctx, list, func(i int, piece made) error {
		out[i].text += piece.text
		out[i].tokens = slices.Concat(out[i].tokens, piece.tokens)
		out[i].finish = piece.finish
		return nil
	})
	if err != nil {
		err = fmt.Errorf("generate: %w", err)
	}
	return out, err
}
