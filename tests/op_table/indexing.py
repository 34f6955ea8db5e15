"""Records of what picks numbers by position, sums by equation, or changes the dtype."""

import numpy

import minibig as mb
from minibig import backend, shaping

from .record import INDICES, LAYOUTS, Record, Sample, refuses
from .samplers import layouts, normal, unary

MATRICES = LAYOUTS - {"0-d", "1-d"}


# ---- getitem ------------------------------------------------------------------------


def _getitem_samples(rng):
    x, line, cube = (normal(rng, shape) for shape in ((3, 4), (5,), (2, 3, 4)))
    ids = numpy.array
    everywhere = [
        Sample((a,), {"index": index})
        for a, index in zip(
            layouts(rng).values(),
            [
                (),
                1,
                (..., 0),
                (slice(None), slice(1, None)),
                (1, 0),
                (0, slice(None, 2)),
                slice(None),
                (slice(1, 3), ..., None, 1),
                (slice(None, None, -1), None),
                (slice(1, None), 2),
                0,
                ids([2, 0, 2]),
                (slice(None), ids([6, 0, -1])),
            ],
            strict=True,
        )
    ]  # fmt: skip
    found = [
        (x, ids([0, 2, 2, -1])),
        (x, (ids([0, -3, 0]), ids([1, 1, -3]))),  # the same place three times
        (x, (ids([[0], [2]]), ids([1, 1, 3]))),
        (x, x > 0),
        (x, (ids([True, False, True]), slice(None))),
        (x, (ids([True, False, True]), 1)),
        (x, x > 99),
        (x, ids([], dtype=int)),
        (x, None),
        (cube, (ids([1, 1]), slice(None), ids([0, 0]))),  # the new axis comes first
        (cube, (slice(None), ids([[0, 2], [2, 2]]), slice(None, None, 2))),
        (cube, (..., ids(-1))),
        (line, slice(None, None, -2)),
        (line, ids(2)),
        (line, -5),
    ]
    return everywhere + [Sample((a,), {"index": index}) for a, index in found]


def _getitem(x, index):
    def beside(part):
        if not isinstance(part, numpy.ndarray):
            return part
        return mb.Tensor(backend.to_device(part, x.device))

    return x[tuple(map(beside, index)) if isinstance(index, tuple) else beside(index)]


def _torch_getitem(torch, x, index):
    """PyTorch knows no negative steps: the axis is flipped first."""
    parts = list(index) if isinstance(index, tuple) else [index]
    for axis, part in enumerate(parts):
        if isinstance(part, slice) and (part.step or 1) < 0:
            x, parts[axis] = x.flip(axis), slice(None, None, -part.step)
        elif isinstance(part, numpy.ndarray):
            parts[axis] = torch.from_numpy(part)
    return x[tuple(parts)]


GETITEM = Record(
    "Tensor.__getitem__", _getitem, lambda np, x, index: x[index], _getitem_samples,
    _torch_getitem, admits=LAYOUTS | INDICES,
    errors=(
        refuses(IndexError, lambda: mb.ones(2, 3)[2], "(2, 3)", "index 2"),
        refuses(IndexError, lambda: mb.ones(2, 3)[0, 0, 0], "(2, 3)", "too many"),
        refuses(IndexError, lambda: mb.ones(2, 3)[mb.arange(4)], "(2, 3)", "index 2"),
        refuses(IndexError, lambda: mb.ones(2)[mb.ones(3) > 0], "(2,)", "3"),
        refuses(IndexError, lambda: mb.ones(2)[mb.ones(2)], "(2,)", "integer"),
    ),
)  # fmt: skip


# ---- gather, triangles, casts -------------------------------------------------------


def _gather_samples(rng):
    found = []
    for kind, x in layouts(rng).items():
        if kind == "0-d":
            continue
        dim = -1 if len(found) % 2 or not len(x) else 0
        shape = list(x.shape)
        shape[dim] = 3
        n = x.shape[dim]
        found.append(Sample((x,), {"dim": dim, "index": rng.integers(-n, n, shape)}))
    x = normal(rng, (2, 3))
    same, none = numpy.full((2, 4), -1), numpy.zeros((2, 0), int)
    return found + [Sample((x,), {"dim": 1, "index": index}) for index in (same, none)]


def _gathered(np, x, dim, index):
    places = list(numpy.indices(index.shape))
    places[dim] = index
    return x[tuple(places)]


GATHER = Record(
    "shaping.gather",
    lambda x, dim, index: x.gather(
        dim, mb.Tensor(backend.to_device(index, x.device))
    ),
    _gathered, _gather_samples,
    lambda torch, x, dim, index: torch.gather(
        x, dim, torch.from_numpy(index % max(x.shape[dim], 1))
    ),
    admits=LAYOUTS - {"0-d"} | (INDICES - {"boolean index"}),
    errors=(
        refuses(
            IndexError, lambda: mb.ones(2, 3).gather(1, [[3], [0]]), "gather", "0 … 2"
        ),
        refuses(
            ValueError, lambda: mb.ones(2, 3).gather(1, [[0]]), "(2, 3)", "(1, 1)"
        ),
        refuses(ValueError, lambda: mb.ones(2, 3).gather(1, [0]), "2 dim", "(1,)"),
        refuses(ValueError, lambda: mb.ones(2).gather(0, [0.5]), "float64"),
    ),
)  # fmt: skip


