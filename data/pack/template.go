package pack

import (
	"errors"
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

// Encoder turns text into tokens. Every tokenizer of this module is one.
type Encoder interface {
	// Encode adds no tokens of its own and finds no special ones.
	Encode(text string) ([]uint32, error)
	// Special finds a special token by name.
	Special(name string) (id uint32, ok bool)
}

// Piece is a part of a conversation's text.
type Piece struct {
	Text   string
	Loss   bool // the assistant's, so trained on under `loss: assistant`
	Marker bool // the template's own, and not anybody's words
}

// Run is a part of a conversation that is encoded at once: text, or a special token.
type Run struct {
	Text    string // of a special token its name
	Loss    bool
	Special bool
	ID      uint32 // of a special token
}

// Valid reports whether t is one of the templates.
func (t Template) Valid() bool { return t == MiniCPM || t == ChatML || t == NoTemplate }

// Pieces renders messages. What the assistant says (roles assistant and tool_call) has Loss, and so has the marker that
// ends it; other markers and everybody else's words have not. Errors: an unknown template or role, a conversation without
// messages.
func (t Template) Pieces(messages []data.Message) ([]Piece, error) {
	if !t.Valid() {
		return nil, fmt.Errorf("chat template %q; want %s, %s or %s", t, MiniCPM, ChatML, NoTemplate)
	}
	if len(messages) == 0 {
		return nil, errors.New("a conversation without messages")
	}
	var pieces []Piece
	add := func(text string, loss, marker bool) {
		if text != "" {
			pieces = append(pieces, Piece{text, loss, marker})
		}
	}
	for i, m := range messages {
		if err := m.Check(); err != nil {
			return nil, fmt.Errorf("message %d: %w", i+1, err)
		}
		switch loss := m.Assistant(); {
		case t == ChatML:
			add("<|im_start|>", false, true)
			add(m.Role+"\n", false, false)
			add(m.Content, loss, false)
			add("<|im_end|>", loss, true)
			add("\n", false, false)
		case t == NoTemplate:
			if i > 0 {
				add("\n\n", false, false)
			}
			add(m.Content, loss, false)
		case m.Role == data.User || m.Role == data.Tool:
			add("<用户>", false, true)
			add(strings.TrimSpace(m.Content), false, false)
			add("<AI>", false, true)
		default:
			add(strings.TrimSpace(m.Content), loss, false)
		}
	}
	return pieces, nil
}

// PromptPieces renders messages that the assistant is to answer: as Pieces, and what stands before the answer.
func (t Template) PromptPieces(messages []data.Message) ([]Piece, error) {
	pieces, err := t.Pieces(messages)
	if err != nil {
		return nil, err
	}
	switch t {
	case ChatML:
		pieces = append(pieces, Piece{Text: "<|im_start|>", Marker: true}, Piece{Text: data.Assistant + "\n"})
	case NoTemplate:
		pieces = append(pieces, Piece{Text: "\n\n"})
	case MiniCPM: // <AI> is there
	}
	return pieces, nil
}

// Runs says how pieces are encoded. A marker that the tokenizer has as a special token is that token. One it has not, such
// as <用户> in MiniCPM's own tokenizer, is text like any other. Words are never searched for special tokens: a user who
// writes "<|im_end|>" ends nobody's turn. Text is joined as far as it is all trained on or all not, and encoded as one: so no
// token straddles the beginning of an answer, and a prompt has the same tokens in training as alone.
func Runs(pieces []Piece, special func(name string) (id uint32, ok bool)) []Run {
	var runs []Run
	for _, p := range pieces {
		if p.Marker {
			if id, ok := special(p.Text); ok {
				runs = append(runs, Run{p.Text, p.Loss, true, id})
				continue
			}
		}
		if last := len(runs) - 1; last >= 0 && !runs[last].Special && runs[last].Loss == p.Loss {
			runs[last].Text += p.Text
		} else {
			runs = append(runs, Run{Text: p.Text, Loss: p.Loss})
		}
	}
	return runs
}

// Encode renders and encodes messages: the tokens, and for each whether it is trained on under `loss: assistant`. end (the
// end-of-text token, or nothing) follows; it is trained on if the assistant speaks last.
func (t Template) Encode(enc Encoder, messages []data.Message, end ...uint32) (tokens []uint32, loss []bool, err error) {
	pieces, err := t.Pieces(messages)
	if err != nil {
		return nil, nil, err
	}
	return encode(enc, pieces, messages, end)
}

// Prompt encodes messages that the assistant is to answer.
func (t Template) Prompt(enc Encoder, messages []data.Message) ([]uint32, error) {
	pieces, err := t.PromptPieces(messages)
	if err != nil {
		return nil, err
	}
	tokens, _, err := encode(enc, pieces, messages, nil)
	return tokens, err
}

func encode(enc Encoder, pieces []Piece, messages []data.Message, end []uint32) (tokens []uint32, loss []bool, err error) {
	runs := Runs(pieces, enc.Special)
	encoded := make([][]uint32, len(runs))
	for i, r := range runs {
		if r.Special {
			continue
		}
		if encoded[i], err = enc.Encode(r.Text); err != nil {
			return nil, nil, fmt.Errorf("encode %.40q: %w", r.Text, err)
		}
	}
	tokens, loss = Join(runs, encoded, messages, end...)
	return tokens, loss, nil
}

// Join puts encoded runs together, encoded being the tokens of each run (of a special one nothing), and ends them as
// Encode does.
func Join(runs []Run, encoded [][]uint32, messages []data.Message, end ...uint32) (tokens []uint32, loss []bool) {
	mark := func(trained bool) {
		for len(loss) < len(tokens) {
			loss = append(loss, trained)
		}
	}
	for i, r := range runs {
		if r.Special {
			tokens = append(tokens, r.ID)
		} else {
			tokens = append(tokens, encoded[i]...)
		}
		mark(r.Loss)
	}
	tokens = append(tokens, end...)
	mark(messages[len(messages)-1].Assistant())
	return tokens, loss
}

// Jinja is the template in the language of Hugging Face's tokenizer_config.json: the text of PromptPieces after the token that
// begins a document, special tokens by name. "" for NoTemplate.
func (t Template) Jinja() string {
	switch t {
	case ChatML:
		return `{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}` +
			`{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`
	case MiniCPM:
		return `{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' or message['role'] == 'tool' %}` +
			`{{ '<用户>' + message['content'].strip() + '<AI>' }}{% else %}{{ message['content'].strip() }}{% endif %}{% endfor %}`
	default:
		return ""
	}
}

// EndOfTurn is the name of the token that ends an answer before the text ends, "" where there is none.
func (t Template) EndOfTurn() string {
	if t == ChatML {
		return "<|im_end|>"
	}
	return ""
}
