package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The pages of docs/commands, one a verb, are what the program's own help says. -update writes them.
func TestCommandPages(t *testing.T) {
	const dir = "../../docs/commands"
	pages := map[string]string{}
	var index strings.Builder
	index.WriteString("# Commands\n\nWritten by `go test ./cmd/pretrain -run TestCommandPages -update` from the program's own help.\n\n| command | does |\n|---|---|\n")
	root := newRoot(io.Discard, io.Discard)
	pages["pretrain.md"] = commandPage(root, false)
	fmt.Fprintf(&index, "| [pretrain](pretrain.md) | %s |\n", root.Short)
	for _, cmd := range root.Commands() {
		if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
			continue
		}
		pages[cmd.Name()+".md"] = commandPage(cmd, true)
		fmt.Fprintf(&index, "| [%s](%s.md) | %s |\n", cmd.Name(), cmd.Name(), cmd.Short)
	}
	pages["README.md"] = index.String()
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range pages {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := pages[e.Name()]; !ok {
			t.Errorf("%s: there is no such command", e.Name())
		}
	}
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if diff := cmp.Diff(string(got), want); err != nil || diff != "" {
			t.Errorf("docs/commands/%s (-there +help; go test -update writes it): %v %s", name, err, diff)
		}
	}
}

// commandPage is a command's page, with those below it.
func commandPage(cmd *cobra.Command, below bool) string {
	var b strings.Builder
	var write func(*cobra.Command, string)
	write = func(c *cobra.Command, heading string) {
		fmt.Fprintf(&b, "%s %s\n\n%s.\n\n", heading, c.CommandPath(), strings.TrimSuffix(c.Short, "."))
		if c.Long != "" && c.Long != c.Short {
			fmt.Fprintf(&b, "%s\n\n", c.Long)
		}
		if c.Runnable() {
			fmt.Fprintf(&b, "Usage: `%s`\n\n", c.UseLine())
		}
		if c.Example != "" {
			fmt.Fprintf(&b, "Examples:\n\n```sh\n%s\n```\n\n", dedent(c.Example))
		}
		var flags [][2]string
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Hidden || f.Name == "help" {
				return
			}
			name, usage := pflag.UnquoteUsage(f)
			text := "`--" + strings.TrimSpace(f.Name+" "+name) + "`"
			if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" && f.DefValue != "0s" && !strings.Contains(usage, "default") {
				usage += fmt.Sprintf(" (default %s)", f.DefValue)
			}
			flags = append(flags, [2]string{text, strings.ReplaceAll(usage, "|", `\|`)})
		})
		if len(flags) > 0 {
			b.WriteString("| flag | |\n|---|---|\n")
			for _, f := range flags {
				fmt.Fprintf(&b, "| %s | %s |\n", f[0], f[1])
			}
			b.WriteString("\n")
		}
		if !below {
			return
		}
		for _, sub := range c.Commands() {
			if !sub.Hidden && sub.Name() != "help" {
				write(sub, heading+"#")
			}
		}
	}
	write(cmd, "#")
	return strings.TrimSuffix(b.String(), "\n")
}

// dedent takes off the blanks that all lines begin with.
func dedent(text string) string {
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	indent := func(l string) int { return len(l) - len(strings.TrimLeft(l, " ")) }
	least := indent(slices.MinFunc(lines, func(a, b string) int { return indent(a) - indent(b) }))
	for i, l := range lines {
		lines[i] = l[min(least, len(l)):]
	}
	return strings.Join(lines, "\n")
}
