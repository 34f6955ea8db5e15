"""Grid and random search: which settings are tried, and the table of what they gave."""

import json
import math

import numpy as np
import pytest

from minibig.files import FileError
from minibig.training import LogUniform, Uniform, grid, sample, search

SPACE = {"lr": LogUniform(1e-4, 1e-1), "share": Uniform(2, 3), "width": (32, 64, 128)}


def bowl(x, y=0):
    return {"loss": (x - 2) ** 2 + y}


# ---- settings -----------------------------------------------------------------------


def test_grid_is_every_combination_and_the_last_name_runs_fastest():
    assert grid({"x": (1, 2), "y": ["a", "b", "c"]}) == [
        {"x": 1, "y": "a"}, {"x": 1, "y": "b"}, {"x": 1, "y": "c"},
        {"x": 2, "y": "a"}, {"x": 2, "y": "b"}, {"x": 2, "y": "c"},
    ]  # fmt: skip
    assert grid({}) == [{}]


def test_grid_of_a_range_is_refused():
    with pytest.raises(TypeError, match="grid: lr, all values to try, must be a list"):
        grid(SPACE)


def test_draws_depend_on_seed_trial_and_name_alone():
    twenty = sample(SPACE, 20, seed=3)
    assert sample(SPACE, 5, seed=3) == twenty[:5]
    assert sample(SPACE, 20, seed=4) != twenty
    alone = sample({"lr": SPACE["lr"]}, 20, seed=3)
    assert [row["lr"] for row in alone] == [row["lr"] for row in twenty]


def test_draws_are_uniform_on_the_scale_that_was_said():
    rows = sample(SPACE, 3000)
    powers = [math.floor(math.log10(row["lr"])) for row in rows]
    assert set(powers) == {-4, -3, -2}  # each a third: ± 4 deviations of the count
    for power in (-4, -3, -2):
        assert powers.count(power) == pytest.approx(1000, abs=104)
    shares = np.array([row["share"] for row in rows])
    assert shares.min() >= 2 and shares.max() <= 3
    assert shares.mean() == pytest.approx(2.5, abs=4 / math.sqrt(12 * 3000))
    widths = [row["width"] for row in rows]
    for width in SPACE["width"]:
        assert widths.count(width) == pytest.approx(1000, abs=104)


def test_ends_and_middle_of_a_range():
    assert [Uniform(2, 4).at(share) for share in (0, 0.5, 1)] == [2, 3, 4]
    middle = [LogUniform(0.01, 100).at(share) for share in (0, 0.5, 1)]
    assert middle == pytest.approx([0.01, 1, 100])


@pytest.mark.parametrize(
    ("space", "error", "text"),
    [
        ({"x": 3}, TypeError, "what 'x' may be must be a Uniform or LogUniform or"),
        ({"x": ()}, ValueError, "is empty"),
        ([], TypeError, "space must be a dict"),
    ],
)
def test_a_space_that_says_nothing_is_refused(space, error, text):
    for function in (grid, lambda space: sample(space, 1)):
        with pytest.raises(error, match=text):
            function(space)


def test_a_range_needs_a_low_and_a_higher_end():
    with pytest.raises(ValueError, match="LogUniform: low"):
        LogUniform(0, 1)
    with pytest.raises(ValueError, match="Uniform: high"):
        Uniform(1, 1)


# ---- search -------------------------------------------------------------------------


def test_best_comes_first_and_the_table_says_so():
    found = search(bowl, grid({"x": (0, 1, 2, 3.5)}))
    assert found.best == {"x": 2} and len(found) == 4
    assert [row["results"]["loss"] for row in found.rows] == [0, 1, 2.25, 4]
    assert str(found).splitlines() == [
        "   loss    x",
        "1     0    2",
        "2     1    1",
        "3  2.25  3.5",
        "4     4    0",
    ]
    assert found.table(1).splitlines() == ["   loss  x", "1     0  2"]


def test_largest_turns_the_order_round():
    found = search(bowl, grid({"x": (0, 1, 2)}), largest=True)
    assert found.best == {"x": 0}


