package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pretrain/configs"
	"pretrain/data/mix"
	"pretrain/internal/atomicfile"
	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
	"pretrain/train/report"
	"pretrain/train/runs"

	"github.com/spf13/cobra"
)

func newReport(stdout io.Writer) *cobra.Command {
	var out string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "report RUN…", Short: "Write one HTML page about a run, or one that compares several",
		Long: `Write one HTML page about a run, or one that compares several: loss, validation by source, learning rate, batch, gradient norm,
throughput and waits over the run, spikes, samples, the family it belongs to, what evaluations and analyses found, and the
configuration. The page is one file: it needs no network and no program beside a browser, and may be sent by mail.`,
		Example: `  pretrain report runs/quickstart                       # writes runs/quickstart/report.html
  pretrain report runs/wsd runs/cosine --out compare.html`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("want a run's directory, or several to compare: pretrain report runs/quickstart")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			page, err := openPage(args)
			if err != nil {
				return err
			}
			if out == "" {
				if len(args) > 1 {
					return usagef("--out is missing: say where the page that compares %d runs shall lie, such as --out compare.html", len(args))
				}
				out = filepath.Join(args[0], "report.html")
			}
			if err := atomicfile.WriteFile(vfs.OS, out, page.Write); err != nil {
				return fmt.Errorf("write the report: %w", err)
			}
			if asJSON {
				return printJSON(stdout, struct {
					Out  string   `json:"out"`
					Runs []string `json:"runs"`
				}{out, args})
			}
			_, err = fmt.Fprintf(stdout, "%s\n", out)
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "the `file` to write (default report.html in the run's directory)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object that names the file")
	return cmd
}

// openPage reads runs for a page about them.
func openPage(dirs []string) (*report.Page, error) {
	p := &report.Page{Title: "Runs compared"}
	names := shortNames(dirs)
	for i, dir := range dirs {
		if !isRun(dir) {
			return nil, usagef("%s: no run is there: want a directory with a run's config.yaml and metrics.jsonl", dir)
		}
		r, err := report.Open(vfs.OS, dir, names[i])
		if err != nil {
			return nil, err
		}
		p.Runs = append(p.Runs, r)
	}
	if len(dirs) == 1 {
		p.Title = names[0]
	}
	return p, describePage(p)
}

