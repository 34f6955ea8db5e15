"""What the tests of the command line share: a small preset, and ways to ask."""

import json
import os
import subprocess
import sys
from pathlib import Path

import minibig
from minibig import cli
from minibig.tasks import GPTPreset

ROOT = Path(minibig.__file__).parent.parent
WORDS = "the small cat sees one old bird and that bird sees the cat again"
TEXT = "\n".join(f"{n}: {WORDS}" for n in range(60))
TINY = GPTPreset(
    about="for tests", corpus="documentation", tokenizer="char", vocab_size=None,
    context_length=8, n_layer=1, n_head=2, n_embd=16, batch_size=4, steps=30, lr=1e-2,
    min_lr=1e-3, warmup=3, prompt="t",
)  # fmt: skip


def run(*arguments):
    """The exit code, also where argparse exits."""
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


def refused(capsys, *arguments):
    """The one sentence on stderr of a command that was asked wrongly."""
    capsys.readouterr()
    assert run(*arguments) == 2
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1 and "Traceback" not in sentence
    return sentence


def train(*arguments):
    return run("train", "--preset", "tiny", *arguments)


def results(folder):
    return json.loads((folder / "config.json").read_bytes())["results"]


def in_python(*arguments, cwd, stdout=subprocess.PIPE):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, stdout=stdout,
        stderr=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
