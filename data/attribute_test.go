package data_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pretrain/data"
)

// Attributes written as JSON and read again are the same, in the same order; six digits of a number survive.
func TestTagsAsJSON(t *testing.T) {
	var a data.Attributes
	a.SetNumber("gopher.words", 120)
	a.SetText("lm.bucket", `he"ad`)
	a.SetNumber("x", 1)
	a.SetNumber("x", 0.25) // in place of the first
	a.SetText("none", "")
	text, err := json.Marshal(a.Tags)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"gopher.words":120,"lm.bucket":"he\"ad","x":0.25}`; string(text) != want {
		t.Errorf("got %s, want %s", text, want)
	}
	var back data.Tags
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a.Tags, back); diff != "" {
		t.Error(diff)
	}
	if v, ok := a.Number("x"); !ok || v != 0.25 || a.TextOf("lm.bucket") != `he"ad` {
		t.Error("an attribute was not found again")
	}
	if _, ok := a.Number("lm.bucket"); ok {
		t.Error("a word was found as a number")
	}
	a.SetNumber("nan", math.NaN())
	if text, err = json.Marshal(a.Tags); err != nil || !json.Valid(text) {
		t.Errorf("not a number: %s, %v", text, err)
	}
	for _, bad := range []string{`[]`, `{"a":[1]}`, `{"a":true}`, `{"a":1`, `3`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}
