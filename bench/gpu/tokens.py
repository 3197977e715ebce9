"""The peers' data: the tokens of a shard that `pretrain data prepare` wrote, in the layout of Megatron-LM's IndexedDataset."""

import json

import numpy as np


def batches(prefix, sequences, seq_len, count):
    """So many batches [sequences, seq_len + 1] one after the other, and again from the start where the text ends; PREFIX.bin and PREFIX.json are the shard."""
    tokens = np.memmap(prefix + ".bin", json.load(open(prefix + ".json"))["dtype"], "r")
    at = np.arange(count * sequences * (seq_len + 1)) % len(tokens)
    return np.asarray(tokens[at]).astype(np.int32).reshape(count, sequences, seq_len + 1)
