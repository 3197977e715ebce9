package gpu_test

import (
	"slices"
	"strings"
	"testing"

	"pretrain/internal/gpu"
)

func TestByDriverName(t *testing.T) {
	for name, want := range map[string]string{
		"NVIDIA H100 80GB HBM3":             "h100",
		"NVIDIA H100 PCIe":                  "h100-pcie",
		"NVIDIA H200":                       "h200",
		"NVIDIA A100-SXM4-80GB":             "a100",
		"NVIDIA A100-SXM4-40GB":             "a100-40g",
		"NVIDIA GeForce RTX 4090":           "4090",
		"Tesla A10":                         "a10",
		"NVIDIA H100 80GB HBM3 MIG 1g.10gb": "",
		"NVIDIA A1000":                      "",
		"":                                  "",
	} {
		g, ok := gpu.ByDriverName(name)
		if g.Key != want || ok != (want != "") {
			t.Errorf("%q is %q, %v; want %q", name, g.Key, ok, want)
		}
	}
}

// A prefix before its longer name would hide it, and a key must be found, alone and in any case.
func TestTable(t *testing.T) {
	for _, g := range gpu.Table {
		if found, ok := gpu.ByDriverName("NVIDIA " + g.Name); !ok || found != g {
			t.Errorf("%s: an entry before it hides it: %s", g.Name, found.Name)
		}
		if g.TFLOPS <= 0 || g.MemoryGB <= 0 || g.Watts <= 0 || g.DollarsPerHour < 0 {
			t.Errorf("%s: %+v", g.Name, g)
		}
		if g.Key == "" {
			continue
		}
		if found, err := gpu.ByKey(strings.ToUpper(g.Key)); err != nil || found != g {
			t.Errorf("%s: %+v, %v", g.Key, found, err)
		}
	}
	keys := gpu.Keys()
	slices.Sort(keys)
	if len(slices.Compact(keys)) != len(gpu.Keys()) {
		t.Errorf("a key stands twice: %v", keys)
	}
	if _, err := gpu.ByKey("h1000"); err == nil || !strings.Contains(err.Error(), "h1000") || !strings.Contains(err.Error(), "h200-nvl") {
		t.Errorf("got %v", err)
	}
}
