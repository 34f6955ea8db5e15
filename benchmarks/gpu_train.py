"""Training steps of GPT-2 124M on a GPU: minibig beside PyTorch, in one run.

A step is forward, backward, clipping at 1 and AdamW over 64 sequences of 1,024 tokens,
in bfloat16 (float16 where there is none), float16 and float32. minibig runs as learners
run it, by `training.fit`; PyTorch eager, with its scaled_dot_product_attention,
autocast and fused AdamW; then compiled by torch.compile. Where a batch does not fit,
its gradients are added up over parts of it.

    python benchmarks/gpu_train.py [--minutes 7] [--quick] [--ways "minibig, bf16" …]

Writes benchmarks/results/gpu_train-DATE.md and its picture, also when the minutes are
over before the end. `--folder` names another place.
"""

import argparse
import json
import time
from pathlib import Path

import gpu
from gpu import LONGEST, RESULTS, in_own_process
from gpu_train_report import BATCH, DTYPES, GPT2, STEPS, WARM, Results, write

import numpy as np  # isort: skip (measure sets the threads)
from minibig import backend, optim, training
from minibig.data import RandomCrops
from minibig.models import GPT, GPTConfig

RECIPE = {"lr": 6e-4, "betas": (0.9, 0.95), "weight_decay": 0.1}


def ways(sixteen, torch):
    """What can be measured, (library, precision), what matters most first."""
    first = "bf16" if sixteen == "bfloat16" else "fp16"
    found = [("minibig", first), ("PyTorch", first), ("minibig", "fp32"),
             ("PyTorch", "fp32"), ("PyTorch compiled", first),
             ("minibig", "fp16"), ("PyTorch", "fp16")]  # fmt: skip
    return [way for way in dict.fromkeys(found) if torch or way[0] == "minibig"]


# ---- measuring one way, in a process of its own -------------------------------------


def text(vocab_size, count=1 << 20):
    """Random ids, small ones more often, so that there is something to learn."""
    drawn = np.random.default_rng(0).random(count) ** 4
    return (vocab_size * drawn).astype(np.int64)


def measure(library, precision, config, batch, part, steps, seconds):
    """Yields the row of a way: times of its steps, memory, the last loss."""
    ids, length = text(config["vocab_size"]), config["context_length"]
    loader = RandomCrops(ids, context_length=length, batch_size=part)
    events = Events(steps, seconds)
    run = minibig_run if library == "minibig" else torch_run
    config = GPTConfig(**config)
    loss, memory = run(library, precision, config, loader, batch // part, events)
    yield {"ms": events.spans(), "loss": loss, "gb": memory / 1e9, "part": part}


class Events:
    """Marks the end of each step on the GPU; says when it is enough."""

    def __init__(self, steps, seconds):
        self.cuda, self.steps = backend.cupy().cuda, steps
        self.deadline, self.events = time.monotonic() + seconds, []

    def mark(self):
        """Notes the end of a step; True while more are wanted."""
        event = self.cuda.Event()
        event.record()
        self.events.append(event)
        enough = len(self.events) > WARM + 2 and time.monotonic() > self.deadline
        return len(self.events) < self.steps and not enough

    def spans(self):
        """Milliseconds of each step but the first."""
        self.events[-1].synchronize()
        pairs = zip(self.events, self.events[1:], strict=False)
        return [self.cuda.get_elapsed_time(*pair) for pair in pairs]


def minibig_run(library, precision, config, loader, parts, events):
    """(last loss, bytes) of a run of `fit`."""
    model = GPT(config).to("cuda")
    optimizer = optim.AdamW(model.parameters(), **RECIPE)

    def mark(run):
        if not events.mark():
            run.stop()

    history = training.fit(
        model, loader, training.next_token_loss, optimizer, steps=events.steps,
        clip_norm=1.0, accumulate=parts, precision=precision, callbacks=[mark],
    )  # fmt: skip
    return history.loss[-1], backend.cupy().get_default_memory_pool().total_bytes()


def torch_run(library, precision, config, loader, parts, events):
    """(last loss, bytes) of the same steps in PyTorch."""
    import torch
    from torch_gpt import TorchGPT, loss_of

    model = TorchGPT(config).cuda()
    called = torch.compile(model) if library == "PyTorch compiled" else model
    optimizer = torch.optim.AdamW(model.parameters(), **RECIPE, fused=True)
    scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16")
    dtype = getattr(torch, DTYPES[precision])
    more, step = True, 0

    def moved(ids):  # from pinned memory, as minibig: else it waits for the step before
        return torch.from_numpy(ids).pin_memory().to("cuda", non_blocking=True)

    while more:
        for i in range(parts):
            inputs, targets = map(moved, loader.batch(step * parts + i))
            with torch.autocast("cuda", dtype, enabled=precision != "fp32"):
                loss = loss_of(called, inputs, targets) / parts
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        more, step = events.mark(), step + 1
    return loss.item() * parts, torch.cuda.max_memory_reserved()


# ---- the whole run ------------------------------------------------------------------


def job(kind, **settings):
    """The rows of a process: of the machine, or of one way."""
    if kind == "machine":
        yield gpu.about(**settings)
    else:
        yield from measure(**settings)


def measured(way, settings, deadline):
    """(row, why not) of a way, in parts of the batch that are small enough."""
    part, why = settings["batch"], "no time was left"
    steps = settings["steps"] // (2 if way[1] == "fp32" else 1)
    while part and (left := deadline - time.monotonic()) > 20:
        work = dict(zip(("library", "precision"), way, strict=True), part=part)
        limit = min(left, LONGEST)
        work |= {"kind": "way", "seconds": limit / 2, **settings, "steps": steps}
        rows, why = in_own_process(__file__, work, limit)
        full = any(
            word in (why or "").lower()
            for word in ("outofmemory", "out of memory", "alloc")
        )
        if rows or not full:
            return (rows or [None])[0], why
        part //= 2
    return None, why


def run(options):
    """Measures, and writes the report anew after each way; returns its path."""
    deadline = time.monotonic() + 60 * options.minutes
    begun, why = in_own_process(__file__, {"kind": "machine"}, 120)
    if not begun:
        raise SystemExit(f"The GPU could not be measured: {why}")
    about = begun[0]
    known = ways(about["sixteen"], about["torch"])
    known = {way: ", ".join(way) for way in known}
    todo = gpu.chosen(options.ways, known)
    settings = {"config": GPT2, "batch": options.batch, "steps": options.steps}
    results = Results(about, GPT2, options.batch, todo)
    results.problems += gpu.unmeasured(options, known, todo)
    results.problems += [f"the machine's process: {why}"] if why else []
    part = "-part" * bool(options.quick or options.ways)
    path = gpu.report_path(options.folder, "gpu_train" + part)
    write(path, results, picture=False)
    for way in todo:
        row, why = measured(way, settings, deadline)
        results.take(way, row, why)
        write(path, results, picture=False)
        print(", ".join(way), f"{results.rate(way):,.0f} tokens/s" if row else why,
              flush=True)  # fmt: skip
    write(path, results)
    return path


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=7)
    parser.add_argument("--quick", action="store_true", help="few steps, batches of 8")
    parser.add_argument("--ways", nargs="*", help='such as "minibig, bf16"')
    parser.add_argument("--folder", type=Path, default=RESULTS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.batch = 8 if options.quick else BATCH
    options.steps = 8 if options.quick else STEPS
    return options


def main():
    options = parse()
    gpu.require()
    if options.job:
        gpu.serve(job(**json.loads(options.job)))
    else:
        print(run(options).read_text("utf-8"))


if __name__ == "__main__":
    main()
