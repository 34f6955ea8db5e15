"""Records of minibig.operators: signs and functions of each number."""

import math

from numpy import asarray, broadcast_to

import minibig as mb
from minibig import operators

from .record import LAYOUTS, PAIRS, Record, Sample, refuses
from .samplers import binary, layouts, normal, positive, unary

BOTH = LAYOUTS | PAIRS


def _mismatch(function, name):
    return refuses(
        ValueError, lambda: function(mb.ones(2, 3), mb.ones(2, 4)),
        name, "(2, 3)", "(2, 4)", "axis -1",
    )  # fmt: skip


def _stranger(function):
    return refuses(TypeError, lambda: function(mb.ones(2), "two"), "str")


def _pair(name, reference, torch, first=normal, second=normal, **more):
    function = getattr(operators, name)
    return Record(
        f"operators.{name}", function, reference, binary(first, second), torch,
        errors=(_mismatch(function, name), _stranger(function)),
        admits=more.pop("admits", BOTH), **more,
    )  # fmt: skip


def _single(name, reference, draw=normal, **more):
    function = getattr(operators, name)
    return Record(
        f"operators.{name}", function, reference, unary(draw),
        more.pop("torch", lambda torch, x: getattr(torch, name)(x)), **more,
    )  # fmt: skip


def _power_samples(rng):
    numbers = (2, 3, 4, 1, 0, -1, -2, 2.0)  # whole powers take any base
    whole = [Sample((normal(rng, (2, 3)), n)) for n in numbers]
    roots = [Sample((positive(rng, (2, 3)), n)) for n in (0.5, -1.5, 2.5)]
    bases = [Sample((n, normal(rng, (2, 3)))) for n in (2, 0.5)]
    pairs = binary(positive, normal, numbers=())(rng)
    shared = positive(rng, (2, 2))
    return pairs + whole + roots + bases + [Sample((shared, shared))]


def _remainder_reference(np, a, b):
    return a - b * np.floor(a / b)


POWERS = [
    _pair("add", lambda np, a, b: a + b, lambda torch, a, b: a + b),
    _pair("sub", lambda np, a, b: a - b, lambda torch, a, b: a - b),
    _pair("mul", lambda np, a, b: a * b, lambda torch, a, b: a * b),
    _pair(
        "div", lambda np, a, b: a / b, lambda torch, a, b: a / b,
        positive, positive, domain="b not 0",
    ),
    Record(
        "operators.pow", operators.pow, lambda np, a, b: a**b, _power_samples,
        lambda torch, a, b: a**b, domain="a > 0, or any a and a whole number b",
        errors=(_mismatch(operators.pow, "pow"), _stranger(operators.pow)),
        admits=BOTH,
    ),
    _pair(
        "remainder", _remainder_reference,
        lambda torch, a, b: torch.remainder(*_tensors(torch, a, b)), positive, positive,
        domain="b not 0, a / b not whole (there it jumps)",
        admits=BOTH - {"same tensor twice"},
    ),
    _pair(
        "maximum", lambda np, a, b: np.maximum(a, b),
        lambda torch, a, b: torch.maximum(*_tensors(torch, a, b)),
        domain="a not b (a kink: held against PyTorch)",
    ),
    _pair(
        "minimum", lambda np, a, b: np.minimum(a, b),
        lambda torch, a, b: torch.minimum(*_tensors(torch, a, b)),
        domain="a not b (a kink: held against PyTorch)",
    ),
]  # fmt: skip


def _tensors(torch, *pair):
    like = next(x for x in pair if torch.is_tensor(x))
    return [torch.as_tensor(x, dtype=like.dtype) for x in pair]


FUNCTIONS = [
    _single("neg", lambda np, x: -x),
    _single("exp", lambda np, x: np.exp(x)),
    _single("log", lambda np, x: np.log(x), positive, domain="x > 0"),
    _single("sqrt", lambda np, x: np.sqrt(x), positive, domain="x > 0"),
    _single("sin", lambda np, x: np.sin(x)),
    _single("cos", lambda np, x: np.cos(x)),
    _single("abs", lambda np, x: np.abs(x), domain="x not 0 (a kink)"),
    _single("tanh", lambda np, x: np.tanh(x)),
    _single("sigmoid", lambda np, x: 1 / (1 + np.exp(-x))),
    _single("relu", lambda np, x: np.maximum(x, 0.0), domain="x not 0 (a kink)"),
]


# ---- choices ------------------------------------------------------------------------


def _coins(rng, shape):
    return asarray(rng.random(shape) < 0.5)


def _choice_samples(rng):
    found = []
    for x in layouts(rng).values():
        found.append(Sample((_coins(rng, x.shape), x, normal(rng, x.shape))))
    x, y, line = normal(rng, (2, 3)), normal(rng, (2, 3)), normal(rng, (3,))
    mask = _coins(rng, (2, 3))
    found += [
        Sample((mask, line, x)),
        Sample((mask, x, line)),
        Sample((mask[:, :1], line, line)),  # the condition stretches both
        Sample((mask[0], x, y)),
        Sample((mask, x, x)),
        Sample((mask, x, -1.5)),
        Sample((mask, 2, x)),
    ]
    return found


