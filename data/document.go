// Package data is the vocabulary of the data pipeline: a [Document] is what every step passes on, a [Drop] is why one did
// not pass. The steps themselves are the packages below this one.
package data

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

// Attributes are what is known about a document beside its text. Empty means unknown.
type Attributes struct {
	Language string // as the record says it: "en", "zh", "go", …
	License  string // as the record says it, SPDX by custom
	Tags     Tags   // what steps have found out, in the order of finding
}

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"` // system, user, assistant, tool_call or tool
	Content string `json:"content"`
}

// Bytes is the size of the document's content: its text, or all its messages' contents.
func (d *Document) Bytes() int64 {
	n := int64(len(d.Text))
	for _, m := range d.Messages {
		n += int64(len(m.Content))
	}
	return n
}
