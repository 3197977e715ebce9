package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"pretrain/configs"
	"pretrain/data"
	"pretrain/data/lang"
	"pretrain/data/mix"
	"pretrain/data/read"
	"pretrain/data/shard"
	"pretrain/internal/units"
	"pretrain/internal/vfs"
	"pretrain/tokenizer"
	"pretrain/tokenizer/hf"
	"pretrain/train/metrics"

	"github.com/spf13/cobra"
)

func newTokenizer(stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use: "tokenizer", Short: "Train a tokenizer by itself, and measure how tokenizers fit a text", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenizerTrain(stdout, stderr), newTokenizerStats(stdout, stderr))
	return cmd
}

func newTokenizerTrain(stdout, stderr io.Writer) *cobra.Command {
	var f configFlags
	var out string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "train --config NAME_OR_FILE --out DIR", Short: "Train a byte-level BPE on the sources of a configuration", Args: noArgs,
		Long: `Train a tokenizer on the raw sources of a run's configuration, with its section tokenizer, and write DIR/tokenizer.json, which
tokenizer.path takes (the folder or the file). Each source gives an equal share of tokenizer.max_train_bytes; documents that a run
may hold out are left out.

A run trains its tokenizer by itself. This is for one that several runs or preparations share.`,
		Example: `  pretrain tokenizer train --config quickstart --out tokenizers/go
  pretrain tokenizer train --config quickstart --set data.path=DIR --set tokenizer.vocab_size=8192 --out tokenizers/mine`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return usagef("--out is missing: give a directory to write to")
			}
			r, err := f.load(configs.Load)
			if err != nil {
				return err
			}
			return tokenizerTrain(cmd.Context(), r, out, asJSON, stdout, stderr)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&out, "out", "", "where to write tokenizer.json, a `directory`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "end with one JSON object on stdout: path, hash, vocab_size")
	return cmd
}

// tokenizerTrained is what tokenizer train --json prints.
type tokenizerTrained struct {
	Path      string `json:"path"`
	Hash      string `json:"hash"`
	VocabSize int    `json:"vocab_size"`
}

func tokenizerTrain(ctx context.Context, r *configs.Resolved, out string, asJSON bool, stdout, stderr io.Writer) error {
	c := r.Run.Tokenizer
	if c.Path != "" {
		return usagef("tokenizer.path: %s is given: to train another, take it out of the configuration or add --set tokenizer.path=\"\"", c.Path)
	}
	_, sources, err := someRawSources(ctx, r)
	if err != nil {
		return err
	}
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	json, err := jointTokenizer(ctx, c, sources, cache, metrics.NewConsole(stderr))
	if err != nil {
		return err
	}
	if err := vfs.MkdirAllSync(vfs.OS, out); err != nil {
		return err
	}
	done := tokenizerTrained{Path: filepath.Join(out, tokenizer.FileName), Hash: shard.HashTokenizer(json), VocabSize: c.VocabSize}
	if err := writeFile(done.Path, json); err != nil {
		return err
	}
	if asJSON {
		return printJSON(stdout, done)
	}
	fmt.Fprintf(stdout, "%s: %d tokens\n\ntry next\n  pretrain tokenizer stats %s --config CONFIG   # how it fits a text\n  pretrain --config CONFIG --set tokenizer.path=%s\n",
		done.Path, done.VocabSize, out, out)
	return nil
}

// rawSources opens the sources of the configuration that are text, in the order of their names.
func rawSources(ctx context.Context, r *configs.Resolved) (names []string, list []*read.Source, err error) {
	configured := r.Run.Data.Mix().Sources
	for _, name := range slices.Sorted(maps.Keys(configured)) {
		if isPrepared(configured[name].Path) {
			continue
		}
		s, err := read.Open(ctx, sourceSpec(r, name, configured[name]))
		if err != nil {
			return nil, nil, fmt.Errorf("source %s: %w", name, err)
		}
		names, list = append(names, name), append(list, s)
	}
	return names, list, nil
}

// someRawSources is rawSources where there have to be some.
func someRawSources(ctx context.Context, r *configs.Resolved) ([]string, []*read.Source, error) {
	names, list, err := rawSources(ctx, r)
	if err == nil && len(list) == 0 {
		err = usagef("data: no source is raw text: shards are of one tokenizer already")
	}
	return names, list, err
}

