package pipeline

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"

	"pretrain/data"
	"pretrain/data/exec"
	"pretrain/data/holdout"
	"pretrain/data/pack"
	"pretrain/data/prepare"
	"pretrain/data/record"
	"pretrain/data/shard"
	"pretrain/internal/vfs"

	"github.com/zeebo/xxh3"
)

// tokenizer trains the tokenizer on a sample of what is left, or takes the one that is given.
func (p *preparation) tokenizer(ctx context.Context, finished []exec.Done) (exec.Done, error) {
	task := exec.Task{Name: "all", Run: func(ctx context.Context, dir string) (exec.Counts, error) {
		var failed error
		b, err := p.opt.Tokenizer.Build(ctx, p.sample(ctx, finished, &failed), func(int64) {})
		if err := errors.Join(failed, err); err != nil {
			return nil, err
		}
		return nil, os.WriteFile(filepath.Join(dir, prepare.TokenizerName), b, 0o644)
	}}
	if p.Config.Tokenizer.Path == "" {
		for _, d := range finished {
			in, _ := d.File(documentsName)
			task.Inputs = append(task.Inputs, in)
		}
	}
	done, err := p.runner.Run(ctx, exec.Step{Name: "tokenizer", Key: keyOf(version, p.opt.Tokenizer.Key()), Tasks: []exec.Task{task}})
	if err != nil {
		return exec.Done{}, err
	}
	return done[0], nil
}

// sample is the texts that a tokenizer is trained on: as much of each source, chosen by a hash, none of them held out.
func (p *preparation) sample(ctx context.Context, finished []exec.Done, failed *error) iter.Seq[string] {
	return func(yield func(string) bool) {
		limits, err := p.heldOut(finished)
		if err != nil {
			*failed = err
			return
		}
		each := float64(p.Config.Tokenizer.MaxTrainBytes) / float64(len(p.Sources))
		errStop := errors.New("stop")
		err = p.each(func(source string, inputs []int) error {
			total := int64(0)
			for _, i := range inputs {
				total += finished[i].Counts["bytes"]
			}
			below := holdout.Below(each / float64(total))
			for _, i := range inputs {
				for d, err := range record.Read(filepath.Join(finished[i].Dir, documentsName)) {
					if err := errors.Join(err, ctx.Err()); err != nil {
						return err
					}
					// Another seed than the split's: those held out have the lowest hashes, and the sample is to be of all others.
					if text := d.Plain(); holdout.Hash(text) > limits[source] && xxh3.HashStringSeed(text, 1) <= below && !yield(text) {
						return errStop
					}
				}
			}
			return nil
		})
		if !errors.Is(err, errStop) {
			*failed = err
		}
	}
}

// tokenise makes a pair of shards of each file's documents.
func (p *preparation) tokenise(ctx context.Context, finished []exec.Done, tok exec.Done) ([]exec.Done, error) {
	limits, err := p.heldOut(finished)
	if err != nil {
		return nil, err
	}
	var encoder once[loaded]
	load := func() (loaded, error) { return p.open(tok) }
	vocabulary, _ := tok.File(prepare.TokenizerName)
	step := exec.Step{Name: "tokens", Key: keyOf(version, p.Config.Tokenizer.BOS, p.Config.Tokenizer.EOS, p.Template)}
	for i, in := range p.inputs {
		documents, _ := finished[i].File(documentsName)
		limit := exec.Input{Name: "held out up to", Hash: fmt.Sprintf("%016x", limits[in.source])}
		step.Tasks = append(step.Tasks, exec.Task{
			Name: in.task(), Size: outputSize(finished[i], documentsName), Inputs: []exec.Input{documents, vocabulary, limit},
			Run: func(ctx context.Context, dir string) (exec.Counts, error) {
				l, err := encoder.get(load)
				if err != nil {
					return nil, err
				}
				w := &tokenWriter{loaded: l, template: p.template(in.source), limit: limits[in.source], source: documents.Hash, dir: dir}
				return w.run(ctx, filepath.Join(finished[i].Dir, documentsName))
			},
		})
	}
	return p.runner.Run(ctx, step)
}

// loaded is a tokenizer that is ready.
type loaded struct {
	prepare.Encoder
	hash string
}

func (p *preparation) open(tok exec.Done) (loaded, error) {
	b, err := os.ReadFile(filepath.Join(tok.Dir, prepare.TokenizerName))
	if err != nil {
		return loaded{}, err
	}
	encoder, err := p.opt.Tokenizer.Open(b)
	return loaded{encoder, shard.HashTokenizer(b)}, err
}

// batchBytes is how much text goes to the encoder at once.
const batchBytes = 1 << 20

