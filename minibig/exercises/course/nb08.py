"""The exercises of notebook 08: heads, masks, attention, rotary positions."""

import numpy as np

from ..exercise import Case, Exercise, Mistake


def _normal(*shape, seed=0):
    return np.random.default_rng([8, seed]).standard_normal(shape)


# ---- 08.split_heads -----------------------------------------------------------------


def _split_heads(x, num_heads):
    batch, length, width = x.shape
    x = x.reshape(batch, length, num_heads, width // num_heads)
    return x.transpose(0, 2, 1, 3)  # (B, H, T, D)


def _reshaped_only(x, num_heads):
    batch, length, width = x.shape
    return x.reshape(batch, num_heads, length, width // num_heads)


def _length_before_heads(x, num_heads):
    return _split_heads(x, num_heads).transpose(0, 2, 1, 3)


def _every_other_column(x, num_heads):
    batch, length, width = x.shape
    x = x.reshape(batch, length, width // num_heads, num_heads)
    return x.transpose(0, 3, 1, 2)


split_heads = Exercise(
    name="08.split_heads",
    task="Give each head its share of the width: (B, T, C) -> (B, H, T, C / H).",
    solution=_split_heads,
    cases=(
        Case("2 heads of 3", lambda: (np.arange(24.0).reshape(1, 4, 6), 2)),
        Case("3 lists, 4 heads", lambda: (_normal(3, 5, 8), 4)),
        Case("one head", lambda: (_normal(2, 3, 4), 1), "edge"),
        Case("heads of width 1", lambda: (_normal(1, 3, 4), 4), "edge"),
        Case("one token", lambda: (_normal(2, 1, 6), 3), "edge"),
    ),
    mistakes=(
        Mistake(
            _reshaped_only,
            "you reshaped straight to (B, H, T, D). The shape is right, but each head "
            "got whole tokens; split the last axis first, then swap two axes.",
        ),
        Mistake(
            _length_before_heads,
            "your axes stand as (B, T, H, D). Swap the two in the middle: the product "
            "of matrices works on the last two axes, and those must be (T, D).",
        ),
        Mistake(
            _every_other_column,
            "your heads take every H-th column. Neighbouring columns belong to one "
            "head: the new axes are (H, D), in this order.",
        ),
    ),
    hints=(
        "Two steps: cut the last axis in two, then change the order of the axes.",
        "x.reshape(B, T, H, C // H) keeps every token's numbers together.",
        "After the reshape: .transpose(0, 2, 1, 3).",
    ),
)


# ---- 08.causal_mask -----------------------------------------------------------------


def _causal_mask(queries, keys):
    places = np.arange(keys - queries, keys)  # of the queries
    return np.arange(keys) <= places[:, None]


def _first_queries(queries, keys):
    return np.tril(np.ones((queries, keys), bool))


causal_mask = Exercise(
    name="08.causal_mask",
    task="True where one of the last T tokens may look at one of S tokens: (T, S).",
    solution=_causal_mask,
    cases=(
        Case("4 of 4 tokens", lambda: (4, 4)),
        Case("the last 3 of 5", lambda: (3, 5)),
        Case("one new token", lambda: (1, 6), "edge"),
        Case("one token in all", lambda: (1, 1), "edge"),
    ),
    mistakes=(
        Mistake(
            _first_queries,
            "your queries are the first T tokens. They are the last T of S: query t "
            "stands at place S - T + t.",
        ),
        Mistake(
            lambda t, s: _causal_mask(t, s) & ~np.eye(t, s, s - t, dtype=bool),
            "a token may look at itself; yours may not, and the first one is left with "
            "nothing to look at.",
        ),
        Mistake(
            lambda t, s: ~_causal_mask(t, s),
            "yours is True where looking is forbidden. Here True means allowed.",
        ),
        Mistake(
            lambda t, s: ~_causal_mask(t, s) | np.eye(t, s, s - t, dtype=bool),
            "your tokens see the future and not the past: rows are queries, columns "
            "are keys.",
        ),
        Mistake(
            lambda t, s: np.where(_causal_mask(t, s), 0.0, -np.inf),
            "that is a mask to be added to scores, of 0 and -inf. Asked for are True, "
            "where looking is allowed, and False.",
            also=(lambda t, s: np.where(_causal_mask(t, s), 0.0, -1e9),),
        ),
    ),
    hints=(
        "At which place of the S tokens does query t stand?",
        "Compare a row of key places, (S,), with a column of query places, (T, 1).",
        "Query t stands at S - T + t and sees the keys 0 to that place, with it.",
    ),
)


# ---- 08.attention -------------------------------------------------------------------


def _weights(scores, allowed):
    """Softmax over the allowed keys; zeros in rows that have none."""
    e = np.exp(scores - scores.max(-1, keepdims=True)) * allowed
    total = e.sum(-1, keepdims=True)
    return e / np.where(total > 0, total, 1)


def _allowed(k, lengths):
    return np.arange(k.shape[1]) < np.asarray(lengths)[:, None, None]  # (B, 1, S)


def _scores(q, k):
    return q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])  # (B, T, S)


def _attention(q, k, v, lengths):
    allowed = _allowed(k, lengths)
    scores = np.where(allowed, _scores(q, k), -np.inf)
    top = scores.max(-1, keepdims=True)
    e = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = e.sum(-1, keepdims=True)
    return e / np.where(total > 0, total, 1) @ v


def _scaled_by(power):
    def attention(q, k, v, lengths):
        return _attention(q * q.shape[-1] ** (0.5 - power), k, v, lengths)

    return attention


def _zeroed_afterwards(q, k, v, lengths):
    return _weights(_scores(q, k), True) * _allowed(k, lengths) @ v


def _zero_scores(q, k, v, lengths):
    return _weights(_scores(q, k) * _allowed(k, lengths), True) @ v


def _one_key_more(q, k, v, lengths):
    return _attention(q, k, v, np.asarray(lengths) + 1)


def _lengths_ignored(q, k, v, lengths):
    return _attention(q, k, v, np.full(len(q), k.shape[1]))


def _over_the_queries(q, k, v, lengths):
    scores = np.where(_allowed(k, lengths), _scores(q, k), -1e9).swapaxes(1, 2)
    allowed = _allowed(k, lengths).swapaxes(1, 2)
    return _weights(scores, allowed).swapaxes(1, 2) @ v


def _large_negative(q, k, v, lengths):
    scores = np.where(_allowed(k, lengths), _scores(q, k), -1e9)
    return _weights(scores, True) @ v


def _nan_rows(q, k, v, lengths):
    out = _attention(q, k, v, lengths)
    out[np.asarray(lengths) == 0] = np.nan
    return out


def _overflowing(q, k, v, lengths):
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.exp(_scores(q, k)) * _allowed(k, lengths)
        total = e.sum(-1, keepdims=True)
        return e / np.where(total > 0, total, 1) @ v


def _lists(batch, queries, keys, lengths, *, loud=1.0, width=4):
    q = loud * _normal(batch, queries, width, seed=1)
    k, v = _normal(batch, keys, width, seed=2), _normal(batch, keys, 3, seed=3)
    return q, k, v, np.array(lengths)


def _identity_values():
    q, k, _, lengths = _lists(2, 3, 4, [4, 2])
    return q, k, np.broadcast_to(np.eye(4), (2, 4, 4)).copy(), lengths


attention = Exercise(
    name="08.attention",
    task="softmax(Q Kᵀ / √D) V for a batch in which lists have different lengths.",
    solution=_attention,
    cases=(
        Case("3 lists, 5 keys", lambda: _lists(3, 2, 5, [5, 3, 1])),
        Case("no padding", lambda: _lists(2, 4, 4, [4, 4], width=9)),
        Case("scores of 1000s", lambda: _lists(2, 3, 4, [4, 2], loud=3e3), "edge"),
        Case("an empty list", lambda: _lists(2, 2, 3, [0, 3]), "edge"),
        Case("gradient by v (v = I)", _identity_values, "gradient"),
    ),
    mistakes=(
        Mistake(_scaled_by(0), "the scores are not divided by √D."),
        Mistake(_scaled_by(1), "you divided the scores by D; it is the root of D."),
        Mistake(
            _lengths_ignored,
            "padding is looked at too: key s of list b counts only if s < lengths[b].",
        ),
        Mistake(
            _zeroed_afterwards,
            "you zeroed weights after the softmax, so that they no longer sum to 1. "
            "Put -inf into the scores before it.",
        ),
        Mistake(
            _zero_scores,
            "you set the scores of padding to 0, but e^0 is 1: it still counts. -inf "
            "is the score that counts for nothing.",
        ),
        Mistake(
            _one_key_more,
            "one key too many is seen: keys are numbered from 0, so the last real one "
            "is lengths[b] - 1.",
        ),
        Mistake(
            _over_the_queries,
            "your softmax runs over the queries. The weights of one query sum to 1 "
            "over the keys, the last axis of the scores.",
        ),
        Mistake(
            _large_negative,
            "an empty list gets the mean of its padding: with -1e9 everywhere all "
            "scores are equal again. Rows without a key must give zeros.",
        ),
        Mistake(
            _nan_rows,
            "an empty list gives nan, 0 divided by 0 or -inf minus -inf. Give it zeros "
            "by hand.",
        ),
        Mistake(
            _overflowing,
            "large scores overflow in exp. Take the largest score of each row off "
            "first; the weights stay the same.",
        ),
    ),
    hints=(
        "Compute the scores (B, T, S), forbid the padding, take the softmax, mix v.",
        "np.arange(S) < lengths[:, None, None] is (B, 1, S): True for real keys.",
        "Where a row has no key, divide by 1 in the place of 0: the result is zeros.",
    ),
)


# ---- 08.rotary ----------------------------------------------------------------------


def _rotated(x, angles):
    cos, sin = np.cos(angles), np.sin(angles)
    even, odd = x[:, 0::2], x[:, 1::2]
    pairs = np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return pairs.reshape(x.shape)


def _angles(x, positions, exponent=2.0):
    pair = np.arange(x.shape[1] // 2)
    return np.asarray(positions)[:, None] * 10000.0 ** (-exponent * pair / x.shape[1])


def _rotary(x, positions):
    return _rotated(x, _angles(x, positions))


def _halves(x, positions):
    half = x.shape[1] // 2
    mixed = np.stack([x[:, :half], x[:, half:]], axis=-1).reshape(x.shape)
    turned = _rotary(mixed, positions)
    return np.concatenate([turned[:, 0::2], turned[:, 1::2]], axis=1)


rotary = Exercise(
    name="08.rotary",
    task="Turn pair i of x by the angle position · 10000^(-2i/D); the shape stays.",
    solution=_rotary,
    cases=(
        Case("(1, 0) at place 1", lambda: (np.array([[1.0, 0.0]]), np.array([1]))),
        Case("6 places, D = 8", lambda: (_normal(6, 8), np.arange(6))),
        Case("places 100 to 103", lambda: (_normal(4, 6), np.arange(100, 104))),
        Case("place 0", lambda: (_normal(1, 4), np.array([0])), "edge"),
        Case("gradient: turn back", lambda: (_normal(3, 8), -np.arange(3)), "gradient"),
    ),
    mistakes=(
        Mistake(
            lambda x, positions: _rotary(x, -positions),
            "yours turns clockwise: (1, 0) must go to (cos, sin) of the angle, so the "
            "minus stands in the first of each pair.",
        ),
        Mistake(
            _halves,
            "you paired coordinate i with i + D/2. Many libraries do, but here the "
            "pairs are neighbours, 2i and 2i + 1.",
        ),
        Mistake(
            lambda x, positions: _rotated(x, _angles(x, positions, 0.0)),
            "all pairs turn at the same speed. Pair i has the speed 10000^(-2i/D).",
        ),
        Mistake(
            lambda x, positions: _rotated(x, _angles(x, positions, 1.0)),
            "the speeds fall too slowly: with i the number of the pair, the exponent "
            "is -2i/D, which ends near -1.",
        ),
        Mistake(
            lambda x, positions: _rotary(x, np.arange(len(x))),
            "you counted the rows from 0 and did not use `positions`.",
        ),
    ),
    hints=(
        "The angles are a table, (T, D/2): positions as a column times speeds as a "
        "row.",
        "x[:, 0::2] and x[:, 1::2] are the first and the second of each pair.",
        "(a, b) turned is (a cos - b sin, a sin + b cos); then put the pairs back in "
        "their order with np.stack(..., axis=-1).reshape(x.shape).",
    ),
)