// statsOptions are the flags of tokenizer stats.
type statsOptions struct {
	configFlags
	bytes  string
	asJSON bool
}

func newTokenizerStats(stdout, stderr io.Writer) *cobra.Command {
	o := statsOptions{bytes: "4MiB"}
	cmd := &cobra.Command{
		Use: "stats TOKENIZER... --config NAME_OR_FILE", Short: "Bytes per token, fertility and use of the vocabulary, by source and language",
		Long: `Encode the raw sources of a configuration with one tokenizer or several, and compare: bytes per token, tokens per character and
per word (fertility), for each source and language in it; how much of the vocabulary occurs; and what the embedding costs at the
size of the configuration's model. A TOKENIZER is a tokenizer.json, or a folder that has one: a run, an export, what "tokenizer train"
wrote.

Fewer tokens for the same bytes are less computing; a larger vocabulary is more of it at each token, and more parameters. Compare
trained models by bits per byte, never by loss per token.

The language of a document is what its record says, "code" in sources of that domain, and else found out from its text.`,
		Example: `  pretrain tokenizer stats runs/quickstart --config quickstart
  pretrain tokenizer stats tokenizers/go tokenizers/mine --config quickstart --bytes 16MiB`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("no tokenizer: give a tokenizer.json, or a folder that has one")
			}
			files := map[string][]byte{}
			for _, path := range args {
				json, err := os.ReadFile(tokenizer.File(path))
				if err != nil {
					return usagef("%s: no tokenizer is there: %v", path, err)
				}
				files[path] = json
			}
			r, err := o.load(configs.Load)
			if err != nil {
				return err
			}
			limit, err := units.ParseBytes(o.bytes)
			if err != nil || limit <= 0 {
				return usagef("--bytes: %s: want a size such as 4MiB", o.bytes)
			}
			report, err := tokenizerStats(cmd.Context(), r, args, files, int64(limit), metrics.NewConsole(stderr))
			if err != nil {
				return err
			}
			if o.asJSON {
				return printJSON(stdout, report)
			}
			return showTokenizerStats(stdout, report)
		},
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.bytes, "bytes", o.bytes, "how much text of each source, a `size`")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "as one JSON object")
	return cmd
}

// tokenizersReport is what tokenizer stats --json prints.
type tokenizersReport struct {
	DModel     int               `json:"d_model"`
	Tokenizers []tokenizerReport `json:"tokenizers"`
}

// tokenizerReport is a tokenizer on the texts.
type tokenizerReport struct {
	Path      string `json:"path"`
	Hash      string `json:"hash"`
	VocabSize int    `json:"vocab_size"`
	// Used are the tokens that occur in the texts.
	Used int `json:"used"`
	// Params are the parameters of the configuration's model with this vocabulary, EmbeddingParams those of the embedding and an
	// untied output projection, OutputFLOPs the part of a token's training FLOPs that the output projection takes.
	Params          int64   `json:"params"`
	EmbeddingParams int64   `json:"embedding_params"`
	OutputFLOPs     float64 `json:"output_flops_fraction"`
	// Rows are by source and language, the last one of all texts: Source "all".
	Rows []tokenizerRow `json:"rows"`
}

// tokenizerRow is a tokenizer on the texts of one language in one source.
type tokenizerRow struct {
	tokenizer.Stats
	Language      string  `json:"language,omitempty"`
	BytesPerToken float64 `json:"bytes_per_token"`
	TokensPerChar float64 `json:"tokens_per_char"`
	TokensPerWord float64 `json:"tokens_per_word"`
}

// portion is the text of one language in one source.
type portion struct {
	source, language string
	texts            []string
}

