"""The README's table says what the report says."""

import pytest

from minibig.presets import PRESETS
from tools import results_table
from tools.results_table import BEGIN, END, ROWS, percent, put, read_report

REPORT = """# Results

## 06_convolutions

| result | seed 0 | seed 1 | mean | bound |  | corpus |
|---|---|---|---|---|---|---|
| digits, cnn | 0.99 | 0.98 | 0.985 ± 0.0071 | ≥ 0.9 | reached | abc |
| digits, neighbour | 0.5 | 0.5 | 0.5 ± 0 |  |  |  |

Minutes: 1.2, 0.9 · threads 1 · date 2026-01-01.
"""


def test_report_is_read_by_notebook_and_name():
    assert read_report(REPORT) == {
        "06_convolutions": (
            {"digits, cnn": "0.985 ± 0.0071", "digits, neighbour": "0.5 ± 0"},
            [1.2, 0.9],
        )
    }


@pytest.mark.parametrize(
    "text, shown",
    [
        ("0.985 ± 0.0071", "98.5 ± 0.7 %"),
        ("0.5 ± 0", "50.0 %"),
        ("0.0084 ± 0.0011", "0.84 ± 0.11 %"),
        ("1.185", "118.5 %"),
    ],
)
def test_shares_are_shown_as_percent_with_their_spread(text, shown):
    assert percent(text) == shown


def test_every_family_has_its_row_and_its_notebook_states_both_results():
    names = {row.preset for row in ROWS}
    assert names == set(PRESETS) - {"demo", "nanogpt-cpu"}
    report = read_report(results_table.REPORT.read_text("utf-8"))
    for row in ROWS:
        if row.notebook in report:
            results, _ = report[row.notebook]
            assert {row.result, row.baseline} <= results.keys(), row.preset


def test_table_stands_between_its_marks():
    readme = f"a\n{BEGIN}\nold\n{END}\nb\n"
    assert put("new", readme) == f"a\n{BEGIN}\nnew\n{END}\nb\n"
    with pytest.raises(ValueError, match="lacks the marks"):
        put("new", "no marks")


def test_readme_shows_what_the_report_says():
    report = read_report(results_table.REPORT.read_text("utf-8"))
    readme = results_table.README.read_text("utf-8")
    shown = readme.partition(BEGIN)[2].partition(END)[0]
    for row in ROWS:
        if row.notebook in report:
            reached = percent(report[row.notebook][0][row.result])
            assert f"| `{row.preset}` | {row.learns} | " in shown
            assert f" | {row.says.format(reached)} | " in shown
