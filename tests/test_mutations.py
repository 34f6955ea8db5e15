"""The bugs of `python -m tools.mutations` still apply, and its verdict is true."""

import ast
import dataclasses

import pytest

from tools import mutations
from tools.kernels import ROOT
from tools.mutations import MUTATIONS

every = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)


@every
def test_mutation_changes_one_place_and_leaves_python(mutation):
    package = ROOT / "minibig"
    text = mutations.mutated(mutation, package)
    before = (package / mutation.file).read_text("utf-8")
    assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(before))
    assert (ROOT / "tests" / mutation.tests).exists()
    assert (ROOT / "course" / mutation.notebook).exists()


def test_the_five_bugs_that_people_make_are_there():
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS) == 5


@pytest.mark.parametrize("right", ["no such text", "xp"])
def test_text_that_is_gone_or_not_unique_is_named(right):
    lost = dataclasses.replace(MUTATIONS[0], right=right)
    with pytest.raises(ValueError, match=r"stands \d+ times in ops/attention.py"):
        mutations.mutated(lost, ROOT / "minibig")


# ---- who caught it ------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path):
    """A folder as `copy_into` makes it, of one test file and one source."""
    for name in ("tests", "course"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_only_an_assertion_of_the_notebook_itself_counts(copy):
    source = copy / "course" / "01_a.py"
    source.write_text("# %% [markdown]\n# Title\n\n# %%\nx = 1\nassert x == 1\n")
    assert mutations.failing_assertion(copy, "01_a.py") is None
    source.write_text(source.read_text() + "\n# %%\nassert x == 2, 'why'\n")
    found = mutations.failing_assertion(copy, "01_a.py")
    assert found == "cell 3: assert x == 2, 'why'"
    source.write_text("# %%\nimport numpy\nnumpy.testing.assert_equal(1, 2)\n")
    with pytest.raises(RuntimeError, match="by no assertion"):
        mutations.failing_assertion(copy, "01_a.py")
    source.write_text("# %%\n1 / 0\n")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        mutations.failing_assertion(copy, "01_a.py")


def test_the_first_failing_test_is_named_and_a_broken_run_is_an_error(copy):
    tests = copy / "tests" / "test_a.py"
    tests.write_text("def test_good(): pass\n\n\ndef test_bad(): assert 0\n")
    assert mutations.failing_test(copy, ["test_a.py"]) == "test_bad"
    tests.write_text("def test_good(): pass\n")
    assert mutations.failing_test(copy, ["test_a.py"]) is None
    tests.write_text("import nothing_of_that_name\n")
    with pytest.raises(RuntimeError, match="nothing_of_that_name"):
        mutations.failing_test(copy, ["test_a.py"])


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ((None, None), 1, "NOT CAUGHT"),
        (("test_x", None), 1, "08_attention.py: NOT CAUGHT"),
        (("test_x", "cell 3: assert y"), 0, "5 of 5 caught"),
    ],
)
def test_the_command_fails_unless_both_catch_all(
    found, code, said, monkeypatch, capsys
):
    monkeypatch.setattr(mutations, "isolate_kernels", lambda: None)  # conftest did it
    outcome = {None: (None, None)}
    monkeypatch.setattr(mutations, "examine", lambda m: outcome.get(m, found))
    assert mutations.main() == code
    assert said in capsys.readouterr().out
    outcome[None] = ("test_y", None)
    assert mutations.main() == 1
    assert "as it is fails" in capsys.readouterr().err
