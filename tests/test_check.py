"""What `check` and `hint` say, of whatever a learner's function does."""

import numpy as np
import pytest

from minibig import tensor
from minibig.exercises import Case, Exercise, Mistake, check, exercises, hint


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # progress is kept in the working folder


@pytest.fixture
def verdict(monkeypatch, capsys):
    """What `check` prints of an answer to an exercise; no line is above 88 columns."""

    def of(answer, solution, *inputs, **more):
        cases = tuple(Case(f"case {i}", lambda x=x: x) for i, x in enumerate(inputs))
        exercise = Exercise("00.it", "Do it.", solution, cases, **more)
        monkeypatch.setattr(
            "minibig.exercises.checking.exercises", lambda: {"00.it": exercise}
        )
        passed = check("00.it", answer)
        printed = capsys.readouterr().out
        assert passed == ("cases pass" in printed)
        assert max(map(len, printed.splitlines())) <= 88
        return printed

    return of


def twice(x):
    return x * 2


# ---- calls ---------------------------------------------------------------------------


def test_check_names_what_is_wrong_with_a_call(capsys):
    assert check("99.nothing", print) is False
    assert "There is no exercise '99.nothing'" in capsys.readouterr().out
    name = next(iter(exercises()))
    assert check(name, 3) is False
    assert "give the function itself" in capsys.readouterr().out


@pytest.mark.parametrize("name", [3, None, ["01.strides"], "", b"01.strides"])
def test_a_name_that_is_no_text_is_told_so(name, capsys):
    assert check(name, print) is False
    hint(name)
    printed = capsys.readouterr().out
    assert printed.count(f"There is no exercise {name!r}") == 2
    assert max(map(len, printed.splitlines())) <= 88


# ---- answers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda x: x[:1] * 2, "its shape is (1,), not (2,)"),
        (lambda x: x * 2 + 1e-3, "other numbers"),
        (lambda x: "text", "not numbers"),
        (lambda x: np.multiply(x, 2, out=x), "it changed its input 1"),
    ],
)
def test_the_table_says_how_an_answer_differs(answer, told, verdict):
    for _ in range(2):
        assert told in verdict(answer, twice, (np.array([1.0, 2.0]),))


@pytest.mark.parametrize("items", [(1, 2, 3), ("a", b"b"), (None, (2, b""))])
def test_inputs_that_are_tuples_count_as_unchanged(items, verdict):
    assert "cases pass" in verdict(len, len, (items,))


class Foreign:
    """As the arrays of another library: NumPy cannot have it, and cannot print it."""

    def __init__(self, error):
        self.error = error

    def __array__(self, *arguments, **settings):
        raise self.error

    def __repr__(self):
        raise self.error


@pytest.mark.parametrize("error", [TypeError("on the GPU"), RuntimeError("needs grad")])
@pytest.mark.parametrize("shown", [lambda value: value, str, len])
def test_another_librarys_array_is_no_error_of_check(error, shown, verdict):
    told = verdict(lambda x: Foreign(error), twice, (np.ones(2),), shown=shown)
    assert "it is no array of numbers: return a NumPy array" in told
    assert "<Foreign>" in told


@pytest.mark.oracle
def test_a_torch_tensor_with_a_gradient_is_no_error_of_check(verdict):
    torch = pytest.importorskip("torch")
    told = verdict(lambda x: torch.ones(2, requires_grad=True), twice, (np.ones(2),))
    assert "return a NumPy array" in told


def test_a_tensor_of_ours_is_an_answer(verdict):
    assert "cases pass" in verdict(lambda x: tensor(x) * 2, twice, (np.ones(2),))


@pytest.mark.parametrize(
    ("solution", "answer", "told"),
    [
        (list, set, "it is a set, not a list"),
        (list, np.array, "it is an ndarray, not a list"),
        (tuple, lambda x: 3, "it is an int, not a tuple"),
        (tuple, lambda x: (1, 2, 3), "it has 3 items, not 2"),
        (tuple, lambda x: (1, 3), "result 2: other numbers"),
    ],
)
def test_an_answer_of_another_kind_is_named(solution, answer, told, verdict):
    assert told in verdict(answer, solution, ([1, 2],))


# ---- errors --------------------------------------------------------------------------


def test_a_long_error_is_told_once_and_in_few_lines(verdict):
    def answer(x):
        raise ValueError("\n" + "much to say " * 50 + "\n" + "and more\n" * 20)

    told = verdict(answer, twice, *[(np.ones(2),)] * 5)
    assert told.count("ValueError: much to say") == 1 and "and more" not in told
    assert told.count("the same") == 4 and len(told.splitlines()) <= 12


def test_an_error_of_moderate_length_is_told_whole(verdict):
    def answer(x):
        return tensor(x) @ tensor(np.ones((3, 3)))

    with pytest.raises(Exception, match="matmul") as caught:
        answer(np.ones(2))
    told = " ".join(verdict(answer, twice, (np.ones(2),)).split())
    assert " ".join(str(caught.value).split("\n")[0].split()) in told


def test_an_error_that_cannot_be_printed_has_its_type(verdict):
    class SilentError(Exception):
        def __str__(self):
            raise ValueError

    def answer(x):
        raise SilentError

    assert "SilentError" in verdict(answer, twice, (np.ones(2),))


# ---- likely mistakes -----------------------------------------------------------------


def test_an_answer_that_changes_its_input_is_told_to_copy(verdict):
    def answer(x):
        x *= 2
        return x

    assert "Likely: your function writes into" in verdict(answer, twice, (np.ones(2),))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_overflow_is_the_same_mistake_whatever_it_leaves(value, verdict):
    mistake = Mistake(lambda x: (np.array([np.inf, 1.0]), 2), "it overflows.")
    told = verdict(
        lambda x: (np.array([value, 1.0]), 2),
        lambda x: (np.ones(2), 2), (np.ones(2),), mistakes=(mistake,),
    )  # fmt: skip
    assert "Likely: it overflows." in told


def test_a_mistake_may_give_several_results(verdict):
    mistake = Mistake(lambda x: x, "wrong.", also=(lambda x: x + 5,))
    for answer, known in ((lambda x: x + 5, True), (lambda x: x + 6, False)):
        told = verdict(answer, twice, (np.ones(2),), mistakes=(mistake,))
        assert ("Likely: wrong." in told) == known
