// Package chart draws line charts and interval charts as SVG, for reports that are one file or a folder of files. A
// drawing carries its own style, follows the reader's light or dark scheme, and depends on its data only.
package chart

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Point of a series. Low and High are the ends of an error bar; both 0 draw none.
type Point struct{ X, Y, Low, High float64 }

// Series is a line through points, in their order.
type Series struct {
	Name   string  // in the legend; "" is in none
	Color  int     // number of the colour, see [Palette]; series of the same thing share it
	Faint  bool    // thin and pale: one of several that a strong line sums up
	Dots   bool    // a dot at each point
	NoLine bool    // dots only
	Points []Point // not finite ones are left out, and break the line
}

// Lines is a chart of series over a common horizontal axis.
type Lines struct {
	Title, X, Y string // Title and the axes' names
	LogX        bool   // all X must be above 0
	LogY        bool   // all Y must be above 0, and error bars' ends
	// Width and Height in pixels. Default 720 × 400.
	Width, Height int
	Series        []Series
	// Marks are vertical lines with a name, at values of X.
	Marks []Mark
	// Bands are stretches of X with a name, behind the series: every second one is shaded.
	Bands []Band
	// Strip is a second row of bands, at the foot of the drawing.
	Strip []Band
}

// Band is a named stretch of the horizontal axis.
type Band struct {
	From, To float64
	Name     string
}

// Mark is a named value on the horizontal axis.
type Mark struct {
	X    float64
	Name string
}

// Palette has the colours of series on a light and on a dark ground: the Okabe–Ito set, which people with any colour vision
// tell apart, lightened where dark ground needs it, with a violet for its yellow, which light ground swallows. A ninth series takes the first colour again, dashed.
var Palette = [8][2]string{
	{"#0072b2", "#56a8e0"}, {"#d55e00", "#ff8a3d"}, {"#009e73", "#2fcf9f"}, {"#cc79a7", "#e59cc4"},
	{"#6a3d9a", "#c3a6e8"}, {"#3b9fd4", "#9bd5f5"}, {"#b07d00", "#e6a817"}, {"#444444", "#c8c8c8"},
}

const (
	width, height      = 720, 400
	left, right        = 70, 20
	top, bottom        = 36, 52
	legendWidth        = 190
	maxLegend          = 18
	rowHeight, fontPix = 18, 12
)

