// Package pipeline prepares raw text for training: it reads sources, cleans, judges and labels each document, removes
// duplicates and documents that evaluation tasks hold, tokenises, and writes token shards with an account of what became of
// every document. It composes the packages of data; [data/exec] runs it so that it can be killed, repeated and spread over
// machines.
package pipeline

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"pretrain/data"
	"pretrain/data/clean"
	"pretrain/data/decontam"
	"pretrain/data/dedup"
	"pretrain/data/lang"
	"pretrain/data/lm"
	"pretrain/data/pack"
	"pretrain/data/pii"
	"pretrain/data/quality"
	"pretrain/data/read"
	"pretrain/data/sensitive"
	"pretrain/internal/problem"
	"pretrain/internal/units"
	"pretrain/tokenizer"
)

// Config is everything that decides what comes out. Start from [Default].
type Config struct {
	// Output is the folder for everything that is written: the shards of source NAME are in OUTPUT/shards/NAME, which is what a
	// run's data.sources.NAME.path takes; the account is OUTPUT/report/all/report.html. Run again, only what changed is done.
	Output string `yaml:"output"`
	// Sources by name.
	Sources map[string]Source `yaml:"sources"`
	// Read says how raw files are read.
	Read Read `yaml:"read"`
	// Clean mends texts.
	Clean clean.Config `yaml:"clean"`
	// Language finds the language of texts. Not of code.
	Language lang.Config `yaml:"language"`
	// Quality judges texts by published rules. Not code, mathematics or conversations.
	Quality quality.Config `yaml:"quality"`
	// PII masks private data.
	PII pii.Config `yaml:"pii"`
	// Sensitive finds the words of lists.
	Sensitive sensitive.Config `yaml:"sensitive"`
	// Tokenizer is a file, or how to train one on what is left of the sources.
	Tokenizer tokenizer.Config `yaml:"tokenizer"`
	// Template writes conversations as text: minicpm, chatml or none. What the assistant says is marked in the shards, so that a
	// run can train on it only. Default minicpm.
	Template pack.Template `yaml:"template"`
	// Validation is what is held out of each source.
	Validation Validation `yaml:"validation"`
	// Decontam drops documents that hold the questions of evaluation tasks.
	Decontam decontam.Config `yaml:"decontam"`
	// Labels are attributes of documents that classifiers and programs of your own find.
	Labels Labels `yaml:"labels"`
	// Perplexity judges text by an n-gram model of a reference set.
	Perplexity Perplexity `yaml:"perplexity"`
	// Dedup drops duplicates.
	Dedup dedup.Config `yaml:"dedup"`
	// Select drops documents by their attributes: thresholds on what the steps before found. A change reads no raw text again.
	Select []Rule `yaml:"select"`
}

// Source is one kind of raw material.
type Source struct {
	// Path is a file, a folder (read with everything below it), go:std, a data set of a Hugging Face hub
	// (hf://datasets/OWNER/NAME[@REVISION][/FOLDER]; HF_TOKEN for private ones), or a folder of an object store (s3://bucket/folder and
	// the other URLs of gocloud.dev/blob whose drivers are built in).
	Path string `yaml:"path"`
	// Format is text, html for pages whose main text is to be found, or chat for conversations, whose records hold messages. A folder of
	// pages is read with files: ["*.html"]. Default text.
	Format Format `yaml:"format"`
	// Domain is text, code or math. The rules of quality and language are for text. Default text.
	Domain Domain `yaml:"domain"`
	// Fields name the keys of a JSONL record, or the columns of a Parquet file.
	Fields Fields `yaml:"fields"`
	// Files limit a folder to those that match one of these patterns of path.Match: of the name, such as code-*.jsonl.zst, or with
	// a slash of the path within the folder. Default: every file of a known extension.
	Files []string `yaml:"files"`
}

// Fields name what a record holds.
type Fields struct {
	// Text holds the text. Default text.
	Text string `yaml:"text"`
	// ID holds the document's id, where there is one. Default id.
	ID string `yaml:"id"`
	// Messages holds a conversation: a list of {role, content}. Default messages.
	Messages string `yaml:"messages"`
}

// Format is what a source's documents are.
type Format string

// The formats.
const (
	PlainText Format = "text"
	HTML      Format = "html"
	Chat      Format = "chat"
)

// Domain is the kind of a source's text.
type Domain string

// The domains.
const (
	Text Domain = "text" // prose, in any language
	Code Domain = "code"
	Math Domain = "math" // with formulas
)

// Read says how raw files are read.
type Read struct {
	// Encoding is detect, which finds text in GB18030, Big5, UTF-16 or Latin-1 out and turns it into UTF-8, or utf-8, which drops
	// it. Default detect: the report counts what was found.
	Encoding read.Encoding `yaml:"encoding"`
	// OnBad says what becomes of a document that cannot be read (a corrupt line, a broken file): skip, which drops it with its
	// reason, or fail. Default skip: the report tells of each.
	OnBad read.Policy `yaml:"on_bad"`
	// MaxDocument bounds one document. Default 10MiB: no single text is worth more, and it bounds memory.
	MaxDocument units.Bytes `yaml:"max_document"`
}

// Validation is the part of a source's documents that is never trained on.
type Validation struct {
	// Fraction of the documents, chosen by a hash of their content: the same document is on the same side in every run.
	// Default 1%.
	Fraction units.Fraction `yaml:"fraction"`
	// MaxBytes bounds the text held out of a source; what lies beyond it is trained on. Default 64MiB.
	MaxBytes units.Bytes `yaml:"max_bytes"`
}

