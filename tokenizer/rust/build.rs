//! Takes upstream's C functions from the Go module cache, so that their source is neither copied
//! into this repository nor changed.

use std::{env, fs, path::PathBuf};

/// The symbol daulet's Go package links against: the version this crate must stand in for.
const LINK_CHECK: &str = "tokenizers_version_1_26_0";

fn main() {
    println!("cargo:rerun-if-env-changed=DAULET_TOKENIZERS_DIR");
    let module = env::var("DAULET_TOKENIZERS_DIR").expect(
        "DAULET_TOKENIZERS_DIR is not set: build with tokenizer/rust/build.sh, or set it to \
         $(go list -m -f '{{.Dir}}' github.com/daulet/tokenizers)",
    );
    let source: PathBuf = [&module, "crates", "tokenizers", "src", "lib.rs"].iter().collect();
    println!("cargo:rerun-if-changed={}", source.display());
    let text = fs::read_to_string(&source)
        .unwrap_or_else(|e| panic!("read upstream source {}: {e}", source.display()));
    assert!(
        text.contains(LINK_CHECK),
        "{} has no {LINK_CHECK}: go.mod's github.com/daulet/tokenizers has moved on; \
         bring this crate's version, its pins and LINK_CHECK to upstream's",
        source.display()
    );
    let out: PathBuf = [&env::var("OUT_DIR").unwrap(), "daulet.rs"].iter().collect();
    fs::write(&out, text).unwrap_or_else(|e| panic!("write {}: {e}", out.display()));
}
