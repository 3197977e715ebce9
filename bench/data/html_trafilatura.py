"""Compares our main text of web pages with Python's trafilatura on the same pages, and both with the text that the pages' own
collection expects. F1 is over bags of words; a Chinese character is a word.

  go run ./bench/data/html PAGES.jsonl.zst > ours.jsonl
  python html_trafilatura.py PAGES.jsonl.zst ours.jsonl
"""

import io
import json
import re
import sys
import time
from collections import Counter

import trafilatura
import zstandard


def words(text):
    return Counter(re.findall(r"[一-鿿]|[^\W_一-鿿]+", text or ""))


def f1(a, b):
    common = sum((a & b).values())
    return 2 * common / max(1, sum(a.values()) + sum(b.values()))


pages_file, ours_file = sys.argv[1:]
ours = {p["id"]: p for p in map(json.loads, open(ours_file, encoding="utf-8"))}
pages = [json.loads(line) for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(open(pages_file, "rb")), encoding="utf-8")]
scores = {"ours and trafilatura": [], "ours and expected": [], "trafilatura and expected": []}
empty, seconds, size, apart = Counter(), 0.0, 0, []
for page in pages:
    begin = time.process_time()
    theirs = trafilatura.extract(page["text"], favor_precision=True, include_comments=False, include_tables=True, fast=True)
    seconds += time.process_time() - begin
    size += len(page["text"].encode())
    a, b, want = words(ours[page["id"]]["text"]), words(theirs), words(page["expected"])
    empty["ours"] += not a
    empty["trafilatura"] += not b
    for name, score in zip(scores, (f1(a, b), f1(a, want), f1(b, want))):
        scores[name].append(score)
    apart.append((f1(a, b), page["source"], sum(a.values()), sum(b.values()), sum(want.values())))

mean = lambda x: sum(x) / len(x)
print(f"{len(pages)} pages, {size / 1e6:.1f} MB of HTML; trafilatura {trafilatura.__version__}; without a text: {dict(empty)}")
print("| | mean F1 | median |\n|---|---:|---:|")
for name, x in scores.items():
    print(f"| {name} | {mean(x):.3f} | {sorted(x)[len(x) // 2]:.3f} |")
print(f"MB/s: ours {size / 1e6 / sum(p['seconds'] for p in ours.values()):.2f}, trafilatura {size / 1e6 / seconds:.2f}")
print("furthest apart (F1, page, words of ours, trafilatura, expected):")
for row in sorted(apart)[:8]:
    print(" ", *row)
