package configs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pretrain/data/pipeline"
	"pretrain/data/synth"
)

// docs are the comments of the config structs: docs["schedule.Decay"]["Length"], and [""] for the type itself.
type docs map[string]map[string]string

// parse reads the comments of a package of this module.
func (d docs) parse(t *testing.T, pkgPath string) {
	t.Helper()
	dir := filepath.Join("..", filepath.FromSlash(strings.TrimPrefix(pkgPath, "pretrain/")))
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source of %s in %s (%v)", pkgPath, dir, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.TYPE {
				continue
			}
			for _, spec := range gen.Specs {
				ts := spec.(*ast.TypeSpec)
				if st, ok := ts.Type.(*ast.StructType); ok {
					d[pkgPath+"."+ts.Name.Name] = fieldDocs(set, st, gen.Doc.Text())
				}
			}
		}
	}
}

// fieldDocs are a struct's comments. A field right below another one shares its comment, and one without any has the
// struct's: "Fields are the keys of …".
func fieldDocs(set *token.FileSet, st *ast.StructType, typeDoc string) map[string]string {
	m := map[string]string{"": typeDoc}
	last, lastLine := "", 0
	for _, f := range st.Fields.List {
		text := f.Doc.Text() + f.Comment.Text()
		if line := set.Position(f.Pos()).Line; text == "" && last != "" && line == lastLine+1 {
			text = last
		}
		last, lastLine = text, set.Position(f.End()).Line
		for _, name := range f.Names {
			m[name.Name] = text
			if text == "" {
				m[name.Name] = typeDoc
			}
		}
	}
	return m
}

// sections calls f for each struct type of a configuration, once.
func sections(root reflect.Type, f func(t reflect.Type)) {
	seen := map[reflect.Type]bool{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			walk(t.Elem())
		case reflect.Struct:
			if seen[t] || len(orderedFields(t)) == 0 {
				return
			}
			seen[t] = true
			f(t)
			for i := range t.NumField() {
				walk(t.Field(i).Type)
			}
		}
	}
	walk(root)
}

// Every field of every section has a key and a comment: the reference below is made of them.
func TestFieldsAreDocumented(t *testing.T) {
	comments := docs{}
	keyStyle := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	check := func(s reflect.Type) {
		comments.parse(t, s.PkgPath())
		for i := range s.NumField() {
			f := s.Field(i)
			key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			switch {
			case options == "inline" && f.Anonymous:
			case !f.IsExported() || !keyStyle.MatchString(key):
				t.Errorf("%s.%s: the yaml key %q is not in snake_case, or the field is not exported", s, f.Name, key)
			case comments[s.PkgPath()+"."+s.Name()][f.Name] == "":
				t.Errorf("%s.%s has no comment", s, f.Name)
			}
		}
	}
	sections(reflect.TypeFor[Run](), check)
	sections(reflect.TypeFor[pipeline.Config](), check)
	sections(reflect.TypeFor[synth.Config](), check)
}

// The keys are frozen: a key that goes or changes its name breaks users' files. -update accepts a change.
func TestKeys(t *testing.T) {
	golden(t, filepath.Join("testdata", "keys.txt"), strings.Join(Keys(), "\n")+"\n")
}

// docs/config.md, docs/data-config.md and docs/synth-config.md are made of the comments and defaults of the sections. -update writes them.
func TestReference(t *testing.T) {
	golden(t, filepath.Join("..", "docs", "config.md"), reference(t, referenceHead, Default()))
	golden(t, filepath.Join("..", "docs", "data-config.md"), reference(t, preparationHead, pipeline.Default()))
	golden(t, filepath.Join("..", "docs", "synth-config.md"), reference(t, synthHead, synth.Default()))
}

