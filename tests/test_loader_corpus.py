"""Malformed files: each gets a clear error, at once and in little memory."""

import json
import os
import time
import tracemalloc

import numpy as np
import pytest

from minibig.files import FileError, load_arrays, save_arrays


def packed(header, payload=b"", length=None):
    """A safetensors file of a header (table or bytes) that may claim any length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    return length.to_bytes(8, "little") + text + payload


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def one(payload=bytes(8), **fields):
    return packed({"w": entry(**fields)}, payload)


GOOD = one()
TWICE = b'{"w":%s,"w":%s}' % ((json.dumps(entry()).encode(),) * 2)

# what the file is: (its bytes, what the error has to say)
MALFORMED = {
    "empty file": (b"", "0 bytes"),
    "seven bytes": (bytes(7), "7 bytes"),
    "length of zero": (bytes(8), "begin with a brace"),
    "length beyond the end": (packed({}, length=3), "10 bytes, but a header of 3"),
    "length of 2**64 - 1": (packed({}, length=2**64 - 1), "something else"),
    "length of 2**63": (packed({}, length=2**63), "something else"),
    "header cut short": (GOOD[:30], "30 bytes, but a header of"),
    "payload cut short": (GOOD[:-1], "7 bytes for arrays of 8"),
    "payload missing": (GOOD[:-8], "0 bytes for arrays of 8"),
    "payload too long": (GOOD + b"\0", "9 bytes for arrays of 8"),
    "length too short by one": (
        packed({"w": entry()}, bytes(8), len(GOOD) - 17),
        "not valid JSON",
    ),
    "length into the payload": (
        packed({"w": entry()}, bytes(8), len(GOOD) - 13),
        "not valid JSON",
    ),
    "a list for a header": (packed(b"[1, 2]"), "not safetensors"),
    "space before the brace": (packed(b" {}"), "not safetensors"),
    "header cut short whose length begins as a web page": (
        packed(b"{", length=ord("<")),
        "9 bytes, but a header of 60",
    ),
    "100 MB header": (packed({}, length=100_000_001), "something else"),
    "not JSON": (packed(b"{w: 1}"), "not valid JSON"),
    "text after the JSON": (packed(b"{} {}"), "not valid JSON"),
    "not UTF-8": (packed(b'{"\xff": 1}'), "not valid JSON"),
    "UTF-16": (packed('{"w": 1}'.encode("utf-16")), "not safetensors"),
    "control character": (packed(b'{"a\0": 1}'), "not valid JSON"),
    "lists 100,000 deep": (packed(b'{"w":' + b"[" * 100_000), "not valid JSON"),
    "tables 100,000 deep": (packed(b'{"w":' * 100_000), "not valid JSON"),
    "number of 10,000 digits": (
        packed(b'{"w":' + b"9" * 10_000 + b"}"),
        "not valid JSON",
    ),
    "name twice": (packed(TWICE, bytes(8)), "'w' twice"),
    "last of 50,000 names twice": (
        packed(b"{%s}" % b",".join(b'"%d":1' % min(i, 49_998) for i in range(50_000))),
        "'49998' twice",
    ),
    "dtype twice": (packed(b'{"w":{"dtype":"F32","dtype":"I32"}}'), "'dtype' twice"),
    "metadata key twice": (packed(b'{"__metadata__":{"a":"","a":""}}'), "'a' twice"),
    "metadata a list": (packed({"__metadata__": ["a"]}), "metadata"),
    "metadata null": (packed({"__metadata__": None}), "metadata"),
    "metadata of numbers": (packed({"__metadata__": {"a": 1}}), "'a' is not text"),
    "entry a number": (packed({"w": 3}), "'w' needs"),
    "entry empty": (packed({"w": {}}), "'w' needs"),
    "no offsets": (packed({"w": {"dtype": "F32", "shape": [2]}}), "data_offsets"),
    "unknown field": (one(extra=1), "no more"),
    "unknown dtype": (one(dtype="F33"), "'F33'"),
    "lower-case dtype": (one(dtype="f32"), "'f32'"),
    "8-bit float": (one(dtype="F8_E4M3"), "convert it to float32"),
    "complex": (one(dtype="C64", shape=[1]), "'C64'"),
    "dtype a number": (one(dtype=32), "dtype 32"),
    "dtype a list": (one(dtype=["F32"]), "dtype ['F32']"),
    "dtype of another size": (one(dtype="F64"), "takes 16 bytes"),
    "shape a number": (one(shape=2), "shape 2"),
    "shape negative": (one(shape=[-2]), "shape [-2]"),
    "shape twice negative": (one(shape=[-1, -2]), "shape [-1, -2]"),
    "shape of floats": (one(shape=[2.0]), "shape [2.0]"),
    "shape of text": (one(shape=["2"]), "shape ['2']"),
    "shape of booleans": (one(shape=[True, 2]), "shape [True, 2]"),
    "shape not a number": (one(shape=[float("nan")]), "shape [nan]"),
    "shape null": (one(shape=None), "shape None"),
    "shape too small": (one(shape=[1]), "takes 4 bytes"),
    "shape too large": (one(shape=[3]), "takes 12 bytes"),
    "shape of a terabyte": (one(shape=[2**38]), "takes 1099511627776 bytes"),
    "shape of 2**62 by 4": (one(shape=[2**62, 4]), "impossible"),
    "shape that wraps around to 8 bytes": (one(shape=[2**62 + 2, 2**63 - 1]), "imp"),
    "shape of 2**64": (one(shape=[2**64]), "no sizes"),
    "shape empty but huge": (one(b"", shape=[0, 2**62, 4], offsets=[0, 0]), "imposs"),
    "65 axes": (one(shape=[1] * 64 + [2]), "no sizes"),
    "100,000 axes": (one(shape=[2**62] * 100_000), "no sizes"),
    "terabyte that its offsets claim too": (
        one(shape=[2**38], offsets=[0, 2**40]),
        "8 bytes for arrays of 1099511627776",
    ),
    "one offset": (one(offsets=[8]), "do not span"),
    "three offsets": (one(offsets=[0, 8, 16]), "do not span"),
    "offsets reversed": (one(offsets=[8, 0]), "do not span"),
    "offsets negative": (one(offsets=[-8, 0]), "data_offsets [-8, 0]"),
    "offsets a table": (one(offsets={}), "data_offsets {}"),
    "offsets beyond the end": (one(offsets=[8, 16]), "leaves a gap"),
    "gap at the start": (one(bytes(12), offsets=[4, 12]), "leaves a gap"),
    "gap between": (
        packed({"a": entry(), "b": entry(offsets=[12, 20])}, bytes(20)),
        "'b' leaves a gap",
    ),
    "overlap": (
        packed({"a": entry(), "b": entry(offsets=[4, 12])}, bytes(12)),
        "'b' overlaps",
    ),
    "two arrays in one place": (
        packed({"a": entry(), "b": entry()}, bytes(8)),
        "'b' overlaps",
    ),
    "empty array inside another": (
        packed({"a": entry(), "b": entry(shape=[0], offsets=[4, 4])}, bytes(8)),
        "'b' overlaps",
    ),
    "hash that does not fit": (
        packed({"__metadata__": {"minibig.sha256": "0"}, "w": entry()}, bytes(8)),
        "SHA-256",
    ),
    "zip archive": (b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(99), "zip archive"),
    "pickle": (b"\x80\x04\x95\x10\0\0\0\0\0\0\0" + bytes(99), "a pickle"),
    ".npy": (b"\x93NUMPY\x01\0v\0{'descr': " + bytes(99), ".npy file"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    "GGUF": (b"GGUF\x03\0\0\0\x10\0" + bytes(99), "GGUF"),
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    "web page": (b"<!DOCTYPE html><html>", "a web page"),
    "prose": (b"Once upon a time there was a file.", "but something else"),
}


@pytest.mark.parametrize("label", MALFORMED)
def test_malformed_file_is_refused_clearly(label, tmp_path):
    content, fact = MALFORMED[label]
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(FileError) as caught:
        load_arrays(path)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(str(path)) and fact in message
    assert "\n" not in message and len(message) < len(str(path)) + 300
    assert seconds < 2
    if "50,000" in label or "axes" in label:  # many small numbers, parsed one by one
        assert peak < 25 * len(content) + 2**18
    else:
        assert peak <= 2 * len(content) + 2**18


def test_what_the_corpus_starts_from_is_read(tmp_path):
    path = tmp_path / "good.safetensors"
    path.write_bytes(GOOD)
    arrays, metadata = load_arrays(path)
    assert arrays["w"].tolist() == [0, 0] and metadata == {}
    path.write_bytes(packed({}))
    assert load_arrays(path) == ({}, {})


@pytest.mark.parametrize("code", ["F32", "BF16", "I8", "BOOL"])
def test_loading_takes_no_more_memory_than_its_arrays(code, tmp_path):
    path = tmp_path / "a.safetensors"
    size, width = 2**22, {"F32": 4, "BF16": 2}.get(code, 1)
    header = {"w": entry(code, [size // width], [0, size])}
    path.write_bytes(packed(header, bytes(size)))
    tracemalloc.start()
    load_arrays(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= size * (2 if code == "BF16" else 1) + 2**20


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".pkl"])
def test_pickles_are_refused_by_name_with_a_hint(suffix, tmp_path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(GOOD)
    with pytest.raises(FileError, match=r"run any code.*\.safetensors version"):
        load_arrays(path)


def test_length_that_looks_like_a_pickle_is_still_read(tmp_path):
    path = tmp_path / "a.safetensors"
    text = json.dumps({"w": entry()}).encode()
    path.write_bytes(packed(text + b" " * (0x80 - len(text)), bytes(8)))
    assert path.read_bytes()[:1] == b"\x80"
    assert load_arrays(path)[0]["w"].shape == (2,)


def test_missing_file_folder_and_pipe_do_not_hang(tmp_path):
    with pytest.raises(FileNotFoundError, match="no_such"):
        load_arrays(tmp_path / "no_such.safetensors")
    with pytest.raises(FileError, match="is not a file"):
        load_arrays(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileError, match="is not a file"):
            load_arrays(tmp_path / "pipe")


def test_file_that_shrinks_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(GOOD[:-4])
    real = os.fstat

    class Longer:
        def __init__(self, descriptor):
            self.st_mode, self.st_size = real(descriptor).st_mode, len(GOOD)
            self.st_blksize = 4096

    monkeypatch.setattr("minibig.files.os.fstat", Longer)
    with pytest.raises(FileError, match="cut short while it was read"):
        load_arrays(path)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "saved.safetensors"
    arrays = {
        "weight": np.arange(60, dtype=np.float32).reshape(5, 12),
        "ids": np.arange(20, dtype=np.int16),
        "mask": np.arange(30) % 3 == 0,
        "none": np.zeros((0, 4)),
    }
    save_arrays(path, arrays, {"step": "12", "note": "é"})
    return path, arrays


def flipped(path, position, mask):
    """What loading gives with one byte changed: the arrays, or None for FileError."""
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ mask]))
        file.flush()
        try:
            return load_arrays(path)
        except FileError:
            return None
        finally:
            file.seek(position)
            file.write(bytes([byte]))


def test_5000_flips_in_the_payload_are_all_caught(saved):
    path, _ = saved
    content, draw = path.read_bytes(), np.random.default_rng(1)
    start = 8 + int.from_bytes(content[:8], "little")
    for _ in range(5000):
        position = int(draw.integers(start, len(content)))
        assert flipped(path, position, int(draw.integers(1, 256))) is None
    assert path.read_bytes() == content and load_arrays(path)


def test_5000_flips_in_the_header_are_caught_or_harmless(saved):
    path, arrays = saved
    content, draw = path.read_bytes(), np.random.default_rng(2)
    end = 8 + int.from_bytes(content[:8], "little")
    harmless = 0
    for _ in range(5000):
        position = int(draw.integers(0, end))
        result = flipped(path, position, int(draw.integers(1, 256)))
        if result is None:
            continue
        harmless += 1
        loaded, metadata = result
        assert loaded.keys() == arrays.keys()
        for name, array in arrays.items():
            assert loaded[name].dtype == array.dtype
            np.testing.assert_array_equal(loaded[name], array, strict=True)
        assert (metadata["step"], metadata["note"]) == ("12", "é")
    assert harmless < 500  # the padding, and the name under which the hash is kept
