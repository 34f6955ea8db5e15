"""The exercises of notebook 17: merging softmaxes, tiles, backward, bytes."""

import math

import numpy as np

from ..exercise import Case, Exercise, Mistake


def _normal(*shape, seed=0):
    return np.random.default_rng([17, seed]).standard_normal(shape)


# ---- 17.merge -----------------------------------------------------------------------


def _merge(a, b):
    return _merged(a, b, np.maximum(a[0], b[0]))


def _merged(a, b, m):
    """Both pieces in the unit e^m."""
    shift = np.where(m == -np.inf, 0, m)
    with np.errstate(over="ignore", invalid="ignore"):
        shrink_a, shrink_b = np.exp(a[0] - shift), np.exp(b[0] - shift)
        total = a[1] * shrink_a + b[1] * shrink_b
        return m, total, a[2] * shrink_a[:, None] + b[2] * shrink_b[:, None]


def _mixture_kept(a, b):
    m, total, _ = _merge(a, b)
    with np.errstate(over="ignore", invalid="ignore"):
        return m, total, a[2] + b[2] * np.exp(b[0] - m)[:, None]


def _only_added(a, b):
    return np.maximum(a[0], b[0]), a[1] + b[1], a[2] + b[2]


def _unguarded(a, b):
    m = np.maximum(a[0], b[0])
    with np.errstate(over="ignore", invalid="ignore"):
        shrink_a, shrink_b = np.exp(a[0] - m), np.exp(b[0] - m)
        total = a[1] * shrink_a + b[1] * shrink_b
        return m, total, a[2] * shrink_a[:, None] + b[2] * shrink_b[:, None]


def _divided(a, b):
    m, total, mixed = _merge(a, b)
    return m, total, mixed / np.where(total > 0, total, 1)[:, None]


def _units_of_the_second(a, b):
    return _merged(a, b, b[0].copy())


def _rows(queries, keys, *, loud=1.0, seed=0):
    """(m, l, o) of `keys` keys, as a block leaves it; of none at all for 0."""
    if not keys:
        return np.full(queries, -np.inf), np.zeros(queries), np.zeros((queries, 3))
    s = loud * _normal(queries, keys, seed=seed)
    e = np.exp(s - s.max(1, keepdims=True))
    return s.max(1), e.sum(1), e @ _normal(keys, 3, seed=seed + 1)


def _half_empty(queries, keys, seed):
    m, total, mixed = _rows(queries, keys, seed=seed)
    m[::2], total[::2], mixed[::2] = -np.inf, 0, 0
    return m, total, mixed


merge = Exercise(
    name="17.merge",
    task="Merge the (m, l, o) of two pieces of the keys: (T,), (T,), (T, D).",
    solution=_merge,
    cases=(
        Case("5 and 7 keys", lambda: (_rows(4, 5), _rows(4, 7, seed=2))),
        Case("scores of 1000s", lambda: (_rows(3, 4, loud=900), _rows(3, 4, loud=2e3))),
        Case("one piece empty", lambda: (_rows(3, 0), _rows(3, 6)), "edge"),
        Case("rows without keys", lambda: (_half_empty(4, 3, 4), _half_empty(4, 3, 6)),
             "edge"),
    ),
    mistakes=(
        Mistake(
            _only_added,
            "the sums are added as they stand, but each is measured in units of its "
            "own maximum: multiply by e^(m_piece - m) first.",
        ),
        Mistake(
            _mixture_kept,
            "l is rescaled and the first piece's o is not: both are measured in "
            "e^m_a, both shrink.",
        ),
        Mistake(
            _unguarded,
            "where both rows are empty, -inf - (-inf) makes a nan: subtract 0 instead "
            "of m there.",
        ),
        Mistake(
            _divided,
            "o is already divided by l, so it cannot be merged again: the division "
            "comes once, at the very end.",
        ),
        Mistake(
            _units_of_the_second,
            "your m is the second piece's. Take the larger of the two, or e^(m_a - m) "
            "overflows when the first has the louder keys.",
        ),
    ),
    hints=(
        "Both pieces must be counted in one unit, e^m with the larger m of the two.",
        "The factors are e^(m_a - m) and e^(m_b - m); for o they need [:, None].",
        "Where m is -inf use 0 in its place when you subtract: e^(-inf - 0) is 0.",
    ),
)  # fmt: skip


# ---- 17.dkv_tiles -------------------------------------------------------------------


def _dkv_tiles(queries, keys, offset, own, other):
    return sum(
        min(start + other, queries) - 1 + offset >= first
        for first in range(0, keys, own)
        for start in range(0, queries, other)
    )


