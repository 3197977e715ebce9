#!/usr/bin/env python3
"""An independent reader and writer of Megatron's indexed dataset, in numpy. Needs nothing of this repository.

    check_megatron.py read PREFIX    print the documents as JSON: a list of documents, each a list of sequences of tokens
    check_megatron.py write DIR      write the golden shards of the Go test: DIR/uint16, DIR/int32, DIR/sentences
"""
import json
import struct
import sys

import numpy as np

CODES = {4: np.int32, 8: np.uint16}


def read(prefix):
    raw = open(prefix + ".idx", "rb").read()
    magic, version, code, sequences, indices = struct.unpack_from("<9sQBQQ", raw)
    assert magic == b"MMIDIDX\0\0" and version == 1, (magic, version)
    at, dtype = 34, np.dtype(CODES[code]).newbyteorder("<")
    lengths = np.frombuffer(raw, "<i4", sequences, at)
    pointers = np.frombuffer(raw, "<i8", sequences, at + lengths.nbytes)
    starts = np.frombuffer(raw, "<i8", indices, at + lengths.nbytes + pointers.nbytes)
    assert at + lengths.nbytes + pointers.nbytes + starts.nbytes == len(raw), "trailing bytes"
    tokens = np.fromfile(prefix + ".bin", np.uint8)
    seqs = [np.frombuffer(tokens, dtype, n, p).tolist() for n, p in zip(lengths, pointers)]
    return [seqs[a:b] for a, b in zip(starts, starts[1:])]


def write(prefix, dtype, documents):
    code = {v: k for k, v in CODES.items()}[dtype]
    seqs = [np.array(s, dtype) for d in documents for s in d]
    np.concatenate(seqs).tofile(prefix + ".bin")
    lengths = np.array([len(s) for s in seqs], "<i4")
    pointers = np.concatenate([[0], np.cumsum([s.nbytes for s in seqs])[:-1]]).astype("<i8")
    starts = np.concatenate([[0], np.cumsum([len(d) for d in documents])]).astype("<i8")
    with open(prefix + ".idx", "wb") as f:
        f.write(struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 1, code, len(seqs), len(starts)))
        f.write(lengths.tobytes() + pointers.tobytes() + starts.tobytes())


if __name__ == "__main__":
    verb, target = sys.argv[1:]
    if verb == "read":
        json.dump(read(target), sys.stdout)
    else:
        write(target + "/uint16", np.uint16, [[[1, 2, 3, 0]], [[65535, 0]], [[7, 0]]])
        write(target + "/int32", np.int32, [[[1, 2, 3, 0]], [[122752, 0]], [[7, 0]]])
        write(target + "/sentences", np.uint16, [[[1, 2], [3, 0]], [[4, 0]], [[5], [6], [0]]])
