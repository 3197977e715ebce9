package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"pretrain/model/llama"
	"pretrain/train/metrics"
)

// card is what the model card of an export says.
type card struct {
	*exporter
	Receipt  llama.Receipt
	Result   *result // of the run, where the export is of its last step
	Mix      string  // the data section of the configuration, as YAML
	Versions []string
	Created  string
}

// describe writes receipt.json and the model card.
func (e *exporter) describe(r exportResult) error {
	text, err := json.MarshalIndent(r.Receipt, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(e.out, "receipt.json"), append(text, '\n')); err != nil {
		return err
	}
	c := card{exporter: e, Receipt: r.Receipt, Mix: yamlSections(string(e.Config.YAML(false)), "data", "batch", "schedule", "optimizer", "train"),
		Created: e.Meta.CreatedAt.Format(time.DateOnly)}
	if c.Result, err = readResult(e.Dir); err != nil {
		return err
	}
	if c.Result != nil && c.Result.Step != e.Meta.Step {
		c.Result = nil
	}
	for name, version := range e.Meta.Versions {
		c.Versions = append(c.Versions, name+" "+version)
	}
	slices.Sort(c.Versions)
	var out bytes.Buffer
	if err := cardTemplate.Execute(&out, c); err != nil {
		return fmt.Errorf("write the model card: %w", err)
	}
	return writeFile(filepath.Join(e.out, "README.md"), out.Bytes())
}

// Name is the run's.
func (c card) Name() string { return c.Config.Run.Name }

// Format and DType are those of the export.
func (c card) Format() string { return c.format }

// DType is the type of the numbers.
func (c card) DType() string { return c.dtype }

// Conversations reports whether there is a chat template.
func (c card) Conversations() bool { return c.tokens.ChatTemplate != "" }

// BOS is the token that begins a text.
func (c card) BOS() string { return c.tokens.BOS }

// yamlSections cuts top-level sections out of a resolved configuration.
func yamlSections(text string, names ...string) string {
	var out strings.Builder
	keep := false
	for line := range strings.Lines(text) {
		if line[0] != ' ' && line[0] != '-' && line[0] != '\n' && line[0] != '#' {
			name, _, _ := strings.Cut(line, ":")
			keep = slices.Contains(names, name)
		}
		if keep {
			out.WriteString(line)
		}
	}
	return out.String()
}

var cardTemplate = template.Must(template.New("card").Funcs(template.FuncMap{
	"si":     si,
	"finite": func(n metrics.Number) bool { return !math.IsNaN(float64(n)) && n != 0 },
}).Parse(`---
library_name: {{if eq .Format "gguf"}}gguf{{else}}transformers{{end}}
pipeline_tag: text-generation
---

# {{.Name}}

A {{si .Decoder.Count.Total}} parameter language model ({{si .Decoder.Count.NonEmbedding}} without embeddings), trained on {{si .Meta.Tokens}} tokens in {{.Meta.Step}} steps; checkpoint of {{.Created}}.

| | |
|---|---|
| architecture | {{if .Network.MiniCPM}}MiniCPM (scale_emb {{.Network.ScaleEmb}}, scale_depth {{printf "%.4g" .Network.ScaleDepth}}, dim_model_base {{.Network.DimModelBase}}){{else}}Llama{{if eq .Decoder.Parameterization "mup"}}; MiniCPM's scalings are folded into the weights{{end}}{{end}} |
| layers, width, feed-forward | {{.Decoder.NumLayers}}, {{.Decoder.DModel}}, {{.Decoder.DFF}} |
| heads, key/value heads, head width | {{.Decoder.NumHeads}}, {{.Decoder.NumKVHeads}}, {{.Decoder.HeadDim}} |
| vocabulary, context | {{.Decoder.VocabSize}}, {{.Decoder.MaxSeqLen}} |
| numbers | {{.DType}} |

A text begins with ` + "`{{.BOS}}`" + `, as documents did in training.{{if .Conversations}} Conversations have the chat template of tokenizer_config.json.{{end}}

## Measured
{{with .Result}}
| held-out text | nats/token | bits/byte |
|---|---|---|
{{range $name, $s := .ValSources}}| {{$name}} | {{printf "%.4f" $s.Loss}} | {{printf "%.4f" $s.BPB}} |
{{end}}| all | {{printf "%.4f" .ValLoss}} | {{printf "%.4f" .ValBPB}} |
{{if finite .GzipBPB}}| gzip -9, xz -9e | | {{printf "%.4f" .GzipBPB}}, {{printf "%.4f" .XZBPB}} |
{{end}}{{else}}
Not measured at this step.
{{end}}
## Receipt

These files were read back, run by a second implementation on {{.Receipt.Sequences}} sequences ({{.Receipt.Tokens}} tokens) of held-out text and compared with the training graph in fp32.

| | found | bound |
|---|---|---|
| largest error of a logit | {{printf "%.3g" .Receipt.MaxError}} | {{printf "%.3g" .Receipt.Bound.MaxError}} |
| mean error | {{printf "%.3g" .Receipt.MeanError}} | {{printf "%.3g" .Receipt.Bound.MeanError}} |
| same first choice | {{printf "%.5f" .Receipt.Top1}} | {{.Receipt.Bound.Top1}} |

Logits vary by {{printf "%.3g" .Receipt.LogitStd}} (standard deviation).

## Training: data, schedule, optimizer

` + "```yaml\n{{.Mix}}```" + `

## Provenance

| | |
|---|---|
| checkpoint | {{.Name}}, step {{.Meta.Step}}, {{.Meta.Tokens}} tokens |
| configuration (XXH3) | {{.Meta.ConfigHash}} |
| data manifest | {{.Meta.DataManifestHash}} |
| tokenizer.json (SHA-256) | {{.Meta.TokenizerHash}} |
| made by | {{range $i, $v := .Versions}}{{if $i}}, {{end}}{{$v}}{{end}} |
`))