def test_a_run_that_diverges_is_kept_and_comes_last():
    def run(x):
        if x > 1:
            raise FloatingPointError("step 3: the loss is inf")
        return {"loss": math.nan if x == 1 else x}

    found = search(run, grid({"x": (3, 1, 0)}))
    assert found.best == {"x": 0}
    assert {row.get("error") for row in found.rows[1:]} == {
        None, "step 3: the loss is inf",
    }  # fmt: skip
    assert "failed" in str(found)
    with pytest.raises(ValueError, match="no trial gave a loss"):
        search(run, grid({"x": (3,)})).best  # noqa: B018


def test_a_saved_search_goes_on_where_it_was(tmp_path):
    path, calls = tmp_path / "search.json", []

    def run(x, sizes):
        calls.append(x)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return {"loss": np.float32(x), "n": len(sizes)}

    trials = grid({"x": (5, 4, 3, 2), "sizes": ((64, 10),)})
    with pytest.raises(KeyboardInterrupt):
        search(run, trials, path=path)
    assert len(json.loads(path.read_text())["minibig search"]) == 2
    found = search(run, trials, path=path)
    assert calls == [5, 4, 3, 3, 2]
    assert found.best == {"x": 2, "sizes": (64, 10)}
    assert str(search(run, trials[::-1], path=path)) == str(found)
    assert len(calls) == 5 and len(search(run, trials[:1], path=path)) == 1


def test_settings_that_come_twice_are_run_once():
    calls = []
    found = search(lambda x: calls.append(x) or bowl(x), [{"x": 1}, {"x": 1}])
    assert calls == [1] and len(found) == 1


def test_a_saved_search_is_json_without_nan_and_comes_back(tmp_path):
    path, values = tmp_path / "search.json", (math.nan, math.inf, 2.0)
    trials = grid({"i": (0, 1, 2)})
    found = search(lambda i: {"loss": values[i]}, trials, path=path)
    again = search(bowl, trials, path=path)
    assert str(again) == str(found) and again.best == {"i": 2}

    def refuse(constant):
        raise AssertionError(constant)

    json.loads(path.read_text(), parse_constant=refuse)


def test_saved_trials_without_what_is_watched_are_refused(tmp_path):
    path = tmp_path / "search.json"
    search(bowl, grid({"x": (0, 1)}), path=path)
    with pytest.raises(ValueError, match=r"search\.json gave \['loss'\] and no 'acc'"):
        search(bowl, grid({"x": (0, 1)}), monitor="acc", path=path)


def test_a_search_says_what_it_is_in_a_line():
    found = search(bowl, grid({"x": (0, 1, 2)}))
    assert repr(found) == "SearchResults(3 trials, the best first by loss)"


NO_SEARCH = [
    "", "[]", "{}", "\xff", '{"minibig search": [3]}',
    '{"minibig search": [{"settings": {"x": 1}}]}',
    '{"minibig search": [{"settings": {"x": 1}, "results": 3}]}',
    '{"minibig search": [{"settings": {"x": 1}, "results": {"loss": "low"}}]}',
]  # fmt: skip


@pytest.mark.parametrize("text", NO_SEARCH)
def test_a_file_that_is_no_search_is_refused_and_kept(text, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(text, "latin-1")
    with pytest.raises(FileError, match=r"mine\.txt holds no trials"):
        search(bowl, [{"x": 1}], path=path)
    assert path.read_text("latin-1") == text


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "search: run must return a dict of numbers"),
        (3.0, "search: run must return a dict of numbers"),
        ({"loss": 1.0, "name": "a"}, "dict of numbers; 'name' is 'a'"),
        ({"accuracy": 1.0}, r"search: monitor='loss' is not among \['accuracy'\]"),
    ],
)
def test_a_run_must_return_the_number_that_is_watched(returned, message):
    with pytest.raises((TypeError, ValueError), match=message):
        search(lambda x: returned, [{"x": 1}])


def test_what_could_not_be_saved_is_refused_before_the_first_trial(tmp_path):
    def run(x):
        pytest.fail("it ran")

    with pytest.raises(FileNotFoundError, match=r"search: the folder of .*new.a\.json"):
        search(run, [{"x": 1}], path=tmp_path / "new" / "a.json")
    with pytest.raises(TypeError, match=r"settings\['x'\] is of type ndarray"):
        search(run, [{"x": 1}, {"x": np.ones(2)}])
