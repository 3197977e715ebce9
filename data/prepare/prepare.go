// Package prepare turns a raw source into what training reads: a tokenizer, token shards for training and validation, and
// the held-out text itself. The result is cached by the content of the source and everything that decides the outcome, so
// preparing the same data twice costs only the reading of it.
//
// The folder of one result, CACHE/data/KEY:
//
//	MANIFEST.json      the [Manifest]
//	tokenizer.json
//	train.bin …        shards, package shard; every document ends with the tokenizer's end-of-sequence token
//	validation.bin …
//	validation.txt     the held-out texts one after another; validation.docs has the length of each
//
// It is built as KEY.tmp and renamed when complete. A process that dies leaves KEY.tmp behind, which the next one removes.
package prepare

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"

	"pretrain/data/pack"
	"pretrain/data/read"
	"pretrain/data/shard"
	"pretrain/internal/problem"
	"pretrain/internal/units"
	"pretrain/internal/vfs"
)

// The names in the folder of a result, which package pipeline uses too. Those of shards are without their extensions.
const (
	TokenizerName  = "tokenizer.json"
	TrainName      = "train"
	ValidationName = "validation"
	HeldOutName    = "validation.txt"
)

// formatVersion changes whenever the same input would give other output, so that old results are not taken for it.
const formatVersion = 2

// Config says how a source is split and what its tokenizer sees.
type Config struct {
	// ValidationFraction is the part of the documents held out, chosen by the hash of their text, so that exact duplicates
	// are on one side. At least one document is held out, the end of it where there is only one.
	ValidationFraction units.Fraction `json:"validation_fraction"`
	// ValidationMax bounds the bytes held out.
	ValidationMax units.Bytes `json:"validation_max"`
	// TokenizerSample bounds the bytes of training text that a tokenizer is trained on, chosen by hash: beyond some
	// 256 MiB merges hardly change, memory does.
	TokenizerSample units.Bytes `json:"tokenizer_sample"`
}

// Validate reports every problem at once, as joined [problem.Problem] errors.
func (c Config) Validate() error {
	var p problem.List
	p.Check(c.ValidationFraction > 0 && c.ValidationFraction < 1, "validation.fraction", c.ValidationFraction, "more than 0%% and less than 100%%")
	p.Check(c.ValidationMax > 0, "validation.max_bytes", c.ValidationMax, "more than 0")
	p.Check(c.TokenizerSample > 0, "tokenizer_sample", c.TokenizerSample, "more than 0")
	return p.Err()
}

// Tokenizer makes the tokenizer of a source: by training, or from a file that is given.
type Tokenizer interface {
	// Key identifies what Build will make, before it is made: the training's settings, or the file's hash.
	Key() string
	// Build returns the content of tokenizer.json. A trainer reads documents, as often as it needs to, and reports the
	// bytes it has read; a given tokenizer ignores them.
	Build(ctx context.Context, documents iter.Seq[string], progress func(bytes int64)) ([]byte, error)
	// Open loads what Build returned.
	Open(tokenizerJSON []byte) (Encoder, error)
}

// Encoder turns texts into tokens. EncodeBatch is called from several goroutines.
type Encoder interface {
	// EncodeBatch returns the tokens of each text, without special tokens around them.
	EncodeBatch(ctx context.Context, texts []string) ([][]uint32, error)
	// Special finds a special token by name; chat templates ask for their markers.
	Special(name string) (id uint32, ok bool)
	VocabSize() int
	EOS() uint32
}

// Stage is a part of the work, for progress.
type Stage string

// The stages, in their order.
const (
	Fingerprint    Stage = "fingerprint"     // hash the raw files
	Wait           Stage = "wait"            // another process prepares the same data
	Scan           Stage = "scan"            // read once, to split
	TrainTokenizer Stage = "train tokenizer" // or load the one given
	Tokenise       Stage = "tokenise"        // read again, encode, write shards
)

// Progress is how far a stage is. Total 0: not known.
type Progress struct {
	Stage       Stage
	Done, Total int64 // bytes; on disk for Fingerprint and Scan, of text for the others
}

// Options are what [Run] needs.
type Options struct {
	Source    read.Spec
	Config    Config
	CacheDir  string // results go to CacheDir/data
	Tokenizer Tokenizer
	// Template writes conversations; Source.Chat says that this is what the documents are. Not used for plain text.
	Template pack.Template
	// Workers is the number of goroutines that encode. 0: one a core. The result does not depend on it.
	Workers int
	// Progress is called often, from one goroutine at a time. nil: no one wants to know.
	Progress func(Progress)

	fsys vfs.FS // nil: the disk. Tests make it fail.
}

