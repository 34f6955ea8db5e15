"""Records of minibig.reductions: sums, means, extremes and running sums."""

import math

import minibig as mb
from minibig import reductions

from .record import AXES, LAYOUTS, Record, Sample, refuses
from .samplers import layouts, normal, reduced

ALL = LAYOUTS | AXES


def _wrong_axes(name, **settings):
    """What every reduction refuses: an axis that is not there, and one named twice."""
    function = getattr(reductions, name)
    return (
        refuses(
            IndexError, lambda: function(mb.ones(2, 3), dim=2, **settings),
            "dim 2", "2 dimensions",
        ),
        refuses(
            ValueError, lambda: function(mb.ones(2, 3), dim=(0, -2), **settings),
            "(0, -2)", "twice",
        ),
    )  # fmt: skip


def _whole_numbers(name, **settings):
    function = getattr(reductions, name)
    return refuses(
        TypeError, lambda: function(mb.arange(3), **settings), name, "int64", ".float()"
    )


def _one_axis_alone(name):
    function = getattr(reductions, name)
    return refuses((TypeError, ValueError, IndexError),
                   lambda: function(mb.ones(2, 3), (0, 1)), name, "(0, 1)")  # fmt: skip


def _nothing(name, **settings):
    function = getattr(reductions, name)
    return refuses(
        ValueError, lambda: function(mb.zeros(0, 3), **settings), name, "(0, 3)"
    )


def _torch(name):
    def call(torch, x, dim=None, keepdim=False, **settings):
        if dim is None:
            dim = tuple(range(x.ndim))
        return getattr(torch, name)(x, dim, keepdim=keepdim, **settings)

    return call


def _numpy(name):
    def call(np, x, dim=None, keepdim=False):
        return getattr(np, name)(x, axis=dim, keepdims=keepdim)

    return call


def _variance(np, x, dim=None, keepdim=False, correction=1):
    squares = (x - np.mean(x, axis=dim, keepdims=True)) ** 2
    total = np.sum(squares, axis=dim, keepdims=keepdim)
    axes = range(x.ndim) if dim is None else dim if isinstance(dim, tuple) else (dim,)
    return total / (math.prod(x.shape[i] for i in axes) - correction)


def _deviation(np, x, **settings):
    return np.sqrt(_variance(np, x, **settings))


SUMS = [
    Record(
        "reductions.sum", reductions.sum, _numpy("sum"), reduced(nothing=True),
        _torch("sum"), errors=_wrong_axes("sum"), admits=ALL,
    ),
    Record(
        "reductions.mean", reductions.mean, _numpy("mean"), reduced(), _torch("mean"),
        admits=ALL,
        errors=(*_wrong_axes("mean"), _whole_numbers("mean"), _nothing("mean")),
        domain="at least one number in each mean",
    ),
]  # fmt: skip


# ---- spread -------------------------------------------------------------------------


def _spread_samples(rng):
    """No axis of one number alone, where nothing is left to divide by."""
    found = [
        ({"dim": None}, normal(rng, (4,))),
        ({"dim": -1, "keepdim": True}, normal(rng, (4,))),
        ({"dim": 0}, normal(rng, (2, 3))),
        ({"dim": (0, -1), "keepdim": True}, normal(rng, (2, 3, 2))),
        ({"dim": (1, 2)}, normal(rng, (2, 2, 3))),
        ({"dim": -2, "correction": 0}, normal(rng, (2, 1, 3, 2))),
        ({"dim": 1}, normal(rng, (1, 3, 1))),
        ({"dim": 1}, normal(rng, (0, 3))),
        ({"dim": None, "keepdim": True}, normal(rng, (3, 2)).T),
        ({"dim": -1}, normal(rng, (4, 6))[::2, 1::2]),
        ({"dim": 0, "correction": 0}, normal(rng, (2, 3))[::-1, ::-1]),
        ({"dim": 0}, layouts(rng)["broadcast"]),
        ({"dim": -1}, normal(rng, (10, 7))),
        ({"dim": 1}, normal(rng, (2, 4)) + 100),
    ]
    return [Sample((x,), settings) for settings, x in found]


def _torch_spread(name):
    def call(torch, x, dim=None, **settings):
        if x.numel():
            return _torch(name)(torch, x, dim, **settings)
        return x.sum(dim)  # PyTorch warns that nothing is left to divide by

    return call


SPREAD = [
    Record(
        f"reductions.{name}", getattr(reductions, name), reference, _spread_samples,
        _torch_spread(name), admits=ALL - {"0-d"},
        errors=(
            *_wrong_axes(name), _whole_numbers("var"), _nothing(name),
            refuses(ValueError, lambda: reductions.var(mb.ones(1)), "var", "(1,)"),
        ),
        domain="more numbers than `correction`; for std not all equal",
    )
    for name, reference in (("var", _variance), ("std", _deviation))
]  # fmt: skip


