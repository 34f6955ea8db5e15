"""The presets gpt and llama: how far above the exact floor of the tales they end.

    python benchmarks/tales.py [--seeds 3] [--save]

`--save` writes benchmarks/results/tales-DATE.md. The excess is paired, on 2,000 stories
that the models have not seen (`minibig.data.tales.excess`).
"""

import argparse
import datetime
import tempfile
from dataclasses import replace

# isort: off
from measure import HERE, machine  # sets the threads before NumPy comes
import numpy as np

# isort: on
from minibig import recipes
from minibig.data import tales
from minibig.presets import PRESETS


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    date = datetime.date.today().isoformat()
    lines = [f"# GPT and Llama on tales, {date}", "", machine(), ""]
    lines += [
        f"Floor: {tales.entropy():.3f} nats a story, {tales.floor():.4f} a token.", "",
        "| preset | seed | excess | standard error | minutes |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    print("\n".join(lines), flush=True)
    for name in ("gpt", "llama"):
        lines += rows(name, options.seeds)
    if options.save:
        path = HERE / "results" / f"tales-{date}.md"
        path.write_text("\n".join(lines) + "\n")


def rows(name, seeds):
    """The lines of the table for one preset, printed as they come."""
    lines, found = [], []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            trained = recipes.train(replace(PRESETS[name], seed=seed), folder)
        excess, error = (trained.results[k] for k in ("excess", "standard_error"))
        found.append(excess)
        row = f"{excess:.2%} | {error:.2%} | {trained.seconds / 60:.1f}"
        lines.append(f"| {name} | {seed} | {row} |")
        print(lines[-1], flush=True)
    lines.append(f"| {name} | mean | **{np.mean(found):.2%}** | | |")
    print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    main()
