"""The exercises of notebook 11: perplexity, top-p, a language model's loss."""

from functools import partial

import numpy as np

from ..exercise import Case, Exercise, Mistake


def _normal(*shape, seed=0):
    return np.random.default_rng([11, seed]).standard_normal(shape)


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# ---- 11.perplexity ------------------------------------------------------------------


def _perplexity(probabilities):
    return np.exp(-np.log(probabilities).mean())


perplexity = Exercise(
    name="11.perplexity",
    task="The perplexity of a text, from the probabilities its tokens were given.",
    solution=_perplexity,
    cases=(
        Case("1/2, 1/8: 4", lambda: (np.array([0.5, 0.125]),)),
        Case("a die, ten throws: 6", lambda: (np.full(10, 1 / 6),)),
        Case("twenty tokens", lambda: (_softmax(_normal(20)),)),
        Case("one token", lambda: (np.array([0.25]),), "edge"),
        Case("certain", lambda: (np.ones(3),), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda p: np.exp(-np.log(p).sum()),
            "you added the losses up where their mean is asked for: yours is one over "
            "the probability of the whole text, and grows with its length.",
        ),
        Mistake(
            lambda p: 2 ** -np.log(p).mean(),
            "you took 2 to the power of nats. Nats go with e; 2 goes with bits.",
        ),
        Mistake(
            lambda p: 1 / p.mean(),
            "you took the mean of the probabilities. The mean is taken of their "
            "logarithms, which makes it the geometric mean.",
        ),
        Mistake(
            lambda p: np.exp(np.log(p).mean()),
            "a sign is missing: yours is below 1, and a perplexity never is. The loss "
            "is minus the logarithm.",
        ),
    ),
    hints=(
        "First the loss of each token, then their mean, then one function more.",
        "The loss of a token with probability p is -ln p nats.",
        "np.exp of the mean of -np.log(probabilities).",
    ),
)


# ---- 11.top_p -----------------------------------------------------------------------


def _kept(p, keep):
    """p where `keep`, a mask in the order of falling p, is True; 0 elsewhere."""
    order = np.argsort(-p, kind="stable")
    out = np.zeros_like(p)
    out[order] = np.where(keep(np.sort(p)[::-1]), p[order], 0)
    return out


def _crossing(top_p):
    return lambda falling: np.cumsum(falling) - falling < top_p


def _top_p(p, top_p):
    kept = _kept(p, _crossing(top_p))
    return kept / kept.sum()


def _cut(keep):
    """Top-p with another rule: `keep(sorted p, their sums, top_p)` is a mask."""

    def cut(p, top_p):
        kept = _kept(p, lambda falling: keep(falling, np.cumsum(falling), top_p))
        with np.errstate(invalid="ignore"):
            return kept / kept.sum()

    return cut


def _with_the_first(keep):
    return lambda falling, sums, p: keep(sums, p) | (np.arange(len(sums)) == 0)


def _sorted(p, top_p):
    return np.sort(_top_p(p, top_p))[::-1]


def _in_input_order(p, top_p):
    kept = np.where(np.cumsum(p) - p < top_p, p, 0)
    return kept / kept.sum()


def _least_likely(p, top_p):
    order = np.argsort(p, kind="stable")
    kept = np.zeros_like(p)
    before = np.cumsum(p[order]) - p[order]
    kept[order] = np.where(before < top_p, p[order], 0)
    return kept / kept.sum()


_FIVE = np.array([1.0, 8.0, 2.0, 1.0, 4.0]) / 16

top_p = Exercise(
    name="11.top_p",
    task="Keep the fewest likeliest tokens whose probabilities reach top_p.",
    solution=_top_p,
    cases=(
        Case("sixteenths, p = 0.8", lambda: (_FIVE.copy(), 0.8)),
        Case("12 tokens, p = 0.6", lambda: (_softmax(2 * _normal(12)), 0.6)),
        Case("reached exactly, 0.75", lambda: (_FIVE.copy(), 0.75), "edge"),
        Case("p = 0.1: one stays", lambda: (_FIVE.copy(), 0.1), "edge"),
        Case("p = 1: all stay", lambda: (_FIVE.copy(), 1.0), "edge"),
    ),
    mistakes=(
        Mistake(
            _cut(lambda falling, sums, p: sums <= p),
            "the token that crosses top_p is dropped. It is kept: without it the sum "
            "does not reach top_p, and with a small top_p nothing would be left.",
            also=(
                _cut(_with_the_first(np.less_equal)),
                _cut(lambda falling, sums, p: sums < p),
                _cut(_with_the_first(np.less)),
            ),
        ),
        Mistake(
            _cut(lambda falling, sums, p: sums - falling <= p),
            "one token too many stays where the sum reaches top_p exactly: a token is "
            "kept while those before it sum to less than top_p, < and not <=.",
        ),
        Mistake(
            _cut(lambda falling, sums, p: falling >= p),
            "you compare each probability by itself with a threshold. top_p is for "
            "their sum, the likeliest first: np.cumsum of the sorted ones.",
            also=(
                _cut(lambda falling, sums, p: falling > 1 - p),
                _cut(lambda falling, sums, p: falling >= 1 - p),
                _cut(lambda falling, sums, p: falling >= p * falling[0]),
            ),
        ),
        Mistake(
            lambda p, top_p: _kept(p, _crossing(top_p)),
            "what is left does not sum to 1: divide by its sum.",
        ),
        Mistake(
            _sorted,
            "your probabilities stand in sorted order. Put each back where its token "
            "is: out[order] = values.",
        ),
        Mistake(
            _in_input_order,
            "you added up in the order of the input. Begin with the likeliest token: "
            "np.argsort(-p).",
        ),
        Mistake(
            _least_likely,
            "you began with the least likely token: argsort sorts upwards. Sort -p.",
        ),
    ),
    hints=(
        "Sort, add up, cut, put back, divide.",
        "A token stays if those likelier than it do not reach top_p yet.",
        "order = np.argsort(-p); before = np.cumsum(p[order]) - p[order]; keep where "
        "before < top_p; write through out[order].",
    ),
)