// tokenizerStats measures the tokenizers at some paths, whose files are given.
func tokenizerStats(ctx context.Context, r *configs.Resolved, paths []string, files map[string][]byte, limit int64, console *metrics.Console) (*tokenizersReport, error) {
	portions, err := readPortions(ctx, r, limit, console)
	if err != nil {
		return nil, err
	}
	report := &tokenizersReport{DModel: r.Run.Model.DModel}
	for _, path := range paths {
		file := tokenizer.File(path)
		t, err := hf.New(files[path], r.Run.Tokenizer.BOS, r.Run.Tokenizer.EOS)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		m := r.Run.Model
		m.VocabSize = t.VocabSize()
		count, flops := m.Count(), m.FLOPsPerToken()
		one := tokenizerReport{
			Path: file, Hash: t.Hash(), VocabSize: t.VocabSize(), Params: count.Total, EmbeddingParams: count.Total - count.NonEmbedding,
			OutputFLOPs: float64(count.Compute-count.NonEmbedding) * 6 / float64(flops.Total()),
		}
		used := make([]bool, t.VocabSize())
		all := tokenizer.Stats{Source: "all"}
		for _, p := range portions {
			s, err := tokenizer.Measure(ctx, t, p.source, slices.Values(p.texts), used)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			all.Add(s)
			one.Rows = append(one.Rows, rowOf(s, p.language))
		}
		one.Rows = append(one.Rows, rowOf(all, ""))
		for _, u := range used {
			if u {
				one.Used++
			}
		}
		report.Tokenizers = append(report.Tokenizers, one)
	}
	return report, nil
}

func rowOf(s tokenizer.Stats, language string) tokenizerRow {
	return tokenizerRow{s, language, s.BytesPerToken(), s.TokensPerRune(), s.TokensPerWord()}
}

// readPortions reads so many bytes of each raw source and sorts them by language.
func readPortions(ctx context.Context, r *configs.Resolved, limit int64, console *metrics.Console) ([]portion, error) {
	names, sources, err := someRawSources(ctx, r)
	if err != nil {
		return nil, err
	}
	detector := lang.NewDetector(lang.Default())
	configured := r.Run.Data.Mix().Sources
	var list []portion
	for i, s := range sources {
		bar := console.Progress("read "+names[i], min(limit, s.Bytes()), metrics.Bytes)
		byLanguage := map[string][]string{}
		for d, err := range upTo(s.Documents(ctx, nil), limit) {
			if err != nil {
				bar.Close()
				return nil, err
			}
			text := d.Plain()
			bar.Add(int64(len(text)))
			language := d.Language
			if language == "" && configured[names[i]].Domain == mix.DomainCode {
				language = "code"
			} else if language == "" {
				language, _ = detector.Detect(text)
			}
			byLanguage[language] = append(byLanguage[language], text)
		}
		bar.Close()
		for _, language := range slices.Sorted(maps.Keys(byLanguage)) {
			list = append(list, portion{names[i], language, byLanguage[language]})
		}
	}
	if len(list) == 0 {
		return nil, errors.New("the sources have no text")
	}
	return list, nil
}

// upTo passes on documents until they hold so many bytes of text.
func upTo(documents iter.Seq2[data.Document, error], limit int64) iter.Seq2[data.Document, error] {
	return func(yield func(data.Document, error) bool) {
		for d, err := range documents {
			if limit -= int64(len(d.Plain())); !yield(d, err) || limit <= 0 {
				return
			}
		}
	}
}

func showTokenizerStats(w io.Writer, report *tokenizersReport) error {
	for i, t := range report.Tokenizers {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s: %d tokens, %d of them in these texts (%.1f%%)\n", t.Path, t.VocabSize, t.Used, 100*float64(t.Used)/float64(t.VocabSize))
		fmt.Fprintf(w, "embedding at d_model %d: %s of the model's %s parameters (%.1f%%); output projection: %.1f%% of a token's FLOPs\n\n",
			report.DModel, si(t.EmbeddingParams), si(t.Params), 100*float64(t.EmbeddingParams)/float64(t.Params), 100*t.OutputFLOPs)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "source\tlanguage\tdocuments\tbytes\ttokens\tbytes/token\ttokens/char\ttokens/word")
		for _, r := range t.Rows {
			fmt.Fprintf(tw, "%s\t%s\t%d\t%s\t%s\t%.3f\t%.3f\t%.2f\n", r.Source, r.Language, r.Documents, si(r.Bytes), si(r.Tokens), r.BytesPerToken, r.TokensPerChar, r.TokensPerWord)
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	return nil
}
