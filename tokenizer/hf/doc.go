// Package hf encodes text and trains tokenizers with Hugging Face's tokenizers, a Rust library, through cgo.
//
// It links libtokenizers.a of tokenizer/rust, which is the library that github.com/daulet/tokenizers links plus a trainer
// and a batch encoder. daulet's Go functions pass text as C strings, which end at the first NUL, one text a call; ours
// pass lengths and whole batches. Both may be used in one program.
//
// Built without cgo, or with the build tag nohf, the package has the same functions, and each returns [ErrMissing].
package hf

import "errors"

// ErrMissing is what every function returns in a program built without the library.
var ErrMissing = errors.New("this program was built without the tokenizer library (CGO_ENABLED=0 or -tags nohf): " +
	"run `make setup`, which needs Rust (cargo) and a C compiler, and then `make build`")