// Default is every setting but the output and the sources.
func Default() Config {
	return Config{
		Read:       Read{Encoding: read.Detect, OnBad: read.Skip, MaxDocument: 10 << 20},
		Clean:      clean.Default(),
		Language:   lang.Default(),
		Quality:    quality.Default(),
		PII:        pii.Default(),
		Sensitive:  sensitive.Default(),
		Tokenizer:  tokenizer.Default(),
		Template:   pack.MiniCPM,
		Validation: Validation{Fraction: 0.01, MaxBytes: 64 << 20},
		Decontam:   decontam.Default(),
		Perplexity: Perplexity{Mode: data.Off, Model: lm.Default(), Percentiles: lm.DefaultPercentiles(), Drop: []lm.Bucket{lm.Tail}},
		Dedup:      dedup.Default(),
	}
}

// nameStyle is what a source's name may be: it is the name of a folder.
var nameStyle = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// Validate reports every problem at once, as joined [problem.Problem] errors. It does not look at the disk.
func (c Config) Validate() error {
	var p problem.List
	p.Check(c.Output != "", "output", `""`, "a folder")
	p.Check(len(c.Sources) > 0, "sources", "none", "one source or more, such as {web: {path: raw/web}}")
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		s, key := c.Sources[name], "sources."+name
		p.Check(nameStyle.MatchString(name), key, name, "a name of letters, digits, dots, dashes and underscores: it is a folder's")
		p.Check(s.Path != "", key+".path", `""`, "a file, a folder or %s", read.GoStd)
		p.Check(slices.Contains([]Format{"", PlainText, HTML, Chat}, s.Format), key+".format", s.Format, "%s, %s or %s", PlainText, HTML, Chat)
		p.Check(slices.Contains([]Domain{"", Text, Code, Math}, s.Domain), key+".domain", s.Domain, "%s, %s or %s", Text, Code, Math)
	}
	p.Check(c.Read.Encoding == read.UTF8 || c.Read.Encoding == read.Detect, "read.encoding", c.Read.Encoding, "%s or %s", read.Detect, read.UTF8)
	p.Check(c.Template.Valid(), "template", c.Template, "%s, %s or %s", pack.MiniCPM, pack.ChatML, pack.NoTemplate)
	p.Check(c.Read.OnBad == read.Fail || c.Read.OnBad == read.Skip, "read.on_bad", c.Read.OnBad, "%s or %s", read.Skip, read.Fail)
	p.Check(c.Read.MaxDocument > 0, "read.max_document", c.Read.MaxDocument, "more than 0")
	p.Check(c.Validation.Fraction > 0 && c.Validation.Fraction <= 0.5, "validation.fraction", c.Validation.Fraction, "more than 0 and at most 50%%")
	p.Check(c.Validation.MaxBytes > 0, "validation.max_bytes", c.Validation.MaxBytes, "more than 0")
	for i, r := range c.Select {
		r.check(&p, fmt.Sprintf("select[%d]", i), c.Sources)
	}
	for _, s := range []struct {
		key    string
		config interface{ Validate() error }
	}{
		{"clean", c.Clean}, {"language", c.Language}, {"quality", c.Quality}, {"pii", c.PII}, {"sensitive", c.Sensitive},
		{"tokenizer", c.Tokenizer}, {"decontam", c.Decontam}, {"labels", c.Labels}, {"perplexity", c.Perplexity}, {"dedup", c.Dedup},
	} {
		p.Section(s.key, s.config.Validate())
	}
	return p.Err()
}

// EachPath calls f with every file or folder the configuration names and its key; f may change it.
func (c *Config) EachPath(f func(key string, path *string)) {
	f("output", &c.Output)
	f("tokenizer.path", &c.Tokenizer.Path)
	for i := range c.Sensitive.Lists {
		f(fmt.Sprintf("sensitive.lists[%d]", i), &c.Sensitive.Lists[i])
	}
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		source := c.Sources[name]
		f("sources."+name+".path", &source.Path)
		c.Sources[name] = source
	}
	for i := range c.Decontam.Tasks {
		f("decontam.tasks", &c.Decontam.Tasks[i])
	}
	for i := range c.Labels.Classifiers {
		f(fmt.Sprintf("labels.classifiers[%d].model", i), &c.Labels.Classifiers[i].Model)
	}
	for i := range c.Perplexity.Reference {
		f("perplexity.reference", &c.Perplexity.Reference[i])
	}
}

// spec is how a source is read.
func (c Config) spec(name string) read.Spec {
	s := c.Sources[name]
	spec := read.Default(s.Path)
	spec.Name, spec.Files, spec.Encoding, spec.OnBad, spec.MaxDocument = name, s.Files, c.Read.Encoding, c.Read.OnBad, c.Read.MaxDocument
	if s.Fields.Text != "" {
		spec.TextField = s.Fields.Text
	}
	if s.Fields.ID != "" {
		spec.IDField = s.Fields.ID
	}
	if s.Fields.Messages != "" {
		spec.MessagesField = s.Fields.Messages
	}
	spec.Chat = s.Format == Chat
	return spec
}

// template is how a source's documents are written: "" where they are text.
func (c Config) template(source string) pack.Template {
	if c.Sources[source].Format == Chat {
		return c.Template
	}
	return ""
}

// domain is a source's, with the default filled in.
func (s Source) domain() Domain {
	if s.Domain == "" {
		return Text
	}
	return s.Domain
}

// keyOf is settings as a step's key.
func keyOf(settings ...any) string {
	b, err := json.Marshal(settings)
	if err != nil {
		panic(fmt.Sprintf("pipeline: settings that JSON cannot hold: %v", err)) // a bug: they are plain structs
	}
	return string(b)
}
