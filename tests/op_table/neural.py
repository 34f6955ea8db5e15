"""Records of activations, softmax and normalization."""

import math

import numpy
from autograd.scipy.special import erf

import minibig as mb
from minibig import functional as F

from .record import LAYOUTS, Record, Sample, refuses
from .samplers import layouts, normal, unary

VECTORS = LAYOUTS - {"0-d"}


def needs_floats(name, *arguments):
    call = getattr(F, name)
    return refuses(
        TypeError, lambda: call(mb.arange(3), *arguments), name, "floating", "int64"
    )


# ---- activations --------------------------------------------------------------------


def _gelu(np, x, approximate):
    if approximate == "none":
        return x * 0.5 * (1 + erf(x / math.sqrt(2)))
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + np.tanh(inner))


ACTIVATIONS = [
    Record(
        "functional.gelu", F.gelu, _gelu,
        unary(normal, {"approximate": "none"}, {"approximate": "tanh"}),
        lambda torch, x, **settings: torch.nn.functional.gelu(x, **settings),
        errors=(
            needs_floats("gelu"),
            refuses(ValueError, lambda: F.gelu(mb.ones(2), "erf"), "tanh", "'erf'"),
        ),
    ),
    Record(
        "functional.silu", F.silu, lambda np, x: x / (1 + np.exp(-x)), unary(),
        lambda torch, x: torch.nn.functional.silu(x), errors=(needs_floats("silu"),),
    ),
]  # fmt: skip


# ---- softmax ------------------------------------------------------------------------


def _softmax_samples(rng):
    found = layouts(rng)
    del found["0-d"]
    dims = {"1-d": 0, "2-d": 0, "3-d": -2, "4-d": 2, "size-1 axes": 0, "empty": 1,
            "transposed": 0}  # fmt: skip
    every = [Sample((x,), {"dim": dims.get(k, -1)}) for k, x in found.items()]
    more = [("transposed", -1), ("4-d", -1), ("broadcast", 0), ("strided", 0)]
    return every + [Sample((found[kind],), {"dim": dim}) for kind, dim in more]


def _softmax(np, x, dim):
    return np.exp(x) / np.sum(np.exp(x), axis=dim, keepdims=True)


def _softmax_record(name, reference):
    call = getattr(F, name)
    return Record(
        f"functional.{name}", call, reference, _softmax_samples,
        lambda torch, x, dim: getattr(torch, name)(x, dim),
        errors=(
            needs_floats(name, 0),
            refuses(IndexError, lambda: call(mb.ones(2, 3), 2), name, "dim 2"),
            refuses(ValueError, lambda: call(mb.ones(0, 3), 0), name, "(0, 3)"),
            refuses(
                (TypeError, ValueError), lambda: call(mb.ones(2, 3), None), name, "None"
            ),
            refuses(
                (TypeError, ValueError), lambda: call(mb.ones(2, 3), (0, 1)), name
            ),
        ),
        domain="at least one number along dim", admits=VECTORS | {"dim negative"},
    )  # fmt: skip


SOFTMAX = [
    _softmax_record("softmax", _softmax),
    _softmax_record("log_softmax", lambda np, x, dim: np.log(_softmax(np, x, dim))),
]


# ---- normalization ------------------------------------------------------------------


def _apart(rng, shape):
    """Rows of numbers that are not nearly equal, where float32 has no digits left."""
    return normal(rng, shape) * 0.3 + (numpy.arange(shape[-1]) if shape else 0)


