"""Tokenizer files: ours and published ones load, damaged ones are named."""

import contextlib
import json
import os
import random

import pytest

from minibig.data import (
    AddedToken,
    BPETokenizer,
    ByteFallbackTokenizer,
    CharTokenizer,
    Template,
    WordPieceTokenizer,
    WordTokenizer,
    load_tokenizer,
)
from minibig.files import FileError
from tests.references import make_tokenizers

STORED = json.loads(make_tokenizers.PATH.read_text("utf-8"))
KINDS = {
    "gpt2, as first published": BPETokenizer,
    "llama 3": BPETokenizer,
    "bert, uncased": WordPieceTokenizer,
    "llama 2": ByteFallbackTokenizer,
}
END = AddedToken("<end>", lstrip=True, rstrip=True)
TEXT = "the cat sat on the mat, and the dog didn't. " * 3 + "\n\tin 1984 – 日本語 ²½!"
BPE = BPETokenizer.train(TEXT, 279, special_tokens=[END])
OURS = [
    BPE,
    CharTokenizer.train(TEXT + "\ud800", special_tokens=[END]),
    WordTokenizer.train(TEXT, special_tokens=[END]),
    WordTokenizer.train(TEXT, unknown=False),
    WordPieceTokenizer.train(TEXT, 90),
    WordPieceTokenizer.train(TEXT, 90, lowercase=False, cleanup=False, prefix="@@"),
    BPETokenizer(
        BPE.tokens,
        BPE.merges[:9],
        ["<end>"],
        pattern=r"\p{L}+|\s+",
        ignore_merges=True,
        normal_form="NFC",
        template=Template.parse("<end> $A", "$A <end> $B:1"),
    ),
]


@pytest.fixture(params=KINDS)
def published(request, tmp_path):
    """A stored case and the tokenizer read from its file."""
    case = STORED[request.param]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(case["file"]))
    tokenizer = load_tokenizer(tmp_path)
    assert type(tokenizer) is KINDS[request.param]
    return case, tokenizer


def test_published_file_gives_the_ids_of_the_reference_implementation(published):
    case, tokenizer = published
    assert tokenizer.encode_batch(make_tokenizers.SAMPLES) == case["ids"]
    for ids, text, short in zip(
        case["ids"], case["texts"], case["without_special"], strict=True
    ):
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode(ids, skip_special_tokens=True) == short
        assert "".join(tokenizer.decode_stream(ids)) == text


def test_published_file_gives_the_pairs_of_the_reference_implementation(published):
    case, tokenizer = published
    neighbours = zip(
        make_tokenizers.SAMPLES[:-1], make_tokenizers.SAMPLES[1:], strict=True
    )
    for texts, expected in zip(neighbours, case["pairs"], strict=True):
        assert [*tokenizer.encode_pair(*texts)] == expected


def test_published_file_stays_what_it_is_when_saved(published, tmp_path):
    _, tokenizer = published
    tokenizer.save(tmp_path / "again.json")
    again = load_tokenizer(tmp_path / "again.json")
    assert again.hash == tokenizer.hash
    assert again.encode_batch(make_tokenizers.SAMPLES) == tokenizer.encode_batch(
        make_tokenizers.SAMPLES
    )


