//! Byte-level BPE on ids: what upstream's model does to a pre-token, without its strings and heap.

use crate::Result;
use rustc_hash::FxHashMap;
use tokenizers::models::bpe::BPE;

/// A pair's place in the order of learning, and the token it becomes.
#[derive(Clone, Copy)]
struct Merge {
    rank: u32,
    id: u32,
}

const NONE: Merge = Merge { rank: u32::MAX, id: 0 };

/// The merges of a vocabulary.
pub struct Merges {
    of: FxHashMap<(u32, u32), Merge>,
    bytes: [u32; 256],
}

/// The tokens of a pre-token under way: for each its id, and the merge with the one after it. Kept from word to word.
#[derive(Default)]
pub struct Parts {
    ids: Vec<u32>,
    ranks: Vec<u32>, // apart from the rest, so that the search for the least runs over nothing else
    merged: Vec<u32>,
}

impl Merges {
    /// The longest pre-token that `encode` is for: each merge looks at all parts, so its time is
    /// quadratic, and upstream's heap is faster beyond.
    pub const MAX_BYTES: usize = 256;

    /// None for a model that does more than merging. `bytes` are the ids of single bytes.
    pub fn of(model: &BPE, bytes: [u32; 256]) -> Result<Option<Self>> {
        let affix = |a: &Option<String>| a.as_ref().is_some_and(|s| !s.is_empty());
        if model.dropout.is_some()
            || model.ignore_merges
            || affix(&model.continuing_subword_prefix)
            || affix(&model.end_of_word_suffix)
        {
            return Ok(None);
        }
        let vocab = model.get_vocab();
        let file = serde_json::to_value(model)?;
        let pairs: Vec<(String, String)> = serde_json::from_value(file["merges"].clone())?;
        let mut of = FxHashMap::default();
        for (rank, (a, b)) in pairs.into_iter().enumerate() {
            let id = *vocab.get(&format!("{a}{b}")).ok_or("a merge without its token")?;
            of.insert((vocab[&a], vocab[&b]), Merge { rank: rank as u32, id });
        }
        Ok(Some(Self { of, bytes }))
    }

    /// Appends the ids of a pre-token: the pair learnt first is merged first, of several the leftmost.
    pub fn encode(&self, word: &[u8], parts: &mut Parts, out: &mut Vec<u32>) {
        let Parts { ids, ranks, merged } = parts;
        ids.clear();
        ids.extend(word.iter().map(|&b| self.bytes[b as usize]));
        ranks.clear();
        ranks.resize(ids.len(), NONE.rank);
        merged.clear();
        merged.resize(ids.len(), NONE.id);
        for i in 1..ids.len() {
            let m = self.merge(ids[i - 1], ids[i]);
            (ranks[i - 1], merged[i - 1]) = (m.rank, m.id);
        }
        loop {
            let least = ranks.iter().fold(NONE.rank, |a, &b| a.min(b));
            if least == NONE.rank {
                break;
            }
            let at = ranks.iter().position(|&r| r == least).expect("it was just found");
            ids[at] = merged[at];
            ids.remove(at + 1);
            ranks.remove(at + 1);
            merged.remove(at + 1);
            let after = ids.get(at + 1).map_or(NONE, |&b| self.merge(ids[at], b));
            (ranks[at], merged[at]) = (after.rank, after.id);
            if at > 0 {
                let m = self.merge(ids[at - 1], ids[at]);
                (ranks[at - 1], merged[at - 1]) = (m.rank, m.id);
            }
        }
        out.extend_from_slice(ids);
    }

    fn merge(&self, a: u32, b: u32) -> Merge {
        self.of.get(&(a, b)).copied().unwrap_or(NONE)
    }
}
