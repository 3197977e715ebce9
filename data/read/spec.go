// Package read turns raw files into documents: folders of text and code, JSONL (plain, gzip, zstd), Parquet, and the
// standard library of the user's Go installation. The order of documents is that of their sorted paths, whatever the
// machine, so everything made from them can be reproduced byte by byte.
package read

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// GoStd is the path of the built-in corpus: the Go standard library's source of the user's own Go installation.
const GoStd = "go:std"

// Policy says what happens to a document that cannot be used.
type Policy string

// The policies of on_bad.
const (
	Fail Policy = "fail" // stop, with an error naming file and line
	Skip Policy = "skip" // leave it out, count it and keep a sample of it in the [Report]
)

// Encoding says what raw bytes are taken for.
type Encoding string

// The encodings of a source.
const (
	UTF8   Encoding = "utf-8"
	Detect Encoding = "detect" // see package charset
)

// Spec says what to read and how. Start from [Default].
type Spec struct {
	// Path is a file, a folder (read with everything below it, hidden files left out), [GoStd], a data set of a Hugging Face hub
	// (hf://datasets/OWNER/NAME, see package hub), or the URL of an object store (s3://bucket/folder).
	Path string `yaml:"path"`
	// Name is the source's name in reports. Default: the last element of Path.
	Name string `yaml:"name"`
	// TextField is the JSONL key or Parquet column that holds the text. Default text.
	TextField string `yaml:"text_field"`
	// IDField is the JSONL key or Parquet column that holds the document's id, where there is one. Default id.
	IDField string `yaml:"id_field"`
	// MessagesField is the JSONL key or Parquet column that holds the messages of a conversation. Default messages.
	MessagesField string `yaml:"messages_field"`
	// Chat says that every document is a conversation: its text, if it has one too, is left aside, and one without messages
	// or with a role that [data.Message.Check] refuses cannot be used. Default false.
	Chat bool `yaml:"chat"`
	// Files limit a folder to the files that match one of these patterns of path.Match: of the name, such as code-*.jsonl.zst,
	// or with a slash of the path within the folder. A file so named is read whatever its extension. Default: every file of
	// an extension this package knows.
	Files []string `yaml:"files"`
	// Encoding is utf-8 or detect. Under detect, text in GB18030, Big5, UTF-16 or Latin-1 is found out and turned into UTF-8,
	// and the document gets the attribute "encoding". Default utf-8: a guess can be wrong.
	Encoding Encoding `yaml:"encoding"`
	// OnBad is fail or skip. Default fail: silent loss of data is worse than a stop.
	OnBad Policy `yaml:"on_bad"`
	// MaxDocument bounds one line or text file. Default 100 MiB: above that it is a broken file, and memory is finite.
	MaxDocument units.Bytes `yaml:"max_document"`
	// CacheDir is where data sets of a hub are kept.
	CacheDir string `yaml:"-"`
	// GoRoot is the Go installation that go:std reads. Default: what `go env GOROOT` says.
	GoRoot string `yaml:"goroot"`
}

// Default is the Spec for path with every other value at its default.
func Default(path string) Spec {
	return Spec{Path: path, TextField: "text", IDField: "id", MessagesField: "messages", Encoding: UTF8, OnBad: Fail, MaxDocument: 100 << 20}
}

// Validate reports every problem at once, as joined [problem.Problem] errors. It does not look at the disk.
func (s Spec) Validate() error {
	var p problem.List
	p.Check(s.Path != "", "path", `""`, "a file, a folder or %s", GoStd)
	p.Check(!strings.HasPrefix(s.Path, "go:") || s.Path == GoStd, "path", s.Path, "%s, the only built-in corpus", GoStd)
	p.Check(isField(s.TextField), "text_field", s.TextField, "a name without quotes, commas or backslashes, and none of %v", ownFields)
	p.Check(isField(s.IDField) && s.IDField != s.TextField, "id_field", s.IDField, "as text_field, and another name than it")
	p.Check(isField(s.MessagesField) && s.MessagesField != s.TextField && s.MessagesField != s.IDField, "messages_field", s.MessagesField,
		"as text_field, and another name than it and id_field")
	for _, pattern := range s.Files {
		_, err := path.Match(pattern, "")
		p.Check(err == nil && pattern != "", "files", pattern, "patterns such as code-*.jsonl")
	}
	p.Check(s.Encoding == UTF8 || s.Encoding == Detect, "encoding", s.Encoding, "%s or %s", UTF8, Detect)
	p.Check(s.OnBad == Fail || s.OnBad == Skip, "on_bad", s.OnBad, "%s or %s", Fail, Skip)
	p.Check(s.MaxDocument > 0, "max_document", s.MaxDocument, "more than 0")
	return p.Err()
}

// ownFields are the keys of a record that are read beside the text and the id.
var ownFields = []string{"lang", "language", "license"}

// isField reports whether name can be a JSON key in a struct tag of its own, which is how records are decoded.
func isField(name string) bool {
	return name != "" && name != "-" && !strings.ContainsAny(name, "\"`,\\") && !slices.Contains(ownFields, name)
}

func (s Spec) name() string {
	if s.Name != "" {
		return s.Name
	}
	return filepath.Base(s.Path)
}

// names reports whether Files name a file, and notes which of them do.
func (s Spec) names(rel string, matched map[string]bool) bool {
	found := false
	for _, pattern := range s.Files {
		name := rel
		if !strings.Contains(pattern, "/") {
			name = path.Base(rel)
		}
		if ok, _ := path.Match(pattern, name); ok { // Validate has seen to the pattern
			found, matched[pattern] = true, true
		}
	}
	return found
}
