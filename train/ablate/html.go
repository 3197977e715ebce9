package ablate

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"

	"pretrain/train/metrics"
)

//go:embed report.html
var page string

var pageTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"digits": digits, "signed": signed, "between": between, "probability": probability, "settings": settings,
}).Parse(page))

// File of a report, by its name in the ablation's folder.
type File struct {
	Name    string
	Content []byte
}

// Files are the report in all its forms: report.json for programs, report.html by itself, and report.md with its drawings
// beside it.
func (r *Report) Files() ([]File, error) {
	text, err := r.JSON()
	if err != nil {
		return nil, err
	}
	var md, html bytes.Buffer
	r.markdown(&md)
	var drawings []template.HTML
	files := []File{{"report.json", text}}
	for _, p := range r.plots() {
		files = append(files, File{p.Name, []byte(p.SVG)})
		drawings = append(drawings, template.HTML(p.SVG)) // made by chart, which escapes all text
	}
	err = pageTemplate.Execute(&html, struct {
		*Report
		Notes      []string
		Plots      []template.HTML
		SourceRows [][]string
	}{r, r.notes(), drawings, r.sourceRows()})
	if err != nil {
		return nil, fmt.Errorf("write report.html: %w", err)
	}
	return append(files, File{"report.html", html.Bytes()}, File{"report.md", md.Bytes()}), nil
}

// settings in words.
func settings(list []Setting) string {
	var parts []string
	for _, s := range list {
		parts = append(parts, s.Key+" = "+string(s.Value))
	}
	return strings.Join(parts, ", ")
}

// markdown is the report without its single runs.
func (r *Report) markdown(w *bytes.Buffer) {
	fmt.Fprintf(w, "# %s\n\n", r.Name)
	if r.Question != "" {
		fmt.Fprintf(w, "%s\n\n", r.Question)
	}
	w.WriteString("| variant | runs | bpb | sd | difference | 95% interval | bootstrap | p (Holm) | verdict |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, v := range r.Variants {
		d := v.Delta
		if d == nil {
			d = &Comparison{Mean: metrics.Unknown, CI: unknown, Bootstrap: unknown, PHolm: metrics.Unknown}
		}
		fmt.Fprintf(w, "| %s | %d/%d | %s | %s | %s | %s | %s | %s | %s |\n", v.Name, v.Done, len(v.Runs), digits(v.BPB), digits(v.SD),
			signed(d.Mean), between(d.CI), between(d.Bootstrap), probability(d.PHolm), v.Reason)
	}
	w.WriteString("\n| variant | area under the curve | difference | 95% interval | data |\n|---|---|---|---|---|\n")
	for _, v := range r.Variants {
		diff, interval := "–", "–"
		if v.DeltaArea != nil {
			diff, interval = signed(v.DeltaArea.Mean), between(v.DeltaArea.CI)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", v.Name, digits(v.Area), diff, interval, v.Order)
	}
	if len(r.Sources) > 0 {
		w.WriteString("\n| variant | source | bpb | difference | 95% interval | area | difference | 95% interval |\n|---|---|---|---|---|---|---|---|\n")
	}
	for _, row := range r.sourceRows() {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
	w.WriteString("\n")
	for _, line := range r.notes() {
		fmt.Fprintf(w, "- %s\n", line)
	}
	w.WriteString("\n")
	for _, p := range r.plots() {
		fmt.Fprintf(w, "![%s](%s)\n", strings.TrimSuffix(p.Name, ".svg"), p.Name)
	}
}

// sourceRows is the table of sources: variant, source, and for the final value and the area the mean, the difference and its
// interval.
func (r *Report) sourceRows() [][]string {
	var rows [][]string
	for _, v := range r.Variants {
		for _, name := range r.Sources {
			m := v.Sources[name]
			if m == nil {
				continue
			}
			row := []string{v.Name, name}
			for _, c := range []struct {
				mean  metrics.Number
				delta *Comparison
			}{{m.BPB, m.Delta}, {m.Area, m.DeltaArea}} {
				if row = append(row, digits(c.mean)); c.delta == nil {
					row = append(row, "–", "–")
				} else {
					row = append(row, signed(c.delta.Mean), between(c.delta.CI))
				}
			}
			rows = append(rows, row)
		}
	}
	return rows
}
