"""How fast this machine is at what training does: the table of `minibig bench`.

A quick look, best of a few tries each; `benchmarks/` measures with care.
"""

import importlib.util
import math
import time

import numpy as np

from . import functional, optim, threads
from .backend import matmul
from .models import GPT, GPTConfig
from .tensor import Tensor
from .training import DataParallel, HelperError, next_token_loss, usable_processes

SECONDS = 0.4  # for each number
SIDE = 1024  # of the matrices
ELEMENTS = 1 << 22
ATTENTION = 4, 8, 256, 64  # (B, H, T, D)
BATCH, CONFIG = 12, GPTConfig(65, 64, 4, 4, 128, bias=False)


def table():
    """The lines of the table: a row a task, a column a way to run it."""
    cores = threads.usable_cores()
    columns = {"1 thread": (ours, 1)}
    if cores > 1:
        columns[f"{cores} threads"] = ours, cores
    if importlib.util.find_spec("torch"):
        columns[f"PyTorch, {cores}"] = theirs, cores
    lines = [f"{'float32':<40}" + "".join(f"{name:>14}" for name in columns)]
    last = _of_processes(usable_processes())  # PyTorch's threads survive no copy
    results = [tasks(count) for tasks, count in columns.values()]
    for row in zip(*results, strict=True):
        cells = "".join(f"{value:>14,.1f}" for _, value in row)
        lines.append(f"{row[0][0]:<40}{cells}")
    return "\n".join(lines + last)


def _of_processes(count):
    """A line on what `train` does by default, where it takes several processes."""
    if count == 1:
        return []
    try:
        task, rate = shared(count)
    except HelperError as error:
        return [str(error)]
    return [f"{task}, as `train` does it here, by {count} processes: {rate:,.1f}"]


def ours(count):
    """[(task, rate)] of minibig on `count` threads; more is faster."""
    before = threads.get_num_threads()
    threads.set_num_threads(count)
    try:
        return list(_ours())
    finally:
        threads.set_num_threads(before)


def _ours():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((SIDE, SIDE), np.float32)
    yield _gemm(lambda: matmul(a, a))
    x = Tensor(rng.standard_normal(ELEMENTS, np.float32))
    yield _elementwise(lambda: functional.gelu(x, approximate="tanh"))
    q = Tensor(rng.standard_normal(ATTENTION, np.float32), requires_grad=True)

    def attend():
        functional.scaled_dot_product_attention(
            q, q, q, is_causal=True
        ).sum().backward()

    yield _attention(attend)
    yield shared(1)


def shared(processes):
    """(task, rate) of training by several processes, as `train` does by default."""
    model = GPT(CONFIG)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, CONFIG.vocab_size, (BATCH, CONFIG.context_length))

    def step():
        optimizer.zero_grad()
        parallel.backward(ids, ids)
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    with DataParallel(model, next_token_loss, processes) as parallel:
        return _training(step)


def theirs(count):
    """[(task, rate)] of PyTorch on `count` threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return list(_theirs(torch))
    finally:
        torch.set_num_threads(before)


def _theirs(torch):
    rng = np.random.default_rng(0)
    a = torch.from_numpy(rng.standard_normal((SIDE, SIDE), np.float32))
    yield _gemm(lambda: a @ a)
    x = torch.from_numpy(rng.standard_normal(ELEMENTS, np.float32))
    yield _elementwise(lambda: torch.nn.functional.gelu(x, approximate="tanh"))
    q = torch.from_numpy(rng.standard_normal(ATTENTION, np.float32)).requires_grad_()
    attention = torch.nn.functional.scaled_dot_product_attention
    yield _attention(lambda: attention(q, q, q, is_causal=True).sum().backward())
    forward, parameters = _torch_gpt(torch)
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    ids = rng.integers(0, CONFIG.vocab_size, (BATCH, CONFIG.context_length))
    ids = torch.from_numpy(ids)

    def step():
        optimizer.zero_grad()
        logits = forward(ids).flatten(0, 1)
        torch.nn.functional.cross_entropy(logits, ids.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    yield _training(step)


def _torch_gpt(torch):
    """A GPT of CONFIG in PyTorch, of its own layers: (forward, parameters)."""
    nn, c = torch.nn, CONFIG
    tokens = nn.Embedding(c.vocab_size, c.n_embd)
    places = nn.Embedding(c.context_length, c.n_embd)
    layers = nn.ModuleList(
        nn.TransformerEncoderLayer(
            c.n_embd, c.n_head, 4 * c.n_embd, c.dropout,
            lambda x: nn.functional.gelu(x, approximate="tanh"),
            batch_first=True, norm_first=True, bias=c.bias,
        )
        for _ in range(c.n_layer)
    )  # fmt: skip
    norm = nn.LayerNorm(c.n_embd, bias=c.bias)
    mask = nn.Transformer.generate_square_subsequent_mask(c.context_length)

    def forward(ids):
        x = tokens(ids) + places.weight
        for layer in layers:
            x = layer(x, src_mask=mask, is_causal=True)
        return norm(x) @ tokens.weight.T

    modules = nn.ModuleList([tokens, places, layers, norm])
    return forward, list(modules.parameters())


# ---- what is counted, and the clock --------------------------------------------------


def _gemm(function):
    return f"matrix product {SIDE}³, GFLOP/s", 2e-9 * SIDE**3 / best(function)


def _elementwise(function):
    return "GELU, million elements/s", 1e-6 * ELEMENTS / best(function)


def _attention(function):
    b, h, t, d = ATTENTION
    operations = 3.5 * 4 * b * h * t * t * d / 2  # forward 1, backward 2.5; causal half
    return "causal attention and gradient, GFLOP/s", 1e-9 * operations / best(function)


def _training(function):
    tokens = BATCH * CONFIG.context_length
    return "GPT training, thousand tokens/s", 1e-3 * tokens / best(function)


def best(function):
    """The shortest time of a call, in seconds, after one that warms up."""
    function()
    shortest, stop = math.inf, time.perf_counter() + SECONDS
    while True:
        began = time.perf_counter()
        function()
        now = time.perf_counter()
        shortest = min(shortest, now - began)
        if now >= stop:
            return shortest
