package memory

import (
	"regexp"
	"strconv"
	"strings"
)

// outOfMemory are the ways in which XLA and its plugins say that memory ran out: PJRT's code 8 is RESOURCE_EXHAUSTED.
var outOfMemory = []string{"PJRT error (code=8)", "RESOURCE_EXHAUSTED", "out of memory"}

// asked finds how much was asked for at once: "Out of memory allocating 1009986023492 bytes" (CPU), "Out of memory while
// trying to allocate 34359738368 bytes" and "trying to allocate 32.00GiB" (GPU, when running and when compiling).
var asked = regexp.MustCompile(`allocat(?:e|ing) ([0-9]+(?:\.[0-9]+)?) ?(bytes|[KMGT]iB)`)

// OutOfMemory reports whether an error of a backend says that the device's memory ran out, and the bytes that were asked
// for at once, 0 where it does not say.
func OutOfMemory(err error) (bytes int64, yes bool) {
	if err == nil {
		return 0, false
	}
	text := err.Error()
	for _, sign := range outOfMemory {
		yes = yes || strings.Contains(strings.ToLower(text), strings.ToLower(sign))
	}
	if m := asked.FindStringSubmatch(text); yes && m != nil {
		n, _ := strconv.ParseFloat(m[1], 64) // digits, as the expression says
		scale := map[string]float64{"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
		bytes = int64(n * scale[m[2]])
	}
	return bytes, yes
}
