// Package synth makes synthetic training text, as Cosmopedia and the Phi models do: documents are clustered by topic, and a larger model
// behind any OpenAI-compatible endpoint writes new texts about the topics that are chosen, in several formats and for several
// audiences, each inspired by an extract of a document.
//
// All state is in the output folder: topics.json is what was found, responses.jsonl every answer of the model, keyed by what it was
// asked, so that nothing is paid for twice, and documents.jsonl the result, which `pretrain data prepare` reads as a source.
package synth

import (
	"strings"
	"time"

	"pretrain/data/read"
	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// Config says what is written about, how, and by which model. Start from [Default].
type Config struct {
	// Output is the folder for everything that is written.
	Output string `yaml:"output" json:"output"`
	// Seeds are the documents whose topics are written about.
	Seeds Seeds `yaml:"seeds" json:"seeds"`
	// Topics says how documents are clustered, and which clusters are written about.
	Topics Topics `yaml:"topics" json:"topics"`
	// Prompts are what the model is asked.
	Prompts Prompts `yaml:"prompts" json:"prompts"`
	// Endpoint is the model.
	Endpoint Endpoint `yaml:"endpoint" json:"endpoint"`
}

// Seeds are documents to start from.
type Seeds struct {
	// Path is a file, a folder (read with everything below it) or go:std.
	Path string `yaml:"path" json:"path"`
	// Files limit a folder to those that match one of these patterns of path.Match. Default: every file of a known extension.
	Files []string `yaml:"files" json:"files"`
	// Text is the key of a JSONL record, or the column of a Parquet file, that holds the text. Default text.
	Text string `yaml:"text" json:"text"`
	// Max is how many documents are clustered, chosen by a hash of their text. Default 100000 (Cosmopedia): topics hardly change
	// beyond it, memory does.
	Max int `yaml:"max" json:"max"`
}

// Topics says how documents are clustered: k-means over hashed TF-IDF of their words, or pairs of characters in CJK text.
type Topics struct {
	// Count is the number of clusters. Default 50. Cosmopedia had 145 of all the web.
	Count int `yaml:"count" json:"count"`
	// Dimensions is how many numbers words are hashed to. Default 16384: few of a topic's words collide.
	Dimensions int `yaml:"dimensions" json:"dimensions"`
	// Iterations is the most rounds of k-means. Default 30; it ends before, when no document moves.
	Iterations int `yaml:"iterations" json:"iterations"`
	// Terms is how many words name a topic. Default 8.
	Terms int `yaml:"terms" json:"terms"`
	// Choose lists the numbers of the topics to write about, as in topics.json. Default: all.
	Choose []int `yaml:"choose" json:"choose"`
	// Skip lists the numbers of topics not to write about. Default: none.
	Skip []int `yaml:"skip" json:"skip"`
	// Seed decides the first clusters and the choice of extracts. Default 1.
	Seed uint64 `yaml:"seed" json:"seed"`
}

// Prompts are what the model is asked: every format for every audience about every topic, and so on with other extracts until PerTopic is
// reached.
type Prompts struct {
	// Template of a prompt. {topic} becomes the topic's words, {extract} the beginning of one of its documents, {format} and
	// {audience} one of those below. Default: an English one after Cosmopedia's.
	Template string `yaml:"template" json:"template"`
	// Formats, as the prompt shall name them. Default a textbook section, a blog post, a how-to article and a story.
	Formats []string `yaml:"formats" json:"formats"`
	// Audiences, as the prompt shall name them. Default young children, high school students, college students and a general
	// audience.
	Audiences []string `yaml:"audiences" json:"audiences"`
	// PerTopic is the number of prompts for each topic. Default 16: each format for each audience once.
	PerTopic int `yaml:"per_topic" json:"per_topic"`
	// Extract bounds the extract, in characters. Default 1000.
	Extract int `yaml:"extract" json:"extract"`
	// Language is what the documents say they are in. Default en.
	Language string `yaml:"language" json:"language"`
}

// Endpoint is a model behind an OpenAI-compatible HTTP interface (POST URL/chat/completions).
type Endpoint struct {
	// URL up to and with the version, such as https://host/v1.
	URL string `yaml:"url" json:"url"`
	// Model is its name there.
	Model string `yaml:"model" json:"model"`
	// KeyEnv names the environment variable that holds the key. Default OPENAI_API_KEY; where it is not set no key is sent.
	KeyEnv string `yaml:"key_env" json:"-"`
	// MaxTokens bounds an answer. Default 1024. What is cut off there is not used.
	MaxTokens int `yaml:"max_tokens" json:"max_tokens"`
	// Temperature is that of the sampling. Default 0.8: variety is what synthetic text lacks.
	Temperature float64 `yaml:"temperature" json:"temperature"`
	// Concurrency is the number of requests at once. Default 8.
	Concurrency int `yaml:"concurrency" json:"-"`
	// Retries is how often a request is made again that failed for a reason that may pass: 408, 409, 425, 429, 5xx, a broken
	// connection, no answer in time. Default 6, with pauses from half a second, doubling up to a minute, or as long as the endpoint says (Retry-After).
	Retries int `yaml:"retries" json:"-"`
	// Timeout is how long one request may take. Default 2m.
	Timeout units.Duration `yaml:"timeout" json:"-"`
	// InputPrice is what a million tokens of prompts cost, in any currency. Default 0.
	InputPrice float64 `yaml:"input_price" json:"-"`
	// OutputPrice is what a million tokens of answers cost. Default 0.
	OutputPrice float64 `yaml:"output_price" json:"-"`
	// MaxCost stops asking when the answers have cost this much. Default 0: no bound.
	MaxCost float64 `yaml:"max_cost" json:"-"`
}

const template = `Here is an extract from a document:

"""
{extract}
"""

Write {format} for {audience}, on the subject that these words describe: {topic}. Let the extract inspire you, but do not copy it. The
text must be self-contained, correct and interesting, with explanations and examples. Write the text only, without a comment
on it.`

// Default is every setting but output, seeds and endpoint.
func Default() Config {
	return Config{
		Seeds:  Seeds{Text: "text", Max: 100_000},
		Topics: Topics{Count: 50, Dimensions: 1 << 14, Iterations: 30, Terms: 8, Seed: 1},
		Prompts: Prompts{
			Template: template,
			Formats: []string{
				"a section of a textbook", "a blog post", "a how-to article in the manner of WikiHow", "a story that explains",
			},
			Audiences: []string{"young children", "high school students", "college students", "a general audience"},
			PerTopic:  16, Extract: 1000, Language: "en",
		},
		Endpoint: Endpoint{KeyEnv: "OPENAI_API_KEY", MaxTokens: 1024, Temperature: 0.8, Concurrency: 8, Retries: 6, Timeout: units.Duration(2 * time.Minute)},
	}
}

// Validate reports every problem at once, as joined [problem.Problem] errors.
func (c Config) Validate() error {
	var p problem.List
	p.Check(c.Output != "", "output", `""`, "a folder")
	p.Check(c.Seeds.Path != "", "seeds.path", `""`, "a file, a folder or %s", read.GoStd)
	p.Check(c.Seeds.Max >= 1, "seeds.max", c.Seeds.Max, "at least 1")
	t := c.Topics
	p.Check(t.Count >= 1 && t.Count <= 10_000, "topics.count", t.Count, "1 to 10000")
	p.Check(t.Dimensions >= 16 && t.Dimensions <= 1<<22, "topics.dimensions", t.Dimensions, "16 to %d", 1<<22)
	p.Check(t.Iterations >= 1, "topics.iterations", t.Iterations, "at least 1")
	p.Check(t.Terms >= 1, "topics.terms", t.Terms, "at least 1")
	for _, list := range []struct {
		key     string
		numbers []int
	}{{"topics.choose", t.Choose}, {"topics.skip", t.Skip}} {
		for _, n := range list.numbers {
			p.Check(n >= 1 && n <= t.Count, list.key, n, "numbers of topics, 1 to count (%d)", t.Count)
		}
	}
	q := c.Prompts
	p.Check(strings.Contains(q.Template, "{topic}") || strings.Contains(q.Template, "{extract}"), "prompts.template", q.Template, "a text with {topic} or {extract}")
	p.Check(len(q.Formats) > 0, "prompts.formats", "none", "one at least")
	p.Check(len(q.Audiences) > 0, "prompts.audiences", "none", "one at least")
	p.Check(q.PerTopic >= 1, "prompts.per_topic", q.PerTopic, "at least 1")
	p.Check(q.Extract >= 1, "prompts.extract", q.Extract, "at least 1")
	e := c.Endpoint
	p.Check(strings.HasPrefix(e.URL, "http://") || strings.HasPrefix(e.URL, "https://"), "endpoint.url", e.URL, "an address such as https://host/v1")
	p.Check(e.Model != "", "endpoint.model", `""`, "the model's name at the endpoint")
	p.Check(e.MaxTokens >= 1, "endpoint.max_tokens", e.MaxTokens, "at least 1")
	p.Check(e.Temperature >= 0, "endpoint.temperature", e.Temperature, "at least 0")
	p.Check(e.Concurrency >= 1, "endpoint.concurrency", e.Concurrency, "at least 1")
	p.Check(e.Retries >= 0, "endpoint.retries", e.Retries, "at least 0")
	p.Check(e.Timeout > 0, "endpoint.timeout", e.Timeout, "more than 0")
	p.Check(e.InputPrice >= 0 && e.OutputPrice >= 0, "endpoint.input_price", e.InputPrice, "prices of at least 0")
	p.Check(e.MaxCost >= 0, "endpoint.max_cost", e.MaxCost, "at least 0")
	return p.Err()
}

// EachPath calls f with every file or folder the configuration names and its key; f may change it.
func (c *Config) EachPath(f func(key string, path *string)) {
	f("output", &c.Output)
	f("seeds.path", &c.Seeds.Path)
}
