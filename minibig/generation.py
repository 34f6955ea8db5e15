"""Writing with a language model: choosing the next token, and not computing twice.

Taught by notebook 11.
"""

import numpy as np

from . import backend, checks
from .autograd import no_grad
from .creation import tensor
from .nn.module import evaluating
from .random import at, generator
from .tensor import Tensor


class LayerCache:
    """The keys and values one layer has computed so far, (B, H, S, D) each."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.length = 0
        self.keys = self.values = None

    def append(self, k, v):
        """Keeps k and v (B, H, T, D); returns all kept so far, as Tensors."""
        xp = backend.array_module(k.array)
        if self.keys is None:
            shape = (*k.shape[:2], self.capacity, k.shape[3])
            self.keys, self.values = xp.empty(shape, k.dtype), xp.empty(shape, v.dtype)
        end = self.length + k.shape[2]
        self.keys[:, :, self.length : end] = k.array
        self.values[:, :, self.length : end] = v.array
        self.length = end
        return Tensor(self.keys[:, :, :end]), Tensor(self.values[:, :, :end])

    def reorder(self, rows):
        """Row i of the batch becomes what row `rows[i]` was."""
        rows = backend.array_module(self.keys).asarray(rows)
        self.keys, self.values = self.keys[rows], self.values[rows]


class MemoryCache:
    """The keys and values of what a decoder looks up: (B, H, S, D) each, or None."""

    def __init__(self):
        self.heads = None


class KVCache:
    """A LayerCache for each of `n_layer` layers, for at most `capacity` tokens."""

    def __init__(self, n_layer, capacity):
        self.layers = [LayerCache(capacity) for _ in range(n_layer)]

    @property
    def length(self):
        """How many tokens it holds."""
        return self.layers[0].length


def generate(
    model, ids, max_new_tokens, *, temperature=1.0, top_k=None, top_p=None, stop_ids=(),
    seed=None, use_cache=True,
):  # fmt: skip
    """`ids` (T,) or (B, T) with up to `max_new_tokens` more, each drawn from the model.

    temperature 0 takes the likeliest token; otherwise logits are divided by it. `top_k`
    keeps the k likeliest (and their equals), `top_p` the fewest whose probabilities
    reach p (arXiv 1904.09751). A row that has drawn one of `stop_ids` (None, one id or
    several) repeats it until all rows have ended. Only the last `context_length` tokens
    are seen. The same `seed` gives the same text; without one, draws come from the
    stream "generate".
    `use_cache=False` computes every step anew: slower, with the same result.
    """
    rows, stops = _prompt(ids), _stops(stop_ids, model.config.vocab_size)
    _check_settings(max_new_tokens, temperature, top_k, top_p)
    rng = generator("generate") if seed is None else at("generate", 0, seed)
    single, rows = rows.ndim == 1, np.atleast_2d(rows)
    cache = _cache_for(model) if use_cache else None
    ended = np.zeros(len(rows), bool)
    with evaluating(model):
        for _ in range(max_new_tokens):
            logits = _last_logits(model, rows, cache)
            chosen = choose(logits, rng, temperature, top_k, top_p)
            chosen = np.where(ended, rows[:, -1], chosen)
            rows = np.concatenate([rows, chosen[:, None]], axis=1)
            ended |= np.isin(chosen, stops)
            if ended.all():
                break
    return Tensor(rows[0] if single else rows)


def _prompt(ids):
    array = tensor(ids).numpy()
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2) or not array.size:
        raise ValueError(
            "generate needs at least one token id, (T,) or (B, T) whole numbers, not "
            f"{array.dtype} of {array.shape}"
        )
    return array.astype(np.int64)


def _stops(stop_ids, vocab_size):
    """The ids that end a text, given as None, one or several."""
    # an array of no axis has __iter__ too
    several = hasattr(stop_ids, "__iter__") and getattr(stop_ids, "ndim", 1) > 0
    ids = () if stop_ids is None else stop_ids if several else (stop_ids,)
    stops = [checks.whole("generate: a stop id", i, 0) for i in ids]
    for unknown in [i for i in stops if i >= vocab_size][:1]:
        raise ValueError(
            f"generate: a stop id must be in the vocabulary of {vocab_size}, not "
            f"{unknown}"
        )
    return stops


def _check_settings(max_new_tokens, temperature, top_k, top_p):
    checks.whole("generate: max_new_tokens", max_new_tokens, 0)
    checks.number("generate: temperature", temperature, 0)
    if top_k is not None:
        checks.whole("generate: top_k", top_k, 1)
    if top_p is not None:
        checks.number("generate: top_p", top_p, 0, 1, without=0)


def _cache_for(model):
    return KVCache(model.config.n_layer, model.config.context_length)


@no_grad()
def _last_logits(model, rows, cache):
    """Logits (B, V) after the last token. A text longer than the context is seen from
    its end: all places shift, so that nothing in the cache is right any more."""
    context = model.config.context_length
    if cache is not None and rows.shape[1] <= context:
        logits = model(rows[:, cache.length :], cache=cache)
    else:
        logits = model(rows[:, -context:])
    return logits[:, -1].numpy().astype(np.float64)


def choose(logits, rng, temperature=1.0, top_k=None, top_p=None):
    """A token id for each row of logits (B, V), drawn with a NumPy Generator."""
    if not np.isfinite(logits.max(-1)).all():  # a NaN is the maximum of its row
        raise FloatingPointError(
            "the model's logits are not finite: its weights are damaged, or training "
            "diverged"
        )
    if temperature == 0:
        return logits.argmax(-1)
    with np.errstate(over="ignore"):  # far below the largest: -inf, probability 0
        scores = (logits - logits.max(-1, keepdims=True)) / temperature
    if top_k is not None and top_k < scores.shape[-1]:
        kth = np.sort(scores, axis=-1)[:, [-top_k]]
        scores = np.where(scores < kth, -np.inf, scores)
    p = np.exp(scores)
    p /= p.sum(-1, keepdims=True)
    if top_p is not None:
        p = _nucleus(p, top_p)
    reached = p.cumsum(-1)
    return (reached > rng.random((len(p), 1)) * reached[:, -1:]).argmax(-1)


def _nucleus(p, top_p):
    """The fewest likeliest tokens whose probabilities reach `top_p`; the rest 0."""
    order = np.argsort(-p, axis=-1, kind="stable")
    ordered = np.take_along_axis(p, order, -1)
    before = ordered.cumsum(-1) - ordered
    kept = np.zeros_like(p)
    np.put_along_axis(kept, order, np.where(before < top_p, ordered, 0), -1)
    return kept
