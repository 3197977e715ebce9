//! The Rust side of `tokenizer/hf`: see `ffi.rs` for the C functions Go calls.

mod encode;
mod ffi;
mod merge;
mod scan;
mod split;
mod train;

/// Upstream's `lib.rs` as it is in the Go module (build.rs), for its `tokenizers_*` C functions.
#[allow(dead_code, unused_imports, clippy::all)]
mod daulet {
    include!(concat!(env!("OUT_DIR"), "/daulet.rs"));
}

/// Errors cross the C boundary as text, so any error will do.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
