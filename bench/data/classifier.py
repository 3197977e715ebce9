"""Our classifier beside fastText's on the same data: `python classifier.py PRETRAIN FILE...`. PRETRAIN is the binary, FILEs are JSON Lines of
{"text", "label"}, .zst or plain. A fifth of each, chosen by hash, is the test set. fastText gets the tokens that we see (lower
case, one for each CJK character), separated by spaces, and the better of two settings: its defaults, or lr 0.5 and 25 epochs."""

import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time

import fasttext
import zstandard

# As data/label reads a text.
CJK = "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
TOKEN = re.compile(f"[{CJK}]|[^\\W_{CJK}]+|[^\\w\\s]|_")


def tokens(text):
    return " ".join(TOKEN.findall(text.lower())[:1024])


def records(path):
    with open(path, "rb") as f:
        raw = zstandard.ZstdDecompressor().stream_reader(f) if path.endswith(".zst") else f
        for line in io.TextIOWrapper(raw, encoding="utf-8"):
            d = json.loads(line)
            if "label" in d:
                yield d["text"], str(d["label"])


def scores(pairs):
    labels = sorted({a for a, _ in pairs})
    f1 = []
    for x in labels:
        hit = sum(a == x == b for a, b in pairs)
        f1.append(2 * hit / (sum(a == x for a, _ in pairs) + sum(b == x for _, b in pairs)))
    return sum(a == b for a, b in pairs) / len(pairs), sum(f1) / len(f1)


def main():
    pretrain, files = os.path.abspath(sys.argv[1]), sys.argv[2:]
    print("| data | examples | labels | ours: accuracy | macro F1 | training, s | fastText: accuracy | macro F1 | training, s |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for path in files:
        with tempfile.TemporaryDirectory() as tmp:
            train, test = [], []
            for text, label in records(path):
                (test if hashlib.sha1(text.encode()).digest()[0] < 51 else train).append((text, label))
            random.Random(1).shuffle(train)  # fastText takes the examples as they come
            for name, part in (("train", train), ("test", test)):
                with open(f"{tmp}/{name}.jsonl", "w") as f:
                    f.writelines(json.dumps({"text": t, "label": l}) + "\n" for t, l in part)
            with open(f"{tmp}/train.txt", "w") as f:
                f.writelines(f"__label__{l} {tokens(t)}\n" for t, l in train)
            start = time.time()
            subprocess.run([pretrain, "data", "train-classifier", "--holdout", "0%", "--input", f"{tmp}/train.jsonl", "--out", f"{tmp}/m.label"],
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            ours_time = time.time() - start
            out = subprocess.run([pretrain, "data", "labels", "eval", "--input", f"{tmp}/test.jsonl", "--model", f"{tmp}/m.label", "--json"],
                                 check=True, capture_output=True, text=True)
            ours = json.loads(out.stdout)
            best = (0.0, 0.0, 0.0)
            for lr, epoch in ((0.1, 5), (0.5, 25)):
                start = time.time()
                m = fasttext.train_supervised(f"{tmp}/train.txt", lr=lr, epoch=epoch, wordNgrams=2, bucket=1 << 20, thread=1, verbose=0)
                spent = time.time() - start
                # Below m.predict, which NumPy 2 breaks.
                flat = [m.f.predict(tokens(t) + "\n", 1, 0.0, "strict")[0][1].removeprefix("__label__") for t, _ in test]
                best = max(best, (*scores(list(zip([l for _, l in test], flat))), spent))
            name = os.path.basename(path).split(".")[0]
            print(f"| {name} | {len(train) + len(test)} | {len({l for _, l in train})} | {ours['accuracy']:.4f} | {ours['macro_f1']:.4f} | {ours_time:.1f} "
                  f"| {best[0]:.4f} | {best[1]:.4f} | {best[2]:.1f} |", flush=True)


main()
