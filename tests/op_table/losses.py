"""Records of the losses and of attention."""

import math

import numpy

import minibig as mb
from minibig import functional as F

from .record import LAYOUTS, Record, Sample, refuses
from .samplers import layouts, normal

VECTORS = LAYOUTS - {"0-d"}


# ---- cross entropy ------------------------------------------------------------------


def _cross_entropy_samples(rng):
    found = []
    turns = [{}, {"reduction": "sum"}, {"reduction": "none"}, {"label_smoothing": 0.2},
             {"ignore_index": 0, "label_smoothing": 0.1}]  # fmt: skip
    for i, (kind, x) in enumerate(layouts(rng).items()):
        if kind == "0-d":
            continue
        ids = numpy.asarray(rng.integers(0, x.shape[-1], x.shape[:-1]))
        settings = {"reduction": "none"} if kind == "empty" else turns[i % len(turns)]
        if "ignore_index" in settings:
            ids.flat[0], ids.flat[1:] = x.shape[-1] - 1, 0
        found.append(Sample((x, ids), settings))
    x, ids = normal(rng, (2, 3, 4)), rng.integers(0, 4, (2, 3))
    ids[0] = ids[1, 0] = -100
    ends = [
        Sample((x, ids), {"label_smoothing": s, "reduction": how})
        for s, how in ((0, "mean"), (0.3, "mean"), (1.0, "none"), (0.1, "sum"))
    ]
    ignored = numpy.full((2, 3), -100)
    return [*found, *ends, Sample((x, ignored), {"reduction": "sum"})]


def _cross_entropy(
    np, x, ids, ignore_index=-100, label_smoothing=0.0, reduction="mean"
):
    classes = x.shape[-1]
    kept = ids != ignore_index
    chosen = numpy.where(kept, ids, 0)[..., None] == numpy.arange(classes)
    target = (1 - label_smoothing) * chosen + label_smoothing / classes
    logs = x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))
    costs = -np.sum(target * logs, axis=-1) * kept
    if reduction == "none":
        return costs
    return np.sum(costs) / (kept.sum() if reduction == "mean" else 1)


def _torch_cross_entropy(torch, x, ids, reduction="mean", **settings):
    rows = x.reshape(-1, x.shape[-1]), ids.reshape(-1)
    costs = torch.nn.functional.cross_entropy(*rows, reduction=reduction, **settings)
    return costs.reshape(ids.shape) if reduction == "none" else costs


CROSS_ENTROPY = Record(
    "losses.cross_entropy", F.cross_entropy, _cross_entropy, _cross_entropy_samples,
    _torch_cross_entropy, widens=True,
    admits=VECTORS | {"negative index", "duplicate index"},
    errors=(
        refuses(
            IndexError, lambda: F.cross_entropy(mb.ones(2, 3), [0, 3]),
            "id 3", "0 … 2", "3 classes",
        ),
        refuses(IndexError, lambda: F.cross_entropy(mb.ones(1, 3), [-1]), "id -1"),
        refuses(
            ValueError, lambda: F.cross_entropy(mb.ones(2, 3), [0, 1, 2]),
            "(2, 3)", "(3,)",
        ),
        refuses(
            TypeError, lambda: F.cross_entropy(mb.ones(2, 3), mb.ones(2)),
            "whole numbers", "float32",
        ),
        refuses(
            TypeError, lambda: F.cross_entropy(mb.arange(3), 0), "floating", "int64"
        ),
        refuses(ValueError, lambda: F.cross_entropy(mb.ones(1, 3), [-100]), "ignored"),
        refuses(
            ValueError,
            lambda: F.cross_entropy(mb.ones(1, 3), [0], label_smoothing=2.0),
            "label_smoothing", "2.0",
        ),
        refuses(
            ValueError, lambda: F.cross_entropy(mb.ones(1, 3), [0], reduction="avg"),
            "reduction", "'avg'",
        ),
    ),
)  # fmt: skip


# ---- losses of pairs ----------------------------------------------------------------


def _pairs(target):
    def samples(rng):
        turns = [{}, {"reduction": "sum"}, {"reduction": "none"}]
        return [
            Sample((x, target(rng, x.shape)), turns[(i + n) % 3])
            for n in range(2)
            for i, x in enumerate(layouts(rng).values())
            if x.size
        ]

    return samples


def _reduced(np, costs, reduction="mean"):
    return {"mean": np.mean, "sum": np.sum, "none": lambda x: x}[reduction](costs)


def _binary(np, x, t, **settings):
    p = 1 / (1 + np.exp(-x))
    return _reduced(np, -t * np.log(p) - (1 - t) * np.log(1 - p), **settings)


def _fractions(rng, shape):
    return numpy.asarray(rng.random(shape))


