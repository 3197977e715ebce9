// Package extract finds the text of a web page in its HTML, with go-trafilatura: what FineWeb was made with, in Go.
package extract

import (
	"fmt"
	"strings"

	"github.com/markusmobius/go-trafilatura"

	"pretrain/data"
)

// NoContent is the reason of a page without a main text.
const NoContent data.Reason = "no_content"

// Step replaces the HTML of documents by their main text. It can be shared.
func Step() data.Step {
	return data.StepFunc(func(d *data.Document) (data.Reason, string) {
		text, title, err := Page(d.Text)
		if err != nil {
			return NoContent, err.Error()
		}
		d.Text = text
		d.SetText("title", title)
		return "", ""
	})
}

// Page is the main text of a page, paragraph by paragraph, and its title. Favouring precision, it leaves out what may be
// navigation rather than keep it (FineWeb's setting).
func Page(html string) (text, title string, err error) {
	r, err := trafilatura.Extract(strings.NewReader(html), trafilatura.Options{
		ExcludeComments: true, Focus: trafilatura.FavorPrecision, EnableFallback: false,
	})
	if err != nil {
		return "", "", fmt.Errorf("no main text: %w", err)
	}
	if text = strings.TrimSpace(r.ContentText); text == "" {
		return "", "", fmt.Errorf("no main text in %d bytes of HTML", len(html))
	}
	return text, strings.TrimSpace(r.Metadata.Title), nil
}
