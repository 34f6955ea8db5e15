"""The command line is tried with a small preset, in a folder of its own."""

import pytest
from command_line import TEXT, TINY

from minibig import commands, recipes
from minibig.data.corpora import Corpus
from minibig.presets import PRESETS


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    """The presets "tiny" and, as small, "demo"; the current folder is a fresh one."""
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    monkeypatch.setitem(PRESETS, "demo", TINY)
    corpus = Corpus("test", (TEXT,), ("only",))
    monkeypatch.setitem(recipes.CORPORA, "documentation", lambda: corpus)
    monkeypatch.setattr(commands, "DEMO_TOKENS", 30)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, "utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which a run of the preset "tiny" has ended."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    recipes.train(TINY, folder, text=TEXT, say=lambda text: None)
    return folder