// SVG is the drawing, a file by itself or a part of an HTML page.
func (l Lines) SVG() string {
	var xs, ys []float64
	for _, s := range l.Series {
		for _, p := range s.Points {
			if !finite(p.X, p.Y) {
				continue
			}
			xs, ys = append(xs, p.X), append(ys, p.Y)
			if p.bar() {
				ys = append(ys, p.Low, p.High)
			}
		}
	}
	for _, m := range l.Marks {
		xs = append(xs, m.X)
	}
	if len(l.Strip) > 0 && len(ys) > 0 { // room for it below the lines
		ys = append(ys, slices.Min(ys)-0.06*(slices.Max(ys)-slices.Min(ys)))
	}
	named := 0
	for _, s := range l.Series {
		if s.Name != "" {
			named++
		}
	}
	w := canvas{}
	width, height := cmp.Or(l.Width, width), cmp.Or(l.Height, height)
	area := box{left, top, width - right, height - bottom}
	if named > 1 {
		area.x1 -= legendWidth
	}
	x, y := newAxis(xs, l.LogX, area.x0, area.x1), newAxis(ys, l.LogY, area.y1, area.y0)
	w.open(width, height, l.Title, fmt.Sprintf(` data-x="%s" data-y="%s" data-names="%s|%s"`, x.data(), y.data(), html.EscapeString(l.X), html.EscapeString(l.Y)))
	w.bands(l.Bands, x, area.y0, area.y1, area.y0-4)
	w.bands(l.Strip, x, area.y1-17, area.y1, area.y1-5)
	w.axes(area, x, y, l.X, l.Y)
	for _, m := range l.Marks {
		at := x.at(m.X)
		w.add(`<line class="mark" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, at, at, area.y0, area.y1)
		w.text(at, float64(area.y0)-3, "middle", "", m.Name)
	}
	for _, s := range l.Series {
		w.series(s, x, y)
	}
	if named > 1 {
		w.legend(l.Series, area.x1+14, area.y0+8)
	}
	return w.close()
}

// Row of an interval chart.
type Row struct {
	Name           string
	Mid, Low, High float64 // not finite: only the name is written
	Color          int
	Note           string // at the right end
}

// Intervals is a chart of one interval a row: how far each lies from a reference, 0.
type Intervals struct {
	Title, X string
	Rows     []Row
}

// SVG is the drawing.
func (c Intervals) SVG() string {
	const names, notes = 190, 200
	xs := []float64{0}
	for _, r := range c.Rows {
		if finite(r.Mid) {
			xs = append(xs, r.Mid)
		}
		if finite(r.Low, r.High) {
			xs = append(xs, r.Low, r.High)
		}
	}
	h := top + 22*max(1, len(c.Rows)) + bottom
	w := canvas{}
	w.open(width+120, h, c.Title, "")
	area := box{names, top, width + 120 - notes, h - bottom}
	x := newAxis(xs, false, area.x0, area.x1)
	w.axes(area, x, axis{}, c.X, "")
	w.add(`<line class="mark" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, x.at(0), x.at(0), area.y0, area.y1)
	for i, r := range c.Rows {
		at := float64(top) + 22*float64(i) + 11
		w.text(names-8, at+4, "end", "", cut(r.Name, 28))
		w.text(float64(area.x1)+8, at+4, "start", "", cut(r.Note, 32))
		if finite(r.Low, r.High) {
			w.add(`<path class="s c%d" d="M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8"/>`, r.Color%len(Palette), x.at(r.Low), at, x.at(r.High), x.at(r.Low), at-4, x.at(r.High), at-4)
		}
		if finite(r.Mid) {
			w.add(`<circle class="f%d" cx="%.1f" cy="%.1f" r="4"/>`, r.Color%len(Palette), x.at(r.Mid), at)
		}
	}
	return w.close()
}

func (p Point) bar() bool { return (p.Low != 0 || p.High != 0) && finite(p.Low, p.High) }

func finite(values ...float64) bool {
	return !slices.ContainsFunc(values, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
}

// box is a rectangle in pixels.
type box struct{ x0, y0, x1, y1 int }

// axis takes values to pixels.
type axis struct {
	low, high float64 // in the axis' scale: logarithms where log
	log       bool
	from, to  float64 // pixels
	ticks     []float64
}

func newAxis(values []float64, log bool, from, to int) axis {
	a := axis{log: log, from: float64(from), to: float64(to)}
	if len(values) == 0 {
		values = []float64{1}
	}
	a.low, a.high = a.scale(slices.Min(values)), a.scale(slices.Max(values))
	if a.high == a.low {
		around := max(0.5, 0.1*math.Abs(a.low)) // ticks that differ in the digits they are written with
		a.low, a.high = a.low-around, a.high+around
	}
	margin := 0.04 * (a.high - a.low)
	a.low, a.high = a.low-margin, a.high+margin
	a.ticks = a.makeTicks()
	return a
}

func (a axis) scale(v float64) float64 {
	if a.log {
		return math.Log10(v)
	}
	return v
}

func (a axis) at(v float64) float64 {
	return a.from + (a.scale(v)-a.low)/(a.high-a.low)*(a.to-a.from)
}

// makeTicks are round values: 1, 2, 5 times powers of ten.
func (a axis) makeTicks() []float64 {
	var ticks []float64
	if a.log {
		steps := []float64{1, 2, 5}
		if a.high-a.low > 3 {
			steps = []float64{1}
		}
		for e := math.Floor(a.low); e <= a.high; e++ {
			for _, m := range steps {
				if v := m * math.Pow(10, e); a.scale(v) >= a.low && a.scale(v) <= a.high {
					ticks = append(ticks, v)
				}
			}
		}
		return ticks
	}
	raw := (a.high - a.low) / 6
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5, 10} {
		if step := m * unit; step >= raw {
			for i := math.Ceil(a.low / step); i*step <= a.high; i++ {
				ticks = append(ticks, i*step)
			}
			return ticks
		}
	}
	return ticks
}

// data is the axis for a script that turns pixels back into values: low, high (logarithms where log is 1), from, to, log.
func (a axis) data() string {
	log := 0
	if a.log {
		log = 1
	}
	return fmt.Sprintf("%g %g %g %g %d", a.low, a.high, a.from, a.to, log)
}

// bands shades every second of a row of stretches between two heights and writes their names.
func (w *canvas) bands(list []Band, x axis, y0, y1, text int) {
	for i, b := range list {
		from, to := max(x.from, x.at(b.From)), min(x.to, x.at(b.To))
		if !finite(from, to) || to <= from {
			continue
		}
		w.add(`<rect class="band%d" x="%.1f" y="%d" width="%.1f" height="%d"/>`, i%2, from, y0, to-from, y1-y0)
		if letters := int((to - from) / 6.5); letters >= 3 {
			w.text((from+to)/2, float64(text), "middle", "n", cut(b.Name, letters))
		}
	}
}

// label writes a tick with as many digits as it needs.
func label(v float64) string {
	if abs := math.Abs(v); abs >= 1e4 {
		for _, u := range []struct {
			size float64
			name string
		}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
			if abs >= u.size {
				return strconv.FormatFloat(math.Round(v/u.size*1e6)/1e6, 'g', 4, 64) + u.name
			}
		}
	}
	if math.Abs(v) < 1e-12 {
		return "0"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// canvas collects the elements of a drawing.
type canvas struct{ strings.Builder }

func (w *canvas) add(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

func (w *canvas) text(x, y float64, anchor, class, text string) {
	if text != "" {
		w.add(`<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, class, x, y, anchor, html.EscapeString(text))
	}
}

// open begins a drawing; attributes are further ones of its element.
func (w *canvas) open(width, height int, title, attributes string) {
	w.add(`<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s"%s>`, width, height, width, height, html.EscapeString(title), attributes)
	w.add("<style>%s</style>", style())
	w.text(left-50, 16, "start", "t", title)
}

func (w *canvas) close() string {
	w.WriteString("</svg>\n")
	return w.String()
}

// style has the colours twice, for light and dark.
func style() string {
	var b strings.Builder
	scheme := func(ink, pale, ground string, n int) {
		fmt.Fprintf(&b, ".chart{background:%s}.chart text{font:%dpx system-ui,sans-serif;fill:%s}.chart .t{font-size:14px;font-weight:600}.chart .g{stroke:%s}.chart .mark{stroke:%s;stroke-dasharray:4 3}.chart .s{fill:none;stroke-width:2}.chart .faint{stroke-width:1;opacity:.35}.chart .dash{stroke-dasharray:6 3}.chart .band0{fill:%s;opacity:.35}.chart .band1{fill:none}.chart .n{font-size:10px;opacity:.75}", ground, fontPix, ink, pale, ink, pale)
		for i, c := range Palette {
			fmt.Fprintf(&b, ".chart .c%d{stroke:%s}.chart .f%d{fill:%s}", i, c[n], i, c[n])
		}
	}
	scheme("#222", "#ddd", "#fff", 0)
	b.WriteString("@media(prefers-color-scheme:dark){")
	scheme("#ddd", "#444", "#181a1b", 1)
	b.WriteString("}")
	return b.String()
}

func (w *canvas) axes(area box, x, y axis, xName, yName string) {
	for _, t := range x.ticks {
		at := x.at(t)
		w.add(`<line class="g" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, at, at, area.y0, area.y1)
		w.text(at, float64(area.y1)+16, "middle", "", label(t))
	}
	for _, t := range y.ticks {
		at := y.at(t)
		w.add(`<line class="g" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`, area.x0, area.x1, at, at)
		w.text(float64(area.x0)-6, at+4, "end", "", label(t))
	}
	w.text(float64(area.x0+area.x1)/2, float64(area.y1)+38, "middle", "", xName)
	if yName != "" {
		mid := (area.y0 + area.y1) / 2
		w.add(`<text x="16" y="%d" text-anchor="middle" transform="rotate(-90 16 %d)">%s</text>`, mid, mid, html.EscapeString(yName))
	}
}

func (s Series) class() string {
	class := fmt.Sprintf("s c%d", s.Color%len(Palette))
	if s.Color >= len(Palette) {
		class += " dash"
	}
	if s.Faint {
		class += " faint"
	}
	return class
}

// data names the line for a script.
func (s Series) data() string {
	if s.Name == "" {
		return ""
	}
	return fmt.Sprintf(` data-name="%s"`, html.EscapeString(s.Name))
}

func (w *canvas) series(s Series, x, y axis) {
	var d strings.Builder
	pen := "M"
	for _, p := range s.Points {
		if !finite(p.X, p.Y) {
			pen = "M"
			continue
		}
		fmt.Fprintf(&d, "%s%.1f %.1f", pen, x.at(p.X), y.at(p.Y))
		pen = "L"
	}
	if !s.NoLine && d.Len() > 0 {
		w.add(`<path class="%s"%s d="%s"/>`, s.class(), s.data(), d.String())
	}
	for _, p := range s.Points {
		if !finite(p.X, p.Y) {
			continue
		}
		if p.bar() {
			w.add(`<path class="s c%d" d="M%.1f %.1fV%.1fm-4 0h8M%.1f %.1fh8"/>`, s.Color%len(Palette), x.at(p.X), y.at(p.Low), y.at(p.High), x.at(p.X)-4, y.at(p.Low))
		}
		if s.Dots || s.NoLine {
			w.add(`<circle class="f%d" cx="%.1f" cy="%.1f" r="3.5"/>`, s.Color%len(Palette), x.at(p.X), y.at(p.Y))
		}
	}
}

func (w *canvas) legend(all []Series, x, y int) {
	row := 0
	for _, s := range all {
		if s.Name == "" {
			continue
		}
		at := float64(y + row*rowHeight)
		if row++; row > maxLegend {
			w.text(float64(x), at+4, "start", "", "…")
			return
		}
		if s.NoLine {
			w.add(`<circle class="f%d" cx="%d" cy="%.1f" r="3.5"/>`, s.Color%len(Palette), x+9, at)
		} else {
			w.add(`<path class="%s" d="M%d %.1fh18"/>`, s.class(), x, at)
		}
		w.text(float64(x)+24, at+4, "start", "", cut(s.Name, 24))
	}
}

// cut shortens a name to n characters.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
