//! The C functions that `tokenizer/hf` calls (declared in `tokenizer/hf/pretrain.h`).
//!
//! Texts cross as one run of bytes and an array of lengths, so NUL is a byte like any other.
//! A function that can fail returns null, or an error message that the caller gives back to
//! `pretrain_string_free`. No panic leaves this file.

use crate::encode::Encoder;
use crate::train::Trainer;
use crate::Result;
use libc::{c_char, size_t};
use std::ffi::CString;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::{ptr, slice};

/// Starts a trainer. `special` holds the special tokens, which take ids 0, 1, … in this order.
///
/// # Safety
/// Pointers are valid for the lengths given with them; `out` is writable.
#[no_mangle]
pub unsafe extern "C" fn pretrain_trainer_new(
    pattern: *const u8,
    pattern_len: size_t,
    vocab_size: u64,
    min_frequency: u64,
    special: *const u8,
    special_lens: *const u64,
    special_count: size_t,
    out: *mut *mut Trainer,
) -> *mut c_char {
    guard(|| {
        let pattern = std::str::from_utf8(bytes(pattern, pattern_len))?;
        let special = texts(special, special_lens, special_count)
            .into_iter()
            .map(|t| Ok(std::str::from_utf8(t)?.to_owned()))
            .collect::<Result<_>>()?;
        let trainer = Trainer::new(pattern, vocab_size as usize, min_frequency, special)?;
        *out = Box::into_raw(Box::new(trainer));
        Ok(())
    })
}

/// Counts the pre-tokens of `count` documents.
///
/// # Safety
/// `trainer` comes from `pretrain_trainer_new` and is used by one thread at a time.
#[no_mangle]
pub unsafe extern "C" fn pretrain_trainer_feed(
    trainer: *mut Trainer,
    data: *const u8,
    lens: *const u64,
    count: size_t,
) -> *mut c_char {
    guard(|| {
        (*trainer).feed(&texts(data, lens, count));
        Ok(())
    })
}

/// Learns the merges; `out` receives tokenizer.json, to be freed with `pretrain_bytes_free`.
///
/// # Safety
/// As `pretrain_trainer_feed`.
#[no_mangle]
pub unsafe extern "C" fn pretrain_trainer_train(
    trainer: *mut Trainer,
    out: *mut *mut u8,
    out_len: *mut size_t,
) -> *mut c_char {
    guard(|| {
        give((*trainer).train()?.into_bytes(), out, out_len);
        Ok(())
    })
}

/// # Safety
/// `trainer` comes from `pretrain_trainer_new` and is not used again.
#[no_mangle]
pub unsafe extern "C" fn pretrain_trainer_free(trainer: *mut Trainer) {
    drop(Box::from_raw(trainer));
}

/// Reads a tokenizer.json.
///
/// # Safety
/// `json` is valid for `len` bytes; `out` is writable.
#[no_mangle]
pub unsafe extern "C" fn pretrain_encoder_new(
    json: *const u8,
    len: size_t,
    out: *mut *mut Encoder,
) -> *mut c_char {
    guard(|| {
        *out = Box::into_raw(Box::new(Encoder::new(bytes(json, len))?));
        Ok(())
    })
}

/// Encodes `count` texts. `out` receives all ids one after another, to be freed with
/// `pretrain_ids_free`, and `id_counts[i]` the number of them that are text i's. Any number of
/// threads may call it at once.
///
/// # Safety
/// `encoder` comes from `pretrain_encoder_new`; `id_counts` is writable for `count` numbers.
#[no_mangle]
pub unsafe extern "C" fn pretrain_encoder_encode(
    encoder: *const Encoder,
    data: *const u8,
    lens: *const u64,
    count: size_t,
    id_counts: *mut u64,
    out: *mut *mut u32,
    out_len: *mut size_t,
) -> *mut c_char {
    guard(|| {
        let ids = (*encoder).encode_batch(&texts(data, lens, count))?;
        for (i, ids) in ids.iter().enumerate() {
            *id_counts.add(i) = ids.len() as u64;
        }
        give(ids.concat(), out, out_len);
        Ok(())
    })
}

/// # Safety
/// `encoder` comes from `pretrain_encoder_new` and is not used again.
#[no_mangle]
pub unsafe extern "C" fn pretrain_encoder_free(encoder: *mut Encoder) {
    drop(Box::from_raw(encoder));
}

/// # Safety
/// `data` and `len` are what `pretrain_trainer_train` gave.
#[no_mangle]
pub unsafe extern "C" fn pretrain_bytes_free(data: *mut u8, len: size_t) {
    drop(Box::from_raw(ptr::slice_from_raw_parts_mut(data, len)));
}

/// # Safety
/// `ids` and `len` are what `pretrain_encoder_encode` gave.
#[no_mangle]
pub unsafe extern "C" fn pretrain_ids_free(ids: *mut u32, len: size_t) {
    drop(Box::from_raw(ptr::slice_from_raw_parts_mut(ids, len)));
}

/// # Safety
/// `message` is what one of these functions returned.
#[no_mangle]
pub unsafe extern "C" fn pretrain_string_free(message: *mut c_char) {
    drop(CString::from_raw(message));
}

/// Runs `f` and turns its error or panic into a message; null means success.
fn guard(f: impl FnOnce() -> Result<()>) -> *mut c_char {
    let message = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(())) => return ptr::null_mut(),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => format!("internal error: {text}"),
            (_, Some(text)) => format!("internal error: {text}"),
            _ => "internal error".to_owned(),
        },
    };
    CString::new(message.replace('\0', "\\0")).unwrap_or_default().into_raw()
}

/// Hands a vector over to C.
unsafe fn give<T>(values: Vec<T>, out: *mut *mut T, out_len: *mut size_t) {
    let values = values.into_boxed_slice();
    *out_len = values.len();
    *out = Box::into_raw(values).cast();
}

/// A slice of C's; null stands for the empty one.
unsafe fn bytes<'a>(data: *const u8, len: usize) -> &'a [u8] {
    match len {
        0 => &[],
        _ => slice::from_raw_parts(data, len),
    }
}

/// The `count` texts that lie one after another at `data`.
unsafe fn texts<'a>(data: *const u8, lens: *const u64, count: usize) -> Vec<&'a [u8]> {
    let mut start = 0;
    let text = |i| {
        let len = *lens.add(i) as usize;
        start += len;
        bytes(data.wrapping_add(start - len), len)
    };
    (0..count).map(text).collect()
}
