package pack_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pretrain/data"
	"pretrain/data/pack"
)

// bytesEncoder has a token for each byte, and from 1000 on the special tokens it is made of.
type bytesEncoder []string

func (e bytesEncoder) Special(name string) (uint32, bool) {
	i := slices.Index(e, name)
	return uint32(1000 + i), i >= 0
}

// show is the text of tokens, special ones as their name in capitals, what is trained on in [brackets].
func (e bytesEncoder) show(tokens []uint32, loss []bool) string {
	var b strings.Builder
	for i, token := range tokens {
		if loss[i] && (i == 0 || !loss[i-1]) {
			b.WriteByte('[')
		}
		if token >= 1000 {
			b.WriteString(strings.ToUpper(e[token-1000]))
		} else {
			b.WriteByte(byte(token))
		}
		if loss[i] && (i == len(loss)-1 || !loss[i+1]) {
			b.WriteByte(']')
		}
	}
	return b.String()
}

func (bytesEncoder) Encode(text string) (ids []uint32, err error) {
	if strings.Contains(text, "\x00") {
		return nil, errors.New("NUL")
	}
	for i := range len(text) {
		ids = append(ids, uint32(text[i]))
	}
	return ids, nil
}

func TestTemplates(t *testing.T) {
	talk := []data.Message{{Role: "system", Content: "S"}, {Role: "user", Content: " Q1\n"}, {Role: "assistant", Content: "A1"}, {Role: "user", Content: "Q2"}, {Role: "assistant", Content: "A2 "}}
	for _, tt := range []struct {
		template pack.Template
		messages []data.Message
		want     string // what is trained on in [brackets], the end token as $
	}{
		{pack.MiniCPM, talk, "S<用户>Q1<AI>[A1]<用户>Q2<AI>[A2$]"},
		{pack.MiniCPM, talk[:2], "S<用户>Q1<AI>$"},
		{pack.ChatML, talk[1:3], "<|im_start|>user\n Q1\n<|im_end|>\n<|im_start|>assistant\n[A1<|im_end|>]\n[$]"},
		{pack.NoTemplate, talk[1:3], " Q1\n\n\n[A1$]"},
		{pack.ChatML, []data.Message{{Role: "tool_call", Content: "f()"}, {Role: "tool", Content: "1"}}, "<|im_start|>tool_call\n[f()<|im_end|>]\n<|im_start|>tool\n1<|im_end|>\n$"},
		{pack.MiniCPM, []data.Message{{Role: "user", Content: "Q"}, {Role: "assistant", Content: ""}}, "<用户>Q<AI>[$]"},
	} {
		tokens, loss, err := tt.template.Encode(bytesEncoder{}, tt.messages, '$')
		if err != nil {
			t.Fatal(err)
		}
		if got := (bytesEncoder{}).show(tokens, loss); got != tt.want || len(loss) != len(tokens) {
			t.Errorf("%s: %q, want %q", tt.template, got, tt.want)
		}
	}
}

// A marker that the tokenizer has is one token; the same characters in somebody's words are not.
func TestMarkersAreTokens(t *testing.T) {
	enc := bytesEncoder{"<ai>", "<|im_start|>", "<|im_end|>", "<AI>"}
	talk := []data.Message{{Role: data.User, Content: "say <|im_end|> or <AI>"}, {Role: data.Assistant, Content: "no"}}
	for template, want := range map[pack.Template]string{
		pack.ChatML:     "<|IM_START|>user\nsay <|im_end|> or <AI><|IM_END|>\n<|IM_START|>assistant\n[no<|IM_END|>]\n[$]",
		pack.MiniCPM:    "<用户>say <|im_end|> or <AI><AI>[no$]",
		pack.NoTemplate: "say <|im_end|> or <AI>\n\n[no$]",
	} {
		tokens, loss, err := template.Encode(enc, talk, '$')
		if err != nil {
			t.Fatal(err)
		}
		if got := enc.show(tokens, loss); got != want {
			t.Errorf("%s: %q, want %q", template, got, want)
		}
		if template == pack.MiniCPM && !slices.Contains(tokens, 1003) {
			t.Errorf("<AI> is %d tokens, want the one", len(tokens))
		}
	}
}

// wordEncoder has a token for each run of letters or of anything else, as a tokenizer would whose tokens are long: it shows
// what is encoded at once.
type wordEncoder struct{ words map[string]uint32 }

func (wordEncoder) Special(name string) (uint32, bool) { return 0, name == "<|im_start|>" }

func (e wordEncoder) Encode(text string) (ids []uint32, err error) {
	for _, w := range regexp.MustCompile(`[a-z]+|[^a-z]+`).FindAllString(text, -1) {
		if _, ok := e.words[w]; !ok {
			e.words[w] = uint32(len(e.words) + 1)
		}
		ids = append(ids, e.words[w])
	}
	return ids, nil
}

// What a model is asked with is what it was trained with: the prompt of an answer is the beginning of the conversation, token
// by token, and the answer's tokens are what counts after it.
func TestPromptIsTrainedOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		enc := wordEncoder{map[string]uint32{}}
		template := rapid.SampledFrom([]pack.Template{pack.MiniCPM, pack.ChatML, pack.NoTemplate}).Draw(t, "template")
		words := rapid.StringMatching(`[a-z!]{1,5}`)
		var talk []data.Message
		if rapid.Bool().Draw(t, "system") {
			talk = append(talk, data.Message{Role: data.System, Content: words.Draw(t, "system says")})
		}
		for range rapid.IntRange(1, 3).Draw(t, "turns") {
			talk = append(talk, data.Message{Role: data.User, Content: words.Draw(t, "q")}, data.Message{Role: data.Assistant, Content: words.Draw(t, "a")})
		}
		const end = 1 << 20
		tokens, loss, err := template.Encode(enc, talk, end)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range talk {
			if !m.Assistant() {
				continue
			}
			prompt, err := template.Prompt(enc, talk[:i])
			if err != nil {
				t.Fatal(err)
			}
			answer, _ := enc.Encode(m.Content)
			if !slices.Equal(prompt, tokens[:len(prompt)]) || loss[len(prompt)-1] || !loss[len(prompt)] {
				t.Fatalf("%s: prompt %v of %v, loss %v", template, prompt, tokens, loss)
			}
			if rest := tokens[len(prompt):]; template != pack.ChatML && !slices.Equal(answer, rest[:len(answer)]) {
				t.Fatalf("%s: answer %v, trained %v", template, answer, rest)
			}
		}
	})
}

func TestTemplateErrors(t *testing.T) {
	for _, tt := range []struct {
		template pack.Template
		messages []data.Message
		want     string
	}{
		{"alpaca", []data.Message{{Role: "user"}}, `chat template "alpaca"; want minicpm, chatml or none`},
		{pack.ChatML, nil, "without messages"},
		{pack.ChatML, []data.Message{{Role: "user"}, {Role: "human"}}, `message 2: role "human"; want system`},
		{pack.ChatML, []data.Message{{Role: "user", Content: "\x00"}}, "NUL"},
	} {
		if _, _, err := tt.template.Encode(bytesEncoder{}, tt.messages); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error is %v, want %q in it", err, tt.want)
		}
	}
}
