"""The preset nanogpt-cpu, by minibig and by the same model and recipe in PyTorch.

Both read the same text, in the same batches, from weights drawn alike, and are judged
over the whole held-out part in windows of 64 after every tenth of the steps; the best
figure counts.

    python benchmarks/recipe_twin.py [--text FILE] [--seeds 3] [--steps 2000]
                                     [--recorded LOSS] [--save]

`--recorded` compares with PyTorch's mean of an earlier report, in the place of running
it again. `--save` writes benchmarks/results/recipe_twin-DATE.md. Two minutes a run.
"""

import argparse
import datetime
import tempfile
import time
from dataclasses import replace
from pathlib import Path

# isort: off
from measure import HERE, THREADS, machine  # sets the threads before NumPy comes
import numpy as np
import torch

# isort: on
from torch_gpt import TorchGPT, loss_of, make_optimizer

from minibig import recipes
from minibig.data.text import read_text
from minibig.presets import PRESETS
from minibig.training.evaluation import count_targets


def by_minibig(preset, text):
    """The best held-out loss, nats a character."""
    with tempfile.TemporaryDirectory() as folder:
        trained = recipes.train(
            preset, folder, text=text, processes=int(THREADS), say=lambda line: None
        )
    return trained.results["loss"]


def by_torch(preset, text):
    """The same with PyTorch."""
    torch.set_num_threads(int(THREADS))
    torch.manual_seed(preset.seed)
    task = recipes.prepare(preset, text)
    model = TorchGPT(recipes.config_of(preset, task.tokenizer))
    optimizer = make_optimizer(model, preset.lr, preset.beta2, preset.weight_decay)
    best = np.inf
    for step in range(preset.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(preset, step)
        optimizer.zero_grad()
        batch = (torch.from_numpy(array) for array in task.training.batch(step))
        loss_of(model, *batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), preset.clip_norm)
        optimizer.step()
        if (step + 1) % max(preset.steps // 10, 1) == 0:
            best = min(best, held_out_loss(model, task.watching))
    return best


def rate(preset, step):
    """The learning rate of a step: a line up, then half a cosine down."""
    if step < preset.warmup:
        return preset.lr * (step + 1) / (preset.warmup + 1)
    done = (step - preset.warmup) / (preset.steps - preset.warmup)
    half = 0.5 * (1 + np.cos(np.pi * done))
    return float(preset.min_lr + half * (preset.lr - preset.min_lr))


@torch.no_grad()
def held_out_loss(model, loader):
    total = count = 0
    for batch in loader:
        weight = count_targets(batch)
        total += float(loss_of(model, *map(torch.from_numpy, batch))) * weight
        count += weight
    return total / count


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--recorded", type=float, metavar="LOSS")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    preset = PRESETS["nanogpt-cpu"]
    preset = replace(preset, steps=options.steps or preset.steps)
    text = read_text(options.text) if options.text else None
    date = datetime.date.today().isoformat()
    name = options.text.name if options.text else repr(recipes.CORPORA[preset.corpus]())
    lines = [
        f"# nanogpt-cpu by minibig and by PyTorch, {date}",
        "",
        machine(),
        "",
        name,
    ]
    lines += ["", f"{preset.steps} steps; held-out loss in nats a character.", ""]
    if options.recorded is not None:
        lines += ["PyTorch's figure is the mean of an earlier report.", ""]
    lines += ["| seed | minibig | PyTorch | difference | s | s |", "|---" * 6 + "|"]
    print("\n".join(lines), flush=True)
    losses = {by_minibig: [], by_torch: []}
    if options.recorded is not None:
        losses[lambda preset, text: options.recorded] = losses.pop(by_torch)
    for seed in range(options.seeds):
        seconds = []
        for run, found in losses.items():
            began = time.perf_counter()
            found.append(run(replace(preset, seed=seed), text))
            seconds.append(time.perf_counter() - began)
        ours, theirs = (found[-1] for found in losses.values())
        lines.append(
            f"| {seed} | {ours:.4f} | {theirs:.4f} | {ours - theirs:+.4f} "
            f"| {seconds[0]:.0f} | {seconds[1]:.0f} |"
        )
        print(lines[-1], flush=True)
    ours, theirs = (float(np.mean(found)) for found in losses.values())
    lines.append(
        f"| mean | **{ours:.4f}** | **{theirs:.4f}** | {ours - theirs:+.4f} | | |"
    )
    print(lines[-1])
    if options.save:
        path = HERE / "results" / f"recipe_twin-{date}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
