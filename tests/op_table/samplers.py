"""Sample generators: arrays of every rank and memory layout, with settings."""

import numpy as np

from .record import Sample


def normal(rng, shape):
    return np.asarray(rng.standard_normal(shape))


def positive(rng, shape):
    """Between 0.5 and 2: away from 0, where roots and logarithms are steep."""
    return np.asarray(rng.uniform(0.5, 2.0, shape))


def layouts(rng, draw=normal):
    """Arrays by what is special about them; those with axes share their last size."""
    return {
        "0-d": draw(rng, ()),
        "1-d": draw(rng, (4,)),
        "2-d": draw(rng, (2, 3)),
        "3-d": draw(rng, (2, 3, 2)),
        "4-d": draw(rng, (2, 1, 3, 2)),
        "size-1 axes": draw(rng, (1, 3, 1)),
        "empty": draw(rng, (0, 3)),
        "transposed": draw(rng, (3, 2)).T,
        "axes rotated": draw(rng, (2, 3, 2)).transpose(2, 0, 1),
        "strided": draw(rng, (4, 6))[::2, 1::2],
        "negative stride": draw(rng, (2, 3))[::-1, ::-1],
        "broadcast": np.broadcast_to(draw(rng, (3, 1)), (3, 2)),
        "over 64 numbers": draw(rng, (10, 7)),
    }


def unary(draw=normal, *settings):
    """Each layout by itself, under each of the `settings` in turn."""

    def samples(rng):
        turns = settings or ({},)
        return [
            Sample((x,), turns[(i + n) % len(turns)])
            for n in range(min(len(turns), 2))
            for i, x in enumerate(layouts(rng, draw).values())
        ]

    return samples


def binary(first=normal, second=normal, numbers=(1.5, 2)):
    """Pairs of each layout, broadcast both ways, one tensor twice, and numbers."""

    def samples(rng):
        a, b = layouts(rng, first), layouts(rng, second)
        pairs = [(a[kind], b[kind]) for kind in a]
        x, y = second(rng, (2, 3)), first(rng, (2, 3))
        shared = first(rng, (2, 2)) if first is second else None
        pairs += [
            (first(rng, (3,)), x),
            (y, second(rng, (2, 1))),
            (first(rng, (2, 1, 3)), second(rng, (4, 1))),  # both stretched
            (first(rng, ()), x),
            (first(rng, (1,)), second(rng, (0, 3))),
            *((y, number) for number in numbers),
            *((number, x) for number in numbers),
        ]
        pairs += [] if shared is None else [(shared, shared)]
        return [Sample(pair) for pair in pairs]

    return samples


def reduced(draw=normal, nothing=False):
    """Each layout along some axes; `nothing`: also those that reduce no numbers.

    Equal numbers of the broadcast view fall into different results: no ties.
    """

    def samples(rng):
        x = layouts(rng, draw)
        found = [
            (x["0-d"], None, False),
            (x["1-d"], None, False),
            (x["1-d"], -1, True),
            (x["2-d"], 0, False),
            (x["2-d"], None, True),
            (x["3-d"], (0, -1), True),
            (x["3-d"], (1, 2), False),
            (x["4-d"], -2, False),
            (x["4-d"], (1,), True),
            (x["size-1 axes"], 0, False),
            (x["empty"], 1, True),
            (x["transposed"], None, False),
            (x["strided"], -1, False),
            (x["negative stride"], 0, True),
            (x["broadcast"], 0, False),
            (x["over 64 numbers"], -1, False),
        ]
        if nothing:
            found += [(x["empty"], 0, False), (x["empty"], None, True)]
        return [Sample((a,), {"dim": dim, "keepdim": keep}) for a, dim, keep in found]

    return samples
