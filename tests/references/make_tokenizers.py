"""Writes tokenizers.json: files of the library `tokenizers`, and the ids it gives.

    python -m tests.references.make_tokenizers

One small file of each kind found with published models, trained on TEXT. The stored
ids were made with tokenizers 0.23.
"""

import json
from itertools import pairwise
from pathlib import Path

PATH = Path(__file__).with_name("tokenizers.json")
TEXT = (
    "The quick brown fox jumps over the lazy dogs, and the dogs don't mind it at all. "
    "In 1984 there were 365 days; the fox's den wasn't theirs. Tokenizers tokenize!\n"
    "\tfor token in tokens:\n\t\tprint(token, end='')\n"
    "Größe, naïve café, 日本語の本, Привет, мир. αβγ ½ ² ٣ — “quotes” 😀\n\n"
) * 3
SAMPLES = (
    "", " ", "\n", "a", TEXT[:243], "  two spaces,   three\t\ttabs \n\n\nlines  ",
    "I'VE we'll 's 'S ''s x'sé don't", "x² ½Ⅷ٣ 12345 1_000.5e-3 a_b __init__",
    "naïve café Größe ÀÉÎ e\u0301 \u0130stanbul ΟΔΟΣ ﬁ", "日本語の本 漢字 가나다",
    "a\u00a0b\u2003c\u3000d\u200be\ufeff\u00adf\u1680g\x85h\x0bi\x0cj\x1ck\x00l\ufffdm",
    "👩\u200d👩\u200d👧 😀😀 𝔘𝔫𝔦 𐍈 \U0010ffff", "...!!!???---===$$$ ``` ~~~ ^^ <<>>",
    "<e>start<e>the end<e> <m> mid <m>\n<e>e>", "[CLS] [MASK] [SEP][UNK][PAD] [mask]",
    "▁the ▁▁ fox<s></s>▁", "supercalifragilistic" * 6, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
)  # fmt: skip
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The others are held against the library where it is installed.
STORED = ("gpt2, as first published", "llama 3", "bert, uncased", "llama 2")


def cases():
    """Name -> tokenizer.json as text, of all kinds."""
    return {
        "gpt2": _gpt2(),
        "gpt2, as first published": _with_string_merges(_gpt2()),
        "roberta": _roberta(),
        "llama 3": _llama3(),
        "qwen": _llama3(normal_form=True),
        "bert, uncased": _bert(lowercase=True),
        "bert, cased": _bert(lowercase=False),
        "bert, raw": _bert(
            lowercase=True, clean_text=False, handle_chinese_chars=False,
            strip_accents=False,
        ),
        "llama 2": _llama2(prefix=True),
        "gemma": _llama2(prefix=False),
    }  # fmt: skip


