"""Attention on the GPU: the rungs, which one serves, and the op that launches it."""

import math

import numpy as np

from .. import backend
from .arrays import contiguous
from .attention_flash import Flash
from .attention_hopper import Hopper
from .attention_mma import Mma
from .attention_unfused import Unfused
from .problem import MOST_BLOCKS, problem

# best first
LADDER = (Hopper(), Mma(), Flash(), Unfused("tiled"), Unfused("naive"))
RUNGS = {rung.name: rung for rung in LADDER}
EMULATED = 80  # as which the emulator counts where the best rung is chosen, …
NAMED = 90  # … and where a rung is named: it knows Hopper's instructions, too


def attention(q, k, v, *, mask=None, is_causal=False, offset=0, scale=None, rung=None):
    """softmax(q kᵀ scale) v by a kernel: an op, (out, backward), as those of `ops`.

    q (B, H, T, D), k and v (B, G, S, D), mask (B, S), True = may be attended to; out
    (B, H, T, D). Causal: query t sees keys 0 … t + offset. A query that sees nothing
    gets zeros. CuPy arrays run on the GPU, NumPy arrays on the emulator. `rung` names
    one of RUNGS, the best one that can by default; ValueError if it cannot.
    """
    p = problem(q, k, v, mask, is_causal, offset, scale)
    chosen = choose(p) if rung is None else _named(rung, p)
    q, k, v = map(chosen.readable, (q, k, v))
    mask = None if mask is None else contiguous(mask)
    out, saved = chosen.forward(p, q, k, v, mask)

    def backward(dout):
        dout = chosen.readable(dout.astype(q.dtype, copy=False))
        return chosen.backward(p, q, k, v, mask, out, saved, dout)

    return out, backward


def serve(q, k, v, bias, *, mask, is_causal, offset, scale, dropout_p):
    """What `ops.attention` asks for, by a kernel: (out, backward); None if none can.

    Takes what that op takes: any axes in front, which broadcast. k and v may be shared
    by all of the last of them (grouped queries); the mask may hide keys, not scores.
    """
    if bias is not None or dropout_p or k.shape != v.shape:
        return None
    if not q.dtype == k.dtype == v.dtype or not q.size or not k.size:
        return None
    lead, of_keys = q.shape[:-2], k.shape[:-2]
    mask = _of_keys(mask, lead, k.shape[-2])
    shared = of_keys == (*lead[:-1], 1) and len(lead) > 1
    if mask is False or not lead or not (shared or of_keys == lead):
        return None
    if max(lead[0], math.prod(lead[1:])) > MOST_BLOCKS:
        return None
    heads = [x.reshape(lead[0], -1, *x.shape[-2:]) for x in (q, k, v)]
    settings = dict(mask=mask, is_causal=is_causal, offset=offset, scale=scale)
    p = problem(*heads, *settings.values())
    if not any(rung.refusal(p, chip_of(p.xp)) is None for rung in LADDER):
        return None
    out, heads_backward = attention(*heads, **settings)

    def backward(dout):
        found = heads_backward(dout.reshape(out.shape))
        shapes = (q.shape, k.shape, v.shape)
        return *(d.reshape(s) for d, s in zip(found, shapes, strict=True)), None

    return out.reshape(q.shape), backward


def _of_keys(mask, lead, keys):
    """A mask that broadcasts to (*lead, T, S) as (B, S); False if it hides scores."""
    if mask is None:
        return None
    shape = (1,) * (len(lead) + 2 - mask.ndim) + mask.shape
    if any(n > 1 for n in shape[1:-1]):
        return False
    flat = mask.reshape(shape[0], shape[-1])
    return backend.array_module(mask).broadcast_to(flat, (lead[0], keys))


def choose(problem, chip=None):
    """The best rung for a Problem on a chip (80 for compute capability 8.0).

    Raises ValueError, with every rung's reason, if none can.
    """
    chip = chip_of(problem.xp) if chip is None else chip
    for rung in LADDER:
        if rung.refusal(problem, chip) is None:
            return rung
    raise ValueError(f"attention: no kernel for this: {_reasons(problem, chip)}")


def explain(q, k, v, *, mask=None, is_causal=False, offset=0, scale=None, chip=None):
    """Which rung serves these arrays, and why no better one: a sentence."""
    p = problem(q, k, v, mask, is_causal, offset, scale)
    chip = chip_of(p.xp) if chip is None else chip
    chosen = choose(p, chip)
    better = LADDER[: LADDER.index(chosen)]
    return "; ".join((chosen.name, *_reasons(p, chip, better)))


def chip_of(xp):
    """The compute capability in one number: 90 for 9.0; the emulator's for NumPy."""
    if xp is np:
        return EMULATED
    return int(xp.cuda.Device().compute_capability)


def _named(rung, problem):
    if rung not in RUNGS:
        raise ValueError(f"attention: rung {rung!r} is none of {', '.join(RUNGS)}")
    chip = NAMED if problem.xp is np else chip_of(problem.xp)
    reason = RUNGS[rung].refusal(problem, chip)
    if reason:
        raise ValueError(f"attention: rung {rung} {reason}")
    return RUNGS[rung]


def _reasons(problem, chip, rungs=LADDER):
    return [f"{rung.name} {rung.refusal(problem, chip)}" for rung in rungs]
