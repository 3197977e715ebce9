package pack

import (
	"fmt"
	"strings"

	"pretrain/data"
)

// Template writes a conversation as one text.
type Template string

// The templates.
const (
	// MiniCPM is <用户>question<AI>answer, turn after turn; a system message stands before, as it is. (The chat template
	// of the MiniCPM-2B models; turns are trimmed as there.)
	MiniCPM Template = "minicpm"
	// ChatML is <|im_start|>role\n…<|im_end|>\n for every message, and the end marker is trained on with the answer.
	ChatML Template = "chatml"
	// NoTemplate is the contents with an empty line between, for text that is a conversation already.
	NoTemplate Template = "none"
)

// Encoder turns text into tokens, without adding any of its own. Every tokenizer of this module is one.
type Encoder interface {
	Encode(text string) ([]uint32, error)
}

// Piece is a part of a conversation's text, and whether it is the assistant's.
type Piece struct {
	Text string
	Loss bool
}

// Valid reports whether t is one of the templates.
func (t Template) Valid() bool { return t == MiniCPM || t == ChatML || t == NoTemplate }

// Pieces renders messages. What the assistant says (roles assistant and tool_call) has Loss, markers and everybody else's
// words have not. Errors: an unknown template or role, a conversation without messages.
func (t Template) Pieces(messages []data.Message) ([]Piece, error) {
	if !t.Valid() {
		return nil, fmt.Errorf("chat template %q; want %s, %s or %s", t, MiniCPM, ChatML, NoTemplate)
	}
	if len(messages) == 0 {
		return nil, fmt.Errorf("a conversation without messages")
	}
	var pieces []Piece
	add := func(text string, loss bool) {
		if text != "" {
			pieces = append(pieces, Piece{text, loss})
		}
	}
	for i, m := range messages {
		var assistant bool
		switch m.Role {
		case "assistant", "tool_call":
			assistant = true
		case "system", "user", "tool":
		default:
			return nil, fmt.Errorf("message %d: role %q; want system, user, assistant, tool_call or tool", i+1, m.Role)
		}
		switch {
		case t == ChatML:
			add("<|im_start|>"+m.Role+"\n", false)
			add(m.Content+"<|im_end|>", assistant)
			add("\n", false)
		case t == NoTemplate:
			if i > 0 {
				add("\n\n", false)
			}
			add(m.Content, assistant)
		case m.Role == "user" || m.Role == "tool":
			add("<用户>"+strings.TrimSpace(m.Content)+"<AI>", false)
		default:
			add(strings.TrimSpace(m.Content), assistant)
		}
	}
	return pieces, nil
}

// Encode renders and encodes messages: the tokens, and for each whether it is trained on under `loss: assistant`. Pieces
// are encoded one by one, so no token straddles a marker and an answer, and a prompt encodes the same at inference. end
// (the end-of-text token, or nothing) follows; it is trained on if the assistant speaks last.
func (t Template) Encode(enc Encoder, messages []data.Message, end ...uint32) (tokens []uint32, loss []bool, err error) {
	pieces, err := t.Pieces(messages)
	if err != nil {
		return nil, nil, err
	}
	mark := func(trained bool) {
		for len(loss) < len(tokens) {
			loss = append(loss, trained)
		}
	}
	for _, p := range pieces {
		ids, err := enc.Encode(p.Text)
		if err != nil {
			return nil, nil, fmt.Errorf("encode %.40q: %w", p.Text, err)
		}
		tokens = append(tokens, ids...)
		mark(p.Loss)
	}
	tokens = append(tokens, end...)
	last := messages[len(messages)-1].Role
	mark(last == "assistant" || last == "tool_call")
	return tokens, loss, nil
}
