package synth

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"pretrain/internal/prng"
)

// prompt is one thing to ask.
type prompt struct {
	key      string // hash of body
	body     []byte // the request
	topic    Topic
	format   string
	audience string
}

// prompts are what is asked about the chosen topics: formats and audiences in turn, each time with another extract.
func (c Config) prompts(topics []Topic) ([]prompt, error) {
	var list []prompt
	for _, t := range topics {
		if len(c.Topics.Choose) > 0 && !slices.Contains(c.Topics.Choose, t.Number) || slices.Contains(c.Topics.Skip, t.Number) {
			continue
		}
		q := c.Prompts
		// By the topic's words, not its number: another topic's size changes nothing here.
		key := prng.New(c.Topics.Seed).Split("extracts").Split(t.Name())
		order := prng.NewPermutation(key, uint64(len(t.extracts)))
		for i := range q.PerTopic {
			p := prompt{topic: t, format: q.Formats[i%len(q.Formats)], audience: q.Audiences[i/len(q.Formats)%len(q.Audiences)]}
			text := strings.NewReplacer(
				"{topic}", t.Name(), "{extract}", t.extracts[order.At(uint64(i%len(t.extracts)))], "{format}", p.format, "{audience}", p.audience,
			).Replace(q.Template)
			var err error
			p.body, err = json.Marshal(request{
				Model: c.Endpoint.Model, Messages: []message{{"user", text}}, MaxTokens: c.Endpoint.MaxTokens, Temperature: c.Endpoint.Temperature,
				Seed: uint64(i),
			})
			if err != nil {
				return nil, err
			}
			sum := xxh3.Hash128(p.body)
			p.key = fmt.Sprintf("%016x%016x", sum.Hi, sum.Lo)
			list = append(list, p)
		}
	}
	return list, nil
}
