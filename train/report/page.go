// Package report makes one HTML page of one or several runs: what they were, how the loss fell, what held them up, what was
// measured of them. The page is one file that needs nothing else; [Live] serves the same page of a folder of runs while they train.
package report

import (
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"

	"pretrain/internal/chart"
	"pretrain/internal/section"
	"pretrain/internal/units"
	"pretrain/train/metrics"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var css string

//go:embed page.js
var script string

var templates = template.Must(template.New("page").Funcs(template.FuncMap{
	"css":    func() template.CSS { return template.CSS(css) },
	"script": func() template.JS { return template.JS(script) },
	"figure": func(n metrics.Number) string { return figure(float64(n)) },
	"drawing": func(svg string) template.URL {
		return template.URL("data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString([]byte(svg)))
	},
	"readable": readable,
}).Parse(pageHTML))

// Page is what a report shows.
type Page struct {
	Title string
	// Runs, at least one. Several are compared.
	Runs []*Run
	// Facts are lines of the summary that the caller knows of each run: parameters, data, device. Each has one value a run.
	Facts []Fact
	// Differences are the values of the configuration that not all runs share.
	Differences []Fact
	// Tree is the family that the runs belong to, drawn as text; "" if they have none.
	Tree string
	// Prepared are the folders of prepared data whose sections belong to the report.
	Prepared []string
}

// Fact is a named value for each run.
type Fact struct {
	Name   string
	Values []string
}

// The sizes of drawings, in pixels: the loss goes over the whole page, the others over half of it.
const (
	pageWidth, pageHeight = 1080, 380
	halfWidth, halfHeight = 540, 300
)

// A line of a drawing has at most so many points, about one for each of its pixels; one that shows each measurement fewer.
const linePoints, dotPoints = 640, 64

// Write writes the page as one HTML file.
func (p *Page) Write(w io.Writer) error { return p.execute(w, "file") }

// Fragment writes what is between the page's header and its end, for a page that replaces it as runs go on.
func (p *Page) Fragment(w io.Writer) error { return p.execute(w, "report") }

func (p *Page) execute(w io.Writer, name string) error {
	v := view{Page: p, Summary: slices.Concat(p.summary(), p.Facts)}
	for _, c := range p.charts() {
		v.Charts = append(v.Charts, template.HTML(c)) // made by chart, which escapes all text
	}
	for _, r := range p.Runs {
		one := runView{Run: r}
		var err error
		if one.Spikes, one.SpikeCount, err = r.Spikes(); err != nil {
			one.Problems = append(one.Problems, err)
		}
		if one.Samples, err = r.Samples(); err != nil {
			one.Problems = append(one.Problems, err)
		}
		var problems []error
		one.Sections, problems = r.Sections()
		if one.Problems = append(one.Problems, problems...); r.Problem != nil {
			one.Problems = append(one.Problems, r.Problem)
		}
		v.Each = append(v.Each, one)
	}
	for _, dir := range p.Prepared {
		found, err := section.Read(p.Runs[0].fsys, dir, func(error) {})
		if err == nil {
			v.Data = append(v.Data, found...)
		}
	}
	return templates.ExecuteTemplate(w, name, v)
}

// view is what the template shows.
type view struct {
	*Page
	Summary []Fact
	Charts  []template.HTML
	Each    []runView
	Data    []section.Filed
}

type runView struct {
	*Run
	Spikes     []Spike
	SpikeCount int
	Samples    []Sample
	Sections   []section.Filed
	Problems   []error
}

// summary is what the records say of each run.
func (p *Page) summary() []Fact {
	lines := []struct {
		name  string
		value func(*Run) string
	}{
		{"steps", func(r *Run) string { return units.Grouped(r.Last.Step + min(1, r.Records)) }},
		{"tokens", func(r *Run) string { return units.Grouped(r.Last.Tokens) }},
		{"phase", func(r *Run) string { return r.Last.Phase }},
		{"training loss, smoothed", func(r *Run) string { return last(r.curves[keySmooth]) }},
		{"validation loss, nats per token", func(r *Run) string { return evaluated(r, func(e *metrics.Eval) metrics.Number { return e.ValLoss }) }},
		{"validation, bits per byte", func(r *Run) string { return evaluated(r, func(e *metrics.Eval) metrics.Number { return e.ValBPB }) }},
		{"time in steps", func(r *Run) string { return duration(r.Seconds) }},
		{"tokens per second in steps", func(r *Run) string {
			return figure(float64(r.Last.Tokens-r.First.Tokens+r.First.BatchTokens) / r.Seconds)
		}},
		{"waited for data", func(r *Run) string { return fmt.Sprintf("%.2f%% of the time in steps", 100*r.Waited/r.Seconds) }},
		{"updates left out, spikes", func(r *Run) string { return fmt.Sprintf("%d, %d", r.Last.Skipped, r.Last.Spikes) }},
	}
	var facts []Fact
	for _, l := range lines {
		f := Fact{Name: l.name}
		for _, r := range p.Runs {
			value := "–"
			if r.Records > 0 {
				value = l.value(r)
			}
			f.Values = append(f.Values, value)
		}
		facts = append(facts, f)
	}
	return facts
}

func evaluated(r *Run, value func(*metrics.Eval) metrics.Number) string {
	if r.LastEval == nil {
		return "–"
	}
	return figure(float64(value(r.LastEval)))
}

func last(c *Curve) string {
	y, ok := c.Last()
	if !ok {
		return "–"
	}
	return figure(y)
}

// charts are the page's drawings.
func (p *Page) charts() []string {
	list := []string{p.lossChart()}
	list = append(list, p.bpbCharts()...)
	for _, m := range drawn {
		c := half(m.title, m.unit)
		shown := false
		for i, r := range p.Runs {
			points := r.curves[m.key].Points(linePoints)
			shown = shown || slices.ContainsFunc(points, func(q chart.Point) bool { return q.Y != 0 || !m.rare })
			c.Series = append(c.Series, chart.Series{Name: r.Name, Color: i, Points: points})
		}
		if shown {
			p.shade(&c)
			list = append(list, c.SVG())
		}
	}
	return list
}

func half(title, unit string) chart.Lines {
	return chart.Lines{Title: title, X: "tokens", Y: unit, Width: halfWidth, Height: halfHeight}
}

// shade has a single run's phases and stages behind its lines.
func (p *Page) shade(c *chart.Lines) {
	if len(p.Runs) == 1 {
		c.Bands = p.Runs[0].phases
		if c.Strip = p.Runs[0].stage; len(c.Strip) < 2 {
			c.Strip = nil
		}
	}
}

func (p *Page) lossChart() string {
	c := chart.Lines{
		Title: "Loss: training, smoothed (line), validation (dots)", X: "tokens", Y: "nats per token", Width: pageWidth, Height: pageHeight,
	}
	p.shade(&c)
	for i, r := range p.Runs {
		name, validation := r.Name, ""
		if len(p.Runs) == 1 {
			name, validation = "training, smoothed", "validation"
			c.Series = append(c.Series, chart.Series{Name: "training", Color: 0, Faint: true, Points: r.curves[keyLoss].Points(linePoints)})
		}
		color := i
		if validation != "" {
			color = 1
		}
		c.Series = append(c.Series, chart.Series{Name: name, Color: i, Points: r.curves[keySmooth].Points(linePoints)},
			chart.Series{Name: validation, Color: color, Dots: true, NoLine: true, Points: r.curves[keyValLoss].Points(dotPoints)})
	}
	return c.SVG()
}

// bpbCharts have the sources of one run in one drawing, or a drawing for each source that compares several.
func (p *Page) bpbCharts() []string {
	const unit = "bits per byte"
	line := func(r *Run, key, name string, color int) chart.Series {
		return chart.Series{Name: name, Color: color, Dots: true, Points: r.curves[key].Points(dotPoints)}
	}
	var sources []string
	for _, r := range p.Runs {
		sources = append(sources, r.sources...)
	}
	slices.Sort(sources)
	sources = slices.Compact(sources)
	if len(sources) == 0 {
		return nil
	}
	all := half("Validation, bits per byte", unit)
	for i, r := range p.Runs {
		all.Series = append(all.Series, line(r, keyValBPB, r.Name, i))
	}
	p.shade(&all)
	if len(p.Runs) == 1 && len(sources) > 1 {
		all.Title, all.Series[0].Name = "Validation by source, bits per byte", "all"
		for i, name := range sources {
			all.Series = append(all.Series, line(p.Runs[0], sourcePart+name, name, i+1))
		}
	}
	list := []string{all.SVG()}
	if len(p.Runs) > 1 && len(sources) > 1 {
		for _, name := range sources {
			c := half("Validation of "+name+", bits per byte", unit)
			for i, r := range p.Runs {
				c.Series = append(c.Series, line(r, sourcePart+name, r.Name, i))
			}
			list = append(list, c.SVG())
		}
	}
	return list
}

// figure writes a number with four digits.
func figure(v float64) string {
	switch abs := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case abs >= 1000:
		return units.Grouped(int64(math.Round(v)))
	case abs >= 1:
		return fmt.Sprintf("%.4f", v)
	}
	return fmt.Sprintf("%.4g", v)
}

// duration writes seconds for people.
func duration(s float64) string {
	if math.IsNaN(s) {
		return "–"
	}
	n := int64(math.Round(s))
	switch {
	case n >= 3600:
		return fmt.Sprintf("%dh %02dm", n/3600, n/60%60)
	case n >= 60:
		return fmt.Sprintf("%dm %02ds", n/60, n%60)
	}
	return fmt.Sprintf("%ds", n)
}

// readable is a sample's text without the invisible bytes that a byte-level model may produce.
func readable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' {
			return '�'
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
}
