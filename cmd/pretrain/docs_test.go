package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"pretrain/configs"

	"github.com/spf13/cobra"
)

// words splits a command line as a shell does: quotes, and a comment at the end. What follows a pipe or a redirection is another
// program's.
func words(text string) (list []string) {
	var word strings.Builder
	var quote rune
	started := false
	end := func() {
		if started {
			list = append(list, word.String())
		}
		word.Reset()
		started = false
	}
	for _, r := range text {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, started = r, true
		case r == ' ' || r == '\t':
			end()
		case !started && strings.ContainsRune("#|>&;", r):
			return list
		default:
			word.WriteRune(r)
			started = true
		}
	}
	end()
	return list
}

// Every command that the documentation shows exists, with its flags and arguments, and every value that it sets is one of the
// configuration it names.
func TestDocumentedCommands(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, p := range documentation(t, "../..") {
		for _, d := range p.commands() {
			args := words(d.text)
			switch {
			case len(args) == 0:
			case args[0] == "make":
				for _, target := range args[1:] {
					if !strings.Contains(target, "=") && !regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(target)+`:`).Match(makefile) {
						t.Errorf("%s:%d: make has no target %s", d.page, d.line, target)
					}
				}
			case args[0] == "pretrain":
				checked++
				if err := checkCommand(args[1:]); err != nil {
					t.Errorf("%s:%d: %s\n\t%v", d.page, d.line, d.text, err)
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d command lines found in the documentation: the test does not see them", checked)
	}
}

// checkCommand parses a command line without running it.
func checkCommand(args []string) error {
	cmd, rest, err := newRoot(io.Discard, io.Discard).Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	return checkSets(cmd)
}

// checkSets loads the embedded run configuration that a command line names, as it sets it.
func checkSets(cmd *cobra.Command) error {
	config, sets := cmd.Flags().Lookup("config"), cmd.Flags().Lookup("set")
	if config == nil || sets == nil {
		return nil
	}
	for _, name := range configs.Names() {
		if config.Value.String() == name {
			given, err := cmd.Flags().GetStringArray("set")
			if err != nil {
				return err
			}
			_, err = configs.LoadWithoutFiles(name, given)
			return err
		}
	}
	return nil
}

func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		`pretrain --set a='10 steps' # comment`:        `pretrain|--set|a=10 steps`,
		`pretrain x > out`:                             `pretrain|x`,
		`pretrain runs tree --json | jq '.runs[]'`:     `pretrain|runs|tree|--json`,
		`pretrain plan --set data.path=DIR/#1 "a b" c`: `pretrain|plan|--set|data.path=DIR/#1|a b|c`,
	} {
		if got := strings.Join(words(text), "|"); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
