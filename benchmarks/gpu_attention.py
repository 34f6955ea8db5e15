"""Attention on a GPU: every rung of the ladder beside PyTorch's, in one run.

16,384 tokens of width 2,048, cut into sequences of 512 to 16,384 tokens and heads of 64
or 128; causal and not; forward, backward, and both. Operations are counted as in
arXiv 2307.08691: forward 4 B H T² D, half of it if causal, backward 2.5 times as many.

    python benchmarks/gpu_attention.py [--minutes 7] [--quick] [--ways mma …]

Writes benchmarks/results/gpu_attention-DATE.md and its picture, also when the minutes
are over before the end. `--ways` names what to measure, `--folder` where to write.
"""

import argparse
import contextlib
import itertools
import json
import math
import time
from pathlib import Path

import gpu
from gpu import LONGEST, RESULTS, Clock, in_own_process, normal
from gpu_attention_report import THEIRS, Case, Results, cases, write

import numpy as np  # isort: skip (measure sets the threads)
from minibig import backend
from minibig.kernels import attention
from minibig.kernels.problem import Problem

SLOW = 2.0  # seconds for both passes: cases expected to take longer are left out


def ways(sixteen, chip, torch):
    """(what can be measured as (way, dtype), what cannot and why).

    Ours and theirs take turns: so each is beside the one that it is held against.
    """
    found, refused = [], []
    for dtype in (sixteen, "float32"):
        ours, theirs = [], []
        for rung in attention.LADDER:
            reasons = {rung.refusal(_problem(case, dtype), chip) for case in cases()}
            if None in reasons:
                ours.append((rung.name, dtype))
            elif dtype == sixteen:
                refused += [f"{rung.name} {dtype}: {reason}" for reason in reasons]
        if torch:
            both = THEIRS if dtype == sixteen else THEIRS[:1]  # flash reads 16 bits
            theirs = [(way, dtype) for way in both]
        for pair in itertools.zip_longest(ours, theirs):
            found += [way for way in pair if way]
    if not torch:
        refused.append("PyTorch: not installed, or without CUDA")
    return found, refused


def _problem(case, dtype):
    batch, heads, length, width = case.shape
    scale, number = 1 / math.sqrt(width), gpu.dtype_of(dtype)
    return Problem(
        batch, heads, heads, length, length, width, 0, scale, number, backend.cupy()
    )


# ---- measuring one way, in a process of its own -------------------------------------


def measure(way, dtype, keys, seconds, each, **sizes):
    """Yields a row for each case: its times and errors, or why it was left out."""
    deadline, rate = time.monotonic() + seconds, math.inf
    clock = Clock(sizes.pop("flush", gpu.FLUSH))
    todo = [Case(*key, **sizes) for key in keys]
    count = todo[0].tokens * todo[0].model_width
    flat = [normal(count, seed, dtype) for seed in range(4)]
    with _backend_of(way):
        for case in todo:
            expected = case.flops("both") / rate
            if time.monotonic() > deadline:
                yield {"key": case.key, "left_out": "no time was left"}
                continue
            if expected > SLOW:
                reason = f"about {expected:.0f} s for both passes"
                yield {"key": case.key, "left_out": reason}
                continue
            try:
                row = one_case(
                    way, case, [x.reshape(case.shape) for x in flat], clock, each
                )
            except Exception as error:  # of many types: in the report, the rest goes on
                yield {"key": case.key, "left_out": gpu.first_line(error)}
                continue
            rate = case.flops("both") / (1e-3 * row["ms"]["both"])
            yield row


def one_case(way, case, arrays, clock, each):
    """The row of a case: errors first, then times."""
    make = torch_calls if way in THEIRS else rung_calls
    calls, results, by = make(way, *arrays, is_causal=case.causal)
    wrong = [errors_of(arrays, results, case.causal, head) for head in (0, -1)]
    whole = [bool(backend.array_module(x).isfinite(x).all()) for x in results]
    wrong = np.where(whole, np.max(wrong, 0), math.nan)  # a NaN stays one
    del results
    times = {name: clock.milliseconds(call, each)[0] for name, call in calls.items()}
    errors = [float(wrong[0]), float(np.max(wrong[1:]))]
    return {"key": case.key, "ms": times, "errors": errors, "by": by}


def errors_of(arrays, results, is_causal, head):
    """Of out, dq, dk and dv in one head, the first or the last of the batch's."""
    expected = reference(*(x[head, head] for x in arrays), is_causal)
    pairs = zip(results, expected, strict=True)
    return [error(x[head, head], y) for x, y in pairs]


