package spike

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"pretrain/internal/vfs"
	"pretrain/train/metrics"
)

// RecentSteps is how many steps of metrics before a spike its bundle has.
const RecentSteps = 200

// Bundle is what there is to know of a spike. [Bundle.Write] makes a folder of it:
//
//	step-000001234/
//	    report.txt      what happened and in which sequence and layer it is largest, for people
//	    spike.json      the Bundle without its large parts
//	    batch.jsonl     one Sequence a line
//	    batch.txt       the sequences' text
//	    metrics.jsonl   the steps before it
//	    config.yaml     the configuration
type Bundle struct {
	// Step is the update's number, from 0: checkpoint step-N has the weights before update N.
	Step int64 `json:"step"`
	// Reason is one line for people.
	Reason string `json:"reason"`
	// Loss and GradNorm of the batch, and their limits; null where not finite, and where there was no limit.
	Loss          metrics.Number `json:"loss"`
	GradNorm      metrics.Number `json:"grad_norm"`
	LossLimit     metrics.Number `json:"loss_limit"`
	GradNormLimit metrics.Number `json:"grad_norm_limit"`
	// LR is the learning rate the update would have had.
	LR metrics.Number `json:"lr"`
	// Policy in force, and how many spikes there were so far.
	Policy Policy `json:"policy"`
	Count  int64  `json:"count"`
	// Seed and DataManifest fix the batch, with the step and the configuration.
	Seed         uint64 `json:"seed"`
	DataManifest string `json:"data_manifest"`

	// WeightsAfter is how many updates the weights had seen with which what follows was measured: the host is a step ahead,
	// so the update after the spike may be among them; the spike's own is not.
	WeightsAfter int64 `json:"weights_after"`
	// GradientNorms are by parameter, before clipping; ResidualRMS is that of the residual stream's elements after the
	// embedding and after each layer. Both are absent, and Failed says why, where they could not be measured.
	GradientNorms []Norm           `json:"gradient_norms,omitempty"`
	ResidualRMS   []metrics.Number `json:"residual_rms,omitempty"`
	Failed        string           `json:"failed,omitempty"`

	Sequences []Sequence       `json:"-"`
	Recent    []metrics.Record `json:"-"`
	Config    string           `json:"-"`
}

// Norm is the L2 norm of a parameter's gradient.
type Norm struct {
	Parameter string         `json:"parameter"`
	Norm      metrics.Number `json:"norm"`
}

// Sequence is one of the batch.
type Sequence struct {
	Index  int    `json:"index"`
	Source string `json:"source"`
	Epoch  int    `json:"epoch"`
	// Nats is the mean loss of its targets, Unknown where it could not be measured.
	Nats   metrics.Number `json:"nats"`
	Pieces []Piece        `json:"pieces"`
	Tokens []uint32       `json:"tokens"`
	Text   string         `json:"text"`
}

// Piece is a part of a document in a sequence.
type Piece struct {
	// Document is its place in the source's shard, and Name where it came from, "" if the shard does not say.
	Document int    `json:"document"`
	Name     string `json:"name,omitempty"`
	// Offset and Tokens are the part of it, in tokens.
	Offset int `json:"offset"`
	Tokens int `json:"tokens"`
}

// prefix of a bundle's folder; the step follows.
const prefix = "step-"

// Count is how many bundles a folder of spikes has.
func Count(fsys vfs.FS, dir string) (int, error) {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	n := 0
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			n++
		}
	}
	return n, err
}

// Write files the bundle in a folder of spikes, and returns its own folder once it is durable. One of the same step, which
// a run that was killed or went back has left, is replaced.
func (b *Bundle) Write(fsys vfs.FS, dir string) (string, error) {
	path := filepath.Join(dir, fmt.Sprintf("%s%09d", prefix, b.Step))
	if err := b.write(fsys, dir, path); err != nil {
		return "", fmt.Errorf("file what is known of the spike in %s: %w", path, err)
	}
	return path, nil
}

func (b *Bundle) write(fsys vfs.FS, dir, path string) error {
	temp := filepath.Join(dir, ".tmp-"+filepath.Base(path))
	if err := errors.Join(vfs.MkdirAllSync(fsys, dir), fsys.RemoveAll(temp), fsys.MkdirAll(temp)); err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{"report.txt", b.report},
		{"spike.json", func(w io.Writer) error {
			text, err := json.MarshalIndent(b, "", "  ")
			return errors.Join(err, printed(fmt.Fprintf(w, "%s\n", text)))
		}},
		{"batch.jsonl", func(w io.Writer) error { return jsonLines(w, b.Sequences) }},
		{"batch.txt", b.text},
		{"metrics.jsonl", func(w io.Writer) error { return jsonLines(w, b.Recent) }},
		{"config.yaml", func(w io.Writer) error { return printed(io.WriteString(w, b.Config)) }},
	} {
		if err := writeFile(fsys, filepath.Join(temp, f.name), f.write); err != nil {
			return errors.Join(err, fsys.RemoveAll(temp))
		}
	}
	if err := errors.Join(fsys.SyncDir(temp), fsys.RemoveAll(path)); err != nil {
		return err
	}
	return errors.Join(fsys.Rename(temp, path), fsys.SyncDir(dir))
}