def _byte_level(pre_tokenizer, special, vocab_size=340):
    import tokenizers as lib

    tokenizer = lib.Tokenizer(lib.models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = lib.decoders.ByteLevel()
    trainer = lib.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=lib.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_special_tokens(special)
    return tokenizer


def _gpt2():
    import tokenizers as lib

    byte_level = lib.pre_tokenizers.ByteLevel(add_prefix_space=False)
    end = lib.AddedToken("<e>", normalized=True, special=True)
    tokenizer = _byte_level(byte_level, [end, "<e>e>"])
    tokenizer.post_processor = lib.processors.ByteLevel(trim_offsets=False)
    return tokenizer.to_str()


def _with_string_merges(text):
    contents = json.loads(text)
    model = contents["model"]
    model["merges"] = [" ".join(merge) for merge in model["merges"]]
    del model["type"], model["ignore_merges"], model["byte_fallback"]
    model["continuing_subword_prefix"] = model["end_of_word_suffix"] = ""
    return json.dumps(contents)


def _roberta():
    import tokenizers as lib

    mask = lib.AddedToken("<m>", lstrip=True, rstrip=True)
    tokenizer = _byte_level(lib.pre_tokenizers.ByteLevel(), ["<s>", "</s>", mask])
    ends = [(token, tokenizer.token_to_id(token)) for token in ("</s>", "<s>")]
    tokenizer.post_processor = lib.processors.RobertaProcessing(*ends)
    return tokenizer.to_str()


def _llama3(normal_form=False):
    import tokenizers as lib

    split = lib.pre_tokenizers.Split(lib.Regex(LLAMA3), "isolated")
    byte_level = lib.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    both = lib.pre_tokenizers.Sequence([split, byte_level])
    tokenizer = _byte_level(both, ["<e>"])
    if normal_form:
        tokenizer.normalizer = lib.normalizers.NFC()
        tokenizer.add_tokens(["quick", lib.AddedToken("fox", normalized=False)])
        return tokenizer.to_str()
    template = lib.processors.TemplateProcessing(
        single="<e> $A", pair="<e> $A <e>:1 $B:1", special_tokens=[("<e>", 340)]
    )
    first = lib.processors.ByteLevel(trim_offsets=False)
    tokenizer.post_processor = lib.processors.Sequence([first, template])
    contents = json.loads(tokenizer.to_str())
    contents["model"]["ignore_merges"] = True
    contents["model"]["merges"] = contents["model"]["merges"][:40]
    return json.dumps(contents)


def _bert(**settings):
    import tokenizers as lib

    tokenizer = lib.Tokenizer(lib.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = lib.normalizers.BertNormalizer(**settings)
    tokenizer.pre_tokenizer = lib.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = lib.decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = lib.trainers.WordPieceTrainer(
        vocab_size=260, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    if settings["lowercase"]:
        tokenizer.post_processor = lib.processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
        tokenizer.add_tokens(["FOX", "mind"])
    else:
        tokenizer.post_processor = lib.processors.BertProcessing(
            ("[SEP]", 3), ("[CLS]", 2)
        )
    return tokenizer.to_str()


def _llama2(prefix):
    import tokenizers as lib

    steps = [lib.normalizers.Replace(" ", "▁")]
    back = [
        lib.decoders.Replace("▁", " "),
        lib.decoders.ByteFallback(),
        lib.decoders.Fuse(),
    ]
    if prefix:
        steps.insert(0, lib.normalizers.Prepend("▁"))
        back.append(lib.decoders.Strip(" ", 1, 0))
    special = ["<unk>", "<s>", "</s>"]
    trained = lib.Tokenizer(lib.models.BPE(unk_token="<unk>", byte_fallback=True))
    trained.pre_tokenizer = lib.pre_tokenizers.Metaspace()
    trainer = lib.trainers.BpeTrainer(
        vocab_size=450,
        limit_alphabet=50,
        special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)],
        show_progress=False,
    )
    trained.train_from_iterator([TEXT], trainer)
    contents = json.loads(trained.to_str())
    contents["pre_tokenizer"] = None
    contents["added_tokens"] = contents["added_tokens"][:3]
    contents["model"]["fuse_unk"] = True
    tokenizer = lib.Tokenizer.from_str(json.dumps(contents))
    tokenizer.normalizer = lib.normalizers.Sequence(steps) if prefix else steps[0]
    tokenizer.decoder = lib.decoders.Sequence(back)
    if prefix:
        tokenizer.post_processor = lib.processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
        )
        tokenizer.add_tokens(["lazy"])
    return tokenizer.to_str()


def results(tokenizer, texts):
    """What the library gives for each text, and for pairs of neighbours."""
    single = [tokenizer.encode(text).ids for text in texts]
    pairs = [tokenizer.encode(*two) for two in pairwise(texts)]
    return {
        "ids": single,
        "texts": [tokenizer.decode(ids, skip_special_tokens=False) for ids in single],
        "without_special": [tokenizer.decode(ids) for ids in single],
        "pairs": [[pair.ids, pair.type_ids, pair.attention_mask] for pair in pairs],
    }


def main():
    import tokenizers as lib

    stored = {}
    for name, text in cases().items():
        if name not in STORED:
            continue
        tokenizer = lib.Tokenizer.from_str(text)
        stored[name] = {"file": json.loads(text), **results(tokenizer, SAMPLES)}
    text = json.dumps(stored, ensure_ascii=False, separators=(",", ":"))
    PATH.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