def _loss(name, reference, target=normal, domain="equal shapes, not empty"):
    call = getattr(F, name)
    return Record(
        f"losses.{name}", call, reference, _pairs(target),
        lambda torch, x, t, **s: getattr(torch.nn.functional, name)(x, t, **s),
        widens=True,
        errors=(
            refuses(
                ValueError, lambda: call(mb.ones(3, 1), mb.ones(3)),
                name, "(3, 1)", "(3,)",
            ),
            refuses(ValueError, lambda: call(mb.ones(0), mb.ones(0)), name, "(0,)"),
            refuses(TypeError, lambda: call(mb.arange(3), mb.arange(3)), name, "int64"),
            refuses(
                ValueError, lambda: call(mb.ones(2), mb.ones(2), reduction="avg"),
                "reduction", "'avg'",
            ),
        ),
        domain=domain, admits=LAYOUTS - {"empty"},
    )  # fmt: skip


PAIRS = [
    _loss("mse_loss", lambda np, x, t, **s: _reduced(np, (x - t) ** 2, **s)),
    _loss(
        "l1_loss", lambda np, x, t, **s: _reduced(np, np.abs(x - t), **s),
        domain="equal shapes, not empty; input not target (a kink)",
    ),
    _loss("binary_cross_entropy_with_logits", _binary, _fractions),
]  # fmt: skip


# ---- attention ----------------------------------------------------------------------


def _attention_samples(rng):
    def qkv(*lead, t=3, s=4, d=2, e=2):
        sizes = ((t, d), (s, d), (s, e))
        return tuple(normal(rng, (*lead, *size)) for size in sizes)

    def mask(*shape):
        allowed = rng.random(shape) < 0.6
        allowed[..., 0] = True  # rows that see nothing have tests of their own
        return allowed

    def shared(rng):
        """4 heads of q that share 2, 1 or 4 of k and v."""
        q = normal(rng, (2, 4, 3, 2))
        k, v = normal(rng, (2, 2, 5, 2)), normal(rng, (2, 2, 5, 3))
        yield (q, k, v), None, {}
        yield (q, k[:, :1], v[:, :1]), None, {"is_causal": True, "offset": 2}
        yield (q, k[0].repeat(2, 0), v[0].repeat(2, 0)), mask(2, 4, 3, 5), {}
        yield (q, k, v), normal(rng, (4, 1, 5)), {"is_causal": True}
        yield (q, k, v), mask(2, 1, 3, 5), {"scale": 0.3}
        yield (q[0], k[0], v[0]), mask(3, 5), {"dropout_p": 0.5}

    x = normal(rng, (2, 3, 2))
    read_only = numpy.broadcast_to(normal(rng, (3, 1)), (2, 3, 2))
    swapped = tuple(a.swapaxes(1, 2) for a in qkv(2, 2, t=3, s=3))
    strided = tuple(a[..., ::2] for a in qkv(2, d=4, e=4))
    reverse = tuple(a[..., ::-1, :] for a in qkv(2))
    found = [
        (qkv(), None, {}),
        (qkv(1), None, {}),
        (qkv(2, 2), None, {}),
        (qkv(2, 2, e=3), None, {"is_causal": True}),
        (qkv(2, t=4, s=2), None, {"is_causal": True}),
        (qkv(2, t=2, s=5), None, {"is_causal": True, "offset": 3}),
        (qkv(2), mask(3, 4), {}),
        (qkv(2), mask(2, 1, 4), {"is_causal": True}),
        (qkv(2, 2), normal(rng, (3, 4)), {}),
        (qkv(2, 2), normal(rng, (2, 1, 3, 4)), {"scale": 0.3}),
        (qkv(2), numpy.where(mask(3, 4), 0, -math.inf), {"is_causal": True}),
        (qkv(2), None, {"dropout_p": 0.5}),
        (qkv(2), normal(rng, (1, 4)), {"dropout_p": 0.25, "is_causal": True}),
        (qkv(0), None, {}),
        (qkv(2, t=0), None, {}),
        ((x, x, x), None, {"is_causal": True}),
        ((read_only, *qkv(2, s=3)[1:]), None, {}),
        (swapped, None, {}),
        (strided, None, {}),
        (reverse, mask(3, 4), {}),
        ((qkv()[0], *qkv(2)[1:]), None, {}),  # one query serves a batch of keys
        ((qkv(2, 2)[0], *qkv(2, 1)[1:]), None, {}),
        (qkv(2, t=140, s=150), None, {"is_causal": True}),  # more than one block
        (qkv(1, t=140, s=150), normal(rng, (140, 150)), {}),
        *((inputs, m, {**s, "enable_gqa": True}) for inputs, m, s in shared(rng)),
    ]
    return [Sample((*inputs, m), settings) for inputs, m, settings in found]


