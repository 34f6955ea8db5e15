"""Draw the README's picture: `python -m tools.readme_picture` (two minutes).

A small GPT learns stories whose least possible loss is known (minibig.data.tales). On
the left its loss falls onto that floor; on the right a story that it never saw, each
word shaded by what it cost the model.
"""

import sys
from pathlib import Path

import numpy as np

from minibig import no_grad, recipes
from minibig.data import tales
from minibig.functional import cross_entropy
from minibig.presets import PRESETS
from minibig.tasks.language import BEGIN

PICTURE = Path(__file__).resolve().parent.parent / "notebooks" / "minibig.png"
PRESET = PRESETS["gpt"]
LINE, CURVE, INK = 47, "#0072B2", "#222222"  # characters; blue; nearly black


def trained():
    """(task, losses): the model of PRESET, trained, and the loss of every step."""
    task = recipes.prepare(PRESET)
    return task, recipes.carry_out(task, PRESET).loss


@no_grad()
def costs(task, story):
    """(words, nats): the words of a story, and what each of them cost the model."""
    begin = task.tokenizer.special_tokens[BEGIN]
    ids = np.array([[begin, *task.tokenizer.encode(story)]])
    logits = task.model(ids[:, :-1])
    nats = cross_entropy(logits, ids[:, 1:], reduction="none").numpy()[0]
    return tales.words(story), nats


def draw_losses(axes, losses, excess):
    """Left: the loss of each step, its running mean, and the least that is possible."""
    floor, steps = tales.floor(), np.arange(1, len(losses) + 1)
    axes.loglog(steps, losses, color="#56B4E9", linewidth=0.8, alpha=0.6)
    widths = np.maximum(steps // 10, 1)  # ever longer, as the axis is logarithmic
    smooth = [
        np.mean(losses[max(step - width, 0) : step])
        for step, width in zip(steps, widths, strict=True)
    ]
    axes.loglog(steps, smooth, color=CURVE, linewidth=2.5)
    axes.axhline(floor, color=INK, linestyle="--", linewidth=1.5)
    axes.text(1.1, floor * 1.05, f"the least possible loss, {floor:.3f}", va="bottom")
    axes.set(xlabel="training step", ylabel="loss (nats a word)", ylim=(0.36, 6.5))
    axes.set_yticks(ticks := [0.5, 1, 2, 5], ticks)
    axes.set_xticks(ticks := [1, 10, 100, 800], ticks)
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.set_title(f"A GPT within {excess:.1%} of the least loss", loc="left")


def draw_story(axes, words, nats):
    """Right: the words, dark where they were news to the model."""
    import matplotlib

    x = y = 0
    for word, cost in zip(words, nats, strict=True):
        if x + len(word) > LINE:
            x, y = 0, y - 1
        share = min(float(cost) / np.log(16), 1)
        box = {"fc": matplotlib.colormaps["Blues"](0.85 * share), "ec": "none"}
        axes.text(
            x, y, word, family="monospace", fontsize=12, bbox=box | {"pad": 2.2},
            color="white" if share > 0.6 else INK, va="center",
        )  # fmt: skip
        x += len(word) + 1
    axes.set(xlim=(-0.5, LINE), ylim=(y - 0.6, 0.7))
    axes.axis("off")
    axes.set_title("What each word of a new story costs it: dark is much", loc="left")


def draw(losses, excess, words, nats):
    """The figure: 1180 × 440 pixels."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 12, "axes.titlesize": 14}):
        figure = Figure(figsize=(10.7, 4), layout="constrained", facecolor="white")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
        draw_losses(left, losses, excess)
        draw_story(right, words, nats)
        return figure


def save(figure, path):
    """Writes the figure as a PNG of 256 colours, a third of the size."""
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    figure.savefig(file, dpi=110)
    image = Image.open(file).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(path, "png", optimize=True)


def main():
    task, losses = trained()
    excess = task.judge(task.model)["excess"]
    words, nats = costs(task, tales.generate(1, split="test")[0])
    save(draw(losses, excess, words, nats), PICTURE)
    print(f"excess {excess:.2%}, story {nats.sum():.2f} nats; {PICTURE.name} is drawn")
    return 0


if __name__ == "__main__":
    sys.exit(main())
