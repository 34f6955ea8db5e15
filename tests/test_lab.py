"""`make lab` copies notebooks and loses no answer; `tools.browser` takes names."""

import os
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from minibig.exercises import passed_exercises
from minibig.exercises.checking import MARK
from tools import browser, lab


@pytest.fixture
def built(tmp_path):
    """Two notebooks, as they lie in notebooks/."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("01_a.ipynb", "02_b.ipynb"):
        write(folder / name, "0123456789ab-1", "123456789abc-1")
    return sorted(folder.iterdir())


@pytest.fixture
def mine(tmp_path):
    return tmp_path / "my"


def write(path, *ids):
    cells = [new_code_cell(f"x = {id!r}", id=id) for id in ids]
    nbformat.write(new_notebook(cells=cells), path)


def test_learners_answers_are_never_overwritten(built, mine):
    mine.mkdir()
    (mine / "01_a.ipynb").write_text("my answer")
    copied = lab.copy_missing(built, mine)
    assert [path.name for path in copied] == ["02_b.ipynb"]
    assert (mine / "01_a.ipynb").read_text() == "my answer"
    assert (mine / "02_b.ipynb").read_bytes() == built[1].read_bytes()
    (mine / MARK).write_text('{"passed": ["01.strides"]}')
    assert lab.copy_missing(built, mine) == []
    assert "01.strides" in passed_exercises(mine / MARK)


def test_a_copy_stopped_half_way_is_made_anew(built, mine, monkeypatch):
    def stopped(source, target):
        target.write_bytes(source.read_bytes()[:50])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "copyfile", stopped)
        lab.copy_missing(built, mine)
    assert len(lab.copy_missing(built, mine)) == 2
    assert (mine / "01_a.ipynb").read_bytes() == built[0].read_bytes()
    assert sorted(os.listdir(mine)) == ["01_a.ipynb", "02_b.ipynb", MARK]


def test_a_copy_of_an_older_version_is_named(built, mine):
    lab.copy_missing(built, mine)
    assert lab.outdated(built, mine) == []
    write(built[1], "0123456789ab-1", "aaaaaaaaaaaa-1")  # a cell of it was changed
    assert lab.outdated(built, mine) == ["02_b.ipynb"]


def test_what_learners_write_makes_no_copy_outdated(built, mine):
    mine.mkdir()
    own = "3f2a1b4c-0000-4000-8000-123456789abc"  # as JupyterLab numbers a new cell
    write(mine / "01_a.ipynb", "123456789abc-1", own)  # and one was deleted
    assert lab.outdated(built, mine) == []


@pytest.mark.parametrize("content", [b"", b'{"cells": [', b"[]", b"\xff"])
def test_a_broken_copy_is_named(built, mine, content):
    mine.mkdir()
    (mine / "01_a.ipynb").write_bytes(content)
    assert lab.outdated(built, mine) == ["01_a.ipynb"]


def test_lab_says_which_copies_are_outdated_and_starts(
    built, mine, tmp_path, monkeypatch, capsys
):
    started = []
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    monkeypatch.setattr(
        lab.subprocess, "call", lambda command, cwd: started.append(command) or 0
    )
    mine.mkdir()
    write(mine / "02_b.ipynb", "aaaaaaaaaaaa-1")
    assert lab.main(["--no-browser"]) == 0
    printed = capsys.readouterr().out
    assert "Copied 1 notebook(s)" in printed and "rename" in printed
    assert "my/02_b.ipynb" in printed and "my/01_a" not in printed
    assert "--no-browser" in started[0]


def test_a_file_named_my_is_one_sentence(mine, tmp_path, monkeypatch, capsys):
    mine.write_text("")
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    monkeypatch.setattr(lab.subprocess, "call", pytest.fail)
    assert lab.main([]) == 1
    assert "is a file" in capsys.readouterr().out


# ---- tools.browser -------------------------------------------------------------------


def opened(names, monkeypatch):
    """What `tools.browser` returns, and the names of the notebooks that it opens."""
    seen = []

    class Lab:
        def __init__(self, folder): ...
        def __enter__(self): ...
        def __exit__(self, *error): ...

    monkeypatch.setattr(browser, "lab", Lab)
    monkeypatch.setattr(browser.shutil, "which", lambda name: name)
    monkeypatch.setattr(browser.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(browser, "isolate_kernels", lambda: None)
    monkeypatch.setattr(
        browser, "run", lambda _, paths: seen.extend(p.stem for p in paths) or 0
    )
    return browser.main(names), seen


def test_a_browser_run_takes_numbers_and_names(monkeypatch):
    assert opened(["02_backpropagation", "00"], monkeypatch) == (
        0, ["00_start_here", "02_backpropagation"],
    )  # fmt: skip
    assert len(opened([], monkeypatch)[1]) > 10


@pytest.mark.parametrize("name", ["2", "backpropagation", "02_backpropagation.ipynb"])
def test_a_browser_run_of_no_notebook_is_an_error(name, monkeypatch, capsys):
    assert opened(["01", name], monkeypatch) == (2, [])
    assert f"there is no notebook {name!r}" in capsys.readouterr().err


@pytest.mark.parametrize("user", [0, 1000])
def test_the_lab_opens_for_root_too_as_in_a_container(user, monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    monkeypatch.setattr(
        lab.subprocess, "call", lambda command, cwd: called.append(command) or 0
    )
    assert lab.main(["--no-browser"]) == 0
    assert ("--allow-root" in called[0]) == (user == 0)
    assert "--no-browser" in called[0]
