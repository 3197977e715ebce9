"""Writes the goldens of this folder with the Python package: an implementation that shares neither our trainer's feed nor
our encoder with us. Run it where `pip install tokenizers==0.22.2` was done:

    python tokenizer/testdata/golden.py

corpus.json         documents to train on
tokenizer.json      the byte-level BPE trained on them
cases.json          texts and what it makes of them
sentencepiece.json  a small tokenizer.json in Llama 2's and MiniCPM's style, with the same texts, ids and decoded texts
"""

import json
import pathlib

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
VOCAB_SIZE = 768
SPECIAL = ["<s>", "</s>", "<用户>", "<AI>", "<|im_start|>", "<|im_end|>"]
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

ENGLISH = """A learning rate that warms up, stays and then decays lets one run serve many lengths of training.
The stable stage is the trunk; each decay is a branch, and it's cheap to grow another one from a checkpoint.
We don't know the best mixture before we've tried it, so the model trains on what we'll measure it with.
Loss is measured in nats per token, but bits per byte do not depend on the tokenizer, and they're what we report."""
CHINESE = """小模型的预训练需要高质量的数据和稳定的学习率。学习率先升高，再保持不变，最后迅速衰减。
数据的质量决定模型的质量：先清洗，再去重，然后按照配比混合。模型训练的每一步都可以重现。
稳定阶段的检查点是主干，衰减阶段是分支；从同一个检查点可以长出许多分支。训练数据，训练模型，评估模型。"""
CODE = '''func (s *Scanner) next() {
	if s.rdOffset < len(s.src) {
		s.offset = s.rdOffset
		if s.ch == '\\n' {
			s.lineOffset = s.offset
			s.file.AddLine(s.offset)
		}
		r, w := rune(s.src[s.rdOffset]), 1
		switch {
		case r == 0:
			s.error(s.offset, "illegal character NUL")
		case r >= utf8.RuneSelf:
			r, w = utf8.DecodeRune(s.src[s.rdOffset:])
		}
		s.rdOffset += w
		return
	}
	for i := 0; i < 1024; i++ { sum += 0x7fffffff ^ i }
}
'''

CORPUS = [ENGLISH, CHINESE, CODE] + [a + "\n" + b for a in (ENGLISH, CHINESE, CODE) for b in (CODE, ENGLISH)]

TEXTS = [
    "", " ", "\n", "\t", "a", "中", "🙂", "\0", "a\0b", "\0\0\0中\0", "</s>", "<s>hello</s>", "<|im_start|>user\n你好<|im_end|>",
    "hello world", "Hello, World!", "  two  spaces  ", "trailing   ", "\n\n\n", "a\r\nb\rc\n", "tab\tand\n\tindent",
    "it's we'll they're I'D 'tis", "don’t", "0", "12", "123", "1234", "12345678901234567890", "3.14159e-10", "１２３４五六", "Ⅷ½",
    "学习率先升高，再保持不变。", "模型model训练train数据", "《红楼梦》第一回　甄士隐", "これはテストです。", "한국어 텍스트", "Привет, мир",
    "naïve café résumé", "e\u0301 vs é", "👨‍👩‍👧‍👦 family", "🇨🇳🇩🇪", "\u200b\ufeffzero width", "\u3000全角空格\u3000",
    "\u2028line sep\u2029", "\x1b[31mred\x1b[0m", "\x7f\x80\x9f\xa0\xad\xff", "\ufffd\uffff\U0010ffff",
    "func main() {\n\tfmt.Println(\"hi\")\n}\n", "if err != nil {\n\t\treturn nil, err\n\t}", "x := map[string][]int{}",
    "for (int i=0;i<n;++i) a[i]+=b[i];", "        deep indent", "a" * 300, " " * 300, "=" * 99 + "\n", "-\n" * 20, "ab" * 100,
    "中" * 120, "!?.,;:" * 10, "https://example.com/a?b=c&d=%20#e", ENGLISH + CHINESE + CODE,
]


def byte_level():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False),
    ])
    t.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, min_frequency=2, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.encode_special_tokens = True
    return t


def sentencepiece():
    byte_tokens = [f"<0x{b:02X}>" for b in range(256)]
    t = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    # No Chinese, so that Chinese falls back to bytes. (limit_alphabet would do too, but breaks ties at random.)
    t.train_from_iterator((ENGLISH + " " + CODE).split(" "), trainers.BpeTrainer(
        vocab_size=500, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"] + byte_tokens))
    # The trainer made the byte tokens special; in Llama's files they are ordinary entries of the vocabulary.
    data = json.loads(t.to_str())
    data["added_tokens"] = data["added_tokens"][:3]
    t = Tokenizer.from_str(json.dumps(data))
    t.encode_special_tokens = True
    return t


def cases(t, texts):
    return [{"text": s, "ids": t.encode(s, add_special_tokens=False).ids} for s in texts]


def write(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


write("corpus.json", CORPUS)
t = byte_level()
(HERE / "tokenizer.json").write_text(t.to_str(pretty=True))
write("cases.json", cases(t, TEXTS))
s = sentencepiece()
write("sentencepiece.json", {
    "tokenizer": json.loads(s.to_str()),
    "cases": [c | {"decoded": s.decode(c["ids"], skip_special_tokens=False)} for c in cases(s, TEXTS)]})
