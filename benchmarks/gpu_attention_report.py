"""The shapes that gpu_attention.py measures, their operations, and its report."""

import importlib.util
from dataclasses import dataclass, field

from gpu import ceiling_lines, peak, table, write_report

TOKENS, MODEL_WIDTH = 16384, 2048
LENGTHS = 4096, 8192, 1024, 2048, 16384, 512  # what is asked about most comes first
WIDTHS = 128, 64
FACTORS = {"forward": 1.0, "backward": 2.5, "both": 3.5}
THEIRS = "PyTorch, default", "PyTorch, flash"
BOUNDS = {"bfloat16": 2e-2, "float16": 3e-3, "float32": 1e-3}  # of a right result
HOW = (
    "Each number is the median of 30 calls, or of as many as take 0.4 s, after one to "
    "warm up, timed by CUDA events, with the L2 cache flushed before each; q, k, v "
    "and the output's gradient are normal random numbers. TFLOP/s count 4 B H T² D "
    "operations forward, half of them if causal, and 2.5 times as many backward. "
    "PyTorch's forward alone runs without gradients. An error is ‖x - y‖ / ‖y‖ for one "
    "head, y in float64: that of the output, and the largest of dq, dk and dv, all of "
    "results from before the timing. The share, forward and backward, is of the "
    "measured matrix product of the same dtype; ms are those of forward, backward and "
    "both. A rung runs as `minibig.kernels.attention.attention(…, rung=…)`, with what "
    "Python adds. The ways ran one after the other. PyTorch's float32 "
    "attention uses tensor cores, three products of TF32 for one: its share of the "
    "float32 product may exceed 100%."
)


@dataclass(frozen=True)
class Case:
    """A shape: heads of `width`, sequences of `length`, causal or not."""

    width: int
    length: int
    causal: bool
    tokens: int = TOKENS
    model_width: int = MODEL_WIDTH

    @property
    def shape(self):
        """(B, H, T, D)"""
        batch, heads = self.tokens // self.length, self.model_width // self.width
        return batch, heads, self.length, self.width

    @property
    def key(self):
        return self.width, self.length, self.causal

    def flops(self, direction):
        """Operations of a pass, "forward", "backward" or "both"."""
        full = 4 * self.tokens * self.length * self.model_width
        return FACTORS[direction] * full / (2 if self.causal else 1)

    def __str__(self):
        return f"D {self.width}, T {self.length}{', causal' * self.causal}"


GOALS = Case(128, 8192, False), Case(128, 4096, True)


def cases(quick=False):
    """All shapes, in the order in which they are measured."""
    lengths = (4096, 1024) if quick else LENGTHS
    return [Case(d, t, c) for d in WIDTHS for t in lengths for c in (False, True)]


def right(row, bound):
    """Whether no error of a row is above the bound, or NaN."""
    return all(error <= bound for error in row["errors"])


@dataclass
class Results:
    """What was found so far: for each way, (name, dtype), a row for each case."""

    about: dict
    refused: list
    waiting: list
    rows: dict = field(default_factory=dict)
    problems: list = field(default_factory=list)

    def take(self, way, keys, rows, why):
        """Adds the rows of a way, and why its process ended early, if it did."""
        name, dtype = way
        self.waiting = [other for other in self.waiting if other != way]
        found = {tuple(row["key"]): row for row in rows}
        self.rows[way] = {k: row for k, row in found.items() if "ms" in row}
        left_out = {}
        for key in map(tuple, keys):
            row = found.get(key, {"left_out": why or "its process ended early"})
            if "left_out" in row:
                left_out.setdefault(row["left_out"], []).append(str(Case(*key)))
        if why and not left_out:
            self.problems.append(f"{name} {dtype}: after its last row: {why}")
        for reason, which in left_out.items():
            self.problems.append(f"{name} {dtype}: {reason}: {'; '.join(which)}")
        bound = BOUNDS[dtype]
        wrong = [
            str(Case(*key))
            for key, row in self.rows[way].items()
            if not right(row, bound)
        ]
        if wrong:
            text = f"{name} {dtype}: WRONG, errors over {bound:g}: {'; '.join(wrong)}"
            self.problems.append(text)

    @property
    def any_right(self):
        """Whether there is anything to draw."""
        pairs = ((way, row) for way, rows in self.rows.items() for row in rows.values())
        return any(right(row, BOUNDS[dtype]) for (_, dtype), row in pairs)

    @property
    def not_run(self):
        """The report's first lines: what is missing, and what is not right."""
        late = [f"{way} {dtype}: the minutes were over" for way, dtype in self.waiting]
        return [*self.refused, *self.problems, *late]

    def rate(self, way, case, direction):
        """TFLOP/s; None if that was not measured."""
        row = self.rows.get(way, {}).get(case.key)
        return row and 1e-9 * case.flops(direction) / row["ms"][direction]

    def ratio(self, way, other, case, direction):
        """How many times as fast as another way; None unless both are right."""
        for name, dtype in (way, other):
            row = self.rows.get((name, dtype), {}).get(case.key)
            if row is None or not right(row, BOUNDS[dtype]):
                return None
        a, b = (self.rate(w, case, direction) for w in (way, other))
        return a / b

    def measured(self, dtype):
        """The ways in a dtype that have rows, the cases that some of them have."""
        ways = [way for way, rows in self.rows.items() if way[1] == dtype and rows]
        keys = sorted({k for way in ways for k in self.rows[way]}, reverse=True)
        return ways, [Case(*key) for key in keys]


