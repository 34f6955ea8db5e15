"""`make results`: seeds are varied, runs are kept, and the report tells the truth."""

import json
from types import SimpleNamespace

import pytest

from minibig.presets import PRESETS
from tools import results

SOURCE = """# %% [markdown]
# `mb.seed(0)` in prose stays.

# %%
import minibig as mb
from minibig.exercises import in_smoke_mode, result

mb.seed(0)
first = mb.random.generator("x").random()
result("drawn", first, at_least=0, corpus="abc");
# a second output of the same cell
mb.seed(1)
result("seed", mb.random.get_state()["seed"], at_most=1);
assert not in_smoke_mode()
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A course of one notebook in a folder of its own; `fake.runs` counts its runs."""
    for name in ("course", "benchmarks", "records"):
        (tmp_path / name).mkdir()
    source = tmp_path / "course" / "01_fake.py"
    source.write_text(SOURCE)
    monkeypatch.setattr(results, "COURSE", source.parent)
    monkeypatch.setattr(results, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(results, "REPORT", tmp_path / "benchmarks" / "course.md")
    monkeypatch.setattr(results, "isolate_kernels", lambda: None)  # conftest did it
    monkeypatch.setenv("MINIBIG_SMOKE", "1")  # comes back after the test
    return SimpleNamespace(source=source, report=results.REPORT, path=tmp_path)


@pytest.fixture
def quick(fake, monkeypatch):
    """The same with runs that only say what `fake.values` has for each seed."""
    fake.values, fake.runs = [0.5, 0.75, 1.0], []

    def run(source, seed):
        fake.runs.append(seed)
        value = fake.values[seed]
        if isinstance(value, BaseException):
            raise value
        kept = {"name": "accuracy", "value": value, "at_least": 0.7, "at_most": None}
        kept |= {"corpus": None}
        record = {"minutes": 1.25, "date": "2026-01-02", "threads": 2}
        return results.state(source) | record | {"results": {"accuracy": kept}}

    monkeypatch.setattr(results, "run", run)
    return fake


def row(fake, name="accuracy"):
    lines = fake.report.read_text().splitlines()
    return next(line for line in lines if line.startswith(f"| {name} |"))


def test_each_seed_runs_the_notebook_whole_and_shifts_every_mb_seed(fake, capsys):
    assert results.main(["01", "--seeds", "2"]) == 1  # "seed" is 1, then 2: mean 1.5
    kept = [json.loads((fake.path / "records" / f"01_fake-{seed}.json").read_text())
            for seed in range(2)]  # fmt: skip
    drawn = [record["results"]["drawn"] for record in kept]
    assert drawn[0]["value"] != drawn[1]["value"] and not drawn[1]["smoke"]
    assert row(fake, "seed") == "| seed | 1 | 2 | 1.5 ± 0.71 | ≤ 1 | **missed** |  |"
    assert row(fake, "drawn").endswith("| ≥ 0 | reached | abc |")
    assert "seed 1: 0." in capsys.readouterr().out


def test_prose_and_seed_0_are_left_alone(fake):
    before = [cell.source for cell in results.read_source(fake.source).cells]
    for seed in (0, 3):
        notebook = results.shifted(results.read_source(fake.source), seed)
        after = [cell.source for cell in notebook.cells][seed > 0 :]
        assert after[0] == before[0] and (after == before) == (seed == 0)
    assert "mb.seed(3 + 0)" in after[1] and "mb.seed(3 + 1)" in after[1]


def test_presets_start_from_another_seed_too(fake, monkeypatch):
    before = {name: preset.seed for name, preset in PRESETS.items()}
    for name in before:
        monkeypatch.setitem(PRESETS, name, PRESETS[name])
    notebook = results.shifted(results.read_source(fake.source), 2)
    exec(notebook.cells[0].source, {})
    assert {name: preset.seed - 2 for name, preset in PRESETS.items()} == before
    assert results.SEED.sub("x", "mb.seed(preset.seed)") == "mb.seed(preset.seed)"


def test_the_report_has_value_mean_spread_bound_minutes_and_versions(quick):
    assert results.main([]) == 0
    expected = "| accuracy | 0.5 | 0.75 | 1 | 0.75 ± 0.25 | ≥ 0.7 "
    assert row(quick) == expected + "| reached (not by seed 0) |  |"
    text = quick.report.read_text()
    state = results.state(quick.source)
    for part in ("1.2, 1.2, 1.2", "threads 2", "2026-01-02", *state.values()):
        assert part in text


def test_an_interrupted_run_goes_on_where_it_stopped(quick, capsys):
    quick.values[2] = KeyboardInterrupt()
    assert results.main([]) == 130 and not quick.report.exists()
    assert "goes on from here" in capsys.readouterr().err
    quick.values[2] = 1.0
    assert results.main([]) == 0
    assert quick.runs == [0, 1, 2, 2]
    assert results.main([]) == 0 and quick.runs == [0, 1, 2, 2]


@pytest.mark.parametrize("old", ["source", "library", "record"])
def test_a_kept_run_counts_until_what_it_rests_on_changes(quick, monkeypatch, old):
    assert results.main(["--seeds", "1"]) == 1  # 0.5 misses 0.7
    if old == "source":
        quick.source.write_text(SOURCE + "\n1 + 1\n")
    elif old == "library":
        monkeypatch.setattr(results, "library_hash", lambda source: "another")
    else:
        (quick.path / "records" / "01_fake-0.json").write_text("damaged")
    quick.values[0] = 0.9
    assert results.main(["--seeds", "1"]) == 0
    assert quick.runs == [0, 0] and "| accuracy | 0.9 | 0.9 |" in row(quick)


def test_sections_of_other_notebooks_stay_and_a_missed_mean_is_said(quick):
    quick.report.write_text("# Old head\n\n## 00_a\n\nkept\n\n## 02_b\n\nkept too\n")
    quick.values = [0.6, 0.65, 0.75]
    assert results.main(["01_fake"]) == 1
    text = quick.report.read_text()
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert heads == ["## 00_a", "## 01_fake", "## 02_b"]
    assert "kept\n" in text and "kept too" in text and text.startswith(results.HEAD)
    assert "**missed**" in row(quick)
    results.main(["01_fake"])
    assert quick.report.read_text() == text


def test_a_notebook_that_fails_keeps_its_old_section(quick, capsys):
    quick.report.write_text("## 01_fake\n\nold\n")
    quick.values[1] = results.CellExecutionError("cell 3", "AssertionError", "no")
    assert results.main([]) == 1
    assert "01_fake does not run through" in capsys.readouterr().err
    assert "old" in quick.report.read_text()


def test_what_draws_nothing_runs_once_and_what_states_nothing_is_passed_over(
    quick, capsys
):
    quick.values = [1.0]
    quick.source.write_text('# %%\nresult("a", 1)\n')
    assert results.main([]) == 0 and quick.runs == [0]
    quick.source.write_text("# %%\n1 + 1\n")
    assert results.main([]) == 0 and "no results" in capsys.readouterr().out
    assert quick.runs == [0]


@pytest.mark.parametrize("arguments", [["99"], ["01", "other"], ["--seeds", "0"]])
def test_wrong_arguments_are_one_sentence_before_any_run(quick, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        results.main(arguments)
    assert stop.value.code == 2 and quick.runs == []
    error = capsys.readouterr().err
    assert "01_fake" in error or "at least 1" in error
