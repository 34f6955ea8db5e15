"""The exercises of notebook 13: patches, gradients, positions, rollout."""

import numpy as np

from ..exercise import Case, Exercise, Mistake

# ---- 13.patches ---------------------------------------------------------------------


def _pictures(shape, size):
    def make():
        return np.random.default_rng(sum(shape)).normal(size=shape), size

    return make


def _counted():
    return np.arange(16.0).reshape(1, 1, 4, 4), 2


def _split(images, size):
    b, channels, height, width = images.shape
    return images.reshape(b, channels, height // size, size, width // size, size)


def _patches(images, size, order=(0, 2, 4, 1, 3, 5)):
    parts = _split(images, size)  # (B, channels, rows, P, columns, P)
    count = parts.shape[2] * parts.shape[4]
    return parts.transpose(order).reshape(len(images), count, -1)


def _stripes(images, size):
    parts = _split(images, size)
    count = parts.shape[2] * parts.shape[4]
    return images.reshape(len(images), count, -1)


patches = Exercise(
    name="13.patches",
    task="Return the squares of pictures as rows: (B, N, channels · size²).",
    solution=_patches,
    cases=(
        Case("16 counted pixels", _counted),
        Case("two pictures", _pictures((2, 1, 4, 4), 2)),
        Case("three channels", _pictures((2, 3, 4, 4), 2)),
        Case("wider than high", _pictures((1, 2, 4, 6), 2)),
        Case("patches of 3", _pictures((2, 2, 6, 9), 3)),
        Case("one patch", _pictures((2, 2, 3, 3), 3), "edge"),
        Case("patches of one pixel", _pictures((1, 3, 2, 3), 1), "edge"),
    ),
    mistakes=(
        Mistake(
            _stripes,
            "these are stripes, not squares: a reshape alone never changes the order "
            "of the numbers. Split both sides in two, then move the axes.",
        ),
        Mistake(
            lambda images, size: _patches(images, size, (0, 4, 2, 1, 3, 5)),
            "the patches come column by column; they should come row by row.",
        ),
        Mistake(
            lambda images, size: _patches(images, size, (0, 2, 4, 1, 5, 3)),
            "each patch lies on its side: within it, rows come before columns.",
        ),
        Mistake(
            lambda images, size: _patches(images, size, (0, 2, 4, 3, 5, 1)),
            "the channels come last within a patch; they should come first, or the "
            "weights are not those of a convolution.",
        ),
        Mistake(
            lambda images, size: _patches(images[:, :1], size),
            "only the first channel is there; a patch holds all of them.",
        ),
    ),
    hints=(
        "A side of H pixels is H / size patches of size pixels: two axes in place of "
        "one. How many axes does the picture have then?",
        "Reshape to (B, channels, rows, size, columns, size). Which of these number "
        "the patches, and which lie within one?",
        "transpose(0, 2, 4, 1, 3, 5) gives (B, rows, columns, channels, size, size); "
        "one more reshape does the rest.",
    ),
)

# ---- 13.gradients -------------------------------------------------------------------


def _upstream(batch, count, width):
    def make():
        rng = np.random.default_rng(batch + count + width)
        return (rng.normal(size=(batch, 1 + count, width)),)

    return make


def _gradients(dx):
    return dx[:, 1:], dx[:, :1].sum(0, keepdims=True), dx.sum(0, keepdims=True)


def _without_class_position(dx):
    dpatches, dclass, _ = _gradients(dx)
    dpositions = dx.sum(0, keepdims=True)
    dpositions[:, 0] = 0
    return dpatches, dclass, dpositions


gradients = Exercise(
    name="13.gradients",
    task="Return the gradients of patches, class token and positions, from that of x.",
    solution=_gradients,
    cases=(
        Case("two pictures", _upstream(2, 4, 3), "gradient"),
        Case("more of them", _upstream(5, 6, 2), "gradient"),
        Case("normal use", _upstream(8, 16, 12)),
        Case("one picture", _upstream(1, 4, 2), "edge"),
        Case("one patch", _upstream(3, 1, 2), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda dx: (
                dx[:, 1:],
                dx[:, :1].mean(0, keepdims=True),
                dx.mean(0, keepdims=True),
            ),
            "the pictures of a batch are added up, not averaged: the mean is in dx.",
        ),
        Mistake(
            lambda dx: (dx[:, 1:], dx[:, :1], dx),
            "class token and positions were spread over the whole batch, so that their "
            "gradients are sums over it, of the shapes that they have themselves.",
        ),
        Mistake(
            lambda dx: (
                dx[:, 1:],
                dx.sum((0, 1), keepdims=True),
                dx.sum(0, keepdims=True),
            ),
            "the class token stands at place 0 alone; the other rows are not its own.",
        ),
        Mistake(
            lambda dx: (dx[:, :-1], *_gradients(dx)[1:]),
            "the class token comes first, so the patches are rows 1 to N.",
        ),
        Mistake(
            _without_class_position,
            "the class token has a position of its own, and that learns too.",
        ),
    ),
    hints=(
        "An addition hands its gradient to both sides as it is; `cat` hands each part "
        "back its own rows.",
        "What was spread over a batch by broadcasting was used once for each picture: "
        "add up over axis 0, and keep the axis.",
        "dx[:, 1:], then dx[:, :1].sum(0, keepdims=True), then "
        "dx.sum(0, keepdims=True).",
    ),
)

# ---- 13.positions -------------------------------------------------------------------


def _table(side, width, rows, columns):
    def make():
        rng = np.random.default_rng(side + rows)
        return rng.normal(size=(1 + side * side, width)), rows, columns

    return make


def _growing():
    return np.array([[9.0], [0.0], [1.0], [2.0], [3.0]]), 4, 4


def _weights(before, after, aligned=False):
    """Weights (after, before) of linear interpolation, ends repeated."""
    places = (np.arange(after) + 0.5) * before / after - 0.5
    if aligned:
        places = np.linspace(0, before - 1, after) if after > 1 else np.zeros(1)
    places = places.clip(0, before - 1)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(before)), 0)


