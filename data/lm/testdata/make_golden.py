"""Writes golden.json: `python make_golden.py`. Interpolated modified Kneser-Ney by its definition (Chen and Goodman 1998, 4.1.3; the
treatment of sentence starts, of the unknown word and of the uniform distribution at the bottom is KenLM's), over dictionaries
of tuples. Shares nothing with the Go code: no hashes, no backoff weights, recursion instead of tables. Python 3 alone.
"""

import json
import math
import random
from collections import Counter, defaultdict
from pathlib import Path

BOS, EOS, UNK = "<s>", "</s>", "<unk>"


class KneserNey:
    def __init__(self, texts, order, min_count):
        self.order = order
        frequency = Counter(w for t in texts for w in t)
        self.known = {w for w, n in frequency.items() if n >= min_count}
        texts = [[w if w in self.known else UNK for w in t] for t in texts]
        # Counts: of the highest order and after <s> how often, of others how many different words stand before.
        raw = Counter()
        for t in texts:
            s = [BOS, *t, EOS]
            for end in range(1, len(s)):
                for n in range(1, order + 1):
                    if end - n + 1 >= 0:
                        raw[tuple(s[end - n + 1 : end + 1])] += 1
        before = defaultdict(set)
        for g in raw:
            if len(g) > 1:
                before[g[1:]].add(g[0])
        self.count = {g: c if len(g) == order or g[0] == BOS else len(before[g]) for g, c in raw.items()}
        self.vocabulary = {g[0] for g in self.count if len(g) == 1} | {UNK}
        self.after = defaultdict(dict)  # context -> word -> count
        for g, c in self.count.items():
            self.after[g[:-1]][g[-1]] = c
        self.discounts = {n: self.estimate(Counter(c for g, c in self.count.items() if len(g) == n)) for n in range(1, order + 1)}

    @staticmethod
    def estimate(n):
        if not (n[1] and n[2] and n[3]):
            return [0, 0.5, 1, 1.5]
        y = n[1] / (n[1] + 2 * n[2])
        d = [0] + [k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)]
        return d if all(0 <= d[k] <= k for k in (1, 2, 3)) else [0, 0.5, 1, 1.5]

    def p(self, word, context):
        context = tuple(context)[-(self.order - 1) :] if self.order > 1 else ()
        lower = 1 / len(self.vocabulary) if not context else self.p(word, context[1:])
        seen = self.after.get(context)
        if not seen:
            return lower
        d = self.discounts[len(context) + 1]
        total = sum(seen.values())
        c = seen.get(word, 0)
        given = sum(d[min(k, 3)] for k in seen.values())
        return (c - d[min(c, 3)]) / total + given / total * lower

    def log_probabilities(self, text):
        s = [BOS, *(w if w in self.known else UNK for w in text), EOS]
        return [math.log(self.p(s[i], s[:i])) for i in range(1, len(s))]


def main():
    rng = random.Random(1)
    words = "the a cat dog sat ran on under mat tree and then saw big red old".split()

    def sentence():
        out, last = [], ""
        for _ in range(rng.randint(3, 14)):
            last = rng.choice([w for w in words if w != last][: rng.choice([4, 8, 16])])
            out.append(last)
        if rng.random() < 0.1:
            out.insert(rng.randint(0, len(out)), f"rare{rng.choice('abcdefgh')}")
        return out

    train = [sentence() for _ in range(300)]
    test = [sentence() for _ in range(20)] + [["the"], ["unseen", "words", "only"], "the cat sat on the mat and then the dog saw the cat".split()]
    cases = []
    for order, min_count in [(1, 1), (2, 1), (3, 2), (5, 2), (5, 1)]:
        model = KneserNey(train, order, min_count)
        for context in [(), ("the",), ("cat", "sat"), ("never", "seen")]:
            assert abs(sum(model.p(w, context) for w in model.vocabulary) - 1) < 1e-9
        cases.append({
            "order": order, "min_count": min_count, "vocabulary": len(model.vocabulary),
            "log_probabilities": [[round(x, 9) for x in model.log_probabilities(t)] for t in test],
        })
    golden = {"train": [" ".join(t) for t in train], "test": [" ".join(t) for t in test], "cases": cases}
    Path(__file__).with_name("golden.json").write_text(json.dumps(golden, indent=1) + "\n")


main()
