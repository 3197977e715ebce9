// Package gpu is what data sheets say of GPUs: peak, memory, power. It knows them by the name that a driver gives
// ("NVIDIA H100 80GB HBM3") and by a short one for the command line ("h100").
package gpu

import (
	"fmt"
	"strings"
)

// GPU is one model of accelerator.
type GPU struct {
	// Key names it on a command line: lower case, without spaces. Empty for one nobody plans a run on.
	Key string
	// Name is how the driver's name begins, without "NVIDIA" or "Tesla".
	Name string
	// TFLOPS is the dense bf16 tensor-core peak with float32 accumulation, in 1e12 operations a second.
	TFLOPS float64
	// MemoryGB in units of 1e9 bytes, as it is sold.
	MemoryGB float64
	// Watts is the board's power limit (TDP).
	Watts float64
	// DollarsPerHour is an assumption, for orders of magnitude: about what clouds asked on demand in 2025, which varies
	// twofold between them and falls every year. 0: none is assumed.
	DollarsPerHour float64
}

// FLOPS is the peak in operations a second.
func (g GPU) FLOPS() float64 { return g.TFLOPS * 1e12 }

// Bytes is the memory.
func (g GPU) Bytes() float64 { return g.MemoryGB * 1e9 }

// Table has the GPUs, newest first. Peaks are from NVIDIA's data sheets and architecture white papers, which on many
// pages print the double, for 2:4 sparsity. A longer name goes before its prefix.
var Table = []GPU{
	{"b200", "B200", 2250, 180, 1000, 5},
	{"gh200", "GH200", 989.5, 96, 700, 2.5},
	{"h200-nvl", "H200 NVL", 835.5, 141, 600, 3},
	{"h200", "H200", 989.5, 141, 700, 3.5},
	{"h100-pcie", "H100 PCIe", 756, 80, 350, 2},
	{"h100-nvl", "H100 NVL", 835.5, 94, 400, 2.5},
	{"h100", "H100", 989.5, 80, 700, 2.5}, // SXM, "H100 80GB HBM3"
	{"a100-40g", "A100-SXM4-40GB", 312, 40, 400, 1.2},
	{"", "A100-PCIE-40GB", 312, 40, 250, 1.2},
	{"a100", "A100", 312, 80, 400, 1.5},
	{"a800", "A800", 312, 80, 400, 0},
	{"a40", "A40", 149.7, 48, 300, 0},
	{"a30", "A30", 165, 24, 165, 0},
	{"a10g", "A10G", 70, 24, 300, 0},
	{"a10", "A10", 125, 24, 150, 0},
	{"l40s", "L40S", 362, 48, 350, 1},
	{"l40", "L40", 181, 48, 300, 0},
	{"l4", "L4", 121, 24, 72, 0.7},
	{"a6000", "RTX A6000", 154.8, 48, 300, 0},
	{"5090", "GeForce RTX 5090", 209.5, 32, 575, 0.6},
	{"4090", "GeForce RTX 4090", 165.2, 24, 450, 0.4},
	{"", "GeForce RTX 3090 Ti", 80, 24, 450, 0},
	{"3090", "GeForce RTX 3090", 71, 24, 350, 0.25},
}

// ByDriverName finds a GPU by the name that its driver gives. It does not know a slice of one (MIG), whose peak is a part.
func ByDriverName(name string) (GPU, bool) {
	short := strings.TrimPrefix(strings.TrimPrefix(name, "NVIDIA "), "Tesla ")
	for _, g := range Table {
		rest, ok := strings.CutPrefix(short, g.Name)
		if ok && (rest == "" || rest[0] == ' ' || rest[0] == '-') && !strings.Contains(rest, "MIG") {
			return g, true
		}
	}
	return GPU{}, false
}

// ByKey finds a GPU by its short name, in any case. The error lists the names.
func ByKey(key string) (GPU, error) {
	for _, g := range Table {
		if g.Key != "" && g.Key == strings.ToLower(key) {
			return g, nil
		}
	}
	return GPU{}, fmt.Errorf("unknown GPU %q: want one of %s", key, strings.Join(Keys(), ", "))
}

// Keys lists the short names.
func Keys() []string {
	var keys []string
	for _, g := range Table {
		if g.Key != "" {
			keys = append(keys, g.Key)
		}
	}
	return keys
}
