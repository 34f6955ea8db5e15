"""Records of minibig.shaping: the same numbers in other shapes and orders."""

import minibig as mb
from minibig import shaping

from .record import LAYOUTS, Record, Sample, refuses
from .samplers import layouts, normal, unary

SOME_AXES = LAYOUTS - {"0-d"}


def _record(name, reference, samples, torch=None, **more):
    def same_name(torch, x, **settings):
        return getattr(torch, name)(x, **settings)

    return Record(
        f"shaping.{name}", more.pop("function", getattr(shaping, name)), reference,
        samples, torch or same_name, **more,
    )  # fmt: skip


def _each(settings_for, skip=()):
    """All layouts but `skip`, each with settings (a list: in turn) made from it."""

    def samples(rng):
        found = [(kind, x) for kind, x in layouts(rng).items() if kind not in skip]
        return [Sample((x,), settings_for(i, x)) for i, (_, x) in enumerate(found)]

    return samples


def _spread_call(method):
    """A function whose `sizes` are passed one by one, as the method takes them."""
    return lambda x, sizes: method(x, *sizes)


def _wrong_axis(name, *arguments):
    function = getattr(shaping, name)
    return refuses(
        IndexError, lambda: function(mb.ones(2, 3), *arguments), name, "dim 2"
    )


# ---- one tensor, other axes ---------------------------------------------------------


def _reshape_sizes(i, x):
    odd = {"sizes": (1, -1, 1)} if x.size else {"sizes": (3, 0, 2)}
    return odd if i % 2 == 0 else {"sizes": (x.size,)}


def _expand_sizes(i, x):
    wide = tuple(4 if n == 1 else -1 if i % 2 else n for n in x.shape)
    return {"sizes": ((2,) if i % 3 else ()) + wide}