def _attention(q, k, v, mask, **settings):
    mb.seed(7)
    return F.scaled_dot_product_attention(q, k, v, mask, **settings)


def _attention_reference(np, q, k, v, mask, is_causal=False, offset=0, scale=None,
                         dropout_p=0.0, enable_gqa=False):  # fmt: skip
    if enable_gqa:
        groups, axis = q.shape[-3] // k.shape[-3], k.ndim - 3
        k, v = (np.repeat(x, groups, axis=axis) for x in (k, v))
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = np.matmul(q, np.swapaxes(k, -1, -2)) * scale
    if mask is not None and mask.dtype == bool:
        mask = numpy.where(mask, 0.0, -math.inf)
    scores = scores if mask is None else scores + mask
    if is_causal:
        t, s = scores.shape[-2:]
        scores = scores + np.triu(numpy.full((t, s), -math.inf), 1 + offset)
    weights = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    weights = weights / np.sum(weights, axis=-1, keepdims=True)
    if dropout_p:
        draw = mb.random.at("dropout", 0, seed=7).bytes(2 * math.prod(weights.shape))
        keep = numpy.frombuffer(draw, "<u2").reshape(weights.shape)
        weights = weights * (keep >= dropout_p * 65536) / (1 - dropout_p)
    return np.matmul(weights, v)


def _torch_attention(torch, q, k, v, mask, is_causal=False, offset=0, **settings):
    """PyTorch takes one mask or none: causality goes into it. It drops others out."""
    if settings.pop("dropout_p", 0):
        return NotImplemented
    causal = torch.ones(q.shape[-2], k.shape[-2]).tril(offset) > 0
    if is_causal and mask is not None and mask.dtype == torch.bool:
        mask = mask & causal
    elif is_causal and (mask is not None or offset):
        mask = torch.where(causal, 0.0, -math.inf).to(q.dtype) + (
            0 if mask is None else mask
        )
    call = torch.nn.functional.scaled_dot_product_attention
    return call(q, k, v, mask, is_causal=is_causal and mask is None, **settings)


def _attend(*shapes, **settings):
    return lambda: F.scaled_dot_product_attention(
        *(mb.ones(*shape) for shape in shapes), **settings
    )


ROW = (2, 3)
ATTENTION = Record(
    "functional.scaled_dot_product_attention", _attention, _attention_reference,
    _attention_samples, _torch_attention,
    admits=LAYOUTS - {"0-d", "1-d"} | {"same tensor twice"},
    domain="every query may attend somewhere (else zeros, tested apart)",
    errors=(
        refuses(ValueError, _attend((3,), ROW, ROW), "(3,)", "2 dim"),
        refuses(ValueError, _attend((2, 4), ROW, ROW), "width", "(2, 4)", "(2, 3)"),
        refuses(ValueError, _attend(ROW, ROW, (4, 3)), "rows", "(2, 3)", "(4, 3)"),
        refuses(ValueError, _attend((2, 2, 3), (3, 2, 3), (3, 2, 3)), "(2,)", "(3,)"),
        refuses(
            ValueError, _attend(ROW, ROW, ROW, attn_mask=mb.ones(3, 3) > 0),
            "mask", "(3, 3)", "(1, 2, 2)",
        ),
        refuses(
            ValueError, _attend(ROW, ROW, ROW, attn_mask=mb.ones(4, 1, 2, 2) > 0),
            "mask", "(4, 1, 2, 2)",
        ),
        refuses(
            TypeError, _attend(ROW, ROW, ROW, attn_mask=mb.arange(2)), "mask", "int64"
        ),
        refuses(ValueError, _attend(ROW, ROW, ROW, dropout_p=1.0), "dropout_p", "1.0"),
        refuses(ValueError, _attend((2, 0), (2, 0), ROW), "(2, 0)"),
        refuses(
            ValueError, _attend(ROW, ROW, ROW, enable_gqa=True), "axis -3", "(2, 3)"
        ),
        refuses(
            ValueError, _attend((4, 2, 3), (3, 2, 3), (3, 2, 3), enable_gqa=True),
            "divide", "(4, 2, 3)", "(3, 2, 3)",
        ),
        refuses(
            ValueError, _attend((4, 2, 3), (2, 2, 3), (1, 2, 3), enable_gqa=True),
            "as many heads", "(1, 2, 3)",
        ),
        refuses(
            TypeError,
            lambda: F.scaled_dot_product_attention(mb.ones(*ROW), mb.ones(*ROW), [1.0]),
            "v", "list",
        ),
    ),
)  # fmt: skip

RECORDS = [CROSS_ENTROPY, *PAIRS, ATTENTION]
