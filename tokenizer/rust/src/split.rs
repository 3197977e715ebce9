//! What training and encoding share: cutting text into pre-tokens, and the byte alphabet.

use crate::scan::{scan, PATTERN};
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};

/// The most text the pattern sees at once. Upstream's matcher backtracks, and gives up (and then
/// panics) on ten million spaces in a row.
const WINDOW: usize = 1 << 20;

/// Calls `f` with the pre-tokens of `text` in order. They cover the text: what lies between two
/// matches of the pattern is a pre-token too, as with `SplitDelimiterBehavior::Isolated`.
pub fn for_each_pretoken(split: &Split, text: &str, mut f: impl FnMut(&str)) {
    let known = matches!(&split.pattern, SplitPattern::Regex(p) if p == PATTERN);
    let mut rest = text;
    while !rest.is_empty() {
        let (window, after) = rest.split_at(window_end(rest));
        rest = after;
        if known {
            scan(window, |start, end| f(&window[start..end]));
            continue;
        }
        let mut emit = |start, end| {
            if start < end {
                f(&window[start..end])
            }
        };
        let mut previous = 0;
        for (start, end) in split.regex.find_iter(window) {
            emit(previous, start);
            emit(start, end);
            previous = end;
        }
        emit(previous, window.len());
    }
}

/// Where to cut a text longer than WINDOW: at the last line of it that begins without a space,
/// which no pre-token crosses. A megabyte without such a line is cut where it falls.
fn window_end(text: &str) -> usize {
    if text.len() <= WINDOW {
        return text.len();
    }
    let mut end = WINDOW;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let starts_line = |i: &usize| text[*i..].starts_with(|c: char| !c.is_whitespace());
    text[..end].match_indices('\n').map(|(i, _)| i + 1).rfind(starts_line).unwrap_or(end)
}

/// GPT-2's byte alphabet: one printable character for each byte, so that a vocabulary of strings
/// can hold any bytes. Printable Latin-1 stands for itself, the rest follow from U+0100 up.
pub fn byte_alphabet() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| match byte {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => byte as u8 as char,
        _ => {
            next += 1;
            char::from_u32(next - 1).expect("below the surrogates")
        }
    })
}
