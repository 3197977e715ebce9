"""Reads a shard that `pretrain data prepare` wrote with nothing but numpy and the layout of Megatron-LM's IndexedDataset
(megatron/core/datasets/indexed_dataset.py, _IndexReader), and compares it with what the shard says of itself. With --megatron it
reads it once more with Megatron's own IndexedDataset, and compares every document (pip install megatron-core==0.16.1 torch).

  python read_shard.py [--megatron] PREFIX...        # PREFIX.idx, PREFIX.bin, PREFIX.json
"""

import json
import struct
import sys

import numpy as np

DTYPES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 6: np.float64, 7: np.float32, 8: np.uint16}



def read(prefix, megatron):
    with open(prefix + ".idx", "rb") as f:
        assert f.read(9) == b"MMIDIDX\x00\x00", "not an index of Megatron-LM"
        assert struct.unpack("<Q", f.read(8)) == (1,), "another version"
        dtype = DTYPES[struct.unpack("<B", f.read(1))[0]]
        sequences, indices = struct.unpack("<QQ", f.read(16))
        at = f.tell()
    index = np.memmap(prefix + ".idx", mode="r")
    lengths = np.frombuffer(index, np.int32, sequences, at)
    pointers = np.frombuffer(index, np.int64, sequences, at + lengths.nbytes)
    documents = np.frombuffer(index, np.int64, indices, at + lengths.nbytes + pointers.nbytes)
    tokens = np.memmap(prefix + ".bin", dtype, "r")
    assert at + lengths.nbytes + pointers.nbytes + documents.nbytes == len(index), "the index has another length"
    assert lengths.sum() == len(tokens), "the sequences have another length than the tokens"
    assert np.array_equal(pointers, np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64)]) * tokens.itemsize), "the sequences do not follow each other"
    assert np.array_equal(documents, np.arange(sequences + 1)), "a document is not one sequence"
    said = json.load(open(prefix + ".json"))
    assert (said["documents"], said["tokens"], said["dtype"]) == (sequences, len(tokens), np.dtype(dtype).name), said
    assert tokens.max() < said["vocab_size"], "a token beyond the vocabulary"
    ends = {int(tokens[p // tokens.itemsize + n - 1]) for p, n in zip(pointers, lengths)}
    assert len(ends) == 1, f"documents end in different tokens: {ends}"
    by = "numpy"
    if megatron:
        import megatron.core
        from megatron.core.datasets.indexed_dataset import IndexedDataset

        by = f"numpy and Megatron-core {megatron.core.__version__}"
        theirs = IndexedDataset(prefix)
        assert len(theirs) == sequences, "Megatron finds another number of sequences"
        assert theirs.index.dtype == dtype, f"Megatron takes the tokens for {theirs.index.dtype}"
        assert np.array_equal(theirs.document_indices, documents), "Megatron finds other documents"
        assert np.array_equal(theirs.sequence_lengths, lengths), "Megatron finds documents of other lengths"
        for i, (p, n) in enumerate(zip(pointers // tokens.itemsize, lengths)):
            assert np.array_equal(theirs[i], tokens[p : p + n]), f"Megatron reads document {i} otherwise"
            assert np.array_equal(theirs.get(i, n // 2), tokens[p + n // 2 : p + n]), f"Megatron reads the middle of document {i} otherwise"
    print(f"{prefix}: {sequences} documents, {len(tokens)} tokens of {np.dtype(dtype).name}, each ends in token {ends.pop()}: by {by}, as the shard says")


prefixes = [a for a in sys.argv[1:] if a != "--megatron"]
if not prefixes:
    sys.exit("read_shard.py: no PREFIX; to mend it: read_shard.py [--megatron] OUTPUT/shards/SOURCE/train")
for prefix in prefixes:
    read(prefix, len(prefixes) < len(sys.argv) - 1)
