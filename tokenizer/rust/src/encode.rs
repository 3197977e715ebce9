//! Encoding batches of texts in parallel.
//!
//! Upstream's pipeline keeps the alignment of every character through normalisation and
//! pre-tokenisation. For a byte-level BPE without normaliser that is all overhead: ids depend
//! on the pre-token alone, and text repeats its pre-tokens. So such a tokenizer is run
//! directly, pattern → cache of pre-tokens → merges on a miss, and every other kind goes through
//! upstream. The ids are the same either way; hf_test.go holds it to that.

use crate::merge::{Merges, Parts};
use crate::split::{byte_alphabet, for_each_pretoken};
use crate::Result;
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use std::sync::Mutex;
use tokenizers::pre_tokenizers::split::Split;
use tokenizers::{Model, ModelWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

/// Pre-tokens a cache holds before it starts afresh: about 10 MB, several times the distinct
/// pre-tokens that make up 99% of a text.
const CACHE_ENTRIES: usize = 1 << 17;
/// Longer pre-tokens hardly repeat.
const CACHE_WORD_BYTES: usize = 64;

pub struct Encoder {
    tokenizer: Tokenizer,
    direct: Option<Direct>,
    /// One for each thread of the pool and one, the first, for callers from outside.
    caches: Vec<Mutex<Cache>>,
}

/// What the direct path needs of a byte-level BPE.
struct Direct {
    split: Split,
    alphabet: [char; 256],
    byte_ids: [u32; 256],
    merges: Option<Merges>, // None: upstream's model, which does more than merging
}

/// Ids by pre-token: `words` gives each one's range of `ids`.
#[derive(Default)]
struct Cache {
    words: FxHashMap<Box<str>, (u32, u32)>,
    ids: Vec<u32>,
    parts: Parts, // of the pre-token under way
}

impl Encoder {
    pub fn new(json: &[u8]) -> Result<Self> {
        let mut tokenizer = Tokenizer::from_bytes(json)?;
        // Text is data: "</s>" in a document is four characters, never the end of it.
        tokenizer.set_encode_special_tokens(true);
        // A file saved for fine-tuning may cut or pad what it encodes. A corpus must come out whole.
        tokenizer.with_truncation(None)?;
        tokenizer.with_padding(None);
        let direct = Direct::of(&tokenizer)?;
        let caches = (0..=rayon::current_num_threads()).map(|_| Default::default()).collect();
        Ok(Self { tokenizer, direct, caches })
    }

    /// Ids of each text, without special tokens added. A byte-level BPE is exact on any bytes:
    /// those that are not UTF-8 become their single-byte tokens. Other kinds see U+FFFD there.
    pub fn encode_batch(&self, texts: &[&[u8]]) -> Result<Vec<Vec<u32>>> {
        match texts {
            [text] => Ok(vec![self.encode(text)?]),
            _ => texts.par_iter().map(|text| self.encode(text)).collect(),
        }
    }

    fn encode(&self, text: &[u8]) -> Result<Vec<u32>> {
        let Some(direct) = &self.direct else {
            let text = String::from_utf8_lossy(text);
            return Ok(self.tokenizer.encode_fast(text, false)?.get_ids().to_vec());
        };
        let thread = rayon::current_thread_index().map_or(0, |i| i + 1);
        // Callers from outside the pool may meet at one cache; whoever comes second goes without.
        let mut own = Cache::default();
        let mut shared = self.caches.get(thread).and_then(|c| c.try_lock().ok());
        let cache = shared.as_deref_mut().unwrap_or(&mut own);

        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut result = Ok(());
        for chunk in text.utf8_chunks() {
            for_each_pretoken(&direct.split, chunk.valid(), |word| {
                if result.is_ok() {
                    result = direct.encode_word(self.tokenizer.get_model(), cache, word, &mut ids);
                }
            });
            ids.extend(chunk.invalid().iter().map(|&b| direct.byte_ids[b as usize]));
        }
        result.map(|()| ids)
    }
}

impl Direct {
    /// Some for exactly the pipelines whose ids depend on the pre-token alone.
    fn of(tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let ModelWrapper::BPE(model) = tokenizer.get_model() else { return Ok(None) };
        let Some(PreTokenizerWrapper::Sequence(steps)) = tokenizer.get_pre_tokenizer() else {
            return Ok(None);
        };
        let [PreTokenizerWrapper::Split(split), PreTokenizerWrapper::ByteLevel(bytes)] =
            steps.as_ref()
        else {
            return Ok(None);
        };
        let plain = tokenizer.get_normalizer().is_none()
            && split.behavior == SplitDelimiterBehavior::Isolated
            && !split.invert
            && !bytes.add_prefix_space
            && !bytes.use_regex
            && model.dropout.is_none()
            // Ordinary added tokens are cut out of the text before everything else.
            && tokenizer.get_added_tokens_decoder().values().all(|t| t.special);
        if !plain {
            return Ok(None);
        }
        let alphabet = byte_alphabet();
        let mut byte_ids = [0; 256];
        for (id, c) in byte_ids.iter_mut().zip(alphabet) {
            let Some(known) = model.token_to_id(c.encode_utf8(&mut [0; 4])) else {
                return Ok(None);
            };
            *id = known;
        }
        let merges = Merges::of(model, byte_ids)?;
        Ok(Some(Self { split: split.clone(), alphabet, byte_ids, merges }))
    }

    fn encode_word(
        &self,
        model: &impl Model,
        cache: &mut Cache,
        word: &str,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        if let Some(&(start, end)) = cache.words.get(word) {
            out.extend_from_slice(&cache.ids[start as usize..end as usize]);
            return Ok(());
        }
        let from = out.len();
        match &self.merges {
            Some(merges) if word.len() <= Merges::MAX_BYTES => {
                merges.encode(word.as_bytes(), &mut cache.parts, out)
            }
            _ => {
                let mapped: String = word.bytes().map(|b| self.alphabet[b as usize]).collect();
                out.extend(model.tokenize(&mapped)?.iter().map(|token| token.id));
            }
        }
        if word.len() <= CACHE_WORD_BYTES {
            cache.insert(word, &out[from..]);
        }
        Ok(())
    }
}

impl Cache {
    fn insert(&mut self, word: &str, ids: &[u32]) {
        if self.words.len() == CACHE_ENTRIES {
            self.words.clear();
            self.ids.clear();
        }
        let start = self.ids.len() as u32;
        self.ids.extend_from_slice(ids);
        self.words.insert(word.into(), (start, self.ids.len() as u32));
    }
}