@pytest.mark.parametrize("tokenizer", OURS, ids=repr)
def test_saved_tokenizer_loads_equal(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.json")
    loaded = load_tokenizer(tmp_path / "t.json")
    assert type(loaded) is type(tokenizer) and loaded.hash == tokenizer.hash
    for name in set(vars(tokenizer)) - {"_cache", "hash"}:
        assert getattr(loaded, name) == getattr(tokenizer, name), name
    text = TEXT + " <end> " + TEXT
    if "<end>" in tokenizer.tokens:
        assert loaded.encode(text) == tokenizer.encode(text)
    assert os.listdir(tmp_path) == ["t.json"]


@pytest.mark.parametrize("lowercase", [True, False])
def test_vocab_txt_holds_a_wordpiece_tokenizer(lowercase, tmp_path):
    tokenizer = WordPieceTokenizer.train(TEXT, 90, lowercase=lowercase)
    tokenizer.save_vocabulary(tmp_path)
    lines = (tmp_path / "vocab.txt").read_text("utf-8").splitlines()
    assert lines[:2] == ["[PAD]", "[UNK]"] and len(lines) == tokenizer.vocab_size
    for path in (tmp_path, tmp_path / "vocab.txt"):
        assert load_tokenizer(path).hash == tokenizer.hash


@pytest.mark.parametrize("add_prefix_space", [True, False])
def test_vocab_json_and_merges_txt_hold_a_bpe_tokenizer(add_prefix_space, tmp_path):
    tokenizer = BPETokenizer(
        BPE.tokens, BPE.merges, ["<end>"], add_prefix_space=add_prefix_space
    )
    tokenizer.save_vocabulary(tmp_path)
    assert (tmp_path / "merges.txt").read_text("utf-8").startswith("#version: 0.2\n")
    for path in (tmp_path, tmp_path / "vocab.json"):
        assert load_tokenizer(path).hash == tokenizer.hash


@pytest.mark.parametrize("tokenizer", OURS[5:], ids=repr)
def test_vocabulary_files_refuse_what_they_cannot_hold(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="use save"):
        tokenizer.save_vocabulary(tmp_path)
    assert os.listdir(tmp_path) == []


def contents(case="gpt2, as first published"):
    return json.loads(json.dumps(STORED[case]["file"]))


def changed(path, value, case="gpt2, as first published"):
    """A published file with the entry at `path`, "model.vocab", set to a value."""
    whole = contents(case)
    part, names = whole, path.split(".")
    for name in names[:-1]:
        part = part[name]
    part[names[-1]] = value
    return json.dumps(whole).encode()


def with_vocabulary(**entries):
    vocabulary = contents()["model"]["vocab"]
    return changed("model.vocab", vocabulary | entries)


BERT, LLAMA2, LLAMA3 = "bert, uncased", "llama 2", "llama 3"
TOKEN = {"content": "<x>", "id": 342, "special": True}
PAIR = {"type": "Sequence", "processors": [contents(BERT)["post_processor"]] * 2}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (changed("version", "1.0")[:-9], "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", 'lacks "model"'),
        (b'{"version": "1.0", "model": 7}', 'lacks "model"'),
        (changed("model", {}), "does not read this None model"),
        (changed("model.type", "Unigram"), "does not read this 'Unigram' model"),
        (changed("model.type", ["BPE"]), "does not read this"),
        (changed("model.type", "WordLevel"), "does not read this 'WordLevel'"),
        (changed("model.vocab", None), '"vocab" is None, not a dict'),
        (changed("model.vocab", {"a": 0, "b": 2}), "has the id 1"),
        (changed("model.vocab", {"a": "0"}), "not whole numbers"),
        (changed("model.vocab", {"a": True}), "not whole numbers"),
        (with_vocabulary(a=0), "have the same id"),
        (changed("model.vocab", {}), "has the id 0"),
        (changed("model.merges", {}), '"merges" is {}, not a list'),
        (changed("model.merges", ["a"]), "'a' is not two tokens"),
        (changed("model.merges", ["a b c"]), "not two tokens"),
        (changed("model.merges", [["a", 1]]), "not two tokens"),
        (changed("model.merges", [7]), "merge 7 is not"),
        (changed("model.merges", ["q q"]), "'qq'"),
        (changed("model.dropout", 0.1), 'BPE model with "dropout": 0.1'),
        (changed("model.end_of_word_suffix", "</w>"), "end_of_word_suffix"),
        (changed("model.ignore_merges", 1, LLAMA3), '"ignore_merges" is 1'),
        (changed("model.byte_fallback", True), "lacks 256 of the 256 bytes"),
        (
            changed("model.byte_fallback", False, LLAMA2),
            "a normalizer with .*'Sequence'",
        ),
        (changed("added_tokens", {}), '"added_tokens" is {}'),
        (changed("added_tokens", [{}]), '"content" is missing'),
        (changed("added_tokens", [7]), "added token is 7, not"),
        (changed("added_tokens", [TOKEN | {"id": 7}]), "have the same id"),
        (changed("added_tokens", [TOKEN | {"content": "a"}]), "'a' has the id 342"),
        (changed("added_tokens", [TOKEN | {"single_word": True}]), "single_word"),
        (changed("added_tokens", [TOKEN | {"id": 340}] * 2), "distinct"),
        (changed("added_tokens", [TOKEN]), "no token .* has the id 340"),
        (changed("normalizer", {"type": "Lowercase"}), "'Lowercase'"),
        (changed("normalizer", []), r"normalizer is \[\], not a dict"),
        (changed("pre_tokenizer", {"type": "Whitespace"}), "pre_tokenizer Whitespace"),
        (changed("pre_tokenizer", {}), '"type" is missing'),
        (changed("pre_tokenizer.use_regex", False), "use_regex"),
        (changed("pre_tokenizer.add_prefix_space", 1), '"add_prefix_space" is 1'),
        (changed("decoder", {"type": "Metaspace"}), "'Metaspace'"),
        (changed("post_processor", {"type": "Metaspace"}), "post_processor Metaspace"),
        (changed("post_processor", PAIR, BERT), "TemplateProcessing, TemplateProc"),
        (changed("post_processor", 7), '7 stands where a dict with "type"'),
        (changed("post_processor.single", 7, BERT), '"single" is 7'),
        (changed("post_processor.single", [7], BERT), "7 stands where"),
        (changed("post_processor.single", [], BERT), "template needs each of"),
        (changed("post_processor.single", [{}], BERT), '"SpecialToken" is missing'),
        (changed("post_processor.special_tokens", {}, BERT), "template has tokens"),
        (
            changed("post_processor.special_tokens", {"[SEP]": {"ids": [9]}}, BERT),
            r"ids \[9\] for '\[SEP\]', whose id is 3",
        ),
        (
            changed("post_processor", {"type": "BertProcessing", "sep": ["a", 1]}),
            '"cls" is missing',
        ),
        (
            changed("post_processor", {"type": "BertProcessing", "cls": ["a", 1]}),
            "'a', 1.*lacks",
        ),
        (changed("normalizer", {"type": "NFC"}, BERT), "'NFC'"),
        (changed("normalizer", None, BERT), "normalizer is None"),
        (changed("normalizer.lowercase", None, BERT), '"lowercase" is None'),
        (changed("pre_tokenizer.type", "Whitespace", BERT), "'Whitespace'"),
        (changed("model.unk_token", "<?>", BERT), "lacks the unknown token '<\\?>'"),
        (changed("model.max_input_chars_per_word", "1", BERT), "max_input_chars"),
        (changed("decoder.prefix", "@@", BERT), "'@@'"),
        (changed("pre_tokenizer", {"type": "Metaspace"}, LLAMA2), "Llama 2's"),
        (changed("normalizer", None, LLAMA2), "Llama 2's"),
    ],
)
def test_damaged_or_unknown_file_is_refused_with_its_name(data, words, tmp_path):
    path = tmp_path / "t.json"
    path.write_bytes(data)
    with pytest.raises(FileError, match=words) as caught:
        load_tokenizer(path)
    assert "t.json" in str(caught.value)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds none of tokenizer.json, vocab.txt, vocab.json"),
        ({"vocab.txt": b"a\n[UNK]\na\n"}, "'a' stands in the vocabulary twice"),
        ({"vocab.txt": b"a\nb\n"}, "unknown token"),
        ({"vocab.txt": b"\xff"}, "utf-8"),
        ({"vocab.txt": b"[UNK]", "tokenizer_config.json": b"{"}, "not JSON"),
        ({"vocab.txt": b"[UNK]", "tokenizer_config.json": b"[]"}, r"\[\] stands"),
        (
            {"vocab.txt": b"[UNK]", "tokenizer_config.json": b'{"do_lower_case": 1}'},
            '"do_lower_case" is 1',
        ),
        ({"vocab.json": b"[]", "merges.txt": b""}, "no JSON object"),
        ({"vocab.json": b'{"a": 0}', "merges.txt": b""}, "lacks 255"),
        ({"vocab.json": b'{"a": 0}', "merges.txt": b"a\n"}, "'a' is not two"),
    ],
)
def test_folder_with_damaged_files_is_refused(files, words, tmp_path):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(FileError, match=words):
        load_tokenizer(tmp_path)


def test_any_damage_is_a_named_error_or_loads(tmp_path):
    """Entries of published files replaced at random by values of other kinds."""
    rng = random.Random(0)
    path = tmp_path / "t.json"
    for _ in range(400):
        whole = contents(rng.choice(list(STORED)))
        part = whole
        for _ in range(rng.randrange(5)):
            inner = [v for v in values(part) if isinstance(v, dict | list) and v]
            part = rng.choice(inner) if inner else part
        key = rng.choice(list(part) if isinstance(part, dict) else range(len(part)))
        part[key] = rng.choice([None, 7, -1, True, "x", [], {}, [7], {"type": "BPE"}])
        path.write_text(json.dumps(whole))
        with contextlib.suppress(FileError):
            load_tokenizer(path).encode("the fox")


def values(part):
    return part.values() if isinstance(part, dict) else part


def test_missing_file_is_the_usual_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_tokenizer(tmp_path / "none.json")
