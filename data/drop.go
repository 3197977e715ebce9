package data

import "fmt"

// Reason says why a document, or the rest of a file, was not used. Reasons are counted in reports.
type Reason string

// The reasons of reading raw data. Later steps add their own in their own packages.
const (
	BadRecord Reason = "bad_record" // not valid JSON, or a broken Parquet file
	NoText    Reason = "no_text"    // the record lacks the text field, or holds something else there
	NoTalk    Reason = "no_talk"    // the record of a chat source lacks messages, or one has an unknown role
	Empty     Reason = "empty"      // nothing but white space
	NotUTF8   Reason = "not_utf8"   // invalid UTF-8
	NULByte   Reason = "nul_byte"   // a NUL byte: binary data, or a poisoned record
	TooLong   Reason = "too_long"   // a line or file above the bound on a document's size
	Truncated Reason = "truncated"  // a compressed file that ends early or fails its checksum
	Expansion Reason = "expansion"  // a compressed file that expands beyond belief
	Generated Reason = "generated"  // Go source marked "Code generated … DO NOT EDIT."
)

// Drop is a document, or the rest of a file, that was not used. It is an error, for readers that stop at the first.
type Drop struct {
	Reason Reason `json:"reason"`
	Path   string `json:"path"`           // the file, as it can be opened from here
	Line   int64  `json:"line,omitempty"` // line or row from 1; 0: the whole file
	Detail string `json:"detail"`         // what was found, with the byte offset where there is one
}

// Error names file and line, then what is wrong.
func (d *Drop) Error() string {
	if d.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", d.Path, d.Line, d.Detail)
	}
	return fmt.Sprintf("%s: %s", d.Path, d.Detail)
}