def rung_calls(way, q, k, v, dout, *, is_causal):
    """({pass: function}, (out, dq, dk, dv), the rung's name)."""

    def forward():
        return attention.attention(q, k, v, is_causal=is_causal, rung=way)

    out, backward = forward()
    calls = {
        "forward": forward,
        "backward": lambda: backward(dout),
        "both": lambda: forward()[1](dout),
    }
    return calls, (out, *backward(dout)), way


def torch_calls(way, *arrays, is_causal):
    """As rung_calls, on the same memory; what PyTorch chose is its node's name."""
    import torch

    *inputs, dout = map(torch.from_dlpack, arrays)
    inputs = [x.requires_grad_() for x in inputs]
    attend = torch.nn.functional.scaled_dot_product_attention

    def forward():
        with torch.no_grad():
            return attend(*inputs, is_causal=is_causal)

    def both():
        return torch.autograd.grad(attend(*inputs, is_causal=is_causal), inputs, dout)

    out = attend(*inputs, is_causal=is_causal)

    def backward():
        return torch.autograd.grad(out, inputs, dout, retain_graph=True)

    calls = {"forward": forward, "backward": backward, "both": both}
    results = [backend.cupy().from_dlpack(x.detach()) for x in (out, *backward())]
    return calls, results, out.grad_fn.name()


def _backend_of(way):
    """A context in which PyTorch uses what `way` says."""
    if way != "PyTorch, flash":
        return contextlib.nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.FLASH_ATTENTION)


def reference(q, k, v, dout, is_causal, block=1024):
    """(out, dq, dk, dv) of one head, (T, D) each, in float64, by blocks of queries."""
    xp = backend.array_module(q)
    q, k, v, dout = (x.astype("float32").astype("float64") for x in (q, k, v, dout))
    scale, places = 1 / math.sqrt(q.shape[1]), xp.arange(len(q))
    out, dq, dk, dv = (xp.zeros_like(q) for _ in range(4))
    for start in range(0, len(q), block):
        rows = slice(start, start + block)
        s = q[rows] @ k.T * scale
        if is_causal:
            s = xp.where(places > places[rows][:, None], -math.inf, s)
        p = xp.exp(s - s.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        out[rows] = p @ v
        dv += p.T @ dout[rows]
        dp = dout[rows] @ v.T
        ds = p * (dp - (p * dp).sum(-1, keepdims=True)) * scale
        dq[rows] = ds @ k
        dk += ds.T @ q[rows]
    return out, dq, dk, dv


def error(x, y):
    """‖x - y‖ / ‖y‖, y in float64."""
    x = x.astype("float32").astype("float64")
    return math.sqrt(float(((x - y) ** 2).sum()) / float((y**2).sum()))


# ---- the whole run ------------------------------------------------------------------


def job(kind, **settings):
    """The rows of a process: of the machine, or of one way."""
    if kind == "machine":
        yield gpu.about(**settings)
    else:
        yield from measure(**settings)


def run(options):
    """Measures, and writes the report anew after each way; returns its path."""
    deadline = time.monotonic() + 60 * options.minutes
    begun, why = in_own_process(__file__, {"kind": "machine"}, 120)
    if not begun:
        raise SystemExit(f"The GPU could not be measured: {why}")
    about = begun[0]
    known, refused = ways(about["sixteen"], about["chip"], about["torch"])
    known = {way: way[0] for way in known}
    todo = gpu.chosen(options.ways, known)
    refused += gpu.unmeasured(options, known, todo)
    refused += [f"the machine's process: {why}"] if why else []
    keys = [case.key for case in cases(options.quick)]
    results = Results(about, refused, todo)
    part = "-part" * bool(options.quick or options.ways)
    path = gpu.report_path(options.folder, "gpu_attention" + part)
    write(path, results, picture=False)
    for way, dtype in todo:
        left = deadline - time.monotonic()
        if left < 10:
            break
        settings = {"way": way, "dtype": dtype, "keys": keys, "each": options.each}
        limit = min(left, LONGEST)
        work = {"kind": "way", "seconds": limit - 10, **settings}
        rows, why = in_own_process(__file__, work, limit)
        results.take((way, dtype), keys, rows, why)
        write(path, results, picture=False)
        print(f"{way} {dtype}: {len(rows)} of {len(keys)} cases", flush=True)
    write(path, results)
    return path


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=7)
    parser.add_argument("--quick", action="store_true", help="two lengths, fewer calls")
    parser.add_argument(
        "--ways", nargs="*", help=f"rungs, {THEIRS[0]!r}, {THEIRS[1]!r}"
    )
    parser.add_argument("--folder", type=Path, default=RESULTS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.each = 0.1 if options.quick else 0.4  # seconds a measurement
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