def _side(table, class_tokens=1):
    return int(np.sqrt(len(table) - class_tokens))


def _positions(table, rows, columns, aligned=False, turned=False):
    side = _side(table)
    grid = table[1:].reshape(side, side, -1)
    if turned:
        grid = grid.swapaxes(0, 1)
    down, across = (_weights(side, n, aligned) for n in (rows, columns))
    grid = np.einsum("is,jt,stc->ijc", down, across, grid)
    return np.concatenate([table[:1], grid.reshape(rows * columns, -1)])


def _nearest(table, rows, columns):
    side = _side(table)
    down, across = ((2 * np.arange(n) + 1) * side // (2 * n) for n in (rows, columns))
    grid = table[1:].reshape(side, side, -1)[down][:, across]
    return np.concatenate([table[:1], grid.reshape(rows * columns, -1)])


def _as_a_line(table, rows, columns):
    weights = _weights(len(table) - 1, rows * columns)
    return np.concatenate([table[:1], weights @ table[1:]])


positions = Exercise(
    name="13.positions",
    task="Return the positions of a grid of rows · columns, linearly interpolated.",
    solution=_positions,
    cases=(
        Case("0 1 2 3, twice as fine", _growing),
        Case("3 to 6 a side", _table(3, 2, 6, 6)),
        Case("wider than high", _table(2, 3, 3, 5)),
        Case("higher than wide", _table(4, 2, 8, 4)),
        Case("the same grid", _table(3, 4, 3, 3), "edge"),
        Case("one patch before", _table(1, 2, 2, 3), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda table, rows, columns: _positions(table, rows, columns)[1:],
            "the class token's position is gone: it has no place in the grid and is "
            "passed on as it is.",
        ),
        Mistake(
            lambda table, rows, columns: _positions(table, rows, columns, aligned=True),
            "first and last patch lie on the first and last of before; it is their "
            "outer edges that lie on each other: place (i + ½) · before/after − ½.",
        ),
        Mistake(
            lambda table, rows, columns: _positions(table, rows, columns, turned=True),
            "rows and columns of the grid have changed places: patches are numbered "
            "row by row.",
        ),
        Mistake(
            _nearest,
            "each new patch takes the nearest old position; between two of them it "
            "should take its share of both.",
        ),
        Mistake(
            _as_a_line,
            "the patches are interpolated as one line, so that the end of a row leaks "
            "into the beginning of the next. Make them a grid first.",
        ),
    ),
    hints=(
        "Take row 0 away, make a grid of the rest, and think of one axis at a time.",
        "New patch i lies at (i + ½) · before/after − ½ of the old ones, cut back to "
        "0 … before − 1; old patch s counts by max(0, 1 − |place − s|).",
        "With the weights of both axes, W (rows, side) and V (columns, side), the grid "
        "is einsum('is,jt,stc->ijc', W, V, grid).",
    ),
)

# ---- 13.rollout ---------------------------------------------------------------------


def _layers(count, heads, length):
    def make():
        rng = np.random.default_rng(count + heads + length)
        weights = rng.exponential(size=(count, heads, length, length)) ** 2
        return (list(weights / weights.sum(-1, keepdims=True)),)

    return make


def _three_tokens():
    first = np.array([[[0.0, 1, 0], [0, 0, 1], [0, 0, 1]]])
    second = np.array([[[0.0, 0.5, 0.5], [0, 1, 0], [0, 0, 1]]])
    return ([first, second],)


def _rollout(maps, share=0.5, heads=np.mean, last_first=True):
    flow = unit = np.eye(maps[0].shape[-1])
    for weights in maps:
        mixed = share * unit + (1 - share) * heads(weights, axis=0)
        flow = mixed @ flow if last_first else flow @ mixed
    return flow[0, 1:]


def _unscaled(maps):
    flow = unit = np.eye(maps[0].shape[-1])
    for weights in maps:
        flow = (unit + weights.mean(0)) @ flow
    return flow[0, 1:]


rollout = Exercise(
    name="13.rollout",
    task="Return how much of each patch reaches the class token through all layers.",
    solution=_rollout,
    cases=(
        Case("three tokens by hand", _three_tokens),
        Case("two layers", _layers(2, 2, 5)),
        Case("three layers", _layers(3, 4, 6)),
        Case("one layer", _layers(1, 3, 4), "edge"),
        Case("one head", _layers(2, 1, 4), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda maps: _rollout(maps, share=0.0),
            "the shortcuts are missing: half of what a token becomes is what it was. "
            "Mix each map with the unit matrix, ½ and ½.",
        ),
        Mistake(
            lambda maps: _rollout(maps, last_first=False),
            "the layers are in the wrong order: the first one acts on the tokens "
            "first, so it stands rightmost in the product.",
        ),
        Mistake(
            _unscaled,
            "the rows do not sum to 1 any more: the unit matrix and the map count by a "
            "half each.",
        ),
        Mistake(
            lambda maps: _rollout(maps, heads=np.sum),
            "the heads are added up; take their mean, whose rows sum to 1.",
        ),
        Mistake(
            lambda maps: maps[-1].mean(0)[0, 1:],
            "that is the last layer's map alone; multiply those of all layers.",
        ),
    ),
    hints=(
        "One layer: what share of each token does the class token hold after it? Then "
        "the next layer mixes what the first has mixed.",
        "mixed = ½ · unit matrix + ½ · mean over the heads; the rows sum to 1.",
        "flow = mixed @ flow, beginning with the unit matrix and the first layer; the "
        "answer is row 0 without column 0.",
    ),
)
