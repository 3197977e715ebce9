package section_test

import (
	"io"
	"slices"
	"strings"
	"testing"

	"pretrain/internal/atomicfile"
	"pretrain/internal/section"
	"pretrain/internal/vfs"
)

func TestWriteAndRead(t *testing.T) {
	m := vfs.NewCrashableMem()
	none, err := section.Read(m, "/run", func(err error) { t.Error(err) })
	if err != nil || none != nil {
		t.Fatalf("nothing there: %v, %v", none, err)
	}
	s := section.Section{Title: "Layers", Notes: []string{"how"}, Columns: []string{"layer", "cosine"}, Rows: [][]string{{"0", "0.9"}, {"1", "0.8"}}}
	path, err := section.Write(m, "/run", "layers", s, map[string]int{"layers": 2}, section.Drawing{Name: "cosine", SVG: "<svg/>"})
	if err != nil || path != "/run/analysis/layers.json" {
		t.Fatal(path, err)
	}
	for _, bad := range []string{`{"title":""}`, `{`, `{"title":"x","drawings":["../../../etc/passwd"]}`, `{"title":"x","drawings":["gone.svg"]}`} {
		err := atomicfile.WriteFile(m, "/run/analysis/bad.json", func(w io.Writer) error { _, err := io.WriteString(w, bad); return err })
		if err != nil {
			t.Fatal(err)
		}
		var problems []string
		list, err := section.Read(m, "/run", func(err error) { problems = append(problems, err.Error()) })
		if err != nil || len(problems) != 1 || !strings.Contains(problems[0], "bad") && !strings.Contains(problems[0], "gone.svg") {
			t.Errorf("%s: problems %q, %v", bad, problems, err)
		}
		if len(list) != 1 || list[0].Name != "layers" || !slices.Equal(list[0].SVG, []string{"<svg/>"}) || list[0].Rows[1][1] != "0.8" || string(list[0].Data) != `{"layers":2}` && !strings.Contains(string(list[0].Data), `"layers"`) {
			t.Errorf("%s: read %+v", bad, list)
		}
	}
}

func TestRefuses(t *testing.T) {
	m := vfs.NewCrashableMem()
	for _, c := range []struct {
		name     string
		s        section.Section
		drawings []section.Drawing
		want     string
	}{
		{"A b", section.Section{Title: "x"}, nil, "lower-case"},
		{"a", section.Section{Title: "x", Columns: []string{"c"}, Rows: [][]string{{"1", "2"}}}, nil, "2 cells for 1 columns"},
		{"a", section.Section{Title: "x"}, []section.Drawing{{Name: "../x"}}, "lower-case"},
	} {
		if _, err := section.Write(m, "/run", c.name, c.s, nil, c.drawings...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
