"""`python -m minibig progress`: found from anywhere near, never wrong about a check."""

import json
from pathlib import Path

import pytest

from minibig import cli
from minibig.exercises import check, exercises
from minibig.exercises.checking import MARK

EXERCISES = exercises()
FIRST = next(iter(EXERCISES.values()))
TOTAL = len(EXERCISES)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def mine(tmp_path):
    """A learner's folder, as `make lab` makes it."""
    folder = tmp_path / "my"
    folder.mkdir()
    (folder / MARK).write_text("{}")
    return folder


def keep(folder, names):
    (folder / MARK).write_text(json.dumps({"passed": names}))


def lines(capsys):
    """What the command prints, which must go well."""
    capsys.readouterr()
    assert cli.main(["progress"]) == 0
    return capsys.readouterr().out.splitlines()


def refused(capsys):
    capsys.readouterr()
    assert cli.main(["progress"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    return printed.err


def test_nothing_passed_is_no_failure(capsys, mine):
    *notebooks, sums = lines(capsys)
    assert sums == f"0 of {TOTAL} checks have passed."
    assert [line[:2] for line in notebooks] == sorted({x[:2] for x in EXERCISES})
    assert all("  0 of " in line and "✓" not in line for line in notebooks)


def test_each_notebook_has_passed_total_and_the_names_that_are_open(capsys, mine):
    own = [name for name in EXERCISES if name[:2] == FIRST.name[:2]]
    keep(mine, own[:-1])
    *notebooks, sums = lines(capsys)
    passed, still_open = notebooks[0].split("  open: ")
    assert passed.startswith(f"{own[0][:2]}  {len(own) - 1} of {len(own)}  ✓ ")
    assert still_open == own[-1][3:]
    assert all(f"✓ {name[3:]}" in passed for name in own[:-1])
    assert sums == f"{len(own) - 1} of {TOTAL} checks have passed."


def test_all_passed_leaves_nothing_open_within_88_columns(capsys, mine):
    keep(mine, list(EXERCISES))
    printed = lines(capsys)
    assert printed[-1] == f"{TOTAL} of {TOTAL} checks have passed."
    assert not any("open" in line for line in printed)
    assert max(map(len, printed)) <= 88


def test_a_check_that_passes_in_my_is_seen_from_everywhere_in_the_repository(
    capsys, mine, monkeypatch, tmp_path
):
    (tmp_path / "course" / "deep").mkdir(parents=True)
    (mine / "old").mkdir()
    monkeypatch.chdir(mine)
    assert check(FIRST.name, FIRST.solution)
    for folder in (mine, mine / "old", tmp_path, tmp_path / "course" / "deep"):
        monkeypatch.chdir(folder)
        assert lines(capsys)[-1] == f"1 of {TOTAL} checks have passed."


def test_names_that_are_no_exercise_any_more_do_not_count(capsys, mine):
    keep(mine, [FIRST.name, FIRST.name, "01.of_last_year", 7])
    assert lines(capsys)[-1] == f"1 of {TOTAL} checks have passed."


def test_elsewhere_one_sentence_says_what_to_do(capsys, tmp_path):
    sentence = refused(capsys)
    assert str(tmp_path) in sentence
    assert "run `make lab` once" in sentence and "makes my/" in sentence


@pytest.mark.parametrize("content", ["", "damaged", "[]", '{"passed": 3}', "\udc80"])
def test_a_damaged_record_is_named_and_begun_anew_by_the_next_check(
    capsys, mine, monkeypatch, content
):
    (mine / MARK).write_bytes(content.encode(errors="surrogateescape"))
    assert f"{Path('my', MARK)} is damaged" in refused(capsys)
    monkeypatch.chdir(mine)
    assert check(FIRST.name, FIRST.solution)
    assert lines(capsys)[-1] == f"1 of {TOTAL} checks have passed."
