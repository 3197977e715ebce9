//go:build !cgo || nohf

package hf

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pretrain/tokenizer"
)

func TestMissing(t *testing.T) {
	_, newErr := New(nil, "", "")
	_, trainErr := Train(t.Context(), tokenizer.Default(), slices.Values([]string{"text"}), nil)
	for _, err := range []error{newErr, trainErr} {
		if !errors.Is(err, ErrMissing) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "make setup") {
			t.Errorf("got %v, want one line that names make setup", err)
		}
	}
}
