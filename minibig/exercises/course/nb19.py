"""The exercises of notebook 19: the account of memory, and small floats."""

import numpy as np

from ..exercise import Case, Exercise, Mistake

# ---- 19.memory ----------------------------------------------------------------------


def _parameters(T, C, L, V):
    return V * C + T * C + L * (12 * C**2 + 13 * C) + 2 * C


def _bytes(B, T, C, L, V, size, again, weight=None, largest=None):
    """The account, with other bytes a weight, or another largest part beside it."""
    weight = weight or (12 if size == 4 else 14)
    largest = largest or (max(2 * V, 16 * C) if again else 2 * V)
    arrays = 2 + (L if again else 16 * L)
    return weight * _parameters(T, C, L, V) + size * B * T * (arrays * C + largest)


def _memory(B, T, C, L, V, size, again):
    return _bytes(B, T, C, L, V, size, again)


def _weighing(float32, mixed):
    """The account with so many bytes a weight, in float32 and in mixed precision."""

    def memory(B, T, C, L, V, size, again):
        weight = float32 if size == 4 else mixed
        return _bytes(B, T, C, L, V, size, again, weight=weight)

    return memory


def _less(of):
    """The account without so many numbers of `size` bytes, or so many parameters."""

    def memory(B, T, C, L, V, size, again):
        numbers, parameters = of(B, T, C, L, V, again)
        weight = 12 if size == 4 else 14
        whole = _bytes(B, T, C, L, V, size, again)
        return whole - size * numbers - weight * parameters

    return memory


def _in(unit):
    return lambda *sizes: _memory(*sizes) / unit


def _numbers_for_bytes(B, T, C, L, V, size, again):
    """Activations and logits counted, and not multiplied by their bytes."""
    model = _bytes(0, T, C, L, V, size, again)
    return model + _bytes(B, T, C, L, V, 1, again) - _bytes(0, T, C, L, V, 1, again)


def _logits_once(B, T, C, L, V, size, again):
    largest = max(V, 16 * C) if again else V
    return _bytes(B, T, C, L, V, size, again, largest=largest)


def _no_block_at_work(B, T, C, L, V, size, again):
    return _bytes(B, T, C, L, V, size, again, largest=2 * V)


def _both_at_once(B, T, C, L, V, size, again):
    largest = 2 * V + 16 * C * again
    return _bytes(B, T, C, L, V, size, again, largest=largest)


memory = Exercise(
    name="19.memory",
    task="Bytes at the peak of a training step of a GPT, by the notebook's formulas.",
    solution=_memory,
    cases=(
        Case("by hand: 1 token", lambda: (1, 1, 1, 1, 1, 4, False)),
        Case("GPT-2, 64 texts", lambda: (64, 1024, 768, 12, 50257, 4, False)),
        Case("in 16 bits", lambda: (16, 75, 48, 6, 161, 2, False)),
        Case("computed again", lambda: (16, 75, 48, 6, 161, 4, True)),
        Case("again, in 16 bits", lambda: (8, 1024, 768, 12, 50257, 2, True)),
        Case("no block at all", lambda: (2, 3, 4, 0, 5, 4, False), "edge"),
    ),
    mistakes=(
        Mistake(
            _weighing(12, 6),
            "with size 2 you halved weights and moments too. The weights stay float32 "
            "and so do the moments, 12 bytes; the copies of 2 bytes come on top.",
        ),
        Mistake(
            _weighing(12, 12),
            "in mixed precision the 16-bit copies of the weights exist beside the "
            "float32 ones: 14 bytes a weight, not 12.",
        ),
        Mistake(
            _weighing(16, 18),
            "you counted the gradients of the weights. At the peak, where backward "
            "begins, there are none yet: weights and two moments make 12 bytes.",
            also=(_weighing(16, 16),),
        ),
        Mistake(
            _weighing(12, 10),
            "with size 2 the float32 weights, the masters, are missing: they stay "
            "beside the copies, 4 + 2 bytes, and the moments take 8.",
        ),
        Mistake(
            _weighing(8, 10),
            "Adam has two moments, of the gradient and of its square: 8 bytes a "
            "weight beside the weight's own 4.",
            also=(_weighing(8, 8), _weighing(8, 6)),
        ),
        Mistake(
            _weighing(4, 2),
            "Adam's moments are missing: two numbers of 4 bytes for each weight.",
            also=(_weighing(4, 4), _weighing(4, 6)),
        ),
        Mistake(
            _in(1e9),
            "the account is asked for in bytes: yours is in kB, MB or GB, or in KiB, "
            "MiB or GiB.",
            also=tuple(map(_in, (1e6, 1e3, 2**30, 2**20, 2**10))),
        ),
        Mistake(
            _numbers_for_bytes,
            "activations and logits are counted in numbers, not in bytes: each has "
            "`size` bytes.",
        ),
        Mistake(
            _less(lambda B, T, C, L, V, again: (2 * B * T * C, 0)),
            "the arrays outside the blocks are missing: the last norm and the output "
            "layer keep one (B, T, C) each.",
        ),
        Mistake(
            _less(lambda B, T, C, L, V, again: (0, 13 * C * L + 2 * C)),
            "parameters are missing: biases and norms, 13 C in each block and 2 C "
            "after them.",
            also=(_less(lambda B, T, C, L, V, again: (0, 13 * C * L)),),
        ),
        Mistake(
            _less(lambda B, T, C, L, V, again: (0, T * C)),
            "parameters are missing: the table of places, T C.",
        ),
        Mistake(
            _less(lambda B, T, C, L, V, again: (0, -V * C)),
            "the output layer has no weights of its own: it is the table of tokens, "
            "V C, which counts once.",
        ),
        Mistake(
            _logits_once,
            "the logits count twice: when backward begins, they and their gradient, "
            "which is as large, are both there.",
        ),
        Mistake(
            _no_block_at_work,
            "the block at work holds its 16 arrays once more when computed again: "
            "where they are more than the logits and their gradient, they count.",
        ),
        Mistake(
            _both_at_once,
            "you added the block at work to the logits. When a block is computed "
            "again, the logits are gone: the larger of the two counts.",
        ),
    ),
    hints=(
        "Three parts: the model, arrays of (B, T, C), and the logits or a block.",
        "The model: N times 12, or 14 with copies. The logits: 2 B T V numbers.",
        "Arrays: 2 + 16 L, or 2 + L if computed again; times B T C size. Then the "
        "larger of 2 V and 16 C takes the place of 2 V.",
    ),
)