# ---- extremes -----------------------------------------------------------------------


def _one_axis_samples(rng):
    """Where a number or None alone may be named, as PyTorch has it."""
    return [
        sample
        for sample in reduced()(rng)
        if not isinstance(sample.settings["dim"], tuple)
        and not (sample.settings["dim"] is None and sample.settings["keepdim"])
    ]


def _values(name):
    def call(x, dim=None, keepdim=False):
        found = getattr(reductions, name)(x, dim, keepdim)
        return found if dim is None else found.values

    return call


def _torch_values(name):
    def call(torch, x, dim=None, keepdim=False):
        if dim is None:
            return getattr(torch, name)(x)
        return getattr(torch, name)(x, dim, keepdim=keepdim).values

    return call


EXTREMES = [
    Record(
        f"reductions.a{name}", getattr(reductions, f"a{name}"), _numpy(name),
        reduced(), _torch(f"a{name}"), admits=ALL,
        errors=(*_wrong_axes(f"a{name}"), _nothing(f"a{name}")),
        domain="one largest (smallest): ties are held against PyTorch",
    )
    for name in ("max", "min")
] + [
    Record(
        f"reductions.{name}", _values(name), _numpy(name), _one_axis_samples,
        _torch_values(name), admits=ALL - {"dim tuple"},
        errors=(_wrong_axes(name)[0], _nothing(name), _one_axis_alone(name)),
        domain="one largest (smallest): ties are held against PyTorch",
    )
    for name in ("max", "min")
]  # fmt: skip


# ---- products, running sums, log-sum-exp --------------------------------------------


def _product_torch(torch, x, dim=None, keepdim=False):
    if dim is None:
        return x.prod().reshape((1,) * x.ndim if keepdim else ())
    return x.prod(dim, keepdim=keepdim)


def _zeros_too(rng):
    """Products of which one, two or all factors are 0, beside the ordinary ones."""
    one, two = normal(rng, (2, 3)), normal(rng, (2, 3))
    one[0, 1] = two[0, 1] = two[0, 2] = 0
    found = [(one, -1), (one, None), (two, 1), (two, 0), (one * 0, 0)]
    ordinary = [s for s in reduced(nothing=True)(rng)
                if not isinstance(s.settings["dim"], tuple)]  # fmt: skip
    return ordinary + [Sample((x,), {"dim": d, "keepdim": True}) for x, d in found]


def _product_step_by_step(np, x, dim=None, keepdim=False):
    """HIPS autograd divides by each factor; this expression has no division."""
    x = np.reshape(x, -1) if dim is None else np.moveaxis(x, dim, 0)
    y = 1 + 0 * np.sum(x, axis=0)  # of no factors too
    for factor in x:
        y = y * factor
    return y


def _running_samples(rng):
    found = [
        Sample((x,), {"dim": (0, -1, 1)[i % 3] if x.ndim > 1 else 0})
        for i, (kind, x) in enumerate(layouts(rng).items())
        if kind != "0-d"
    ]
    return [*found, Sample((normal(rng, (2, 3, 2)),), {"dim": -2})]


def _logsumexp(np, x, dim=None, keepdim=False):
    return np.log(np.sum(np.exp(x), axis=dim, keepdims=keepdim))


OTHERS = [
    Record(
        "reductions.prod", reductions.prod, _numpy("prod"), _zeros_too,
        _product_torch, admits=ALL - {"dim tuple"},
        errors=(_wrong_axes("prod")[0], _one_axis_alone("prod")),
        autograd=lambda np, x, dim=None, keepdim=False: np.reshape(
            _product_step_by_step(np, x, dim),
            x.sum(axis=dim, keepdims=keepdim).shape,
        ),
    ),
    Record(
        "reductions.cumsum", reductions.cumsum,
        lambda np, x, dim: np.cumsum(x, axis=dim), _running_samples,
        lambda torch, x, dim: torch.cumsum(x, dim),
        errors=(
            _wrong_axes("cumsum")[0], _one_axis_alone("cumsum"),
            refuses(IndexError, lambda: mb.tensor(1.0).cumsum(0), "dim 0", "0 dim"),
            refuses(
                (TypeError, ValueError), lambda: mb.ones(2, 3).cumsum(None), "cumsum"
            ),
        ),
        admits=LAYOUTS - {"0-d"} | {"dim negative"},
    ),
    Record(
        "reductions.logsumexp", reductions.logsumexp, _logsumexp,
        reduced(), _torch("logsumexp"), admits=ALL,
        errors=(
            *_wrong_axes("logsumexp"), _whole_numbers("logsumexp", dim=0),
            _nothing("logsumexp", dim=0),
        ),
        domain="at least one number in each sum",
    ),
]  # fmt: skip

RECORDS = [*SUMS, *SPREAD, *EXTREMES, *OTHERS]
