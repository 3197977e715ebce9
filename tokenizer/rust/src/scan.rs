//! Llama 3's pattern as a scanner: what the regular expression matches, ten times as fast.
//!
//! Which characters are letters, numbers and spaces is asked of the regular expression library
//! itself, so that the two cannot differ by a version of Unicode; hf_test.go compares them on
//! every character.

use std::sync::OnceLock;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::SplitDelimiterBehavior;

/// `tokenizer.pattern` of Go, and of every Llama 3.
pub const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Letter,
    Number,
    Space,
    Break, // \r and \n
    Other,
}
use Class::*;

/// Calls `f` with the start and end of each match of PATTERN in `text`. They cover it.
pub fn scan(text: &str, mut f: impl FnMut(usize, usize)) {
    let mut at = 0;
    while at < text.len() {
        let end = next(text, at);
        f(at, end);
        at = end;
    }
}

/// Where the match that begins at `start` ends. The alternatives in the order of PATTERN.
fn next(text: &str, start: usize) -> usize {
    let (first, second) = class(text, start);
    if text.as_bytes()[start] == b'\'' {
        let n = contraction(&text[second..]);
        if n > 0 {
            return second + n;
        }
    }
    match first {
        Letter => run(text, second, |c| c == Letter),
        Number => {
            let mut end = second;
            for _ in 0..2 {
                match at(text, end) {
                    Some((Number, next)) => end = next,
                    _ => break,
                }
            }
            end
        }
        Space | Other if matches!(at(text, second), Some((Letter, _))) => {
            run(text, second, |c| c == Letter)
        }
        Other => symbols(text, second),
        Space if text.as_bytes()[start] == b' ' && matches!(at(text, second), Some((Other, _))) => {
            symbols(text, second)
        }
        Space | Break => spaces(text, start),
    }
}

/// `[^\s\p{L}\p{N}]*[\r\n]*`
fn symbols(text: &str, from: usize) -> usize {
    run(text, run(text, from, |c| c == Other), |c| c == Break)
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+` at white space: up to its last line break; without one, all of it
/// at the end of the text, and all but the last character before anything else, if it has more.
fn spaces(text: &str, start: usize) -> usize {
    let (mut end, mut last, mut after_break) = (start, start, None);
    while let Some((c @ (Space | Break), next)) = at(text, end) {
        (last, end) = (end, next);
        if c == Break {
            after_break = Some(end);
        }
    }
    match after_break {
        Some(i) => i,
        None if end == text.len() || last == start => end,
        None => last,
    }
}

/// The length of `s`, `t`, `re`, `ve`, `m`, `ll` or `d`, in any case, that `rest` begins with; 0: of none.
fn contraction(rest: &str) -> usize {
    let b = rest.as_bytes();
    let lower = |i: usize| b.get(i).map_or(0, |c| c.to_ascii_lowercase());
    match (lower(0), lower(1)) {
        (b's' | b't' | b'm' | b'd', _) => 1,
        (b'r' | b'v', b'e') | (b'l', b'l') => 2,
        _ if rest.starts_with('ſ') => 'ſ'.len_utf8(), // an s to the regular expression
        _ => 0,
    }
}

/// The end of the run of characters from `from` on whose class `f` takes.
fn run(text: &str, mut from: usize, f: impl Fn(Class) -> bool) -> usize {
    while let Some((c, next)) = at(text, from) {
        if !f(c) {
            break;
        }
        from = next;
    }
    from
}

/// The class of the character at `i` and where the next one begins; None at the end.
#[inline]
fn at(text: &str, i: usize) -> Option<(Class, usize)> {
    (i < text.len()).then(|| class(text, i))
}

#[inline]
fn class(text: &str, i: usize) -> (Class, usize) {
    let b = text.as_bytes()[i];
    if b < 0x80 {
        return (ASCII[b as usize], i + 1);
    }
    let c = text[i..].chars().next().expect("a character begins here");
    let code = c as usize;
    let class = match code {
        0x4E00..=0x9FFF => Letter,
        _ => PAGES[code >> 8].get_or_init(|| page(code >> 8))[code & 0xFF],
    };
    (class, i + c.len_utf8())
}

static ASCII: [Class; 128] = {
    let mut table = [Other; 128];
    let mut i = 0;
    while i < 128 {
        table[i] = match i as u8 {
            b'\r' | b'\n' => Break,
            b'\t' | 0x0B | 0x0C | b' ' => Space,
            b'0'..=b'9' => Number,
            b'a'..=b'z' | b'A'..=b'Z' => Letter,
            _ => Other,
        };
        i += 1;
    }
    table
};

/// Classes of 256 characters each, made when the first of them is met.
static PAGES: [OnceLock<Box<[Class; 256]>>; 0x1100] = [const { OnceLock::new() }; 0x1100];

fn page(number: usize) -> Box<[Class; 256]> {
    let mut table = Box::new([Other; 256]);
    let text: String =
        (number << 8..(number + 1) << 8).filter_map(|c| char::from_u32(c as u32)).collect();
    for (pattern, class) in [(r"\p{L}", Letter), (r"\p{N}", Number), (r"\s", Space)] {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
            .expect("a class is a regular expression");
        for (start, _) in split.regex.find_iter(&text) {
            let c = text[start..].chars().next().expect("a match is a character");
            table[c as usize & 0xFF] = class;
        }
    }
    table
}
