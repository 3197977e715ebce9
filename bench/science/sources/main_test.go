package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	report, svg := filepath.Join(dir, "report.json"), filepath.Join(dir, "out.svg")
	text := `{"name":"x","baseline":"late","sources":["code"],"variants":[
		{"name":"late","val_sources":{"code":{"val_bpb":2.5}}},
		{"name":"early","val_sources":{"code":{"val_bpb":2.4,"delta":{"mean":-0.1,"ci95":{"low":-0.15,"high":-0.05}}}}}]}`
	if err := os.WriteFile(report, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run([]string{"-report", report, "-svg", svg}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	want := "| source | late, bpb | early, difference |\n|---|---|---|\n| code | 2.5000 | -0.1000 (-0.1500 … -0.0500) |\n"
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", out.String(), want)
	}
	if drawn, err := os.ReadFile(svg); err != nil || !strings.Contains(string(drawn), "early") || !strings.Contains(string(drawn), "code") {
		t.Errorf("%s, %v", drawn, err)
	}
	if err := run([]string{"-report", svg}, &out, io.Discard); err == nil {
		t.Error("a drawing is no report")
	}
}
