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
	"digits": digits, "signed": signed, "between": between, "probability": probability, "join": strings.Join,
	"settings": settings,
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
		Notes []string
		Plots []template.HTML
	}{r, r.notes(), drawings})
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
	fmt.Fprintf(w, "\n| variant | area | difference | 95%% interval |%s data |\n|---|---|---|---|%s---|\n",
		columns(r.Sources, " %s |"), columns(r.Sources, "---|"))
	for _, v := range r.Variants {
		diff, interval := "–", "–"
		if v.DeltaArea != nil {
			diff, interval = signed(v.DeltaArea.Mean), between(v.DeltaArea.CI)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s |", v.Name, digits(v.Area), diff, interval)
		for _, s := range r.Sources {
			fmt.Fprintf(w, " %s |", r.sourceCell(&v, s))
		}
		fmt.Fprintf(w, " %s |\n", v.Order)
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

// sourceCell is a source's mean bits per byte and its difference to the baseline.
func (r *Report) sourceCell(v *VariantReport, source string) string {
	bpb, ok := v.Sources[source]
	if !ok {
		return "–"
	}
	cell := digits(bpb)
	if d := v.DeltaSources[source]; d != nil {
		cell += " (" + signed(d.Mean) + ")"
	}
	return cell
}

// columns formats each source as a column.
func columns(sources []string, format string) string {
	var b strings.Builder
	for _, s := range sources {
		b.WriteString(strings.ReplaceAll(format, "%s", s))
	}
	return b.String()
}