def _triangle_samples(rng):
    return [
        Sample((x,), {"diagonal": (0, 1, -1)[i % 3]})
        for i, x in enumerate(layouts(rng).values())
        if x.ndim > 1
    ] + [Sample((normal(rng, (3, 3)),), {"diagonal": d}) for d in (-3, 3)]


def _triangle(name):
    call = getattr(shaping, name)
    return Record(
        f"shaping.{name}", call,
        lambda np, x, diagonal: getattr(np, name)(x, diagonal), _triangle_samples,
        lambda torch, x, diagonal: getattr(torch, name)(x, diagonal),
        admits=MATRICES,
        errors=(refuses(ValueError, lambda: call(mb.ones(3)), name, "2 dim", "(3,)"),),
    )  # fmt: skip


def exact(rng, shape):
    """Quarters: in float32 too, they and the steps of a difference are exact."""
    return numpy.asarray(rng.integers(-8, 9, shape) / 4)


CAST = Record(
    "Tensor.to", lambda x, target: x.to(target), lambda np, x, target: x * 1.0,
    lambda rng: unary(exact, {"target": "float32"})(rng)[:-1],  # small: steps are exact
    lambda torch, x, target: x.to(getattr(torch, target)),
    autograd="it has no dtypes but float64", keeps_dtype=False, eps=2.0**-7,
    errors=(refuses(TypeError, lambda: mb.ones(2).to("number"), "number"),),
)  # fmt: skip


# ---- einsum -------------------------------------------------------------------------

EQUATIONS = [
    ("i,i", (3,), (3,)),
    ("i,j->ij", (2,), (3,)),
    ("ij->ji", (2, 3)),
    ("ij", (2, 3)),
    ("ij->", (2, 3)),
    ("ijk->j", (2, 3, 2)),
    ("ij,jk", (2, 3), (3, 2)),
    ("bik,bkj->bij", (2, 2, 3), (2, 3, 2)),
    ("bhtd,bhsd->bhts", (2, 1, 3, 2), (2, 1, 2, 2)),
    ("ij,j,jk->ik", (2, 3), (3,), (3, 2)),  # three operands
    ("...ij,jk->...ik", (2, 2, 3), (3, 2)),
    ("...i,...i->...", (2, 3), (2, 3)),
    ("...,->...", (2, 3), ()),
    (",", (), ()),
    ("ij,k->i", (2, 3), (2,)),  # axes that are only summed
    ("ij,jk", (0, 3), (3, 2)),
    ("ij,jk", (2, 0), (0, 3)),
    (" b a -> a b ", (1, 3)),
]


def _einsum_samples(rng):
    def sample(equation, *shapes):
        arrays = tuple(normal(rng, shape) for shape in shapes)
        return Sample(arrays, {"equation": equation})

    shared, x = normal(rng, (3, 3)), layouts(rng)
    return [
        *(sample(*row) for row in EQUATIONS),
        Sample((shared, shared), {"equation": "ij,jk->ik"}),
        *(
            Sample((x[kind], normal(rng, x[kind].shape)), {"equation": "ij,ij->i"})
            for kind in ("transposed", "strided", "negative stride", "broadcast")
        ),
    ]


EINSUM = Record(
    "shaping.einsum", lambda *xs, equation: shaping.einsum(equation, *xs),
    lambda np, *xs, equation: np.einsum(equation.replace(" ", ""), *xs),
    _einsum_samples, lambda torch, *xs, equation: torch.einsum(equation, *xs),
    admits=LAYOUTS | {"same tensor twice"},
    errors=(
        refuses(
            ValueError, lambda: mb.einsum("ij,jk", mb.ones(2, 3), mb.ones(2, 3)),
            "einsum", "'j'", "3 and 2",
        ),
        refuses(ValueError, lambda: mb.einsum("ij,jk", mb.ones(2, 3)), "2 op", "1 gi"),
        refuses(ValueError, lambda: mb.einsum("ijk", mb.ones(2, 3)), "'ijk'", "(2, 3)"),
        refuses(ValueError, lambda: mb.einsum("ii", mb.ones(2, 2)), "'ii'", "once"),
        refuses(ValueError, lambda: mb.einsum("i->j", mb.ones(2)), "'j'"),
        refuses(
            ValueError, lambda: mb.einsum("...i,...i", mb.ones(2, 3), mb.ones(1, 3)),
            "2 and 1",
        ),
        refuses(TypeError, lambda: mb.einsum("i", [1.0]), "Tensors"),
    ),
)  # fmt: skip

RECORDS = [GETITEM, GATHER, _triangle("tril"), _triangle("triu"), CAST, EINSUM]