// reference is the documentation of a configuration's keys, after head.
func reference(t *testing.T, head string, config any) string {
	root := reflect.TypeOf(config)
	comments := docs{}
	sections(root, func(s reflect.Type) { comments.parse(t, s.PkgPath()) })
	defaults := texts("", config)
	var b strings.Builder
	b.WriteString(head)
	var write func(path, indent string, s reflect.Type)
	write = func(path, indent string, s reflect.Type) {
		for _, f := range orderedFields(s) {
			field := s.FieldByIndex(f.index)
			owner := s
			if len(f.index) > 1 { // inlined
				owner = s.FieldByIndex(f.index[:len(f.index)-1]).Type
			}
			text := prose(owner, field.Name, comments[owner.PkgPath()+"."+owner.Name()][field.Name])
			key, inner := join(path, f.key), field.Type
			for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Map || inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			nested := inner.Kind() == reflect.Struct && len(orderedFields(inner)) > 0
			switch value := defaults[key]; {
			case nested && path == "":
				fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", f.key, text)
			case nested || value == "" || value == `""` || value == "0" || value == "0tok":
				fmt.Fprintf(&b, "%s- **%s**: %s\n", indent, f.key, text)
			default:
				fmt.Fprintf(&b, "%s- **%s** (`%s`): %s\n", indent, f.key, value, text)
			}
			if nested && path == "" {
				write(key, "", inner)
			} else if nested {
				write(key, indent+"  ", inner)
			}
		}
	}
	write("", "", root)
	return b.String()
}

var link = regexp.MustCompile(`\[([A-Za-z.]+)\]`)

// prose is a Go comment for readers of YAML: on one line, without links, and with keys instead of field names.
func prose(s reflect.Type, name, comment string) string {
	text := strings.Join(strings.Fields(comment), " ")
	text = link.ReplaceAllString(text, "$1")
	for _, f := range reflect.VisibleFields(s) {
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if strings.Contains(key, "_") { // a name that is no word of English
			text = regexp.MustCompile(`\b`+f.Name+`\b`).ReplaceAllString(text, key)
		}
	}
	key, _, _ := strings.Cut(fieldsTag(s, name), ",")
	for _, subject := range []string{name, key, s.Name()} {
		if rest, ok := strings.CutPrefix(text, subject+" "); ok {
			text = strings.TrimPrefix(strings.TrimPrefix(rest, "is "), "are ")
			break
		}
	}
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:]
}

func fieldsTag(s reflect.Type, name string) string {
	f, _ := s.FieldByName(name)
	return f.Tag.Get("yaml")
}

const referenceHead = `# Configuration reference

<!-- Made from the comments in the code by "go test ./configs -run TestReference -update". Do not edit. -->

A configuration is a YAML file. ` + "`pretrain --config NAME`" + ` takes a file or, where there is none of that name, an embedded
configuration (` + "`quickstart`, `2b`" + `). What a file does not give has a default, shown in parentheses;
` + "`pretrain config show`" + ` prints all values and ` + "`pretrain config explain`" + ` where each comes from.

- **Strict.** An unknown or repeated key, a wrong type, a wrong or missing unit and values that do not fit together are
  errors, all reported at once, each with file, line and what would be right. The exit code is 2.
- **Units** belong to the value: tokens ` + "`4096tok 512ktok 3.93Mtok 20Btok 1.1Ttok`" + ` (decimal), sizes ` + "`512KiB 256MiB 1GB`" + `,
  times ` + "`4h 30m 90s`" + `, parts ` + "`10%`" + ` or ` + "`0.1`" + `. A length is ` + "`1000 steps`, `20Btok`" + ` or ` + "`10%`" + ` of the run; an interval may also be
  a time, or ` + "`never`" + `. Only 0 needs no unit.
- **extends** starts from another file (relative to this one) or an embedded configuration. Sections and mappings are
  merged key by key, lists are replaced, and ` + "`name: null`" + ` removes a name from a mapping.
- **--set a.b=c** overrides one value, as strictly as a line of the file; ` + "`--set optimizer.betas[1]=0.99`" + ` one item of a list.
  ` + "`--set a=null`" + ` removes a name from a mapping.
- **Paths** are relative to the file they stand in; those of ` + "`--set`" + ` and of embedded configurations to the working
  directory. ` + "`~` and `$VARIABLES`" + ` are not expanded.

`

const preparationHead = `# Reference of data preparation

<!-- Made from the comments in the code by "go test ./configs -run TestReference -update". Do not edit. -->

The configuration of ` + "`pretrain data prepare --config NAME`" + `, a YAML file or the name of an embedded one. It is read as a run's is
([config.md](config.md)): strictly, with units, and ` + "`--set a.b=c`" + ` overrides a value. What a file does not give has a default,
shown in parentheses. [data.md](data.md) says what the steps do.

`

const synthHead = `# Reference of synthetic text

<!-- Made from the comments in the code by "go test ./configs -run TestReference -update". Do not edit. -->

The YAML file of ` + "`pretrain data synth --config FILE`" + `, as strict as a run's, with the same units and ` + "`--set`" + `
([config.md](config.md)). What a file does not give has a default, shown in parentheses.
`
