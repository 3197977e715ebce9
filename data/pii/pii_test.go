package pii_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pretrain/data"
	"pretrain/data/pii"
)

func mask(text string) string {
	d := data.Document{Text: text}
	pii.Default().Step().Apply(&d)
	return d.Text
}

// Each kind is found in the ways it is written, and what only looks like it stays. Identity and card numbers are made up, with
// right checksums; keys are the examples of their makers' documentation, or made up.
func TestMask(t *testing.T) {
	for in, want := range map[string]string{
		"Write to jane.doe+x@mail.example.co.uk. Thanks":                                                      "Write to [EMAIL]. Thanks",
		"邮箱：zhang_san@example.cn，谢谢":                                                                          "邮箱：[EMAIL]，谢谢",
		"git clone git@github.com:a/b.git":                                                                    "git clone [EMAIL]:a/b.git",
		"@decorator def f(x): return a@b":                                                                     "@decorator def f(x): return a@b",
		"手机13800138000，或 138 0013 8000、139-1234-5678。":                                                        "手机[PHONE]，或 [PHONE]、[PHONE]。",
		"+86 13800138000 or +8613800138000":                                                                   "[PHONE] or [PHONE]",
		"+44 20 7946 0958 and +1 (415) 555-0132":                                                              "[PHONE] and [PHONE]",
		"身份证号 11010519491231002X。":                                                                            "身份证号 [ID]。",
		"身份证号 110105194912310021。":                                                                            "身份证号 110105194912310021。", // wrong checksum
		"SSN 219-09-9999, order 219-09-99991":                                                                 "SSN [ID], order 219-09-99991",
		"card 4111 1111 1111 1111 or 4111111111111111":                                                        "card [CARD] or [CARD]",
		"card 4111111111111112":                                                                               "card 4111111111111112",
		"from 8.8.8.8 and 192.168.0.1, 127.0.0.1":                                                             "from [IP] and 192.168.0.1, 127.0.0.1",
		"version 3.4.5.6, v1.2.3.4, 1.2.3.4.5, 3.14":                                                          "version 3.4.5.6, v1.2.3.4, 1.2.3.4.5, 3.14",
		"dns 2001:4860:4860::8888, [2606:4700::1111]:443, 2a00:1450:4009:815::200e.":                          "dns [IP], [[IP]]:443, [IP].",
		"地址：2400:3200::1；addr:2400:3200:0:0:0:0:0:1 2400:3200:baba::/48":                                      "地址：[IP]；addr:[IP] [IP]/48",
		"::1, fe80::1%eth0, fd00:1:2::3, 2001:db8:1::1, ff02::1:2":                                            "::1, fe80::1%eth0, fd00:1:2::3, 2001:db8:1::1, ff02::1:2",
		"12:30:45, 2026:11:25:12:30:45, std::vector, 2001:4860::add::x, cafe::babe, x[2000::2]":               "12:30:45, 2026:11:25:12:30:45, std::vector, 2001:4860::add::x, cafe::babe, x[2000::2]",
		"mac 20:1a:2b:3c:4d:5e, 20:1a:2b:ff:fe:3c:4d:5e; key 3f:9a:12:de:ad:be:ef:00:11:22:33:44:55:66:77:88": "mac 20:1a:2b:3c:4d:5e, 20:1a:2b:ff:fe:3c:4d:5e; key 3f:9a:12:de:ad:be:ef:00:11:22:33:44:55:66:77:88",
		"sha256:2001abcd4860, a2001:4860:4860::8888, 2001:4860:4860::8888x, 2001:4860:4860:8888":              "sha256:2001abcd4860, a2001:4860:4860::8888, 2001:4860:4860::8888x, 2001:4860:4860:8888",
		"aws AKIAIOSFODNN7EXAMPL3 x":                                                                          "aws [KEY] x",
		"token = 'ghp_" + strings.Repeat("a1B2", 9) + "'":                                                     "token = '[KEY]'",
		"-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\nafter":                   "[KEY]\nafter",
		"-----BEGIN CERTIFICATE-----\nMIIE":                                                                   "-----BEGIN CERTIFICATE-----\nMIIE",
		"population 13800138000.5, id_13800138000, x13800138000":                                              "population 13800138000.5, id_13800138000, x13800138000",
		"2026-11-25 12:34:56, 1,000,000, 1234567890123":                                                       "2026-11-25 12:34:56, 1,000,000, 1234567890123",
		"sk-learn and sk-" + strings.Repeat("abc", 20):                                                        "sk-learn and sk-" + strings.Repeat("abc", 20),
	} {
		if got := mask(in); got != want {
			t.Errorf("%q:\n got %q\nwant %q", in, got, want)
		}
	}
}

// Under tag the text stays and the finds are counted; kinds not asked for are not found.
func TestTag(t *testing.T) {
	c := pii.Default()
	c.Mode, c.Kinds = pii.Tag, []pii.Kind{pii.Email, pii.IP}
	text := "a@b.com c@d.org 8.8.8.8 13800138000"
	d := data.Document{Text: text, Messages: []data.Message{{Content: "e@f.net"}}}
	if c.Step().Apply(&d); d.Text != text {
		t.Errorf("the text changed: %q", d.Text)
	}
	for name, want := range map[string]float64{"pii.email": 3, "pii.ip": 1, "pii.phone": 0} {
		if got, _ := d.Number(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if err := (pii.Config{Mode: "x", Kinds: []pii.Kind{"y"}, Masks: map[pii.Kind]string{"z": ""}}).Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("%v", err)
	}
}

// Spans are in order, do not overlap, and lie at characters; masking twice is masking once.
func FuzzFind(f *testing.F) {
	for _, s := range []string{"a@b.com@c.de 8.8.8.8@x.yz", "+1 (1) 2-3", "11010519491231002X11010519491231002X", "-----BEGIN  PRIVATE KEY-----", "文13800138000文", "eyJ..."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return
		}
		at := 0
		for _, s := range pii.Find(text) {
			if s.Start < at || s.End <= s.Start || s.End > len(text) || !utf8.ValidString(text[s.Start:s.End]) {
				t.Fatalf("%q: span %v after %d", text, s, at)
			}
			at = s.End
		}
		if once := mask(text); !utf8.ValidString(once) {
			t.Errorf("%q becomes %q", text, once)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	text := strings.Repeat("In 2026 some 1,200 people wrote to us about version 1.2.3 of the program. 二〇二六年共有一千二百人来信。\n", 40)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		pii.Find(text)
	}
}
