"""Training steps of small models on the CPU: minibig against PyTorch eager, in one run.

A step is forward, cross-entropy, backward and AdamW, in float32, on 2 cores for both:
PyTorch's with 2 threads, minibig's with 2 processes that have half of the batch each
(`training.DataParallel`; batch norm sees half a batch). The two take turns of a few
steps, so that a busy machine slows both; medians count. The goal is a ratio of 0.7.

    python benchmarks/cpu_models.py [--steps 20] [--model LeNet …] [--save]

`--save` writes benchmarks/results/cpu_models-DATE.md.
"""

import argparse
from dataclasses import dataclass
from typing import Any

from measure import CORES, THREADS, libraries, machine, save, times, today

import numpy as np  # isort: skip (measure sets the threads)

from minibig import models  # isort: skip (found by measure)


TURN = 6  # steps


@dataclass(frozen=True)
class Task:
    """A model of both libraries and the shape of what it reads."""

    model: str  # its name in minibig.models
    config: Any
    rival: str  # its name in torch_models
    batch: int
    shape: tuple  # of a row: images, or ids below the config's vocab_size

    def rows(self):
        """(inputs, labels)."""
        rng, shape = np.random.default_rng(0), (self.batch, *self.shape)
        labels = rng.integers(0, self.config.n_classes, self.batch)
        vocabulary = getattr(self.config, "vocab_size", None)
        if vocabulary:
            return rng.integers(0, vocabulary, shape), labels
        return rng.standard_normal(shape, np.float32), labels


TASKS = {
    "LeNet, 28x28": Task(
        "LeNet", models.LeNetConfig(), "lenet", 64, (1, 28, 28)),
    "ResNet-8, 32x32": Task(
        "ResNet", models.ResNetConfig(), "ResNet", 64, (3, 32, 32)),
    "BiLSTM, 64 tokens": Task(
        "LSTMClassifier", models.LSTMClassifierConfig(5000, 4, 64, 64),
        "LSTMClassifier", 32, (64,)),
    "LSTM of 2 layers, 128 tokens": Task(
        "LSTMClassifier",
        models.LSTMClassifierConfig(5000, 4, 128, 256, 2, bidirectional=False),
        "LSTMClassifier", 32, (128,)),
    "BERT, 64 tokens": Task(
        "BERTForSequenceClassification",
        models.BERTConfig(5000, 64, 4, 4, 256, 1024, n_classes=4, dropout=0.0),
        "BERTClassifier", 16, (64,)),
    "ViT, 32x32": Task(
        "ViT", models.ViTConfig(32, 4, 10, 4, 4, 128, 512), "ViT", 32, (3, 32, 32)),
}  # fmt: skip


def minibig_step(task):
    """A function that makes one training step with minibig."""
    from minibig import optim
    from minibig.training import DataParallel, classification_loss

    model = getattr(models, task.model)(task.config)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    inputs, labels = task.rows()
    parallel = DataParallel(model, classification_loss, processes=int(THREADS))

    def step():
        optimizer.zero_grad()
        parallel.backward(inputs, labels)
        optimizer.step()

    return step


def torch_step(task):
    """A function that makes one training step with PyTorch."""
    import torch
    import torch_models

    torch.set_num_threads(int(THREADS))
    model = getattr(torch_models, task.rival)(task.config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    inputs, labels = (torch.from_numpy(array) for array in task.rows())

    def step():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()

    return step


MAKERS = {"minibig": minibig_step, "torch": torch_step}


def row(name, count, names):
    task = TASKS[name]
    seconds = times({each: MAKERS[each](task) for each in names}, count, TURN)
    median = {each: float(np.median(seconds[each])) for each in names}
    cells = [name, str(task.batch), *(f"{1e3 * median[each]:.1f}" for each in names)]
    if "torch" in names:
        fast = {each: np.percentile(seconds[each], 20) for each in names}
        cells.append(f"**{median['torch'] / median['minibig']:.2f}**")
        cells.append(f"{fast['torch'] / fast['minibig']:.2f}")
    return "| " + " | ".join(cells) + " |"


def header(names):
    cells = ["model", "batch", *(f"{name} ms" for name in names)]
    cells += ["ratio", "ratio at p20"] if "torch" in names else []
    return "| " + " | ".join(cells) + " |\n" + "|---" * len(cells) + "|"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--model", nargs="*", help="beginnings of names")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    names = libraries()
    lines = [f"# Training steps of small models on the CPU, {today()}", "", machine()]
    lines += [
        "",
        f"Medians of {options.steps} steps or more, in turns of {TURN}. {CORES}",
    ]
    lines.append("")
    lines.append(header(names))
    print("\n".join(lines), flush=True)
    for name in TASKS:
        if not options.model or name.startswith(tuple(options.model)):
            lines.append(row(name, options.steps, names))
            print(lines[-1], flush=True)
    if options.save:
        save("cpu_models", lines)


if __name__ == "__main__":
    main()
