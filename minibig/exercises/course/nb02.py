"""The exercises of notebook 02, backpropagation."""

import numpy as np

from ..exercise import Case, Exercise, Mistake


def _normal(*shapes, seed=2):
    """Random arrays, the same ones each time."""
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(shape) for shape in shapes)


# ---- 02.divide ----------------------------------------------------------------------


def _away_from_zero(shape, seed):
    a, b, dy = _normal(shape, shape, shape, seed=seed)
    return a, np.sign(b) * (abs(b) + 0.5), dy


divide = Exercise(
    name="02.divide",
    task="Given a, b and dy, return the gradients da, db of a / b.",
    solution=lambda a, b, dy: (dy / b, -dy * a / b**2),
    cases=(
        Case("6 / 2, dy = 1", lambda: tuple(np.array([n]) for n in (6.0, 2.0, 1.0))),
        Case("below 0", lambda: tuple(np.array([n]) for n in (3.0, -2.0, 1.0)), "edge"),
        Case("numbers", lambda: tuple(np.array(n) for n in (1.0, 4.0, 2.0)), "edge"),
        Case("random dy", lambda: _away_from_zero((3, 4), 1), "gradient"),
    ),
    mistakes=(
        Mistake(
            lambda a, b, dy: (dy / b, dy * a / b**2),
            "A larger divisor makes the quotient smaller: db needs a minus sign.",
        ),
        Mistake(
            lambda a, b, dy: (dy / b, -dy * a / b),
            "The slope of 1 / b is -1 / b²: db divides by b twice.",
        ),
        Mistake(
            lambda a, b, dy: (1 / b, -a / b**2),
            "These are the slopes of a / b alone. The chain rule multiplies by dy.",
        ),
        Mistake(
            lambda a, b, dy: (dy * b, dy * a),
            "These are the gradients of a product, a * b.",
        ),
        Mistake(
            lambda a, b, dy: (-dy * a / b**2, dy / b),
            "Both gradients are right, but swapped: da comes first.",
        ),
        Mistake(
            lambda a, b, dy: dy / b,
            "Only da has come back: return both, da and db.",
            also=(lambda a, b, dy: (dy / b,),),
        ),
        Mistake(
            lambda a, b, dy: (dy / b, -a / b**2),
            "db lacks dy: the chain rule multiplies both slopes by it.",
        ),
        Mistake(
            lambda a, b, dy: (dy * b, -dy * a / b**2),
            "da is multiplied by b; the slope of a / b by a is 1 / b.",
        ),
    ),
    hints=(
        "Write a / b as a * (1 / b). What is its slope by a, with b held still?",
        "The slope of 1 / b by b is -1 / b². Multiply each slope by dy.",
        "da = dy / b; db is dy times a times the slope of 1 / b.",
    ),
)


# ---- 02.scale_shift -----------------------------------------------------------------


def _scale_shift(x, s, dy):
    rows = tuple(range(x.ndim - 1))
    return dy * s, (dy * x).sum(rows), dy.sum(rows)


def _summed_along_rows(x, s, dy):
    return dy * s, (dy * x).sum(-1), dy.sum(-1)


