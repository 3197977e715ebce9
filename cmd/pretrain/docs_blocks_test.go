package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a block of code of a page.
type block struct {
	line int // of its first line, from 1
	// language is what stands behind the fence: commands are "sh". An indented block has none.
	language string
	text     string
}

// page is a page of the documentation.
type page struct {
	name   string // from the repository's root
	blocks []block
}

// documentation is the README, every page below docs, and their translations.
func documentation(t *testing.T, root string) (list []page) {
	t.Helper()
	names := []string{"README.md", "README.zh.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			names = append(names, strings.TrimPrefix(path, root+string(filepath.Separator)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, page{filepath.ToSlash(name), blocks(string(text))})
	}
	return list
}

// blocks are a page's blocks of code, fenced and indented.
func blocks(text string) (list []block) {
	var b *block
	end := func() {
		if b != nil {
			list = append(list, *b)
		}
		b = nil
	}
	fenced := false
	for i, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && fenced:
			fenced = false
			end()
		case isFence:
			end()
			fenced = true
			b = &block{line: i + 2, language: fence}
		case fenced:
			b.text += line + "\n"
		case strings.HasPrefix(line, "    "):
			if b == nil {
				b = &block{line: i + 1}
			}
			b.text += line[4:] + "\n"
		default:
			end()
		}
	}
	end()
	return list
}

// docLine is a command line of a page.
type docLine struct {
	page string
	line int
	text string
}

// commands are the command lines of a page's blocks of commands. A line that ends in a backslash goes on in the next one; what
// a here-document holds is none.
func (p page) commands() (list []docLine) {
	here := regexp.MustCompile(`<<'?(\w+)'?$`)
	for _, b := range p.blocks {
		if b.language != "sh" {
			continue
		}
		lines := strings.Split(strings.TrimSuffix(b.text, "\n"), "\n")
		for i := 0; i < len(lines); i++ {
			line, start := lines[i], b.line+i
			for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
				i++
				line = strings.TrimSuffix(line, `\`) + " " + strings.TrimSpace(lines[i])
			}
			if strings.TrimSpace(line) != "" {
				list = append(list, docLine{p.name, start, line})
			}
			if m := here.FindStringSubmatch(line); m != nil {
				for i++; i < len(lines) && lines[i] != m[1]; i++ {
				}
			}
		}
	}
	return list
}

var comment = regexp.MustCompile(`(^|\s+)#\s.*`)

// command is the line without a comment at its end.
func (d docLine) command() string { return strings.TrimSpace(comment.ReplaceAllString(d.text, "")) }

// Every block that has a command is marked as shell, so that the tests see it.
func TestCommandsAreMarked(t *testing.T) {
	looksLikeOne := regexp.MustCompile(`(?m)^(\$ )?(pretrain|make|go run|bench/\S+|cd|python3?|pip) .*$`)
	for _, p := range documentation(t, "../..") {
		for _, b := range p.blocks {
			if b.language == "sh" {
				continue
			}
			if found := looksLikeOne.FindString(b.text); found != "" {
				t.Errorf("%s:%d: the block has a command, %q, and is not marked as ```sh", p.name, b.line, found)
			}
		}
	}
}
