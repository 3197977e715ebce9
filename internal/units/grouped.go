package units

import (
	"strconv"
	"strings"
)

// Grouped writes a whole number with thin spaces between thousands, as ISO 80000-1 has it, and a minus sign: 1 234 567. It is for
// pages that people read.
func Grouped(n int64) string {
	digits, negative := strings.CutPrefix(strconv.FormatInt(n, 10), "-")
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:]
	}
	if negative {
		return "−" + digits
	}
	return digits
}