// tokenWriter tokenises the documents of one file.
type tokenWriter struct {
	loaded
	template    pack.Template // "": plain text
	limit       uint64
	source      string // the documents' hash
	dir         string
	train, held *shard.Writer
	text        *bufio.Writer
	batch       []*data.Document
	bytes       int
}

func (w *tokenWriter) run(ctx context.Context, path string) (c exec.Counts, err error) {
	o := shard.Options{VocabSize: w.VocabSize(), Tokenizer: w.hash, Source: w.source, Template: string(w.template)}
	if w.train, err = shard.Create(vfs.OS, filepath.Join(w.dir, prepare.TrainName), o); err != nil {
		return nil, err
	}
	defer w.train.Abort()
	if w.held, err = shard.Create(vfs.OS, filepath.Join(w.dir, prepare.ValidationName), o); err != nil {
		return nil, err
	}
	defer w.held.Abort()
	f, err := os.Create(filepath.Join(w.dir, prepare.HeldOutName))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w.text = bufio.NewWriter(f)
	for d, err := range record.Read(path) {
		if err != nil {
			return nil, err
		}
		w.batch = append(w.batch, &d)
		if w.bytes += int(d.Bytes()); w.bytes >= batchBytes {
			if err := w.flush(ctx); err != nil {
				return nil, err
			}
		}
	}
	if err := errors.Join(w.flush(ctx), w.text.Flush()); err != nil {
		return nil, err
	}
	train, err := w.train.Commit()
	if err != nil {
		return nil, err
	}
	held, err := w.held.Commit()
	return exec.Counts{"train_tokens": train.Tokens, "validation_tokens": held.Tokens}, err
}

func (w *tokenWriter) flush(ctx context.Context) error {
	if len(w.batch) == 0 {
		return nil
	}
	encoded, err := pack.EncodeDocuments(ctx, w, w.template, w.batch)
	if err != nil {
		return err
	}
	for i, d := range w.batch {
		to, plain := w.train, d.Plain()
		if holdout.Hash(plain) <= w.limit {
			to = w.held
			if _, err := w.text.WriteString(plain); err != nil {
				return err
			}
		}
		doc := shard.Doc{ID: d.ID, Path: d.Path, Line: d.Line, Bytes: d.Bytes(), Attributes: d.Attributes}
		if err := to.Add(doc, encoded[i].Tokens, encoded[i].Loss); err != nil {
			return err
		}
	}
	w.batch, w.bytes = w.batch[:0], 0
	return nil
}

// merge joins the shards of each source's files into one pair: OUTPUT/shards/SOURCE.
func (p *preparation) merge(ctx context.Context, tokens []exec.Done, tok exec.Done) ([]exec.Done, error) {
	vocabulary, _ := tok.File(prepare.TokenizerName)
	step := exec.Step{Name: "shards", Key: keyOf(version)}
	err := p.each(func(source string, inputs []int) error {
		t := exec.Task{Name: source, Inputs: []exec.Input{vocabulary}}
		var dirs []string
		for _, i := range inputs {
			t.Inputs, dirs = append(t.Inputs, tokens[i].Input()), append(dirs, tokens[i].Dir)
		}
		t.Run = func(ctx context.Context, dir string) (exec.Counts, error) {
			return mergeShards(ctx, dirs, filepath.Join(tok.Dir, prepare.TokenizerName), dir)
		}
		step.Tasks = append(step.Tasks, t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p.runner.Run(ctx, step)
}

func mergeShards(ctx context.Context, from []string, tokenizerJSON, dir string) (exec.Counts, error) {
	b, err := os.ReadFile(tokenizerJSON)
	if err != nil {
		return nil, err
	}
	counts := exec.Counts{}
	for _, name := range []string{prepare.TrainName, prepare.ValidationName} {
		prefixes := make([]string, len(from))
		for i, d := range from {
			prefixes[i] = filepath.Join(d, name)
		}
		m, err := shard.Concat(ctx, vfs.OS, prefixes, filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		counts[name+"_documents"], counts[name+"_tokens"], counts[name+"_bytes"] = m.Documents, m.Tokens, m.Bytes
	}
	text, err := os.Create(filepath.Join(dir, prepare.HeldOutName))
	if err != nil {
		return nil, err
	}
	for _, d := range from {
		if err == nil {
			err = appendFile(text, filepath.Join(d, prepare.HeldOutName))
		}
	}
	return counts, errors.Join(err, text.Close(), os.WriteFile(filepath.Join(dir, prepare.TokenizerName), b, 0o644))
}

func appendFile(to io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(to, f)
	return err
}
