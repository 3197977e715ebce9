package read

import (
	"path"
	"slices"
	"strings"
)

// format is how a file holds its documents.
type format int

const (
	unknown     format = iota
	text               // the file is one document
	goSource           // the same, left out if marked as generated
	jsonl              // a line is a document
	parquetFile        // a row is a document
)

// textExtensions are the files a folder is searched for beside JSONL and Parquet: prose and source code. HTML, CSV and
// notebooks are not here: their markup would be trained on.
var textExtensions = strings.Fields(`
	.txt .text .md .markdown .rst .adoc .org .tex
	.go .py .pyi .c .h .cc .cpp .cxx .hh .hpp .hxx .cu .cuh .m .mm .rs .zig .java .kt .kts .scala .groovy .clj
	.js .jsx .mjs .ts .tsx .vue .svelte .css .scss .cs .fs .vb .swift .dart .rb .php .pl .pm .lua .r .jl .hs .ml .mli
	.ex .exs .erl .lisp .el .scm .v .sv .vhd .f90 .f .pas .asm .s .sh .bash .zsh .fish .ps1 .bat .sql .proto .thrift
	.graphql .cmake .mk .tf .nix .toml .yaml .yml .ini .cfg`)

// compression is the suffix of a compressed file, or "".
func compression(name string) string {
	switch ext := strings.ToLower(path.Ext(name)); ext {
	case ".gz", ".zst":
		return ext
	}
	return ""
}

// extension is a file's extension in lower case, that of a compressed file without the compression's: ".jsonl" for
// "a.jsonl.zst".
func extension(name string) string {
	return strings.ToLower(path.Ext(name[:len(name)-len(compression(name))]))
}

func formatOf(name string) format {
	switch ext := extension(name); {
	case ext == ".jsonl" || ext == ".ndjson" || ext == ".json":
		return jsonl
	case ext == ".parquet" && compression(name) == "": // it is read at random, and compresses within
		return parquetFile
	case slices.Contains(textExtensions, ext):
		return text
	}
	return unknown
}