def _by_hand():
    x, dy = [[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [0.0, 2.0]]
    return np.array(x), np.array([10.0, 100.0]), np.array(dy)


scale_shift = Exercise(
    name="02.scale_shift",
    task="Given x (..., C), s (C,) and dy (..., C), return dx, ds, dm of x * s + m.",
    solution=_scale_shift,
    cases=(
        Case("2 rows by hand", _by_hand),
        Case("5 rows", lambda: _normal((5, 3), (3,), (5, 3))),
        Case("1 row", lambda: _normal((1, 3), (3,), (1, 3)), "edge"),
        Case("3 axes", lambda: _normal((2, 4, 3), (3,), (2, 4, 3)), "gradient"),
        Case("no axes in front", lambda: _normal((3,), (3,), (3,)), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda x, s, dy: (dy * s, dy * x, dy),
            "The forgotten sum: s and m are used in every row, so their gradients add "
            "up over the rows and come out in shape (C,).",
        ),
        Mistake(
            _summed_along_rows,
            "This sums along the last axis, the one that s and m do have. Sum over all "
            "the other axes.",
        ),
        Mistake(
            lambda x, s, dy: (dy * s, (dy * x).sum(0), dy.sum(0)),
            "Right for two axes. With more in front, sum over all but the last.",
        ),
        Mistake(
            lambda x, s, dy: (dy, *_scale_shift(x, s, dy)[1:]),
            "dx is not dy: x reaches the result through a multiplication by s.",
        ),
        Mistake(
            lambda x, s, dy: (dy * s, *(_scale_shift(x, s, dy)[i] for i in (2, 2))),
            "ds is not the sum of dy: the slope of x * s by s is x.",
        ),
        Mistake(
            lambda x, s, dy: (
                dy * s,
                *(_scale_shift(x, s, dy)[i] / (x.size / x.shape[-1]) for i in (1, 2)),
            ),
            "This takes a mean over the rows. Over paths, gradients add up.",
        ),
    ),
    hints=(
        "Pretend first that s and m have the shape of x. Then sum where they have not.",
        "The axes to sum over are all but the last: tuple(range(x.ndim - 1)).",
        "dx = dy * s, ds = (dy * x).sum(axes), dm = dy.sum(axes).",
    ),
)  # fmt: skip


# ---- 02.wrong_gradients -------------------------------------------------------------


def _numerical(function, x, dy, eps=1e-5, central=True):
    dx = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[place] = eps
        low, width = (x - step, 2 * eps) if central else (x, eps)
        dx[place] = (dy * (function(x + step) - function(low))).sum() / width
    return dx


def _search(ops, x, *, dy="random", rtol=1e-5, atol=1e-7, of=lambda dx: dx, **how):
    """The search, with settings that can go wrong."""
    rng, wrong = np.random.default_rng(0), []
    for name, op in ops.items():
        y, backward = op(x)
        upstream = np.ones(y.shape) if dy == "ones" else rng.standard_normal(y.shape)
        expected = _numerical(lambda z, op=op: op(z)[0], x, upstream, **how)
        if not np.allclose(of(backward(upstream)[0]), of(expected), rtol, atol):
            wrong.append(name)
    return wrong


def _square(x):
    return x * x, lambda dy: (dy * 2 * x,)


def _exp(x):
    y = np.exp(x)
    return y, lambda dy: (dy * y,)


def _shares(x):
    total = x.sum()
    y = x / total
    return y, lambda dy: ((dy - (dy * y).sum()) / total,)


def _steep(x):
    return 1e6 * x**3, lambda dy: (dy * 3e6 * x * x,)


def _square_without_2(x):
    return x * x, lambda dy: (dy * x,)


def _exp_without_dy(x):
    y = np.exp(x)
    return y, lambda dy: (y,)


def _shares_of_nothing(x):
    return x / x.sum(), lambda dy: (np.zeros(x.shape),)


def _wrong_at_the_end(x):
    def backward(dy):
        dx = dy * 2 * x
        dx.ravel()[-1] = 0
        return (dx,)

    return x * x, backward


def _reversed(x):
    return x[::-1], lambda dy: (dy,)


def _suspects(**ops):
    return lambda: (ops, np.random.default_rng(3).uniform(0.5, 2.0, (2, 3)))


wrong_gradients = Exercise(
    name="02.wrong_gradients",
    task="Return the names of the ops whose gradient at x is wrong.",
    solution=_search,
    cases=(
        Case("one of three", _suspects(a=_square, b=_square_without_2, c=_exp)),
        Case("dy matters", _suspects(a=_exp_without_dy, b=_exp, c=_shares_of_nothing)),
        Case("in one place", _suspects(a=_wrong_at_the_end, b=_square), "edge"),
        Case("all are right", _suspects(a=_square, b=_exp, c=_shares), "edge"),
        Case("rows exchanged", _suspects(a=_square, b=_reversed), "gradient"),
        Case("large numbers", _suspects(a=_steep, b=_square_without_2), "gradient"),
    ),
    mistakes=(
        Mistake(
            lambda ops, x: _search(ops, x, dy="ones"),
            "With dy all ones some wrong gradients pass. Draw random weights.",
        ),
        Mistake(
            lambda ops, x: _search(ops, x, of=np.sum),
            "This compares sums. A gradient has to be right in each place.",
        ),
        Mistake(
            lambda ops, x: _search(ops, x, of=lambda dx: dx.ravel()[0]),
            "This looks at the first place only. Compare all of them.",
        ),
        Mistake(
            lambda ops, x: _search(ops, x, rtol=0.0),
            "An absolute tolerance accuses large gradients that are right. Ask for "
            "agreement relative to their size.",
        ),
        Mistake(
            lambda ops, x: _search(ops, x, central=False, rtol=1e-7),
            "One-sided differences are off by about the step, so right gradients look "
            "wrong. Take central ones.",
        ),
        Mistake(
            lambda ops, x: [name for name in ops if name not in _search(ops, x)],
            "These are the names of the right ones.",
        ),
    ),
    hints=(
        "For each op: run it, draw a random dy of y's shape, call backward(dy).",
        "Compare with numerical(lambda z: op(z)[0], x, dy), place by place.",
        "np.allclose(found, expected, rtol=1e-5, atol=1e-7) is the comparison.",
    ),
    shown=lambda names: (
        " ".join(map(str, names)) or "none"
        if isinstance(names, (list, tuple))
        else names
    ),
)


# ---- 02.softmax ---------------------------------------------------------------------


def _rows_of_softmax(shape, seed):
    x, dy = _normal(shape, shape, seed=seed)
    e = np.exp(x)
    return e / e.sum(-1, keepdims=True), dy


def _ones():
    y, dy = _rows_of_softmax((2, 4), 4)
    return y, np.ones(dy.shape)


softmax = Exercise(
    name="02.softmax",
    task="Given y = softmax(x) along the last axis, and dy, return dx.",
    solution=lambda y, dy: y * (dy - (dy * y).sum(-1, keepdims=True)),
    cases=(
        Case("by hand", lambda: (np.array([0.5, 0.25, 0.25]), np.array([1.0, 0, 0]))),
        Case("3 rows of 5", lambda: _rows_of_softmax((3, 5), 1)),
        Case("dy = ones", _ones, "edge"),
        Case("4 rows of 4", lambda: _rows_of_softmax((4, 4), 2), "gradient"),
        Case("3 axes", lambda: _rows_of_softmax((2, 3, 4), 3), "gradient"),
    ),
    mistakes=(
        Mistake(
            lambda y, dy: dy * y * (1 - y),
            "This is the sigmoid's gradient: each output by its own input alone. In a "
            "softmax every input of the row reaches every output.",
        ),
        Mistake(
            lambda y, dy: y * (dy - (dy * y).sum()),
            "The sum runs over everything. Each row has a sum of its own: axis -1.",
        ),
        Mistake(
            lambda y, dy: y * (dy - (dy * y).sum(-1)),
            "The sum has lost its axis, so it lines up with columns instead of rows: "
            "keepdims=True.",
        ),
        Mistake(
            lambda y, dy: y * (dy - (dy * y).sum(0, keepdims=True)),
            "The sum runs over the first axis. Rows lie along the last one.",
        ),
        Mistake(
            lambda y, dy: dy - (dy * y).sum(-1, keepdims=True),
            "Nearly: one factor y is missing in front of the bracket.",
        ),
        Mistake(
            lambda y, dy: y * (dy - dy.sum(-1, keepdims=True)),
            "Inside the sum each dy is weighted by its y.",
        ),
        Mistake(
            lambda y, dy: y * (dy - (dy * y).mean(-1, keepdims=True)),
            "That is a mean where the sum belongs: over paths, gradients add up.",
        ),
    ),
    hints=(
        "For one row, write dx_j as the sum over i of dy_i times ∂y_i/∂x_j.",
        "The part with i = j gives dy_j y_j; all i together give -y_j Σ dy_i y_i.",
        "dx = y * (dy - s), with s the sum of dy * y along the row, as a column.",
    ),
)
