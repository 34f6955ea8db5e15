"""What gpu_train.py trains, its operations, and its report."""

import importlib.util
import math
import statistics
from dataclasses import dataclass, field

from gpu import ceiling_lines, peak, table, write_report

# GPT-2 124M; its 50,257 tokens are filled up to a multiple of 128, as everybody does.
GPT2 = {"vocab_size": 50304, "context_length": 1024, "n_layer": 12, "n_head": 12,
        "n_embd": 768}  # fmt: skip
BATCH = 64
WARM, STEPS = 3, 24  # of float32, which is slow, half as many
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
HOW = (
    "Tokens/s and ms: the median step after {warm} that warm up, by CUDA events. "
    "A step has {batch} sequences of {length} tokens, in parts of so many sequences as "
    "the table says, whose gradients are added up. GB: what the library's memory pool "
    "took from the GPU (CuPy's total, PyTorch's max_memory_reserved). Operations: "
    "6 N + 6 L C T = "
    "{flops:.0f} million a token, N = {parameters:.1f} million parameters (attention "
    "counted causal, recomputation not at all); the share is of the measured matrix "
    "product in the dtype of the run. float32 is float32, TF32 is off "
    "(PyTorch's attention makes its products of three in TF32). minibig: "
    "`training.fit`, which reads the loss in every step; PyTorch: eager with "
    "scaled_dot_product_attention, autocast, GradScaler for fp16, fused AdamW, and no "
    "reading of the loss. Losses of the last step (PyTorch's: of its last part) are "
    "there to show that both learn."
)


def flops_a_token(parameters, config):
    """Operations of forward and backward for a token: 6 N + 6 L C T."""
    attention = config["n_layer"] * config["n_embd"] * config["context_length"]
    return 6 * parameters + 6 * attention


def parameters_of(config):
    """Parameters of a GPT with tied embeddings and biases."""
    c = config["n_embd"]
    layer = 12 * c * c + 13 * c  # four matrices of 12 C², their biases, two norms
    tables = (config["vocab_size"] + config["context_length"]) * c
    return tables + config["n_layer"] * layer + 2 * c


@dataclass
class Results:
    """What was found so far: for each way, (library, precision), its row."""

    about: dict
    config: dict
    batch: int
    waiting: list
    rows: dict = field(default_factory=dict)
    problems: list = field(default_factory=list)

    def take(self, way, row, why):
        """Adds the row of a way, or why there is none."""
        self.waiting = [other for other in self.waiting if other != way]
        name = ", ".join(way)
        if not row:
            self.problems.append(f"{name}: {why}")
        elif not math.isfinite(row["loss"]):
            self.problems.append(f"{name}: WRONG, the loss is {row['loss']}")
        else:
            self.rows[way] = row
            if why:
                self.problems.append(f"{name}: after its last step: {why}")

    @property
    def not_run(self):
        none = [] if self.about["torch"] else ["PyTorch: not installed or without CUDA"]
        late = [f"{', '.join(way)}: the minutes were over" for way in self.waiting]
        return [*none, *self.problems, *late]

    def ms(self, way):
        """The median step of a way; None if it has none."""
        row = self.rows.get(way)
        return row and statistics.median(row["ms"][WARM - 1 :])

    def rate(self, way):
        """Tokens/s."""
        return 1e3 * self.batch * self.config["context_length"] / self.ms(way)

    def share(self, way):
        """Of the measured matrix product in the dtype of the run."""
        best = peak(self.about["ceilings"], DTYPES[way[1]])
        flops = flops_a_token(parameters_of(self.config), self.config)
        return 1e-12 * flops * self.rate(way) / best


def write(path, results, picture=True):
    """Writes the report, and its picture where Matplotlib is installed."""
    not_run = results.not_run
    body = [ceiling_lines(results.about["ceilings"]), ""]
    if importlib.util.find_spec("matplotlib") is None:
        not_run = [*not_run, "the picture: Matplotlib is not installed"]
    elif picture and results.rows:
        draw(path.with_suffix(".png"), results)
        body += [f"![tokens/s]({path.stem}.png)", ""]
    c, n = results.config, parameters_of(results.config)
    sizes = f"{c['n_layer']} layers, {c['n_head']} heads, width {c['n_embd']}"
    sizes += f", {c['vocab_size']:,} tokens"
    body += [
        f"A GPT of {n / 1e6:.1f} million parameters: {sizes}.",
        "",
        *lines_of(results),
    ]
    flops = flops_a_token(n, c) / 1e6
    body += ["", HOW.format(warm=WARM, batch=results.batch, length=c["context_length"],
                            flops=flops, parameters=n / 1e6)]  # fmt: skip
    title = "Training GPT-2 124M on a GPU"
    write_report(path, title, results.about["machine"], not_run, body)


def lines_of(results):
    """The table, grouped by precision."""
    header = ["", "tokens/s", "ms", "against PyTorch eager", "share of peak", "GB",
              "sequences at a time", "steps", "loss"]  # fmt: skip
    rows = []
    for way in sorted(results.rows, key=lambda way: (way[1], way[0])):
        row, eager = results.rows[way], ("PyTorch", way[1])
        ratio = "–"
        if eager in results.rows:
            ratio = f"{results.rate(way) / results.rate(eager):.2f}"
        speed = f"{results.rate(way):,.0f}", f"{results.ms(way):.1f}", ratio
        rest = f"{results.share(way):.0%}", f"{row['gb']:.1f}", row["part"]
        loss = len(row["ms"]) + 1, f"{row['loss']:.3f}"
        rows.append([", ".join(way), *speed, *rest, *loss])
    return table(header, rows)


def draw(path, results):
    """The picture: a bar a way, tokens/s."""
    from matplotlib.figure import Figure

    ways = sorted(results.rows, key=lambda way: (way[1], way[0]), reverse=True)
    figure = Figure(figsize=(9, 0.6 + 0.5 * len(ways)), layout="constrained")
    axis = figure.subplots()
    colors = ["C0" if library == "minibig" else "C1" for library, _ in ways]
    names = [", ".join(way) for way in ways]
    bars = axis.barh(names, [results.rate(way) for way in ways], color=colors)
    axis.bar_label(bars, [f" {results.share(way):.0%} of peak" for way in ways])
    axis.margins(x=0.2)
    axis.set_xlabel("tokens/s")
    figure.savefig(path, dpi=100)