def _all_tiles(queries, keys, offset, own, other):
    return -(-keys // own) * -(-queries // other)


def _by_the_first_query(queries, keys, offset, own, other):
    return sum(
        start + offset >= first
        for first in range(0, keys, own)
        for start in range(0, queries, other)
    )


def _by_the_last_key(queries, keys, offset, own, other):
    return sum(
        min(start + other, queries) - 1 + offset >= min(first + own, keys) - 1
        for first in range(0, keys, own)
        for start in range(0, queries, other)
    )


def _without_tails(queries, keys, offset, own, other):
    return _dkv_tiles(queries // other * other, keys // own * own, offset, own, other)


dkv_tiles = Exercise(
    name="17.dkv_tiles",
    task="Count the tiles that the blocks of dkv visit under a causal mask.",
    solution=_dkv_tiles,
    cases=(
        Case("512, own 64, other 32", lambda: (512, 512, 0, 64, 32)),
        Case("200 queries, 130 keys", lambda: (200, 130, 0, 32, 16)),
        Case("after 70 keys", lambda: (65, 135, 70, 64, 32)),
        Case("before 5 keys", lambda: (40, 40, -5, 8, 4)),
        Case("one of each", lambda: (1, 1, 0, 64, 32), "edge"),
        Case("nobody sees a key", lambda: (3, 3, -3, 2, 2), "edge"),
    ),
    mistakes=(
        Mistake(
            _all_tiles,
            "you count all tiles: those whose queries all stand before the block's "
            "first key see nothing and are skipped.",
        ),
        Mistake(
            lambda queries, keys, offset, own, other: _dkv_tiles(
                queries, keys, 0, own, other
            ),
            "the offset is missing: query t sees the keys 0 … t + offset.",
        ),
        Mistake(
            _by_the_first_query,
            "you ask the first query of a tile. Its last one sees most: if that sees a "
            "key, the tile is visited.",
        ),
        Mistake(
            _by_the_last_key,
            "you ask for the block's last key. Its first one is seen by most: a tile "
            "that sees that one is visited.",
        ),
        Mistake(
            _without_tails,
            "the ragged ends are missing: the last block and the last tile may have "
            "fewer rows, but they are there.",
        ),
    ),
    hints=(
        "Which query of a tile sees most keys, and which key is seen by most queries?",
        "A tile from `start` has the last query min(start + other, queries) - 1.",
        "Visited if that last query + offset >= the block's first key.",
    ),
)


# ---- 17.backward --------------------------------------------------------------------


def _backward(q, k, v, mask, out, lse, dout):
    return _from_weights(_weights(q, k, mask, lse), q, k, v, out, dout)


def _weights(q, k, mask, lse):
    s = np.where(mask, q @ k.T / math.sqrt(q.shape[1]), -np.inf)
    return np.exp(s - np.where(lse == -np.inf, 0, lse)[:, None])


def _from_weights(p, q, k, v, out, dout, scale=None):
    scale = 1 / math.sqrt(q.shape[1]) if scale is None else scale
    ds = p * (dout @ v.T - (dout * out).sum(1, keepdims=True))
    return ds @ k * scale, ds.T @ q * scale, p.T @ dout


def _unscaled(q, k, v, mask, out, lse, dout):
    return _from_weights(_weights(q, k, mask, lse), q, k, v, out, dout, scale=1)


def _without_delta(q, k, v, mask, out, lse, dout):
    return _from_weights(_weights(q, k, mask, lse), q, k, v, 0 * out, dout)


def _delta_of_dp(q, k, v, mask, out, lse, dout):
    p, scale = _weights(q, k, mask, lse), 1 / math.sqrt(q.shape[1])
    dp = dout @ v.T
    ds = p * (dp - dp.sum(1, keepdims=True))
    return ds @ k * scale, ds.T @ q * scale, p.T @ dout


def _mask_ignored(q, k, v, mask, out, lse, dout):
    p = _weights(q, k, np.ones_like(mask), lse)
    return _from_weights(p, q, k, v, out, dout)


def _empty_unguarded(q, k, v, mask, out, lse, dout):
    s = np.where(mask, q @ k.T / math.sqrt(q.shape[1]), -np.inf)
    with np.errstate(invalid="ignore"):
        p = np.exp(s - lse[:, None])
    return _from_weights(p, q, k, v, out, dout)


def _not_transposed(q, k, v, mask, out, lse, dout):
    p = _weights(q, k, mask, lse)
    dq, dk, _ = _from_weights(p, q, k, v, out, dout)
    return dq, dk, p @ dout


def _after_forward(queries, keys, real, *, seed=0, loud=1.0):
    """Inputs of the exercise; keys from `real` on are padding."""
    q, dout = loud * _normal(queries, 4, seed=seed), _normal(queries, 4, seed=seed + 1)
    k, v = _normal(keys, 4, seed=seed + 2), _normal(keys, 4, seed=seed + 3)
    mask = np.arange(keys) < real
    s = np.where(mask, q @ k.T / 2, -np.inf)
    top = s.max(1) if real else np.zeros(queries)
    total = np.exp(s - top[:, None]).sum(1)
    lse = top + np.log(total) if real else np.full(queries, -np.inf)
    out = np.exp(s - top[:, None]) / np.where(total > 0, total, 1)[:, None] @ v
    return q, k, v, mask, out, lse, dout


backward = Exercise(
    name="17.backward",
    task="dq, dk, dv of attention from out, lse and dout, without the weights.",
    solution=_backward,
    cases=(
        Case("6 queries, 5 keys", lambda: _after_forward(6, 5, 5), "gradient"),
        Case("2 of 7 keys padding", lambda: _after_forward(4, 7, 5), "gradient"),
        Case("loud queries", lambda: _after_forward(4, 4, 3, loud=500.0), "gradient"),
        Case("square", lambda: _after_forward(5, 5, 5, seed=9)),
        Case("no real key", lambda: _after_forward(3, 4, 0), "edge"),
        Case("one query, one key", lambda: _after_forward(1, 1, 1), "edge"),
    ),
    mistakes=(
        Mistake(
            _unscaled,
            "dq and dk miss the factor 1/√D: the scores were scaled, so their "
            "gradients are too.",
        ),
        Mistake(
            _without_delta,
            "dS = P dP lacks -Δ: weights sum to 1, so raising one lowers the others.",
        ),
        Mistake(
            _delta_of_dp,
            "your Δ is the sum of dP. It is the sum of P dP, or, what comes to the "
            "same, of dout times out.",
        ),
        Mistake(
            _mask_ignored,
            "padding has weights: P = e^(S - lse) holds for real keys, and is 0 for "
            "the others.",
        ),
        Mistake(
            _empty_unguarded,
            "where no key is real, lse is -inf, and -inf - (-inf) makes a nan: "
            "subtract 0 there.",
        ),
        Mistake(
            _not_transposed,
            "dv is Pᵀ dout, not P dout: key s gathers over all queries.",
        ),
    ),
    hints=(
        "First P: the scores, masked, minus lse, through exp. No maximum is needed.",
        "Δ is (dout * out).sum(1), a number a row; dS = P * (dout @ v.T - Δ).",
        "dq = dS @ k / √D, dk = dS.T @ q / √D, dv = P.T @ dout.",
    ),
)


# ---- 17.least_bytes -----------------------------------------------------------------


def _least_bytes(B, H, G, T, S, D, size):
    vectors = 2 * B * H * T * D + 2 * B * G * S * D
    return size * (vectors + 5 * B * H * T * S), size * vectors + 4 * B * H * T


def _keys_for_every_head(B, H, G, T, S, D, size):
    return _least_bytes(B, H, H, T, S, D, size)


def _array_once(B, H, G, T, S, D, size):
    unfused, flash = _least_bytes(B, H, G, T, S, D, size)
    return unfused - 4 * size * B * H * T * S, flash


def _without_lse(B, H, G, T, S, D, size):
    unfused, flash = _least_bytes(B, H, G, T, S, D, size)
    return unfused, flash - 4 * B * H * T


def _narrow_lse(B, H, G, T, S, D, size):
    unfused, flash = _least_bytes(B, H, G, T, S, D, size)
    return unfused, flash + (size - 4) * B * H * T


def _in_numbers(B, H, G, T, S, D, size):
    unfused, _ = _least_bytes(B, H, G, T, S, D, size)
    return unfused // size, 2 * B * H * T * D + 2 * B * G * S * D + B * H * T


least_bytes = Exercise(
    name="17.least_bytes",
    task="The least bytes of a forward pass: (unfused, flash).",
    solution=_least_bytes,
    cases=(
        Case("GPT-2, 1024 tokens", lambda: (8, 12, 12, 1024, 1024, 64, 4)),
        Case("4 of 32 heads, 16 bits", lambda: (1, 32, 4, 4096, 4096, 128, 2)),
        Case("33 queries, 65 keys", lambda: (2, 4, 2, 33, 65, 32, 2)),
        Case("one new token", lambda: (1, 12, 3, 1, 1000, 64, 2), "edge"),
    ),
    mistakes=(
        Mistake(
            _keys_for_every_head,
            "k and v have G heads, not H: that is what grouped queries are for.",
        ),
        Mistake(
            _array_once,
            "the weights travel five times: written as scores; read by the softmax and "
            "written twice; read by the product with V.",
        ),
        Mistake(_without_lse, "flash writes the lse too: a number for each query row."),
        Mistake(
            _narrow_lse,
            "the lse is float32, 4 bytes, whatever the size of the other numbers.",
        ),
        Mistake(_in_numbers, "those are numbers, not bytes: multiply by their size."),
    ),
    hints=(
        "q and out have B·H·T·D numbers each, k and v B·G·S·D each.",
        "The weights are B·H·T·S numbers, and travel five times.",
        "Flash: size · (the four arrays) + 4 · B·H·T.",
    ),
)
