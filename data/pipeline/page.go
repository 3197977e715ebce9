package pipeline

import (
	"cmp"
	_ "embed" // the page
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"

	"pretrain/data/funnel"
	"pretrain/internal/units"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"count":  units.Grouped,
	"mb":     func(n int64) string { return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) },
	"figure": figure,
	"percent": func(a, b int64) string {
		return strconv.FormatFloat(100*float64(a)/math.Max(1, float64(b)), 'f', 1, 64)
	},
}).Parse(pageText))

// figure is a value of a distribution: three digits, or from a thousand on a whole number.
func figure(v float64) string {
	if size := math.Abs(v); size < 1000 || size > 1e15 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	return units.Grouped(int64(math.Round(v)))
}

// HTML writes the report as one page that needs nothing else.
func (r *Report) HTML(w io.Writer) error { return page.Execute(w, view{r}) }

// view is what the page shows of a report.
type view struct{ *Report }

// Sources are those of the report, with the figures that the page adds.
func (v view) Sources() []sourceView {
	list := make([]sourceView, len(v.Report.Sources))
	for i := range list {
		list[i] = sourceView{&v.Report.Sources[i]}
	}
	return list
}

// contamination is the documents of a source that hold text of a task.
type contamination struct {
	Task, Source string
	Documents    int64
}

// taskLabel is the attribute that names the evaluation task.
const taskLabel = "decontam.task"

// Contamination by task, the most frequent first.
func (v view) Contamination() []contamination {
	var list []contamination
	for _, s := range v.Report.Sources {
		for _, l := range s.Labels {
			for _, value := range l.Values {
				if l.Name == taskLabel {
					list = append(list, contamination{value.Value, s.Source, value.Documents})
				}
			}
		}
	}
	slices.SortStableFunc(list, func(a, b contamination) int { return cmp.Compare(b.Documents, a.Documents) })
	return list
}

type sourceView struct{ *SourceReport }

// First is the reading.
func (s sourceView) First() *funnel.Step { return s.Steps[0] }

// Documents, Bytes and Tokens are those in both shards.
func (s sourceView) Documents() int64 { return s.Train.Documents + s.Validation.Documents }

// Bytes of text.
func (s sourceView) Bytes() int64 { return s.Train.Bytes + s.Validation.Bytes }

// Tokens of both shards.
func (s sourceView) Tokens() int64 { return s.Train.Tokens + s.Validation.Tokens }

// BytesPerToken of what is left.
func (s sourceView) BytesPerToken() float64 {
	return float64(s.Bytes()) / math.Max(1, float64(s.Tokens()))
}

// Estimate is the number of tokens of some bytes.
func (s sourceView) Estimate(bytes int64) string {
	if s.Tokens() == 0 {
		return ""
	}
	return "≈ " + units.Grouped(int64(float64(bytes)/s.BytesPerToken()))
}

// Labels are those worth a chart.
func (s sourceView) Labels() []labelView {
	var list []labelView
	for _, l := range s.SourceReport.Labels {
		list = append(list, labelView{l})
	}
	return list
}

// Histograms are those worth a chart.
func (s sourceView) Histograms() []histogramView {
	var list []histogramView
	for _, h := range s.SourceReport.Histograms {
		list = append(list, histogramView{h})
	}
	return list
}

type labelView struct{ *funnel.Label }

// topValues is how many values of a label the page shows.
const topValues = 12

// Top values, the most frequent first.
func (l labelView) Top() []funnel.Value {
	list := slices.SortedStableFunc(slices.Values(l.Values), func(a, b funnel.Value) int { return cmp.Compare(b.Documents, a.Documents) })
	return list[:min(len(list), topValues)]
}

// Most is the largest count.
func (l labelView) Most() int64 { return l.Top()[0].Documents }

type histogramView struct{ *funnel.Histogram }

// row is a bar of a histogram.
type row struct {
	From string
	N    int64
}

// Rows are the bins, an octave together, those in between that are empty too.
func (h histogramView) Rows() []row {
	var rows []row
	if h.Zero > 0 {
		rows = append(rows, row{"0", h.Zero})
	}
	first := true
	octave := 0
	for _, b := range h.Bins {
		at := int(math.Floor(math.Log2(b.From()) + 1e-9))
		for first || octave < at {
			if first {
				octave, first = at, false
			} else {
				octave++
			}
			rows = append(rows, row{figure(math.Exp2(float64(octave))), 0})
		}
		rows[len(rows)-1].N += b.N
	}
	return rows
}

// Most is the largest count.
func (h histogramView) Most() (most int64) {
	for _, r := range h.Rows() {
		most = max(most, r.N)
	}
	return most
}