# ---- 19.round_to --------------------------------------------------------------------


def _spacing(x, exponent, fraction):
    bias = 2 ** (exponent - 1) - 1
    return 2.0 ** (np.maximum(np.frexp(x)[1] - 1, 1 - bias) - fraction)


def _limits(exponent, fraction):
    """(smallest normal number, largest number)."""
    bias = 2 ** (exponent - 1) - 1
    return 2.0 ** (1 - bias), (2 - 2.0**-fraction) * 2.0**bias


def _overflowed(y, x, exponent, fraction):
    largest = _limits(exponent, fraction)[1]
    return np.where(np.abs(y) > largest, np.copysign(np.inf, x), y)


def _round_to(x, exponent, fraction):
    spacing = _spacing(x, exponent, fraction)
    return _overflowed(np.rint(x / spacing) * spacing, x, exponent, fraction)


def _cut_off(x, exponent, fraction):
    spacing = _spacing(x, exponent, fraction)
    return _overflowed(np.trunc(x / spacing) * spacing, x, exponent, fraction)


def _floored(x, exponent, fraction):
    spacing = _spacing(x, exponent, fraction)
    return _overflowed(np.floor(x / spacing) * spacing, x, exponent, fraction)


def _ties_away(x, exponent, fraction):
    spacing = _spacing(x, exponent, fraction)
    whole = np.floor(np.abs(x) / spacing + 0.5)
    return _overflowed(np.copysign(whole * spacing, x), x, exponent, fraction)


def _ties_up(x, exponent, fraction):
    spacing = _spacing(x, exponent, fraction)
    return _overflowed(np.floor(x / spacing + 0.5) * spacing, x, exponent, fraction)


def _flushed(x, exponent, fraction):
    smallest = _limits(exponent, fraction)[0]
    return np.where(np.abs(x) < smallest, 0, _round_to(x, exponent, fraction))


def _no_bottom(x, exponent, fraction):
    spacing = 2.0 ** (np.frexp(x)[1] - 1 - fraction)
    return _overflowed(np.rint(x / spacing) * spacing, x, exponent, fraction)


def _shifted(of_x=0, of_lowest=0, of_largest=0):
    """With another exponent of x, or other limits."""

    def round_to(x, exponent, fraction):
        lowest = 2 - 2 ** (exponent - 1) + of_lowest
        spacing = 2.0 ** (np.maximum(np.frexp(x)[1] - 1 + of_x, lowest) - fraction)
        y, largest = np.rint(x / spacing) * spacing, _limits(exponent, fraction)[1]
        too_large = np.abs(y) > largest * 2.0**of_largest
        return np.where(too_large, np.copysign(np.inf, x), y)

    return round_to


def _endless(x, exponent, fraction):
    spacing = _spacing(x, exponent, fraction)
    return np.rint(x / spacing) * spacing


