"""Every exercise of the course: right, untouched, wrong and broken answers.

A planted mistake must fail with its own hint and no other: what a learner is told is
then true. Also `progress`, `scaled` and `result`.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minibig
from minibig.exercises import (
    check,
    exercises,
    hint,
    progress,
    result,
    scaled,
)  # fmt: skip
from minibig.exercises.checking import MARK

EXERCISES = exercises()
PLANTED = [
    pytest.param(exercise, mistake, function, id=f"{name}-{number}")
    for name, exercise in EXERCISES.items()
    for number, mistake in enumerate(exercise.mistakes)
    for function in (mistake.function, *mistake.also)
]
every = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # progress is kept in the working folder


@every
def test_exercise_has_normal_and_edge_cases_three_mistakes_and_hints(exercise, capsys):
    assert {"normal", "edge"} <= {case.kind for case in exercise.cases}
    assert len(exercise.mistakes) >= 3 and len(exercise.hints) >= 3
    for _ in exercise.hints:
        hint(exercise.name)
    printed = capsys.readouterr().out
    assert all(text in printed for text in exercise.hints)


@every
def test_solution_passes_every_case(exercise, capsys):
    assert check(exercise.name, exercise.solution) is True
    printed = capsys.readouterr().out
    assert f"all {len(exercise.cases)} cases pass" in printed
    assert max(map(len, printed.splitlines())) <= 88


@every
def test_stub_is_not_attempted_yet(exercise, capsys):
    def stub(*inputs):
        raise NotImplementedError("your turn")

    assert check(exercise.name, stub) is False
    printed = capsys.readouterr().out
    assert "not attempted yet" in printed
    assert max(map(len, printed.splitlines())) <= 88


@pytest.mark.parametrize(("exercise", "mistake", "function"), PLANTED)
def test_planted_mistake_fails_with_its_own_hint(exercise, mistake, function, capsys):
    assert check(exercise.name, function) is False
    printed = capsys.readouterr().out
    for other in exercise.mistakes:
        assert (f"Likely: {other.hint}" in printed) == (other is mistake)


@every
def test_function_that_raises_or_returns_nothing_is_told_so(exercise, capsys):
    assert check(exercise.name, lambda *inputs: inputs[99]) is False
    assert "IndexError" in capsys.readouterr().out
    assert check(exercise.name, lambda *inputs: None) is False
    assert "it returned nothing" in capsys.readouterr().out


# ---- progress ----------------------------------------------------------------------


def test_progress_is_kept_in_a_learners_folder_only(tmp_path):
    first = next(iter(EXERCISES.values()))
    check(first.name, first.solution)
    assert not (tmp_path / MARK).exists()
    (tmp_path / MARK).write_text("{}")
    check(first.name, first.solution)
    assert json.loads((tmp_path / MARK).read_text()) == {"passed": [first.name]}
    assert f"✓ {first.name.partition('.')[2]}" in progress()
    (tmp_path / MARK).write_text("damaged")
    assert "✓" not in progress()


# ---- results ------------------------------------------------------------------------


def test_scaled_is_short_in_a_quick_run_only(monkeypatch):
    monkeypatch.setenv("MINIBIG_SMOKE", "1")
    assert scaled(400, smoke=20) == 20
    for off in ("0", "", "false", "False", "no", "off"):
        monkeypatch.setenv("MINIBIG_SMOKE", off)
        assert scaled(400, smoke=20) == 400


@pytest.mark.parametrize(
    ("value", "bounds", "told"),
    [
        (0.96999999, {"at_least": 0.97}, "a: 0.96999999 (at least 0.97: MISSED)"),
        (0.0100001, {"at_most": 0.01}, "a: 0.0100001 (at most 0.01: MISSED)"),
        (0.9612, {"at_least": 0.97}, "a: 0.9612 (at least 0.97: MISSED)"),
        (0.97, {"at_least": 0.97, "at_most": 1}, "0.97 (at least 0.97, at most 1: r"),
        (2, {"at_least": 0, "at_most": 1}, "a: 2 (at least 0, at most 1: MISSED)"),
    ],
)
def test_a_missed_bound_is_told_apart_from_the_value(
    value, bounds, told, monkeypatch, capsys
):
    monkeypatch.setenv("MINIBIG_SMOKE", "0")
    result("a", value, **bounds)
    assert told in capsys.readouterr().out


def test_result_says_whether_a_bound_is_reached_in_a_full_run(monkeypatch, capsys):
    monkeypatch.setenv("MINIBIG_SMOKE", "0")
    assert result("accuracy", np.float32(0.5), at_least=0.97) == 0.5
    assert "accuracy: 0.5 (at least 0.97: MISSED)" in capsys.readouterr().out
    result("loss", 0.005, at_most=0.01)
    assert "reached" in capsys.readouterr().out
    monkeypatch.setenv("MINIBIG_SMOKE", "1")
    result("accuracy", 0.5, at_least=0.97)
    assert "MISSED" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="accuracy is nan"):
        result("accuracy", float("nan"))


def test_result_is_kept_with_the_output_in_a_kernel(tmp_path):
    code = (
        "from IPython.core.interactiveshell import InteractiveShell as S\n"
        "from IPython.utils.capture import capture_output\n"
        "shell = S.instance()\n"
        "with capture_output() as seen:\n"
        "    shell.run_cell('from minibig.exercises import result')\n"
        "    shell.run_cell('result(\"a\", 1.5);')\n"
        "print(seen.outputs[0].metadata['minibig_result']['value'])\n"
    )
    root = Path(minibig.__file__).parent.parent
    environment = {"PYTHONPATH": str(root), "IPYTHONDIR": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip().endswith("1.5"), done.stderr
