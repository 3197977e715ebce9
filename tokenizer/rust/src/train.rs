//! Training a byte-level BPE from documents that arrive in chunks.
//!
//! Only the distinct pre-tokens and their counts are kept, so memory follows the vocabulary of
//! the text and not its size. The merges are upstream's: `BpeTrainer::do_train` on the counts
//! its `feed` would have made of all documents at once.

use crate::split::{byte_alphabet, for_each_pretoken};
use crate::Result;
use ahash::AHashMap;
use compact_str::CompactString;
use rayon::prelude::*;
use tokenizers::models::bpe::{BpeTrainer, BPE};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

/// The most bytes of a pre-token that are learned from as one. Upstream moves the rest of a word at each merge in it, and looks
/// through the whole of each word that has the pair: eight megabytes of one letter kept it busy for twelve minutes. Words
/// are shorter; what is longer is base64, or a page of old Chinese, of which a token is a small part either way.
const WORD: usize = 256;

type Counts = AHashMap<CompactString, u64>;

pub struct Trainer {
    split: Split,
    vocab_size: usize,
    min_frequency: u64,
    special_tokens: Vec<String>,
    counts: Counts,
}

impl Trainer {
    pub fn new(
        pattern: &str,
        vocab_size: usize,
        min_frequency: u64,
        special_tokens: Vec<String>,
    ) -> Result<Self> {
        let split = Split::new(
            SplitPattern::Regex(pattern.to_owned()),
            SplitDelimiterBehavior::Isolated,
            false,
        )?;
        Ok(Self { split, vocab_size, min_frequency, special_tokens, counts: Counts::new() })
    }

    /// Counts the pre-tokens of the documents, in parallel. Bytes that are not UTF-8 end a
    /// pre-token and are not counted: they are encoded byte by byte (see encode.rs), so no
    /// merge could serve them.
    pub fn feed(&mut self, documents: &[&[u8]]) {
        let split = &self.split;
        let partial: Vec<Counts> = documents
            .par_iter()
            .fold(Counts::new, |mut counts, document| {
                for chunk in document.utf8_chunks() {
                    for_each_pretoken(split, chunk.valid(), |word| {
                        for_each_piece(word, |piece| add(&mut counts, piece, 1))
                    });
                }
                counts
            })
            .collect();
        for counts in partial {
            if self.counts.is_empty() {
                self.counts = counts;
                continue;
            }
            for (word, count) in counts {
                *self.counts.entry(word).or_default() += count;
            }
        }
    }

    /// Learns the merges from the documents fed so far, forgets them, and returns tokenizer.json.
    pub fn train(&mut self) -> Result<String> {
        let alphabet = byte_alphabet();
        let counts: Counts = std::mem::take(&mut self.counts)
            .into_iter()
            .map(|(word, count)| (word.bytes().map(|b| alphabet[b as usize]).collect(), count))
            .collect();
        let special_tokens = self.special_tokens.iter();
        let trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(self.vocab_size)
            .min_frequency(self.min_frequency)
            .special_tokens(special_tokens.map(|t| AddedToken::from(t.as_str(), true)).collect())
            .initial_alphabet(alphabet.into_iter().collect())
            .build();
        let mut model = BPE::default();
        let special_tokens = trainer.do_train(&counts, &mut model)?;

        let bytes = ByteLevel::new(false, true, false);
        let mut tokenizer = Tokenizer::new(model);
        tokenizer
            .with_pre_tokenizer(Some(Sequence::new(vec![self.split.clone().into(), bytes.into()])))
            // A decoder's options do nothing; these are the ones the Python package writes.
            .with_decoder(Some(ByteLevel::default()));
        tokenizer.add_special_tokens(&special_tokens);
        tokenizer.to_string(true)
    }
}

/// Calls `f` with the word, in pieces of at most WORD bytes where it is longer.
fn for_each_piece(mut word: &str, mut f: impl FnMut(&str)) {
    while word.len() > WORD {
        let end = (WORD - 3..=WORD).rfind(|&i| word.is_char_boundary(i)).unwrap_or(WORD);
        let (piece, rest) = word.split_at(end);
        f(piece);
        word = rest;
    }
    f(word)
}

/// Adds without building a key for a word already there, which most are.
fn add(counts: &mut Counts, word: &str, n: u64) {
    match counts.get_mut(word) {
        Some(count) => *count += n,
        None => {
            counts.insert(word.into(), n);
        }
    }
}
