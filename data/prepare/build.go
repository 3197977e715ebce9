package prepare

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"pretrain/data"
	"pretrain/data/pack"
	"pretrain/data/read"
	"pretrain/data/shard"
	"pretrain/internal/atomicfile"
)

// build makes one result in a folder of its own.
type build struct {
	Options
	source   *read.Source
	split    *split
	dir      string
	manifest Manifest
	encoder  Encoder
	train    *shard.Writer
	held     *shard.Writer
	text     *bufio.Writer // validation.txt
}

func (b *build) run(ctx context.Context) (err error) {
	if err := b.fsys.MkdirAll(b.dir); err != nil {
		return err
	}
	if b.split, err = scan(ctx, b.source, b.Source.Chat, b.Config, b.Progress); err != nil {
		return err
	}
	b.manifest.Report = b.split.report
	if err := b.makeTokenizer(ctx); err != nil {
		return err
	}
	if err := b.tokenise(ctx); err != nil {
		return err
	}
	if m := b.manifest; m.Train.Documents == 0 || m.Validation.Documents == 0 {
		return fmt.Errorf("too little text to hold a part out: %d documents with %d bytes (validation.fraction %v, validation.max_bytes %v)",
			m.Report.Documents, m.Report.Bytes, b.Config.ValidationFraction, b.Config.ValidationMax)
	}
	return b.writeFile(manifestName, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(b.manifest)
	})
}

func (b *build) writeFile(name string, write func(io.Writer) error) error {
	return atomicfile.WriteFile(b.fsys, filepath.Join(b.dir, name), write)
}

func (b *build) makeTokenizer(ctx context.Context) error {
	total := min(b.split.report.Bytes, int64(b.Config.TokenizerSample))
	var failed error // of reading: an iterator of texts cannot say it
	tokenizerJSON, err := b.Tokenizer.Build(ctx, b.split.samples(ctx, b.source, &failed), func(done int64) {
		b.Progress(Progress{TrainTokenizer, done, total})
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("tokenizer: %w", err)
	}
	if b.encoder, err = b.Tokenizer.Open(tokenizerJSON); err != nil {
		return fmt.Errorf("tokenizer: %w", err)
	}
	b.manifest.Tokenizer, b.manifest.EOS = shard.HashTokenizer(tokenizerJSON), b.encoder.EOS()
	return b.writeFile(TokenizerName, func(w io.Writer) error {
		_, err := w.Write(tokenizerJSON)
		return err
	})
}

// tokenise writes both shards and the held-out text.
func (b *build) tokenise(ctx context.Context) (err error) {
	o := shard.Options{VocabSize: b.encoder.VocabSize(), Tokenizer: b.manifest.Tokenizer, Source: b.manifest.Fingerprint, Template: string(b.Template)}
	if b.train, err = shard.Create(b.fsys, filepath.Join(b.dir, TrainName), o); err != nil {
		return err
	}
	defer b.train.Abort()
	if b.held, err = shard.Create(b.fsys, filepath.Join(b.dir, ValidationName), o); err != nil {
		return err
	}
	defer b.held.Abort()
	err = b.writeFile(HeldOutName, func(w io.Writer) error {
		b.text = bufio.NewWriter(w)
		if err := b.encodeAll(ctx); err != nil {
			return err
		}
		return b.text.Flush()
	})
	if err != nil {
		return err
	}
	if b.manifest.Train, err = b.train.Commit(); err != nil {
		return err
	}
	b.manifest.Validation, err = b.held.Commit()
	return err
}

// A batch goes to an encoder as one call: large enough to make the call cheap, small enough that a few fit in memory.
// Batches are cut by content only, so the number of workers cannot change what an encoder sees.
const (
	batchBytes     = 512 << 10
	batchDocuments = 1024
)

type batch struct {
	parts []part
	bytes int
	// done gets the tokens, from the worker that took the batch; it has room for them, so that no worker waits.
	done chan []pack.Encoded
}

// encodeAll reads, encodes on all workers, and writes in the order of reading.
func (b *build) encodeAll(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	work := make(chan *batch)
	// ordered holds each batch from before a worker gets it until it is written; its size bounds memory.
	ordered := make(chan *batch, 2*b.Workers)
	group.Go(func() error {
		defer close(work)
		defer close(ordered)
		return b.readBatches(ctx, func(next *batch) error {
			for _, to := range []chan *batch{ordered, work} {
				select {
				case to <- next:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	})
	for range b.Workers {
		group.Go(func() error {
			for next := range work {
				documents := make([]*data.Document, len(next.parts))
				for i := range next.parts {
					documents[i] = &next.parts[i].Document
				}
				tokens, err := pack.EncodeDocuments(ctx, b.encoder, b.Template, documents)
				if err != nil {
					return err
				}
				next.done <- tokens
			}
			return nil
		})
	}
	group.Go(func() error {
		var done int64
		for next := range ordered {
			select {
			case tokens := <-next.done:
				if err := b.write(next, tokens); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
			done += int64(next.bytes)
			b.Progress(Progress{Tokenise, done, b.split.report.Bytes})
		}
		return nil
	})
	return group.Wait()
}

func (b *build) readBatches(ctx context.Context, send func(*batch) error) error {
	fresh := func() *batch { return &batch{done: make(chan []pack.Encoded, 1)} }
	next := fresh()
	for p, err := range b.split.documents(ctx, b.source) {
		if err != nil {
			return err
		}
		next.parts = append(next.parts, p)
		if next.bytes += int(p.Bytes()); next.bytes >= batchBytes || len(next.parts) == batchDocuments {
			if err := send(next); err != nil {
				return err
			}
			next = fresh()
		}
	}
	if len(next.parts) == 0 {
		return nil
	}
	return send(next)
}

func (b *build) write(done *batch, encoded []pack.Encoded) error {
	for i, p := range done.parts {
		w := b.train
		if p.validation {
			w = b.held
			if _, err := b.text.WriteString(p.Plain()); err != nil {
				return err
			}
		}
		doc := shard.Doc{ID: p.ID, Path: p.Path, Line: p.Line, Bytes: p.Bytes(), Attributes: p.Attributes}
		if err := w.Add(doc, encoded[i].Tokens, encoded[i].Loss); err != nil {
			return err
		}
	}
	return nil
}
