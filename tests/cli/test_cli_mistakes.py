"""What is asked wrongly gets one sentence and exit code 2."""

import os
from pathlib import Path

import pytest
from command_line import TEXT, refused, run

from minibig import backend, threads
from minibig.data.text import read_text
from minibig.presets import PRESETS


@pytest.mark.parametrize(
    ("contents", "fact"),
    [
        (b"some text\0more", "byte 9 is NUL"),
        (b"caf\xe9 latin", "byte 3, 0xe9"),
        (b"\xef\xbb\xbfcaf\xe9", "byte 6, 0xe9"),
        ("wide".encode("utf-16"), "UTF-16"),
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"far too short", "too short"),
    ],
)
def test_a_text_that_cannot_be_learnt_from_is_one_sentence(
    capsys, tmp_path, contents, fact
):
    path = tmp_path / "text.txt"
    path.write_bytes(contents)
    assert fact in refused(capsys, "train", "--preset", "tiny", "--text", path)
    assert not Path("runs").exists()


def test_text_keeps_its_line_ends_and_loses_its_byte_order_mark(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_text(path) == "one\r\ntwo\rthree\n"


def test_missing_files_and_folders_in_place_of_files_are_one_sentence(capsys, tmp_path):
    command = "train", "--preset", "tiny", "--text"
    assert "nowhere.txt: No such file" in refused(capsys, *command, "nowhere.txt")
    assert "is a folder" in refused(capsys, *command, tmp_path)
    if os.path.exists("/dev/zero"):
        assert "not a regular file" in refused(capsys, *command, "/dev/zero")


def test_a_file_in_place_of_the_folder_is_one_sentence(capsys, text_file):
    for folder in (text_file, text_file / "inside"):
        said = refused(capsys, "train", "--preset", "tiny", "--folder", folder)
        assert "text.txt is a file" in said


def test_another_recipe_or_text_in_the_folder_is_one_sentence(capsys, finished):
    command = "train", "--preset", "tiny", "--folder", finished
    said = refused(capsys, *command, "--steps", 9)
    assert "another run: the data (hash)" in said or "another run: steps was 30" in said
    other = Path("other.txt")
    other.write_text(TEXT.replace("cat", "dog"), "utf-8")
    said = refused(capsys, *command, "--text", other)
    assert "belongs to another run: the data (hash) was" in said


def test_cuda_without_a_gpu_is_one_sentence(capsys, finished, monkeypatch):
    def missing():
        raise backend.DeviceError('device "cuda" needs CuPy')

    monkeypatch.setattr(backend, "cupy", missing)
    for command in (
        ("train", "--preset", "tiny"),
        ("demo",),
        ("generate", "--folder", finished),
    ):
        said = refused(capsys, *command, "--device", "cuda")
        assert 'device "cuda" needs CuPy' in said
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ((), "name a command: train"),
        (("fly",), "invalid choice: 'fly'"),
        (("train",), "--preset NAME: demo, nanogpt-cpu, gpt"),
        (
            ("train", "--preset", "tiny", "--steps", "0"),
            "'0' is no whole number from 1",
        ),
        (("train", "--preset", "tiny", "--steps", "1.5"), "'1.5' is no whole number"),
        (("train", "--preset", "tiny", "--seed", "-1"), "--seed"),
        (("train", "--preset", "tiny", "--device", "tpu"), "'tpu'"),
        (("train", "--preset", "tiny", "--precision", "fp8"), "'fp8'"),
        (
            ("train", "--preset", "tiny", "--precision", "bf16"),
            "bf16 needs --device cuda",
        ),
        (
            ("train", "--preset", "tiny", "--precision", "fp16", "--processes", "2"),
            "fp16 runs in one process",
        ),
        (("generate",), "--folder"),
        (("generate", "--folder", "x", "--temperature", "nan"), "'nan' is no number"),
        (("generate", "--folder", "x", "--top-k", "0"), "'0' is no whole number"),
        (("generate", "--folder", "x", "--top-p", "0"), "above 0 to 1"),
        (("generate", "--folder", "x", "--tokens", "many"), "'many'"),
        (("generate", "--folder", ""), "--folder: '' names no place"),
        (("generate", "--folder", "x" * 300), "x" * 300),
        (("train", "--preset", "tiny", "--text", ""), "--text: '' names no place"),
        (("train", "--preset", "tiny", "--corpus", ""), "no corpus '', but"),
        (("train", "--preset", "tiny", "more"), "unrecognized arguments: more"),
        (("doctor", "--folder", "x"), "unrecognized arguments"),
    ],
)
def test_bad_arguments_are_one_sentence(capsys, arguments, fact):
    assert fact in refused(capsys, *arguments)


def test_an_environment_that_cannot_be_is_one_sentence(capsys, monkeypatch):
    def no_number():
        raise ValueError("MINIBIG_THREADS is 'abc'")

    monkeypatch.setattr(threads, "usable_cores", no_number)
    for command in (("bench",), ("train", "--list")):
        assert "MINIBIG_THREADS is 'abc'" in refused(capsys, *command)


def test_help_names_the_presets(capsys):
    assert run("train", "--help") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "what to train: demo, nanogpt-cpu, gpt, llama, transformer, bert" in said


def test_list_and_an_unknown_preset_describe_the_presets(capsys):
    assert run("train", "--list") == 0
    listed = capsys.readouterr().out
    for name, preset in PRESETS.items():
        assert any(
            line.startswith(name) and line.endswith(preset.about)
            for line in listed.splitlines()
        )
    assert run("train", "--preset", "nanogtp") == 2
    said = capsys.readouterr().err
    assert "no preset 'nanogtp'" in said and said.endswith(listed)