def _norm_samples(parameters, several_axes):
    """Layouts normalised over the last axis, with and without `parameters`."""

    def samples(rng):
        found = []
        for i, (kind, x) in enumerate(layouts(rng, _apart).items()):
            if kind in ("0-d", "size-1 axes"):  # one number a row: always 0
                continue
            given = _parameters(rng, x.shape[-1:], i, parameters)
            shape = x.shape[-1:]
            found.append(Sample((x, *given), {"normalized_shape": shape}))
        x = normal(rng, (1, 3, 4)) * 3 + 5
        found.append(Sample((x, *(None,) * parameters), {"normalized_shape": (4,)}))
        for shape in [(3, 2), (2, 3, 2)] if several_axes else []:
            given = _parameters(rng, shape, 3, parameters)
            x = normal(rng, (2, 3, 2))
            found.append(Sample((x, *given), {"normalized_shape": shape, "eps": 0.1}))
        return found

    return samples


def _parameters(rng, shape, i, count):
    """Each present and absent, by the bits of i."""
    return [normal(rng, shape) if i >> n & 1 else None for n in range(count)]


def affine(y, weight, bias=None):
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _layer_norm(np, x, weight, bias, normalized_shape, eps=1e-5):
    axes = tuple(range(-len(normalized_shape), 0))
    centred = x - np.mean(x, axis=axes, keepdims=True)
    variance = np.mean(centred**2, axis=axes, keepdims=True)
    return affine(centred / np.sqrt(variance + eps), weight, bias)


def _rms_norm(np, x, weight, normalized_shape, eps=1e-6):
    square = np.mean(x**2, axis=-1, keepdims=True)
    return affine(x / np.sqrt(square + eps), weight)


def _norm_errors(name):
    call = getattr(F, name)
    return (
        needs_floats(name, 3),
        refuses(ValueError, lambda: call(mb.ones(2, 3), 4), name, "(2, 3)", "(4,)"),
        refuses(ValueError, lambda: call(mb.ones(2, 3), 3, mb.ones(2)), "(2,)", "(3,)"),
        refuses(
            TypeError, lambda: call(mb.ones(2, 3), 3, mb.ones(3, dtype="float64")),
            name, "float32", "float64",
        ),
    )  # fmt: skip


def _length(np, x, p=2.0, dim=1, eps=1e-12):
    norm = np.sum(np.abs(x) ** p, axis=dim, keepdims=True) ** (1 / p)
    return x / np.maximum(norm, eps)


NORMS = [
    Record(
        "functional.layer_norm",
        lambda x, weight, bias, normalized_shape, eps=1e-5: F.layer_norm(
            x, normalized_shape, weight, bias, eps
        ),
        _layer_norm, _norm_samples(2, several_axes=True),
        lambda torch, x, weight, bias, normalized_shape, eps=1e-5: (
            torch.nn.functional.layer_norm(x, normalized_shape, weight, bias, eps)
        ),
        errors=_norm_errors("layer_norm"), admits=VECTORS,
    ),
    Record(
        "functional.rms_norm",
        lambda x, weight, normalized_shape, eps=1e-6: F.rms_norm(
            x, normalized_shape, weight, eps
        ),
        _rms_norm, _norm_samples(1, several_axes=False),
        lambda torch, x, weight, normalized_shape, eps=1e-6: (
            torch.nn.functional.rms_norm(x, normalized_shape, weight, eps)
        ),
        errors=(
            *_norm_errors("rms_norm"),
            refuses(ValueError, lambda: F.rms_norm(mb.ones(2, 3), (2, 3)), "last axis"),
        ),
        admits=VECTORS,
    ),
    Record(
        "functional.normalize", F.normalize, _length,
        lambda rng: [
            Sample(sample.arrays, {**sample.settings, "p": (2.0, 3.0, 1.5)[i % 3]})
            for i, sample in enumerate(_softmax_samples(rng))
        ],
        lambda torch, x, **settings: torch.nn.functional.normalize(x, **settings),
        errors=(refuses(IndexError, lambda: F.normalize(mb.ones(3)), "dim 1"),),
        domain="rows that are not 0 (a kink)", admits=VECTORS | {"dim negative"},
    ),
]  # fmt: skip


RECORDS = [*ACTIVATIONS, *SOFTMAX, *NORMS]
