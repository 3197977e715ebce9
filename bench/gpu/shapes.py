"""The models of the GPU benchmark, what a token of them costs, and the batches that fit."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A MiniCPM decoder with tied embeddings, named as in the program's model section."""

    d_model: int
    d_ff: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    seq_len: int

    def parameters(self):
        d, q, kv = self.d_model, self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        layer = 2 * d * q + 2 * d * kv + 3 * d * self.d_ff + 2 * d
        return self.num_layers * layer + d + self.vocab_size * d

    def flops(self):
        """Of one token, forward and backward: 6·N with the output projection once, and attention over the causal half."""
        return {"dense": 6 * self.parameters(), "attention": 6 * self.num_layers * self.seq_len * self.num_heads * self.head_dim}


# MiniCPM's tables 2 and 8; the ladder's sizes with the vocabulary of the 2.4B.
SHAPES = {
    "0.1b": Shape(768, 1920, 16, 12, 12, 64, 122753, 4096),
    "0.5b": Shape(1344, 3360, 24, 21, 21, 64, 122753, 4096),
    "1.2b": Shape(1536, 3840, 52, 24, 8, 64, 73440, 4096),
    "2.4b": Shape(2304, 5760, 40, 36, 36, 64, 122753, 4096),
}
SMALL = Shape(512, 1280, 2, 8, 8, 64, 32768, 1024)  # for what is to be quick
SMOKE = {name: Shape(64, 160, layers, 4, kv, 16, 32768, 64) for name, layers, kv in (("0.1b", 1, 4), ("0.5b", 2, 4), ("1.2b", 2, 2), ("2.4b", 3, 4))}

# Sequences at once and what is recomputed, on a GPU of 80 GB, by the compiled memory of docs/performance.md ("Compiled for a GPU that is
# not there"), and of 141 GB, where twice the sequences take less than twice the memory. 2.4b has few: 56 steps and saving are one part.
BATCH = {
    "0.1b": {80: (16, "none"), 141: (32, "none")},
    "0.5b": {80: (8, "none"), 141: (16, "none")},
    "1.2b": {80: (4, "none"), 141: (8, "none")},
    "2.4b": {80: (4, "layer"), 141: (4, "layer")},
}


def batch(size, memory_gb):
    return BATCH[size][141 if memory_gb > 100 else 80]
