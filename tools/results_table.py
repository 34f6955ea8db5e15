"""The README's table of what each model reaches, from benchmarks/results/course.md.

`make results` runs it at its end: `python -m tools.results_table`. Its figures are
those of the notebooks, over their seeds, beside the best baseline that the notebook
has; parameters are counted from the presets, which notebook and command line share.
"""

import math
import re
import sys
from dataclasses import dataclass

from minibig import recipes
from minibig.files import atomic_write
from minibig.presets import PRESETS

from .kernels import ROOT
from .results import REPORT

README = ROOT / "README.md"
BEGIN, END = "<!-- what the models reach: make results -->", "<!-- until here -->"
TITLES = (
    "preset", "learns", "parameters", "reaches", "beside it", "notebook, min",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A line of the table: a preset, and the names of its results in its notebook."""

    preset: str
    learns: str
    notebook: str
    result: str
    says: str  # with {} for the number
    baseline: str
    compares: str


ROWS = (
    Row("mlp", "8 × 8 digits", "06_convolutions",
        "digits test accuracy, mlp, mean of 3 seeds", "{} right",
        "digits test accuracy, neighbour", "nearest neighbour {}"),
    Row("cnn", "8 × 8 digits", "06_convolutions",
        "digits test accuracy, cnn, mean of 3 seeds", "{} right",
        "digits test accuracy, neighbour, with copies",
        "neighbour, moved copies {}"),
    Row("vit", "8 × 8 digits", "13_vision_transformer",
        "digits test accuracy, ViT", "{} right",
        "digits test accuracy, CNN", "the CNN {}"),
    Row("lstm", "order of words", "07_recurrence",
        "real or shuffled, LSTM", "{} right",
        "real or shuffled, pairs of words", "pairs of words {}"),
    Row("transformer", "dates to ISO dates", "09_transformer",
        "exact dates, greedy", "{} exact",
        "exact dates, rules with every month's name",
        "rules with all months {}"),
    Row("bert", "words left out", "12_bert",
        "guessed after the short run", "{} guessed",
        "guessed by both neighbours", "both neighbours {}"),
    Row("gpt", "stories", "11_gpt",
        "tales excess", "{} above the floor",
        "trigram excess", "trigrams {}"),
    Row("llama", "stories", "11_gpt",
        "tales excess, Llama", "{} above the floor",
        "trigram excess", "trigrams {}"),
)  # fmt: skip


def read_report(text):
    """{notebook: ({result: "mean ± spread"}, minutes of each seed)} of the report."""
    found = {}
    for part in text.split("\n## ")[1:]:
        rows = [line.split(" | ") for line in part.splitlines() if line[:2] == "| "]
        place = rows[0].index("mean")
        minutes = re.search(r"^Minutes: ([\d., ]+) ·", part, re.MULTILINE).group(1)
        results = {row[0].removeprefix("| "): row[place] for row in rows[1:]}
        found[part.splitlines()[0]] = results, [float(m) for m in minutes.split(", ")]
    return found


def percent(text):
    """ "0.9938 ± 0.0022" as "99.4 ± 0.2 %"; small shares get a digit more."""
    mean, *spread = (float(number) for number in text.split(" ± "))
    digits = 1 if abs(mean) >= 0.02 else 2
    if not spread or math.isclose(spread[0], 0, abs_tol=5e-5):
        return f"{100 * mean:.{digits}f} %"
    return f"{100 * mean:.{digits}f} ± {100 * spread[0]:.{digits}f} %"


def line(row, report):
    """One row as Markdown."""
    results, minutes = report[row.notebook]
    size = recipes.prepare(PRESETS[row.preset]).model.num_parameters()
    cells = [
        f"`{row.preset}`", row.learns, f"{size:,}",
        row.says.format(percent(results[row.result])),
        row.compares.format(percent(results[row.baseline])),
        f"[{row.notebook[:2]}](notebooks/{row.notebook}.ipynb), {min(minutes):.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def table(report):
    """The whole table; a model whose notebook has not been run yet has no line."""
    head = [f"| {' | '.join(TITLES)} |", "|---" * len(TITLES) + "|"]
    return "\n".join(
        head + [line(row, report) for row in ROWS if row.notebook in report]
    )


def put(text, readme):
    """The README with `text` between the two marks. ValueError where they are not."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md lacks the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def write():
    """Rewrites the table in the README from the report."""
    report = read_report(REPORT.read_text("utf-8"))
    text = put(table(report), README.read_text("utf-8"))
    with atomic_write(README) as file:
        file.write(text.encode())


if __name__ == "__main__":
    sys.exit(write())