// Manifest describes a result.
type Manifest struct {
	Version     int            `json:"version"`
	Key         string         `json:"key"`
	Fingerprint string         `json:"fingerprint"` // of the raw files
	Tokenizer   string         `json:"tokenizer"`   // [shard.HashTokenizer]
	EOS         uint32         `json:"eos"`
	Report      read.Report    `json:"report"` // what was read and what was left out
	Train       shard.Manifest `json:"train"`
	Validation  shard.Manifest `json:"validation"`
}

// Prepared is a complete result on disk.
type Prepared struct {
	Manifest
	Dir    string
	Cached bool // it was there already
}

// Run prepares a source, or finds it prepared. Two processes may do so at once: one works, the other waits for it. Errors
// name the file, and the key of the configuration where that is at fault; nothing incomplete is ever found by a later Run.
func Run(ctx context.Context, o Options) (*Prepared, error) {
	p, err := run(ctx, o)
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return nil, fmt.Errorf("prepare %s: the disk is full: free some space, or set another cache folder: %w", o.Source.Path, err)
	case err != nil:
		return nil, fmt.Errorf("prepare %s: %w", o.Source.Path, err)
	}
	return p, nil
}

func run(ctx context.Context, o Options) (*Prepared, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.fsys == nil {
		o.fsys = vfs.OS
	}
	source, err := read.Open(ctx, o.Source)
	if err != nil {
		return nil, err
	}
	fingerprint, err := fingerprint(ctx, source, o.Progress)
	if err != nil {
		return nil, err
	}
	if !o.Source.Chat {
		o.Template = ""
	}
	key, err := cacheKey(o, fingerprint)
	if err != nil {
		return nil, err
	}
	root := filepath.Join(o.CacheDir, "data")
	final := filepath.Join(root, key)
	if found, err := load(o.fsys, final, key); found != nil || err != nil {
		return found, err
	}
	if err := vfs.MkdirAllSync(o.fsys, root); err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, final+".lock", func() { o.Progress(Progress{Stage: Wait}) })
	if err != nil {
		return nil, err
	}
	defer unlock()
	if found, err := load(o.fsys, final, key); found != nil || err != nil { // made while we waited
		return found, err
	}
	if err := removeStale(o.fsys, root, key); err != nil {
		return nil, err
	}
	b := &build{Options: o, source: source, dir: final + tmpSuffix, manifest: Manifest{Version: formatVersion, Key: key, Fingerprint: fingerprint}}
	if err := b.run(ctx); err != nil {
		o.fsys.RemoveAll(b.dir) // best effort; the next run removes it otherwise
		return nil, err
	}
	if err := o.fsys.Rename(b.dir, final); err != nil {
		return nil, err
	}
	if err := o.fsys.SyncDir(root); err != nil {
		return nil, err
	}
	return &Prepared{Manifest: b.manifest, Dir: final}, nil
}

func fingerprint(ctx context.Context, source *read.Source, progress func(Progress)) (string, error) {
	var done atomic.Int64
	stop := every(func() { progress(Progress{Fingerprint, done.Load(), source.Bytes()}) })
	defer stop()
	return source.Fingerprint(ctx, func(n int64) { done.Add(n) })
}

// cacheKey is a hash of everything that decides the result.
func cacheKey(o Options, fingerprint string) (string, error) {
	b, err := json.Marshal(struct {
		Version                int
		Fingerprint, Tokenizer string
		GoStd                  bool // generated files are left out
		TextField, IDField     string
		MessagesField          string
		Template               pack.Template // "": plain text
		OnBad                  read.Policy
		MaxDocument            units.Bytes
		Config                 Config
	}{formatVersion, fingerprint, o.Tokenizer.Key(), o.Source.Path == read.GoStd, o.Source.TextField, o.Source.IDField, o.Source.MessagesField, o.Template, o.Source.OnBad, o.Source.MaxDocument, o.Config})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))[:32], nil
}

// load finds a complete result; nil if there is none.
func load(fsys vfs.FS, dir, key string) (*Prepared, error) {
	path := filepath.Join(dir, manifestName)
	b, err := vfs.ReadFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	p := &Prepared{Dir: dir, Cached: true}
	if err := json.Unmarshal(b, &p.Manifest); err != nil || p.Key != key {
		return nil, fmt.Errorf("%s is damaged: remove its folder to prepare the data again", path)
	}
	return p, nil
}