def _saturated(x, exponent, fraction):
    largest = _limits(exponent, fraction)[1]
    return np.clip(_round_to(x, exponent, fraction), -largest, largest)


def _compared_too_early(x, exponent, fraction):
    too_large = np.abs(x) > _limits(exponent, fraction)[1]
    return np.where(too_large, np.copysign(np.inf, x), _endless(x, exponent, fraction))


def _sign_lost(x, exponent, fraction):
    y = _endless(x, exponent, fraction)
    return np.where(np.abs(y) > _limits(exponent, fraction)[1], np.inf, y)


def _drawn(low, high, seed):
    rng = np.random.default_rng([19, seed])
    return rng.standard_normal(40) * 2.0 ** rng.integers(low, high, 40)


def _numbers(*values):
    return np.array(values, "float64")


round_to = Exercise(
    name="19.round_to",
    task="x rounded to a float of so many exponent and fraction bits, ties to even.",
    solution=_round_to,
    cases=(
        Case("pi, 0.1, -3 (5, 10)", lambda: (_numbers(np.pi, 0.1, -3), 5, 10)),
        Case("40 numbers (8, 7)", lambda: (_drawn(-60, 60, 1), 8, 7)),
        Case("8 bits (5, 2)", lambda: (_drawn(-10, 10, 2), 5, 2)),
        Case(
            "ties (5, 10)", lambda: (_numbers(2049, 2051, -2049, 4098), 5, 10), "edge"
        ),
        Case("subnormal (5, 10)", lambda: (_drawn(-26, -14, 3), 5, 10), "edge"),
        Case("too large", lambda: (_numbers(65519, 65520, -1e6, 65504), 5, 10), "edge"),
        Case("gradients of 1e-8", lambda: (_numbers(1e-8, 4e-8, -1e-7), 5, 10), "edge"),
    ),
    mistakes=(
        Mistake(
            _cut_off,
            "you cut the rest off, which is always towards 0. Round to the nearest: "
            "np.rint.",
        ),
        Mistake(
            _floored,
            "you always rounded down, as np.floor does. Round to the nearest: np.rint.",
        ),
        Mistake(
            _ties_away,
            "ties go away from 0 in yours. In the middle of two numbers the even one "
            "wins, as np.rint does: 2,049 is 2,048 in float16.",
        ),
        Mistake(
            _ties_up,
            "ties go up in yours: adding a half and np.floor does so. In the middle of "
            "two numbers the even one wins, as np.rint does.",
        ),
        Mistake(
            _shifted(of_x=1),
            "one bit too few: frexp's x is m 2^e with m from 1/2 on, not from 1, so "
            "the exponent here is np.frexp(x)[1] - 1.",
        ),
        Mistake(
            _shifted(of_x=-1),
            "one bit too many: `fraction` bits stand behind the leading 1, so the "
            "spacing is 2 to the power (exponent of x - fraction).",
        ),
        Mistake(
            _shifted(of_lowest=-1),
            "your subnormal numbers are twice as dense: below the normal numbers the "
            "exponent stays at 1 - bias, as in the smallest of them, not at -bias.",
        ),
        Mistake(
            _shifted(of_lowest=-1, of_largest=1),
            "your bias is one too large: it is 2^(exponent - 1) - 1, 15 in float16.",
        ),
        Mistake(
            _flushed,
            "you made 0 of all numbers below the smallest normal one. There are "
            "subnormal numbers below it, with the spacing of that one.",
        ),
        Mistake(
            _no_bottom,
            "small numbers keep all their digits in yours: below the exponent 1 - bias "
            "the spacing gets no finer.",
        ),
        Mistake(
            _endless,
            "nothing is too large in yours: what rounds to more than the largest "
            "number, 65,504 in float16, must become infinite.",
        ),
        Mistake(
            _saturated,
            "what is too large becomes the largest number in yours; it must become "
            "infinite, with its sign.",
        ),
        Mistake(
            _compared_too_early,
            "round first, then compare: 65,519 is more than 65,504, and rounds to it.",
        ),
        Mistake(
            _sign_lost,
            "-1,000,000 has become plus infinity: np.copysign(np.inf, x) keeps the "
            "sign.",
        ),
    ),
    hints=(
        "Find the spacing of the format's numbers around x; then round x / spacing.",
        "The exponent of x is np.frexp(x)[1] - 1, and at least 1 - bias; the spacing "
        "is 2 to the power (exponent - fraction).",
        "At the end: larger than (2 - 2^-fraction) 2^bias? Then np.copysign(inf, x).",
    ),
    tolerance=0.0,
)