def write(path, results, picture=True):
    """Writes the report, and its picture where Matplotlib is installed."""
    not_run, body = results.not_run, [ceiling_lines(results.about["ceilings"]), ""]
    if importlib.util.find_spec("matplotlib") is None:
        not_run = [*not_run, "the picture: Matplotlib is not installed"]
    elif picture and results.any_right:
        draw(path.with_suffix(".png"), results)
        body += [f"![TFLOP/s by sequence length]({path.stem}.png)", ""]
    dtypes = results.about["sixteen"], "float32"
    for dtype in dtypes:
        body += goal_lines(results, dtype)
    body += [HOW, ""]
    for dtype in dtypes:
        body += tables(results, dtype)
    title = "Attention on a GPU"
    write_report(path, title, results.about["machine"], not_run, body)


def goal_lines(results, dtype):
    """How our rungs stand to PyTorch's: at the shapes of the goals, then over all."""
    ways, found = results.measured(dtype)
    rows = []
    for way in ways:
        for their in THEIRS if way[0] not in THEIRS else ():
            other = their, dtype
            for direction in ("forward", "backward"):
                ratios = [results.ratio(way, other, c, direction) for c in found]
                ratios = [x for x in ratios if x]
                if not ratios:
                    continue
                goals = [results.ratio(way, other, c, direction) for c in GOALS]
                wins = f"{sum(x >= 1 for x in ratios)} of {len(ratios)}"
                least, most = min(ratios), max(ratios)
                rows.append([way[0], their, direction, *map(times, goals), wins,
                             f"{least:.2f} to {most:.2f}"])  # fmt: skip
    if not rows:
        return []
    header = ["rung", "against", "pass", *map(str, GOALS), "as fast or faster", "range"]
    return [f"Speed against PyTorch's, {dtype}:", "", *table(header, rows), ""]


def times(ratio):
    return f"{ratio:.2f}" if ratio else "–"


def tables(results, dtype):
    """A table for each head width and mask: rates, shares of the peak, errors."""
    ways, found = results.measured(dtype)
    best, lines = peak(results.about["ceilings"], dtype), []
    for width, causal in sorted({(c.width, c.causal) for c in found}, reverse=True):
        rows = []
        of_this = [c for c in found if (c.width, c.causal) == (width, causal)]
        for case in sorted(of_this, key=lambda c: c.length):
            rows += [
                row_of(results, way, case, best)
                for way in ways
                if case.key in results.rows[way]
            ]
        mask = "causal" if causal else "full"
        lines += [f"## {dtype}, head width {width}, {mask}", ""]
        header = ["T", "way", *FACTORS, "share of peak", "ms", "error, gradients'"]
        lines += [*table(header, rows), ""]
    for way in ways if lines else ():
        names = sorted({row["by"] for row in results.rows[way].values()})
        if way[0] in THEIRS:
            lines += [f"{way[0]}, {dtype}, was computed by: {', '.join(names)}.", ""]
    return lines


def row_of(results, way, case, best):
    """The cells of a way and a case."""
    row = results.rows[way][case.key]
    rates = [results.rate(way, case, direction) for direction in FACTORS]
    shares = ", ".join(f"{rate / best:.0%}" for rate in rates[:2])
    ms = ", ".join(f"{row['ms'][direction]:.3g}" for direction in FACTORS)
    errors = ", ".join(f"{x:.1e}" for x in row["errors"])
    mark = "" if right(row, BOUNDS[way[1]]) else " **wrong**"
    return [
        case.length,
        way[0] + mark,
        *(f"{r:.3g}" for r in rates),
        shares,
        ms,
        errors,
    ]


def draw(path, results):
    """The picture: TFLOP/s by length, forward above backward, a column a kind."""
    from matplotlib.figure import Figure

    kinds = [(width, causal) for width in WIDTHS for causal in (False, True)]
    figure = Figure(figsize=(15, 7), layout="constrained")
    axes = figure.subplots(2, 4, sharex=True, sharey="row", squeeze=False)
    best = peak(results.about["ceilings"], results.about["sixteen"])
    for row, direction in zip(axes, ("forward", "backward"), strict=True):
        for axis, (width, causal) in zip(row, kinds, strict=True):
            for color, (way, rows) in enumerate(results.rows.items()):
                keys = sorted(k for k in rows if (k[0], k[2]) == (width, causal))
                keys = [key for key in keys if right(rows[key], BOUNDS[way[1]])]
                rates = [results.rate(way, Case(*key), direction) for key in keys]
                style = "--" if way[0] in THEIRS else "-"
                axis.plot([key[1] for key in keys], rates, style, marker="o",
                          color=f"C{color}", label=" ".join(way))  # fmt: skip
            axis.axhline(best, color="gray", linestyle=":", label="matrix product")
            mask = "causal" if causal else "full"
            axis.set_title(f"{direction}, head width {width}, {mask}")
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            axis.grid(alpha=0.3)
        row[0].set_ylabel("TFLOP/s")
    for axis in axes[-1]:
        axis.set_xlabel("tokens a sequence")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6)
    figure.savefig(path, dpi=90)
