"""Records of linear, embedding and dropout."""

import numpy

import minibig as mb
from minibig import functional as F

from .neural import VECTORS, _gelu, affine, needs_floats
from .record import LAYOUTS, Record, Sample, refuses
from .samplers import layouts, normal, unary


def _linear_samples(rng):
    def sample(x, out, bias=True):
        weight = normal(rng, (out, x.shape[-1]))
        return Sample((x, weight, normal(rng, (out,)) if bias else None))

    found = [x for kind, x in layouts(rng).items() if kind != "0-d"]
    square = normal(rng, (3, 3))
    transposed = (normal(rng, (2, 3)), normal(rng, (3, 2)).T, normal(rng, (4,))[::2])
    return [
        *(sample(x, 2 + i % 3, bias=i % 2 == 0) for i, x in enumerate(found)),
        Sample(transposed),
        Sample((square, square, None)),
        sample(normal(rng, (2, 0)), 3),
        sample(normal(rng, (2, 3)), 0),
    ]


LINEAR = Record(
    "functional.linear", F.linear,
    lambda np, x, weight, bias: affine(np.matmul(x, weight.T), None, bias),
    _linear_samples,
    lambda torch, x, weight, bias: torch.nn.functional.linear(x, weight, bias),
    errors=(
        needs_floats("linear", mb.ones(2, 3)),
        refuses(
            ValueError, lambda: F.linear(mb.ones(2, 3), mb.ones(3, 2)),
            "linear", "(2, 3)", "(3, 2)", "(out, in)",
        ),
        refuses(
            ValueError, lambda: F.linear(mb.ones(3), mb.ones(2, 3), mb.ones(3)),
            "bias (3,)", "2 outputs",
        ),
    ),
    admits=VECTORS | {"same tensor twice"},
)  # fmt: skip


def _linear_activation_samples(rng):
    names = "gelu", "gelu_tanh", "silu"
    return [
        Sample(sample.arrays, {"activation": names[i % 3]})
        for i, sample in enumerate(_linear_samples(rng))
    ]


def _activated(np, x, weight, bias, activation):
    h = affine(np.matmul(x, weight.T), None, bias)
    if activation == "silu":
        return h / (1 + np.exp(-h))
    return _gelu(np, h, "tanh" if activation == "gelu_tanh" else "none")


def _activated_by_torch(torch, x, weight, bias, activation):
    h, f = torch.nn.functional.linear(x, weight, bias), torch.nn.functional
    if activation == "silu":
        return f.silu(h)
    return f.gelu(h, approximate="tanh" if activation == "gelu_tanh" else "none")


LINEAR_ACTIVATION = Record(
    "functional.linear_activation", F.linear_activation, _activated,
    _linear_activation_samples, _activated_by_torch,
    errors=(
        needs_floats("linear_activation", mb.ones(2, 3), None, "gelu"),
        refuses(
            ValueError,
            lambda: F.linear_activation(mb.ones(2, 3), mb.ones(3, 2), None, "gelu"),
            "linear_activation", "(2, 3)", "(3, 2)", "(out, in)",
        ),
        refuses(
            ValueError,
            lambda: F.linear_activation(mb.ones(3), mb.ones(2, 3), None, "relu"),
            "'relu'", "gelu_tanh",
        ),
    ),
    admits=VECTORS | {"same tensor twice"},
)  # fmt: skip


def _embedding_samples(rng):
    shapes = [(), (3,), (2, 3), (2, 2, 2), (1, 1), (0,), (2, 0)]
    table = normal(rng, (4, 3))
    found = [Sample((rng.integers(0, 4, shape), table)) for shape in shapes]
    tables = [x for x in layouts(rng).values() if x.ndim == 2 and len(x)]
    found += [Sample((rng.integers(0, len(x), (2, 5)), x)) for x in tables]
    many = numpy.minimum(rng.integers(0, 2000, (40, 8)), 1800)  # sorted and added up
    return [
        *found,
        Sample((numpy.array([3, 1, 3, 3]), table)),
        Sample((numpy.array([2, 0], "uint8"), table)),
        Sample((many, normal(rng, (2000, 2)))),
        Sample((numpy.array([0, 1]), normal(rng, (2, 0)))),
        Sample((numpy.array([0, 0]), normal(rng, (1, 3)))),
        Sample((numpy.array([], int), normal(rng, (0, 3)))),
    ]


EMBEDDING = Record(
    "functional.embedding", F.embedding, lambda np, ids, weight: weight[ids],
    _embedding_samples,
    lambda torch, ids, weight: torch.nn.functional.embedding(ids.long(), weight),
    errors=(
        refuses(
            IndexError, lambda: F.embedding(mb.tensor([0, 4]), mb.ones(4, 2)),
            "id 4", "0 … 3", "vocabulary",
        ),
        refuses(IndexError, lambda: F.embedding([-1], mb.ones(4, 2)), "id -1", "4"),
        refuses(TypeError, lambda: F.embedding(mb.ones(2), mb.ones(4, 2)), "float32"),
        refuses(ValueError, lambda: F.embedding([0], mb.ones(4)), "(V, C)", "(4,)"),
    ),
    admits=LAYOUTS - {"0-d", "1-d", "3-d", "4-d"}
    | {"duplicate index", "empty index"},
)  # fmt: skip


def _dropout(x, p, training=True):
    mb.seed(7)  # the same numbers fall out in every call
    return F.dropout(x, p, training)


def _dropout_reference(np, x, p, training=True):
    if not training or p == 0:
        return x * 1.0
    if p == 1:
        return x * 0.0
    draw = mb.random.at("dropout", 0, seed=7).bytes(2 * x.size)
    keep = numpy.frombuffer(draw, "<u2").reshape(x.shape) >= p * 65536
    return x * keep / (1 - p)


DROPOUT = Record(
    "functional.dropout", _dropout, _dropout_reference,
    lambda rng: [
        *unary(normal, {"p": 0.5}, {"p": 0.25})(rng),
        Sample((normal(rng, (2, 3)),), {"p": 0.5, "training": False}),
        Sample((normal(rng, (2, 3)),), {"p": 0}),
        Sample((normal(rng, (2, 3)),), {"p": 1}),
    ],
    "it draws other numbers",
    errors=(
        needs_floats("dropout"),
        refuses(ValueError, lambda: F.dropout(mb.ones(2), 1.5), "dropout", "1.5"),
    ),
)  # fmt: skip

RECORDS = [LINEAR, LINEAR_ACTIVATION, EMBEDDING, DROPOUT]
