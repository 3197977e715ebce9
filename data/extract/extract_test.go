package extract_test

import (
	"strings"
	"testing"

	"pretrain/data"
	"pretrain/data/extract"
)

const article = `<html><head><title>A walk</title><script>var x = "not text";</script></head><body>
<nav><a href="/">Home</a> <a href="/about">About us</a> <a href="/contact">Contact</a></nav>
<article><h1>A walk</h1>
<p>In the morning we set out along the river, and for the first hour nobody said a word, because the fog was so thick that we had to watch every step.</p>
<p>Towards noon the sun came through. We found a bank of stones, ate what we had brought, and looked at the map, which was of little use, since it had been drawn before the dam was built.</p>
<p>中文段落也应当保留：下午我们沿着旧路往回走，天黑之前到了村里，大家都觉得这一天过得很值得。</p></article>
<footer>Copyright 2026. All rights reserved. <a href="/privacy">Privacy policy</a></footer></body></html>`

func TestPage(t *testing.T) {
	d := data.Document{Text: article}
	if reason, detail := extract.Step().Apply(&d); reason != "" {
		t.Fatalf("%s: %s", reason, detail)
	}
	for _, want := range []string{"nobody said a word", "the dam was built", "天黑之前到了村里"} {
		if !strings.Contains(d.Text, want) {
			t.Errorf("%q is missing in %q", want, d.Text)
		}
	}
	for _, not := range []string{"not text", "About us", "Privacy", "<p>"} {
		if strings.Contains(d.Text, not) {
			t.Errorf("%q is in %q", not, d.Text)
		}
	}
	if got := d.TextOf("title"); got != "A walk" {
		t.Errorf("the title is %q", got)
	}
	for _, bad := range []string{"", "no HTML at all", "<html><body></body></html>", "<<<>><p", strings.Repeat("<div>", 20_000)} {
		d := data.Document{Text: bad}
		if reason, _ := extract.Step().Apply(&d); reason != extract.NoContent {
			t.Errorf("%.20q: %q, text %q", bad, reason, d.Text)
		}
	}
}