def _fill_samples(rng):
    found = [
        Sample((x, _coins(rng, x.shape), (0, -3.0, 2.5)[i % 3]))
        for i, x in enumerate(layouts(rng).values())
    ]
    x = normal(rng, (2, 3))
    return [*found, Sample((x, _coins(rng, (3,)), 1.5))]


CHOICES = [
    Record(
        "operators.where", mb.where, lambda np, c, a, b: np.where(c, a, b),
        _choice_samples, lambda torch, c, a, b: torch.where(c, a, b),
        errors=(
            refuses(TypeError, lambda: mb.where(mb.ones(2), mb.ones(2), 0), "booleans"),
            refuses(
                ValueError, lambda: mb.where(mb.ones(2) > 0, mb.ones(3), 0),
                "where", "(2,)", "(3,)",
            ),
            _mismatch(lambda a, b: mb.where(a > 0, a, b), "where"),
        ),
        admits=BOTH, autograd=lambda np, c, a, b: a * c + b * (1 - c),
    ),
    Record(
        "operators.masked_fill", operators.masked_fill,
        lambda np, x, mask, value: np.where(mask, value, x), _fill_samples,
        lambda torch, x, mask, value: x.masked_fill(mask, value),
        errors=(
            refuses(TypeError, lambda: mb.ones(2).masked_fill(mb.ones(2), 0), "bool"),
            refuses(
                ValueError, lambda: mb.ones(2).masked_fill(mb.ones(3) > 0, 0),
                "(2,)", "(3,)",
            ),
        ),
    ),
    Record(
        "operators.clamp", operators.clamp,
        lambda np, x, min=None, max=None: np.clip(x, min, max),
        unary(normal, {"min": -0.5, "max": 0.7}, {"min": 0}, {"max": 0.3}),
        lambda torch, x, **settings: torch.clamp(x, **settings),
        errors=(refuses(ValueError, lambda: mb.ones(2).clamp(), "min", "max"),),
        domain="x not on a bound (a kink)",
        autograd=lambda np, x, min=None, max=None: np.clip(
            x, -math.inf if min is None else min, math.inf if max is None else max
        ),
    ),
]  # fmt: skip


# ---- products -----------------------------------------------------------------------


def _matmul_samples(rng):
    def pair(*shapes):
        return Sample(tuple(normal(rng, shape) for shape in shapes))

    square = normal(rng, (3, 3))
    read_only = [broadcast_to(normal(rng, (3, 1)), (3, 4)), normal(rng, (4, 2))]
    return [
        pair((3,), (3,)),
        pair((3,), (3, 2)),
        pair((2, 3), (3,)),
        pair((4, 2, 3), (3,)),
        pair((3,), (4, 3, 2)),
        pair((2, 3), (3, 4)),
        pair((2, 3, 4), (4, 2)),
        pair((3, 4), (2, 4, 2)),
        pair((2, 1, 2, 3), (3, 3, 2)),
        pair((2, 1, 2, 3), (1, 3, 3, 1)),
        pair((0, 3), (3, 2)),
        pair((2, 3), (3, 0)),
        pair((2, 0), (0, 3)),  # a sum of nothing is 0
        pair((2, 2, 0), (2, 0, 3)),
        pair((1, 1), (1, 1)),
        pair((9, 8), (8, 9)),
        Sample((normal(rng, (3, 2)).T, normal(rng, (2, 3)).T)),
        Sample((normal(rng, (4, 6))[::2, ::2], normal(rng, (3, 4))[:, ::2])),
        Sample((normal(rng, (2, 3))[:, ::-1], normal(rng, (3, 2))[::-1])),
        Sample(tuple(read_only)),
        Sample((square, square)),
    ]


MATMUL = Record(
    "operators.matmul", operators.matmul, lambda np, a, b: np.matmul(a, b),
    _matmul_samples, lambda torch, a, b: a @ b,
    errors=(
        refuses(
            ValueError, lambda: mb.ones(2, 3) @ mb.ones(2, 3),
            "matmul", "(2, 3) @ (2, 3)", "3 and 2",
        ),
        refuses(
            ValueError, lambda: mb.ones(2, 3, 4) @ mb.ones(3, 4, 5),
            "matmul", "(2,)", "(3,)",
        ),
        refuses(ValueError, lambda: mb.ones(2) @ mb.tensor(3.0), "()", "use *"),
    ),
    admits=LAYOUTS - {"0-d"} | {"same tensor twice"},
)  # fmt: skip

RECORDS = [*POWERS, *FUNCTIONS, *CHOICES, MATMUL]
