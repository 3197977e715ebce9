package clean

import (
	"fmt"

	"github.com/longbridgeapp/opencc"
)

// simplifier writes traditional characters as simplified ones, word by word as OpenCC does.
func simplifier() (func(string) (string, error), error) {
	t2s, err := opencc.New("t2s")
	if err != nil {
		return nil, fmt.Errorf("load the tables of traditional characters: %w", err)
	}
	return t2s.Convert, nil
}
