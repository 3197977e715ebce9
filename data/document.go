// Package data is the vocabulary of the data pipeline: a [Document] is what every step passes on, a [Drop] is why one did
// not pass. The steps themselves are the packages below this one.
package data

import (
	"fmt"
	"strings"
)

// Document is one text as a source holds it: a file of a folder, a line of JSONL, a row of Parquet.
type Document struct {
	// ID names the document within its source and stays the same from run to run: the record's own id where it has one,
	// else Path for a whole file and Path:Line for a record.
	ID string
	// Source is the name of the source the document came from.
	Source string
	// Text is valid UTF-8 without NUL bytes. It is empty for a conversation.
	Text string
	// Messages are the turns of a conversation (supervised fine-tuning data); nil for plain text.
	Messages []Message
	Attributes
	// Path is the file, relative to the source's folder and with forward slashes.
	Path string
	// Line is the line (JSONL) or row (Parquet) in Path, from 1. 0 means the document is the whole file.
	Line int64
}

// Attributes are what is known about a document beside its text. Empty means unknown. Shards keep them as JSON.
type Attributes struct {
	Language string `json:"language,omitempty"` // as the record says it: "en", "zh", "go", …
	License  string `json:"license,omitempty"`  // as the record says it, SPDX by custom
	Tags     Tags   `json:"tags,omitempty"`     // what steps have found out, in the order of finding
}

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"` // one of the roles below
	Content string `json:"content"`
}

// The roles of a conversation. What the assistant says is what a model is to learn: [Message.Assistant].
const (
	System    = "system"
	User      = "user"
	Assistant = "assistant"
	ToolCall  = "tool_call" // the assistant's call of a tool
	Tool      = "tool"      // what the tool answers
)

// Assistant reports whether the message is the assistant's.
func (m Message) Assistant() bool { return m.Role == Assistant || m.Role == ToolCall }

// Check reports a role that is none of this package's.
func (m Message) Check() error {
	switch m.Role {
	case System, User, Assistant, ToolCall, Tool:
		return nil
	}
	return fmt.Errorf("role %q; want %s, %s, %s, %s or %s", m.Role, System, User, Assistant, ToolCall, Tool)
}

// Plain is the document's content as one text: its text, or what is said in it, without roles. Documents are told apart by it,
// and tokenizers trained on it.
func (d *Document) Plain() string {
	if len(d.Messages) == 0 {
		return d.Text
	}
	contents := make([]string, len(d.Messages))
	for i, m := range d.Messages {
		contents[i] = m.Content
	}
	return strings.Join(contents, "\n\n")
}

// Bytes is the size of the document's content: its text, or all its messages' contents.
func (d *Document) Bytes() int64 {
	n := int64(len(d.Text))
	for _, m := range d.Messages {
		n += int64(len(m.Content))
	}
	return n
}
