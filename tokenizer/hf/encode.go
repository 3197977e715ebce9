//go:build cgo && !nohf

package hf

/*
#cgo LDFLAGS: -ltokenizers -lm
#cgo linux LDFLAGS: -ldl -lpthread
#include "pretrain.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	_ "github.com/daulet/tokenizers" // checks at link time that libtokenizers.a has the version go.mod asks for

	"pretrain/tokenizer"
)

// batchBytes is how much text crosses to Rust at once: enough to keep many threads busy, little beside a corpus.
const batchBytes = 8 << 20

// Tokenizer is a tokenizer.json that can encode. It implements [tokenizer.Tokenizer].
type Tokenizer struct {
	*tokenizer.Vocab
	encoder *C.pretrain_encoder // freed with the Tokenizer
}

var _ tokenizer.Tokenizer = (*Tokenizer)(nil)

// New makes a Tokenizer from the contents of a tokenizer.json; bos and eos as in [tokenizer.Parse].
func New(json []byte, bos, eos string) (*Tokenizer, error) {
	vocab, err := tokenizer.Parse(json, bos, eos)
	if err != nil {
		return nil, err
	}
	t := &Tokenizer{Vocab: vocab}
	if err := failure(C.pretrain_encoder_new(bytePointer(json), C.size_t(len(json)), &t.encoder)); err != nil {
		return nil, fmt.Errorf("not a usable tokenizer.json: %w", err)
	}
	runtime.AddCleanup(t, func(e *C.pretrain_encoder) { C.pretrain_encoder_free(e) }, t.encoder)
	return t, nil
}

// Encode returns the ids of text. See [tokenizer.Tokenizer].
func (t *Tokenizer) Encode(text string) ([]uint32, error) {
	encoded, err := t.encode([]string{text})
	if err != nil {
		return nil, fmt.Errorf("encode text: %w", err)
	}
	return encoded[0], nil
}

// EncodeBatch encodes texts on all cores; RAYON_NUM_THREADS in the environment sets another number. See
// [tokenizer.Tokenizer]. Two cores encode 16 MB of Go source a second, the Python package's encode_batch 2.8.
func (t *Tokenizer) EncodeBatch(ctx context.Context, texts []string) ([][]uint32, error) {
	encoded := make([][]uint32, 0, len(texts))
	for batch := range tokenizer.Batches(slices.Values(texts), batchBytes) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		part, err := t.encode(batch)
		if err != nil {
			return nil, fmt.Errorf("encode texts %d to %d of the batch: %w", len(encoded), len(encoded)+len(batch)-1, err)
		}
		encoded = append(encoded, part...)
	}
	return encoded, nil
}

func (t *Tokenizer) encode(texts []string) ([][]uint32, error) {
	data, lens := join(texts)
	counts := make([]C.uint64_t, len(texts))
	var out *C.uint32_t
	var n C.size_t
	err := failure(C.pretrain_encoder_encode(t.encoder, bytePointer(data), unsafe.SliceData(lens), C.size_t(len(texts)),
		unsafe.SliceData(counts), &out, &n))
	runtime.KeepAlive(t)
	if err != nil {
		return nil, err
	}
	defer C.pretrain_ids_free(out, n)

	ids := slices.Clone(unsafe.Slice((*uint32)(out), int(n)))
	encoded := make([][]uint32, len(texts))
	for i, count := range counts {
		encoded[i], ids = ids[:count:count], ids[count:]
	}
	return encoded, nil
}

// join lays texts one after another, as the C functions take them.
func join(texts []string) (data []byte, lens []C.uint64_t) {
	n := 0
	for _, text := range texts {
		n += len(text)
	}
	data = make([]byte, 0, n)
	for _, text := range texts {
		data = append(data, text...)
		lens = append(lens, C.uint64_t(len(text)))
	}
	return data, lens
}

func bytePointer(data []byte) *C.uint8_t { return (*C.uint8_t)(unsafe.SliceData(data)) }

// failure turns what a C function returned into an error, nil if it returned NULL.
func failure(message *C.char) error {
	if message == nil {
		return nil
	}
	defer C.pretrain_string_free(message)
	return errors.New(C.GoString(message))
}
