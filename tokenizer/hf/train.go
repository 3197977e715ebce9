//go:build cgo && !nohf

package hf

// #include "pretrain.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"unsafe"

	"pretrain/tokenizer"
)

// Train learns a byte-level BPE from the first cfg.MaxTrainBytes of docs and returns its tokenizer.json. The same docs
// give the same bytes, whatever the number of threads. Every byte is a token, so the tokenizer can spell any text.
//
// progress, if not nil, is called every few MiB with the bytes read so far. Then the merges are computed, which for a
// small vocabulary takes about as long again; ctx stops Train while it reads. Memory follows the distinct words of the
// text, not its size.
//
// Too little text for cfg.VocabSize tokens is an error, as is a special token that ordinary text could spell.
func Train(ctx context.Context, cfg tokenizer.Config, docs iter.Seq[string], progress func(done int64)) ([]byte, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Path != "" {
		return nil, fmt.Errorf("train a tokenizer: path names one that exists, %s", cfg.Path)
	}
	special, specialLens := join(cfg.SpecialTokens)
	pattern := []byte(tokenizer.Pattern)
	var trainer *C.pretrain_trainer
	err := failure(C.pretrain_trainer_new(bytePointer(pattern), C.size_t(len(pattern)),
		C.uint64_t(cfg.VocabSize), C.uint64_t(cfg.MinFrequency),
		bytePointer(special), unsafe.SliceData(specialLens), C.size_t(len(specialLens)), &trainer))
	if err != nil {
		return nil, fmt.Errorf("train a tokenizer: %w", err)
	}
	defer C.pretrain_trainer_free(trainer)

	done := int64(0)
	for batch := range tokenizer.Batches(limit(docs, int64(cfg.MaxTrainBytes)), batchBytes/2) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		data, lens := join(batch)
		if err := failure(C.pretrain_trainer_feed(trainer, bytePointer(data), unsafe.SliceData(lens), C.size_t(len(lens)))); err != nil {
			return nil, fmt.Errorf("train a tokenizer, after %d bytes of text: %w", done, err)
		}
		if done += int64(len(data)); progress != nil {
			progress(done)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if done == 0 {
		return nil, errors.New("train a tokenizer: there is no text to train on")
	}
	var out *C.uint8_t
	var n C.size_t
	if err := failure(C.pretrain_trainer_train(trainer, &out, &n)); err != nil {
		return nil, fmt.Errorf("train a tokenizer on %d bytes of text: %w", done, err)
	}
	defer C.pretrain_bytes_free(out, n)
	json := C.GoBytes(unsafe.Pointer(out), C.int(n))
	if _, err := tokenizer.ParseTrained(json, cfg); err != nil {
		return nil, fmt.Errorf("train a tokenizer on %d bytes of text: %w", done, err)
	}
	return json, nil
}

// limit passes on texts until they hold n bytes, and cuts the last one there.
func limit(texts iter.Seq[string], n int64) iter.Seq[string] {
	return func(yield func(string) bool) {
		left := n
		for text := range texts {
			text = text[:min(int64(len(text)), left)]
			if left -= int64(len(text)); !yield(text) || left == 0 {
				return
			}
		}
	}
}
