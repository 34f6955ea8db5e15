"""Training steps of a GPT on the CPU: minibig against PyTorch eager, in one run.

A step is forward, backward, clipping and AdamW, in float32, on 2 cores for both:
PyTorch's with 2 threads, minibig's with 2 processes that have half of the batch each
(`training.DataParallel`). The two take turns, so that a busy machine slows both;
medians are compared. Peak memory is that of a process
of its own each, less what it used just before the model was built; minibig's is that of
both its processes, what they share counted once.

    python benchmarks/cpu_train.py [--steps 20] [--shape 0] [--save]

`--save` writes benchmarks/results/cpu_train-DATE.md.
"""

import argparse
import json
import subprocess
import sys
from multiprocessing import active_children
from pathlib import Path

from measure import CORES, THREADS, libraries, machine, save, times, today

import numpy as np  # isort: skip (measure sets the threads)

# batch, context, layers, heads, width, vocabulary
SHAPES = [
    (12, 64, 4, 4, 128, 65),
    (16, 128, 6, 6, 384, 65),
    (4, 256, 8, 8, 512, 8192),
]


def batch_of(shape):
    batch, context, *_, vocabulary = shape
    ids = np.random.default_rng(0).integers(0, vocabulary, (batch, context + 1))
    return ids[:, :-1].copy(), ids[:, 1:].copy()


def config_of(shape):
    from minibig.models import GPTConfig

    _, context, layers, heads, width, vocabulary = shape
    return GPTConfig(vocabulary, context, layers, heads, width, bias=False)


def minibig_step(shape):
    """A function that makes one training step with minibig."""
    from minibig import optim
    from minibig.models import GPT
    from minibig.training import DataParallel, next_token_loss

    model = GPT(config_of(shape))
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    inputs, targets = batch_of(shape)
    parallel = DataParallel(model, next_token_loss, processes=int(THREADS))

    def step():
        optimizer.zero_grad()
        parallel.backward(inputs, targets)
        optim.clip_grad_norm_(list(model.parameters()), 1.0)
        optimizer.step()

    return step


def torch_step(shape):
    """A function that makes one training step with PyTorch."""
    import torch
    from torch_gpt import TorchGPT, loss_of

    torch.set_num_threads(int(THREADS))
    model = TorchGPT(config_of(shape))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    inputs, targets = (torch.from_numpy(array) for array in batch_of(shape))

    def step():
        optimizer.zero_grad()
        loss_of(model, inputs, targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


MAKERS = {"minibig": minibig_step, "torch": torch_step}


def resident(field, process="self"):
    """VmRSS or VmHWM of a process, MB (Linux)."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} in /proc/{process}/status")


def memory(name, shape):
    """MB at the peak of three steps, less those before the model was built."""
    if name == "torch":
        import torch  # noqa: F401 (its own memory does not count)
    else:
        import scipy.special  # noqa: F401

        import minibig.training  # noqa: F401
    before = resident("VmRSS")
    step = MAKERS[name](shape)
    for _ in range(3):
        step()
    return resident("VmHWM") - before + sum(map(of_helper, active_children()))


def of_helper(process):
    """MB at the peak that a helper process shares with no other: those it holds now,
    and what it gave back before."""
    given_back = resident("VmHWM", process.pid) - resident("VmRSS", process.pid)
    own = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    private = sum(int(line.split()[1]) for line in own if line.startswith("Private_"))
    return private / 1024 + given_back


def memory_in_own_process(name, number):
    command = [sys.executable, __file__, "--memory", name, "--shape", str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def row(number, steps, names):
    shape = SHAPES[number]
    makers = {name: MAKERS[name](shape) for name in names}
    seconds = times(makers, steps)
    tokens = shape[0] * shape[1]
    median = {name: float(np.median(seconds[name])) for name in names}
    fast = {name: float(np.percentile(seconds[name], 20)) for name in names}
    peak = {name: memory_in_own_process(name, number) for name in names}
    cells = [str(shape)]
    for name in names:
        cells += [f"{tokens / median[name]:,.0f}", f"{1e3 * median[name]:.1f}"]
    if "torch" in names:
        cells += [
            f"**{median['torch'] / median['minibig']:.2f}**",
            f"{fast['torch'] / fast['minibig']:.2f}",
        ]
    cells += [f"{peak[name]:.0f}" for name in names]
    if "torch" in names:
        cells.append(f"**{peak['minibig'] / peak['torch']:.2f}**")
    return "| " + " | ".join(cells) + " |"


def header(names):
    cells = ["batch, context, layers, heads, width, vocabulary"]
    for name in names:
        cells += [f"{name} tokens/s", f"{name} ms"]
    cells += ["ratio of tokens/s", "ratio at p20"] if "torch" in names else []
    cells += [f"{name} MB" for name in names]
    cells += ["ratio of MB"] if "torch" in names else []
    rule = "|---" * len(cells) + "|"
    return "| " + " | ".join(cells) + " |\n" + rule


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--shape", type=int, choices=range(len(SHAPES)))
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--memory", choices=MAKERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(json.dumps(memory(options.memory, SHAPES[options.shape])))
        return
    names = libraries()
    lines = [f"# Training steps of a GPT on the CPU, {today()}", "", machine(), ""]
    lines += [
        f"Medians of {options.steps} steps, the two in turn. {CORES}",
        "",
        header(names),
    ]
    print("\n".join(lines), flush=True)
    numbers = range(len(SHAPES)) if options.shape is None else [options.shape]
    for number in numbers:
        lines.append(row(number, options.steps, names))
        print(lines[-1], flush=True)
    if options.save:
        save("cpu_train", lines)


if __name__ == "__main__":
    main()