// isRun reports whether a directory is a run's.
func isRun(dir string) bool {
	for _, name := range []string{"config.yaml", "metrics.jsonl"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// shortNames are what tells directories apart: each without what is before the last part that all share.
func shortNames(dirs []string) []string {
	var parts [][]string
	for _, d := range dirs {
		if abs, err := filepath.Abs(d); err == nil {
			d = abs
		}
		parts = append(parts, strings.Split(filepath.ToSlash(d), "/"))
	}
	n := 0 // leading parts that all share; the last one of each stays
	for ; !slices.ContainsFunc(parts, func(p []string) bool { return n >= len(p)-1 || p[n] != parts[0][n] }); n++ {
	}
	names := make([]string, len(dirs))
	for i, p := range parts {
		names[i] = strings.Join(p[n:], "/")
	}
	return names
}

// describePage adds what the configurations, results and families of its runs say.
func describePage(p *report.Page) error {
	facts := map[string]int{}
	add := func(i int, name, value string) {
		at, ok := facts[name]
		if !ok {
			at = len(p.Facts)
			facts[name] = at
			p.Facts = append(p.Facts, report.Fact{Name: name, Values: slices.Repeat([]string{"–"}, len(p.Runs))})
		}
		p.Facts[at].Values[i] = value
	}
	prepared := map[string]bool{}
	for i, r := range p.Runs {
		if done, err := readResult(r.Dir); err == nil && done != nil {
			add(i, "held-out text at the end, bits per byte", fmt.Sprintf("%.4f", float64(done.ValBPB)))
			if !math.IsNaN(float64(done.GzipBPB)) { // one source, all of its text
				add(i, "… of gzip -9, of xz -9e", fmt.Sprintf("%.4f, %.4f", float64(done.GzipBPB), float64(done.XZBPB)))
			}
		}
		if r.Config == "" {
			continue
		}
		c, err := configs.LoadPast("of "+r.Dir, []configs.Segment{{YAML: r.Config}})
		if err != nil { // of another version of this program, say: the page goes without
			continue
		}
		describeConfig(c, func(name, value string) { add(i, name, value) })
		if meta, ok := newestMeta(r.Dir); ok {
			var list []string
			for _, name := range slices.Sorted(maps.Keys(meta.Versions)) {
				list = append(list, filepath.Base(name)+" "+meta.Versions[name])
			}
			add(i, "made with", strings.Join(list, ", "))
		}
		for _, s := range sources(c) {
			if isPrepared(s.Path) {
				prepared[s.Path] = true
			}
		}
	}
	p.Prepared = slices.Sorted(maps.Keys(prepared))
	if err := compareConfigs(p); err != nil {
		return err
	}
	return drawFamilies(p)
}

// describeConfig says what there is to know of a configuration at a glance.
func describeConfig(c *configs.Resolved, add func(name, value string)) {
	m, run := c.Run.Model, c.Run
	if m.VocabSize > 0 {
		count := m.Count()
		add("parameters, without embeddings", fmt.Sprintf("%s, %s", si(count.Total), si(count.NonEmbedding)))
	}
	add("model", fmt.Sprintf("%d layers × %d, %d heads (%d key/value), d_ff %d, context %d, %s", m.NumLayers, m.DModel, m.NumHeads, m.NumKVHeads, m.DFF, m.MaxSeqLen, m.Parameterization))
	add("optimizer", fmt.Sprintf("%s, peak learning rate %g, %s", run.Optimizer.Kind, run.Schedule.PeakLR, run.Schedule.Kind))
	add("batch, precision", fmt.Sprintf("%s tokens, %s", si(c.Derived.TokensPerStep), run.Train.Precision))
	var list []string
	for name, s := range run.Data.Mix().Sources {
		if s.Quality != mix.Ordinary {
			name += " (" + string(s.Quality) + ")"
		}
		list = append(list, name)
	}
	slices.Sort(list)
	add("sources", strings.Join(list, ", "))
	add("seed", fmt.Sprint(run.Seed))
}

// newestMeta is what the newest checkpoint of a run says of itself.
func newestMeta(dir string) (checkpoint.Meta, bool) {
	store, err := checkpoint.Open(vfs.OS, filepath.Join(dir, "checkpoints"), checkpoint.Options{ReadOnly: true})
	if err != nil {
		return checkpoint.Meta{}, false
	}
	step, err := store.Latest()
	if err != nil {
		return checkpoint.Meta{}, false
	}
	meta, err := store.Meta(step)
	return meta, err == nil
}

// compareConfigs lists the values that not all runs share: each against the first.
func compareConfigs(p *report.Page) error {
	values := map[string][]string{}
	first := configs.Text{Name: p.Runs[0].Dir, YAML: p.Runs[0].Config}
	for i, r := range p.Runs[1:] {
		if first.YAML == "" || r.Config == "" {
			continue
		}
		list, err := configs.Differences(first, configs.Text{Name: r.Dir, YAML: r.Config})
		if err != nil {
			return err
		}
		for _, d := range list {
			if values[d.Key] == nil {
				values[d.Key] = slices.Repeat([]string{cmp.Or(d.Old, "not given")}, len(p.Runs))
			}
			values[d.Key][i+1] = cmp.Or(d.New, "not given")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		p.Differences = append(p.Differences, report.Fact{Name: key, Values: values[key]})
	}
	return nil
}

// drawFamilies draws the trees of those runs that branched off another, or that others branched off from.
func drawFamilies(p *report.Page) error {
	folders := map[string]bool{}
	for _, r := range p.Runs {
		id, err := runs.ReadIdentity(vfs.OS, r.Dir)
		if err != nil {
			return err
		}
		store, err := checkpoint.Open(vfs.OS, filepath.Join(r.Dir, "checkpoints"), checkpoint.Options{ReadOnly: true})
		if err != nil {
			return err
		}
		pins, err := store.Pins()
		if err != nil {
			return err
		}
		if id != nil && id.Parent != nil || len(pins) > 0 {
			abs, err := filepath.Abs(r.Dir)
			if err != nil {
				return err
			}
			folders[filepath.Dir(abs)] = true
		}
	}
	var text strings.Builder
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		f, err := readFamily(folder)
		if err != nil {
			return err
		}
		if err := f.draw(&text); err != nil {
			return err
		}
	}
	p.Tree = text.String()
	return nil
}