# ---- 11.causal_loss -----------------------------------------------------------------


def _nats(logits, ids):
    """-ln softmax(logits)[id]: (..., V), (...) -> (...)."""
    shifted = logits - logits.max(-1, keepdims=True)
    right = np.take_along_axis(shifted, ids[..., None], axis=-1)[..., 0]
    return np.log(np.exp(shifted).sum(-1)) - right


def _real(ids, lengths):
    return np.arange(1, ids.shape[1]) < np.asarray(lengths)[:, None]  # (B, T - 1)


def _causal_loss(logits, ids, lengths):
    return _nats(logits[:, :-1], ids[:, 1:])[_real(ids, lengths)].mean()


def _not_shifted(logits, ids, lengths):
    real = np.arange(ids.shape[1]) < np.asarray(lengths)[:, None]
    return _nats(logits, ids)[real].mean()


def _shifted_back(logits, ids, lengths):
    return _nats(logits[:, 1:], ids[:, :-1])[_real(ids, lengths)].mean()


def _padding_counted(logits, ids, lengths):
    return _nats(logits[:, :-1], ids[:, 1:]).mean()


def _zeroed_padding(logits, ids, lengths):
    return (_nats(logits[:, :-1], ids[:, 1:]) * _real(ids, lengths)).mean()


def _one_too_many(logits, ids, lengths):
    return _causal_loss(logits, ids, np.asarray(lengths) + 1)


def _mean_of_rows(logits, ids, lengths):
    real = _real(ids, lengths)
    rows = (_nats(logits[:, :-1], ids[:, 1:]) * real).sum(1)
    return (rows / np.maximum(real.sum(1), 1)).mean()


def _mean_of_rows_that_guess(logits, ids, lengths, *, others=()):
    """The rows' means, where a row without a guess counts as one of `others`."""
    losses, real = _nats(logits[:, :-1], ids[:, 1:]), _real(ids, lengths)
    rows = [x[r].mean() for x, r in zip(losses, real, strict=True) if r.any()]
    return np.mean([*rows, *others * int((~real.any(1)).sum())])


def _overflowing(logits, ids, lengths):
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        e = np.exp(logits[:, :-1])
        p = e / e.sum(-1, keepdims=True)
        right = np.take_along_axis(p, ids[:, 1:, None], axis=-1)[..., 0]
        return -np.log(right)[_real(ids, lengths)].mean()


def _batch(lengths, length, *, loud=1.0, seed=1):
    rows = len(lengths)
    ids = np.random.default_rng([11, seed]).integers(0, 6, (rows, length))
    return loud * _normal(rows, length, 6, seed=seed), ids, np.array(lengths)


def _even():
    """Even logits but for one padding place: ln 4 a token."""
    logits = np.zeros((1, 4, 4))
    logits[0, 2, 0] = 5.0
    return logits, np.array([[1, 2, 3, 0]]), np.array([3])


causal_loss = Exercise(
    name="11.causal_loss",
    task="The mean loss over the real tokens, each guessed from those before it.",
    solution=_causal_loss,
    cases=(
        Case("even guesses: ln 4", _even),
        Case("3 rows of 5, 3, 2", lambda: _batch([5, 3, 2], 5)),
        Case("no padding", lambda: _batch([4, 4], 4)),
        Case("a row of one token", lambda: _batch([1, 4], 4), "edge"),
        Case("logits of thousands", lambda: _batch([3, 2], 4, loud=2e3), "edge"),
    ),
    mistakes=(
        Mistake(
            _not_shifted,
            "you compared the logits at place t with the id at place t, which the "
            "model has just read. They guess the id at place t + 1.",
        ),
        Mistake(
            _shifted_back,
            "you shifted the wrong way: logits[:, :-1] guess ids[:, 1:].",
        ),
        Mistake(
            _padding_counted,
            "padding is guessed too. The id at place t counts only if t < lengths[b].",
        ),
        Mistake(
            _zeroed_padding,
            "the losses of padding are 0, but their places still count in the mean. "
            "Divide by the number of real ones.",
        ),
        Mistake(
            _one_too_many,
            "one place too many counts in each row: places are numbered from 0, so "
            "the last real id stands at lengths[b] - 1.",
        ),
        Mistake(
            _mean_of_rows,
            "you took the mean of each row and then of the rows, so a token counts "
            "more in a short row. Take one mean over all real tokens.",
            also=(
                _mean_of_rows_that_guess,
                partial(_mean_of_rows_that_guess, others=(np.nan,)),
            ),
        ),
        Mistake(
            lambda logits, ids, lengths: (
                _causal_loss(logits, ids, lengths) * _real(ids, lengths).sum()
            ),
            "that is the sum of the losses; their mean over the real tokens is asked "
            "for.",
        ),
        Mistake(
            _overflowing,
            "large logits overflow in exp, or leave a probability of 0 to take the "
            "logarithm of. Take the largest logit off first, and use "
            "ln Σ e^z - z[right].",
        ),
    ),
    hints=(
        "Cut the last logits off, and the first ids; then both have T - 1 places.",
        "np.arange(1, T) < lengths[:, None] is True where the guessed id is real.",
        "loss = ln(sum of e^(z - max)) - (z - max)[right id]; then the mean over the "
        "places where that mask is True.",
    ),
)
