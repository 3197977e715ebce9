package pack_test

import (
	"errors"
	"strings"
	"testing"

	"pretrain/data"
	"pretrain/data/pack"
)

// bytesEncoder has a token for each byte.
type bytesEncoder struct{}

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
		var b strings.Builder
		for i, token := range tokens {
			if loss[i] && (i == 0 || !loss[i-1]) {
				b.WriteByte('[')
			}
			b.WriteByte(byte(token))
			if loss[i] && (i == len(loss)-1 || !loss[i+1]) {
				b.WriteByte(']')
			}
		}
		if b.String() != tt.want || len(loss) != len(tokens) {
			t.Errorf("%s: %q, want %q", tt.template, b.String(), tt.want)
		}
	}
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