def _expanded(np, x, sizes):
    ours = (1,) * (len(sizes) - x.ndim) + x.shape
    wanted = [n if m == -1 else m for n, m in zip(ours, sizes, strict=True)]
    repeats = [m // n if n else 1 for n, m in zip(ours, wanted, strict=True)]
    return np.tile(np.reshape(x, ours), repeats)


def _flattened(np, x, start_dim=0, end_dim=-1):
    axes = range(x.ndim)
    if not x.ndim:
        return np.reshape(x, (1,))
    start, end = axes[start_dim], axes[end_dim]
    joined = 1
    for n in x.shape[start : end + 1]:
        joined *= n
    return np.reshape(x, (*x.shape[:start], joined, *x.shape[end + 1 :]))


def _squeezed(np, x, dim=None):
    dims = range(x.ndim) if dim is None else dim if isinstance(dim, tuple) else (dim,)
    dims = {d % x.ndim for d in dims}
    return np.reshape(x, [n for i, n in enumerate(x.shape) if n != 1 or i not in dims])


def _permuted(i, x):
    axes = tuple(range(-x.ndim, 0))
    return {"sizes": axes[::-1] if i % 2 else axes[1:] + axes[:1]}


AXES_RECORDS = [
    _record(
        "reshape", lambda np, x, sizes: np.reshape(x, sizes), _each(_reshape_sizes),
        lambda torch, x, sizes: x.reshape(sizes),
        function=_spread_call(shaping.reshape),
        errors=(
            refuses(ValueError, lambda: mb.ones(2, 3).reshape(4, -1), "(2, 3)", "(4, "),
            refuses(ValueError, lambda: mb.ones(2, 3).reshape(-1, -1), "(-1, -1)"),
            refuses(ValueError, lambda: mb.ones(2, 3).reshape(-2, -3), "(-2, -3)"),
        ),
    ),
    _record(
        "flatten", _flattened,
        _each(lambda i, x: {"start_dim": 1} if i % 2 and x.ndim > 1 else {}),
        errors=(
            refuses(ValueError, lambda: mb.ones(2, 3).flatten(1, 0), "start_dim 1"),
            _wrong_axis("flatten", 2),
        ),
    ),
    _record(
        "permute", lambda np, x, sizes: np.transpose(x, sizes), _each(_permuted),
        lambda torch, x, sizes: x.permute(sizes),
        function=_spread_call(shaping.permute),
        errors=(
            refuses(ValueError, lambda: mb.ones(2, 3).permute(0), "2 dim", "(0,)"),
            refuses(ValueError, lambda: mb.ones(2, 3).permute(0, -2), "twice"),
            _wrong_axis("permute", 0, 2),
        ),
    ),
    _record(
        "transpose", lambda np, x, dim0, dim1: np.swapaxes(x, dim0, dim1),
        _each(lambda i, x: {"dim0": 0, "dim1": -1}, skip=("0-d",)),
        admits=SOME_AXES, errors=(_wrong_axis("transpose", 0, 2),),
    ),
    _record(
        "squeeze", _squeezed,
        _each(lambda i, x: ({}, {"dim": -1}, {"dim": (0, -1)})[i % 3 * (x.ndim > 1)]),
        errors=(_wrong_axis("squeeze", 2),),
    ),
    _record(
        "unsqueeze", lambda np, x, dim: np.expand_dims(x, dim),
        _each(lambda i, x: {"dim": (0, -1, x.ndim, -x.ndim - 1)[i % 4]}),
        errors=(
            refuses(IndexError, lambda: mb.ones(2, 3).unsqueeze(3), "dim 3"),
        ),
    ),
    _record(
        "expand", _expanded, _each(_expand_sizes),
        lambda torch, x, sizes: x.expand(sizes), function=_spread_call(shaping.expand),
        errors=(
            refuses(ValueError, lambda: mb.ones(2, 3).expand(4, 3), "(2, 3)", "(4, 3)"),
            refuses(ValueError, lambda: mb.ones(2, 3).expand(3), "(2, 3)", "(3,)"),
        ),
    ),
    _record(
        "flip", lambda np, x, dims: np.flip(x, dims),
        _each(lambda i, x: {"dims": ((0,), (-1,), (0, -1))[i % (1 + 2 * (x.ndim > 1))]},
              skip=("0-d",)),
        admits=SOME_AXES,
        autograd=lambda np, x, dims: x[tuple(
            slice(None, None, -1 if i in dims or i - x.ndim in dims else 1)
            for i in range(x.ndim)
        )],
        errors=(
            _wrong_axis("flip", 2),
            refuses(ValueError, lambda: mb.ones(2, 3).flip((0, -2)), "twice"),
        ),
    ),
    _record(
        "contiguous", lambda np, x: x * 1.0, unary(),
        lambda torch, x: x.contiguous(),
    ),
]  # fmt: skip


# ---- several tensors in, or out -----------------------------------------------------


def _company(rng):
    """Lists of tensors that go together along axis 0, of every layout."""
    found = [(x, normal(rng, x.shape)) for k, x in layouts(rng).items() if k != "0-d"]
    shared = normal(rng, (2, 2))
    return [*found, (shared, shared, normal(rng, (2, 2))), (normal(rng, (2, 3)),)]


def _cat_samples(rng):
    same = [Sample(xs, {"dim": (0, -1)[i % 2]}) for i, xs in enumerate(_company(rng))]
    unequal = (normal(rng, (2, 1)), normal(rng, (2, 0)), normal(rng, (2, 3)))
    return [*same, Sample(unequal, {"dim": 1})]


def _stack_samples(rng):
    found = [
        Sample(xs, {"dim": (0, -1, 1)[i % 3]}) for i, xs in enumerate(_company(rng))
    ]
    return [*found, Sample((normal(rng, ()), normal(rng, ())), {"dim": 0})]


def _pieces(i, x, dim):
    n = x.shape[dim]
    return {"split_size": 2 if i % 2 else (n // 2, 0, n - n // 2), "dim": dim}


def _splits(np, x, split_size, dim=0):
    n = x.shape[dim]
    sizes = split_size
    if isinstance(sizes, int):
        sizes = [min(sizes, n - i) for i in range(0, max(n, 1), sizes)]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    before = (slice(None),) * (dim % x.ndim)
    return tuple(
        x[(*before, slice(a, a + n))] for a, n in zip(starts, sizes, strict=True)
    )


def _chunks(np, x, chunks, dim=0):
    return _splits(np, x, max(1, -(-x.shape[dim] // chunks)), dim)


def _slices(np, x, dim=0):
    before = (slice(None),) * (dim % x.ndim)
    return tuple(x[(*before, i)] for i in range(x.shape[dim]))


def _listed(name):
    return lambda torch, *xs, **settings: getattr(torch, name)(xs, **settings)


COMPANY_RECORDS = [
    _record(
        "cat", lambda np, *xs, dim: np.concatenate(xs, axis=dim), _cat_samples,
        _listed("cat"), function=lambda *xs, dim: shaping.cat(xs, dim),
        admits=SOME_AXES | {"same tensor twice", "dim negative"},
        errors=(
            refuses(
                ValueError, lambda: mb.cat([mb.ones(2, 3), mb.ones(2, 4)]),
                "cat", "(2, 3)", "(2, 4)",
            ),
            refuses(ValueError, lambda: mb.cat([]), "at least one"),
            refuses(IndexError, lambda: mb.cat([mb.ones(2, 3)], dim=2), "dim 2"),
        ),
    ),
    _record(
        "stack", lambda np, *xs, dim: np.stack(xs, axis=dim), _stack_samples,
        _listed("stack"), function=lambda *xs, dim: shaping.stack(xs, dim),
        admits=LAYOUTS | {"same tensor twice", "dim negative"},
        errors=(
            refuses(
                ValueError, lambda: mb.stack([mb.ones(2), mb.ones(3)]),
                "stack", "(2,)", "(3,)",
            ),
            refuses(ValueError, lambda: mb.stack([]), "at least one"),
            refuses(IndexError, lambda: mb.stack([mb.ones(2)], dim=2), "dim 2"),
        ),
    ),
    _record(
        "split", _splits,
        _each(lambda i, x: _pieces(i, x, (0, -1)[i % 3 > 0]), skip=("0-d",)),
        lambda torch, x, split_size, dim: torch.split(
            x, split_size if isinstance(split_size, int) else list(split_size), dim
        ),
        admits=SOME_AXES | {"dim negative"},
        errors=(
            _wrong_axis("split", 1, 2),
            refuses(ValueError, lambda: mb.ones(4).split(0), "split", "0"),
            refuses(ValueError, lambda: mb.ones(4).split([1, 2]), "[1, 2]", "4"),
            refuses(ValueError, lambda: mb.ones(4).split([-1, 5]), "[-1, 5]"),
        ),
    ),
    _record(
        "chunk", _chunks,
        _each(lambda i, x: {"chunks": 2 + i % 2, "dim": (0, -1)[i % 2]}, skip=("0-d",)),
        lambda torch, x, chunks, dim: torch.chunk(x, chunks, dim),
        admits=SOME_AXES | {"dim negative"},
        errors=(
            _wrong_axis("chunk", 2, 2),
            refuses(ValueError, lambda: mb.ones(4).chunk(0), "chunk", "0"),
        ),
    ),
    _record(
        "unbind", _slices,
        _each(lambda i, x: {"dim": -1 if not len(x) else (0, -1)[i % 2]},
              skip=("0-d",)),
        lambda torch, x, dim: torch.unbind(x, dim),
        admits=SOME_AXES | {"dim negative"}, errors=(_wrong_axis("unbind", 2),),
    ),
]  # fmt: skip

RECORDS = [*AXES_RECORDS, *COMPANY_RECORDS]
