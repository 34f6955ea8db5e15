"""The rules of a notebook, read off its source and its two products."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from minibig.exercises import exercises
from tools import cells, notebooks

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(ROOT.glob("course/[0-9][0-9]_*.py"))
ARXIV = re.compile(r"arXiv[: ]\s*([\w./-]*\d)", re.IGNORECASE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
MACHINE = re.compile(r"(^|[\s\"'(])/(home|root|tmp|work|Users|opt|usr|var)/|[A-Z]:\\\\")

every_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)


def learner(source):
    return nbformat.read(notebooks.products(source)[1], as_version=4)


def solved(source):
    return nbformat.read(notebooks.products(source)[0], as_version=4)


def prose(notebook):
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def outputs(notebook):
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            yield number, output


def test_there_are_notebooks():
    assert SOURCES


@every_notebook
def test_products_are_those_of_the_source(source):
    assert notebooks.differences(source) == []


@every_notebook
def test_skeleton_is_present(source):
    first = learner(source).cells[0].source
    assert first.startswith("# ")
    text = prose(learner(source))
    box = [line for line in text.splitlines() if line.startswith(">")]
    assert re.search(r"You will build", "\n".join(box))
    assert re.search(r"You need", "\n".join(box))
    assert re.search(r"minute|second", "\n".join(box))
    assert "## Summary" in text
    if source.stem[:2] >= "01":
        assert "## Exercises" in text
        assert "## Sources" in text
        code = "\n".join(cell.source for cell in learner(source).cells)
        assert 3 <= len(re.findall(r"^(?:assert )?check\(", code, re.MULTILINE)) <= 5


@every_notebook
def test_summary_has_at_most_six_points(source):
    summary = prose(learner(source)).split("## Summary")[1].split("\n## ")[0]
    points = [line for line in summary.splitlines() if line.startswith(("- ", "1"))]
    assert len(points) <= 6


@every_notebook
def test_code_cells_have_at_most_25_lines(source):
    for number, cell in enumerate(cells.read_source(source).cells, 1):
        if cell.cell_type == "code" and "%%" not in cell.source[:2]:
            assert len(cell.source.splitlines()) <= 25, f"cell {number}"


@every_notebook
def test_pictures_have_alternative_text(source):
    for number, output in outputs(learner(source)):
        if "image/png" in output.get("data", {}):
            alt = output.metadata.get("image/png", {}).get("alt", "")
            assert len(alt) > 40, f"the picture of cell {number} says too little: {alt}"


@every_notebook
def test_outputs_hold_no_warning_error_or_path_of_a_machine(source):
    for notebook in (learner(source), solved(source)):
        for number, output in outputs(notebook):
            assert output.output_type != "error", f"cell {number}"
            assert output.get("name") != "stderr", f"cell {number}: {output.text}"
            text = output.get("text", "") or output.get("data", {}).get(
                "text/plain", ""
            )
            assert not re.search(r"Warning:|\bWarning\b", text), (
                f"cell {number}: {text}"
            )
            assert not MACHINE.search(text), f"cell {number}: {text}"


@every_notebook
def test_arxiv_numbers_are_well_formed(source):
    for number in ARXIV.findall(prose(learner(source))):
        assert re.fullmatch(r"\d{4}\.\d{4,5}|[a-z-]+/\d{7}", number), number


@every_notebook
def test_links_lead_to_files_that_are_there(source):
    path = notebooks.products(source)[1]
    for target in LINK.findall(prose(learner(source))):
        if target.startswith(("http://", "https://", "#")):
            continue
        assert (path.parent / target.split("#")[0]).exists(), target


@every_notebook
def test_notebook_is_at_most_600_kilobytes(source):
    assert notebooks.products(source)[1].stat().st_size <= 600_000


@every_notebook
def test_learners_copy_holds_no_solution(source):
    text = "\n".join(cell.source for cell in learner(source).cells)
    assert cells.BEGIN not in text and cells.END not in text


@every_notebook
def test_every_exercise_of_the_notebook_is_in_it(source):
    text = "\n".join(cell.source for cell in learner(source).cells)
    for name in exercises():
        if name.startswith(source.stem[:2] + "."):
            assert f'check("{name}"' in text, name


@every_notebook
def test_stored_results_are_of_a_full_run_and_hold_their_bounds(source):
    for cell in solved(source).cells:
        for kept in cell.metadata.get("results", []):
            assert not kept["smoke"], kept
            if kept["at_least"] is not None:
                assert kept["value"] >= kept["at_least"], kept
            if kept["at_most"] is not None:
                assert kept["value"] <= kept["at_most"], kept


@every_notebook
def test_size_and_age_are_reported_at_the_end(source, record_property):
    """The root conftest.py prints them: prose, figures, whether the library is old."""
    library = {
        notebook.metadata["library"] for notebook in (learner(source), solved(source))
    }
    assert len(library) == 1 and re.fullmatch(r"[0-9a-f]{16}", *library)
    figures = [
        o for _, o in outputs(learner(source)) if "image/png" in o.get("data", {})
    ]
    record_property("notebook", source.stem)
    record_property("words", len(prose(learner(source)).split()))
    record_property("figures", len(figures))
    record_property("older", library != {notebooks.library_hash(source)[:16]})


def test_the_report_names_each_notebook_and_those_of_an_older_library(request):
    managed = request.config.pluginmanager.get_plugins()
    root = next(
        p for p in managed if getattr(p, "__file__", "") == str(ROOT / "conftest.py")
    )
    lines = []
    row = {"notebook": "01_tensors", "words": 3210, "figures": 4, "older": False}
    rows = [row | {"notebook": "02_b", "older": True}, row, {}]
    passed = [SimpleNamespace(user_properties=list(r.items())) for r in rows]
    root.pytest_terminal_summary(
        SimpleNamespace(
            stats={"passed": passed}, section=lines.append, write_line=lines.append
        )
    )
    assert len(lines) == 3 and re.search(
        "01_tensors +3210 words.* 4 figures$", lines[1]
    )
    assert lines[2].startswith("02_b ") and lines[2].endswith("older library")


def test_stub_takes_the_solution_away_and_asks():
    text = "def f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION"
    assert cells.stub(text) == 'def f(x):\n    raise NotImplementedError("your turn")'
    with pytest.raises(ValueError, match="END SOLUTION"):
        cells.stub("### BEGIN SOLUTION\nx = 1")


def test_hidden_code_is_hidden_in_both_notebooks(tmp_path):
    source = tmp_path / "01_a.py"
    mark = '# %% tags=["a"] jupyter={"source_hidden": true}'
    source.write_text(f"{mark}\nx = 1\n\n# %%\nx = 2\n")
    hidden, open_ = cells.read_source(source).cells
    assert hidden.metadata == {"tags": ["a"], "jupyter": {"source_hidden": True}}
    assert cells.is_hidden(hidden) and not cells.is_hidden(open_)
    learner = cells.learner_copy(cells.read_source(source))
    assert cells.is_hidden(learner.cells[0])
    nbformat.validate(learner)


def test_hiding_the_code_of_a_cell_asks_for_new_notebooks():
    expected = cells.read_source(SOURCES[0])
    actual = cells.read_source(SOURCES[0])
    assert notebooks._first_difference("a", expected, actual) == []
    expected.cells[-1].metadata["jupyter"] = {"source_hidden": True}
    assert len(notebooks._first_difference("a", expected, actual)) == 1


def test_a_changed_source_names_the_cell(tmp_path, monkeypatch):
    original = SOURCES[0]
    course = tmp_path / "course"
    course.mkdir()
    changed = course / original.name
    changed.write_text(original.read_text("utf-8") + "\n# %%\n1 + 1\n", "utf-8")
    for path, other in zip(
        notebooks.products(original), notebooks.products(changed), strict=True
    ):
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(path.read_bytes())
    found = notebooks.differences(changed)
    assert len(found) == 2 and "'1 + 1'" in found[0]


@pytest.mark.parametrize("flags", [[], ["--check"]])
def test_a_name_that_is_no_notebook_is_one_sentence(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        notebooks.main(["nosuch", *flags])
    assert stop.value.code == 2
    assert "there is no notebook 'nosuch', but 00_start" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["02", "02_backpropagation"])
def test_a_notebook_is_named_by_its_number_or_its_name(name, monkeypatch):
    built = []
    monkeypatch.setattr(
        notebooks, "_bring_up_to_date", lambda source, _: built.append(source.stem)
    )
    assert notebooks.main([name]) == 1
    assert built == ["02_backpropagation"]


def test_notebooks_are_json_without_machine_names():
    for source in SOURCES:
        for path in notebooks.products(source):
            metadata = json.loads(path.read_text("utf-8"))["metadata"]
            assert set(metadata) == {"kernelspec", "language_info", "library"}