func writeFile(fsys vfs.FS, path string, write func(io.Writer) error) error {
	f, err := fsys.Create(path)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(f)
	if err = write(buffered); err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func printed(_ int, err error) error { return err }

func jsonLines[T any](w io.Writer, values []T) error {
	for _, v := range values {
		text, err := json.Marshal(v)
		if err == nil {
			_, err = fmt.Fprintf(w, "%s\n", text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// text is the sequences for people: a line of where each came from, and what it says.
func (b *Bundle) text(w io.Writer) error {
	for _, s := range b.Sequences {
		if _, err := fmt.Fprintf(w, "=== %s\n%s\n", s.title(), s.Text); err != nil {
			return err
		}
	}
	return nil
}

// title is where a sequence came from, in a line.
func (s Sequence) title() string {
	var from []string
	for _, p := range s.Pieces {
		name := fmt.Sprintf("document %d", p.Document)
		if p.Name != "" {
			name += " (" + p.Name + ")"
		}
		from = append(from, fmt.Sprintf("%s from token %d, %d tokens", name, p.Offset, p.Tokens))
	}
	loss := ""
	if !math.IsNaN(float64(s.Nats)) {
		loss = fmt.Sprintf(", %.3f nats per token", float64(s.Nats))
	}
	return fmt.Sprintf("sequence %d%s, source %s, epoch %d: %s", s.Index, loss, s.Source, s.Epoch, strings.Join(from, "; "))
}

// Lengths of the report: so many sequences, and so many bytes of each.
const (
	reportSequences = 5
	reportBytes     = 300
)

func (b *Bundle) report(out io.Writer) error {
	w := bufio.NewWriter(out) // keeps the first error
	fmt.Fprintf(w, "step %d: %s\n\n", b.Step, b.Reason)
	fmt.Fprintf(w, "loss           %v, limit %v\ngradient norm  %v, limit %v\nlearning rate  %.3g\n", known(b.Loss), known(b.LossLimit), known(b.GradNorm), known(b.GradNormLimit), float64(b.LR))
	fmt.Fprintf(w, "The update was left out. Policy %s; spike %d of this run. Seed %d, data %.12s.\n\n", b.Policy, b.Count, b.Seed, b.DataManifest)

	if b.Failed != "" {
		fmt.Fprintf(w, "Gradients and activations of the batch could not be measured: %s\n\n", b.Failed)
	} else {
		fmt.Fprintf(w, "By layer, with the weights after %d updates:\n\n    %-12s %16s %16s\n", b.WeightsAfter, "", "gradient norm", "residual RMS")
		for _, l := range b.layers() {
			fmt.Fprintf(w, "    %-12s %16v %16v\n", l.name, known(l.gradient), known(l.residual))
		}
		fmt.Fprintln(w)
	}

	worst := slices.Clone(b.Sequences)
	slices.SortStableFunc(worst, func(x, y Sequence) int { // not finite first, then from the largest loss down
		switch a, b := float64(x.Nats), float64(y.Nats); {
		case a > b || math.IsNaN(a) && !math.IsNaN(b):
			return -1
		case a < b || math.IsNaN(b) && !math.IsNaN(a):
			return 1
		}
		return 0
	})
	worst = worst[:min(reportSequences, len(worst))]
	fmt.Fprintf(w, "The %d sequences of the batch's %d with the largest loss (all are in batch.txt):\n\n", len(worst), len(b.Sequences))
	for _, s := range worst {
		fmt.Fprintf(w, "%s\n    %q\n\n", s.title(), s.Text[:min(reportBytes, len(s.Text))])
	}
	return w.Flush()
}

func known(n metrics.Number) string {
	if v := float64(n); !math.IsNaN(v) && !math.IsInf(v, 0) {
		return fmt.Sprintf("%.5g", v)
	}
	return "-"
}

type layerLine struct {
	name               string
	gradient, residual metrics.Number
}

// layers are the gradient norms of each layer's parameters together, in the model's order, with the residual stream after
// it. What is in no layer has a line for itself.
func (b *Bundle) layers() []layerLine {
	var lines []layerLine
	residuals := b.ResidualRMS
	for _, g := range b.GradientNorms {
		name := g.Parameter
		if parts := strings.Split(name, "."); len(parts) == 3 && parts[0] == "layer" {
			name = "layer " + parts[1]
		}
		last := len(lines) - 1
		if last < 0 || lines[last].name != name {
			line := layerLine{name, 0, metrics.Unknown}
			if (name == "embed" || strings.HasPrefix(name, "layer ")) && len(residuals) > 0 {
				line.residual, residuals = residuals[0], residuals[1:]
			}
			lines, last = append(lines, line), last+1
		}
		lines[last].gradient = metrics.Number(math.Hypot(float64(lines[last].gradient), float64(g.Norm)))
	}
	return lines
}
