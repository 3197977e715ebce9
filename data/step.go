package data

// Step judges, changes or labels one document. It returns the reason why the document goes, with a detail for the report, or ""
// where it passes. A Step may hold scratch memory: one goroutine uses it at a time, so whoever runs several makes one for each
// (see [Factory]). It sees documents in no promised order and keeps nothing of one for the next: what it does to a document
// depends on the document only. Text it leaves behind is valid UTF-8.
type Step interface {
	Apply(d *Document) (Reason, string)
}

// Factory makes a Step for one goroutine. What is large and only read (a model, an index, a word list) is loaded before and
// shared by the Steps.
type Factory func() Step

// StepFunc is a Step without scratch memory.
type StepFunc func(d *Document) (Reason, string)

// Apply calls f.
func (f StepFunc) Apply(d *Document) (Reason, string) { return f(d) }

// Mode says what a rule or model does with its finding. Every step that can drop has one.
type Mode string

// The modes.
const (
	Off    Mode = "off"    // the step is not run
	Filter Mode = "filter" // a document that fails is dropped
	Tag    Mode = "tag"    // nothing is dropped: figures and verdict become attributes, to choose by later
)

// Valid reports whether m is one of the modes.
func (m Mode) Valid() bool { return m == Off || m == Filter || m == Tag }
