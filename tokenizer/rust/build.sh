#!/bin/sh
# Builds libtokenizers.a for tokenizer/hf and caches it by everything that goes into it.
# Prints the directory of the library on stdout, for CGO_LDFLAGS=-L<dir>; all else on stderr.
#
#   PRETRAIN_CACHE   where to cache; default ${XDG_CACHE_HOME:-$HOME/.cache}/pretrain
set -eu

say() { echo "tokenizer/rust: $*" >&2; }
# fail WHAT MEND
fail() { say "error: $1"; say "  to mend it: $2"; exit 1; }
need() { command -v "$1" >/dev/null 2>&1 || fail "$2" "$3"; }
sum() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-20; }

rust_mend="install Rust 1.87 or newer (with rustup: rustup toolchain install stable && rustup default stable; or your system's packages) and put cargo on PATH"
cc_mend="install a C compiler (Debian/Ubuntu: apt-get install build-essential; macOS: xcode-select --install)"
need go "go is not on PATH" "install Go 1.26 or newer"
need cargo "cargo is not on PATH" "$rust_mend"
need "${CC:-cc}" "no C compiler: ${CC:-cc} is not on PATH" "$cc_mend"

crate=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cd "$crate"

# rustup's cargo finds its toolchains through HOME. Where HOME is another one (a service account,
# a sandbox), they usually still lie beside the cargo that PATH found: <home>/.cargo/bin/cargo.
if ! cargo --version >/dev/null 2>&1 && [ -z "${RUSTUP_HOME:-}" ]; then
	beside=$(dirname "$(dirname "$(dirname "$(command -v cargo)")")")/.rustup
	if [ -d "$beside" ]; then
		export RUSTUP_HOME="$beside"
		say "rustup has no toolchain under HOME=${HOME:-}; using RUSTUP_HOME=$beside"
	fi
fi
rustc=$(cargo --version >/dev/null 2>&1 && rustc -vV 2>/dev/null) ||
	fail "cargo ($(command -v cargo)) does not run: $(cargo --version 2>&1 | head -n 1)" "$rust_mend"

module=$(go list -m -f '{{.Dir}}' github.com/daulet/tokenizers 2>/dev/null) || module=
if [ -z "$module" ]; then
	say "downloading the Go module github.com/daulet/tokenizers"
	go mod download github.com/daulet/tokenizers >&2 ||
		fail "cannot download github.com/daulet/tokenizers" "check the network and GOPROXY ($(go env GOPROXY))"
	module=$(go list -m -f '{{.Dir}}' github.com/daulet/tokenizers)
fi

root=${PRETRAIN_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME or PRETRAIN_CACHE}/.cache}/pretrain}/rust
key=$({ echo "$rustc"; cat Cargo.toml Cargo.lock build.rs src/*.rs "$module/crates/tokenizers/src/lib.rs"; } | sum)
dir=$root/$key
library=$dir/libtokenizers.a

if [ ! -s "$library" ]; then
	mkdir -p "$dir" || fail "cannot write the cache $root" "set PRETRAIN_CACHE to a folder you can write"
	# Where there is flock, a second run waits for the first. Without it both build, each in a
	# folder of its own, and either's rename leaves a whole library.
	if command -v flock >/dev/null 2>&1; then
		exec 9>"$root/lock"
		flock -n 9 || { say "another build is running; waiting for it"; flock 9; }
	fi
fi
if [ -s "$library" ]; then
	say "cached: $library"
	echo "$dir"
	exit 0
fi

work=$(mktemp -d "$dir/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
say "building the tokenizer library with $(echo "$rustc" | head -n 1) (once; one to three minutes)"
DAULET_TOKENIZERS_DIR=$module CARGO_TARGET_DIR=$work cargo build --release --locked --quiet >&2 9>&- ||
	fail "cargo could not build the library (its messages are above)" \
		"if it could not download crates, check the network or set up a mirror in cargo's config.toml; if the compiler is too old, $rust_mend"
mv -f "$work/release/libpretrain_tokenizers.a" "$library"
say "built $library"
echo "$dir"
