"""The exercises of notebook 18 on registers: who holds what, and in which 16 bits."""

import numpy as np

from ..exercise import Case, Exercise, Mistake

# ---- 18.owner -----------------------------------------------------------------------


def _owner(row, column):
    lane = row % 8 * 4 + column % 8 // 2
    return lane, row // 8 + 2 * (column // 8), column % 2


def _halves_four_apart(row, column):
    register = row // 8 + 2 * (column // 8)
    return row % 8 * 4 + column % 4, register, column % 8 // 4


def _lane(of):
    """The owner, with another lane."""
    return lambda row, column: (of(row, column), *_owner(row, column)[1:])


def _turned_halves(row, column):
    lane, register, half = _owner(row, column)
    return lane, register, 1 - half


def _as_a_result(row, column):
    lane, _, half = _owner(row, column)
    return lane, 2 * (row // 8) + half, column // 8


def _register(of):
    """The owner, with another register."""

    def owner(row, column):
        lane, _, half = _owner(row, column)
        return lane, of(row, column), half

    return owner


def _lanes_of_b(row, column):
    return _owner(column, row)


owner = Exercise(
    name="18.owner",
    task="(lane, register, half) that hold A[row, column], for mma.m16n8k16.",
    solution=_owner,
    cases=(
        Case("row 3, column 2", lambda: (3, 2)),
        Case("row 12, column 5", lambda: (12, 5)),
        Case("row 6, column 11", lambda: (6, 11)),
        Case("the first number", lambda: (0, 0), "edge"),
        Case("the last number", lambda: (15, 15), "edge"),
    ),
    mistakes=(
        Mistake(
            _register(lambda row, column: 2 * (row // 8) + column // 8),
            "a1 and a2 are exchanged: a1 is eight rows further down, a2 eight columns "
            "to the right.",
        ),
        Mistake(
            _halves_four_apart,
            "the two halves of a register are neighbours, columns 2t and 2t + 1, not "
            "four columns apart.",
        ),
        Mistake(
            _lane(lambda row, column: column % 8 // 2 * 8 + row % 8),
            "g and t are exchanged: your lanes run down the columns. The lane is "
            "4g + t: four neighbouring lanes share a row.",
            also=(_lane(lambda row, column: column % 8 // 2 * 4 + row % 8),),
        ),
        Mistake(
            _lane(lambda row, column: row * 4 + column % 8 // 2),
            "a lane above 31: g is row % 8, since rows g and g + 8 belong to the same "
            "lanes.",
            also=(_lane(lambda row, column: row * 4 + column // 2),),
        ),
        Mistake(
            _lane(lambda row, column: row % 8 * 4 + column // 2),
            "t, a place among four, goes up to 7 in yours: columns 8 to 15 belong to "
            "the lanes of columns 0 to 7, so it is column % 8 // 2.",
        ),
        Mistake(
            _lane(lambda row, column: row % 8 * 4 + column % 4),
            "t is not the column itself: a lane holds pairs, columns 2t and 2t + 1.",
            also=(
                _lane(lambda row, column: row % 8 * 4 + column % 8),
                _lane(lambda row, column: row % 8 * 4 + column // 4),
            ),
        ),
        Mistake(
            _register(lambda row, column: row // 8 + column // 8),
            "a1 and a2 are one in yours: the right half of the columns counts twice, "
            "row // 8 + 2 (column // 8).",
        ),
        Mistake(
            _as_a_result,
            "that is how C lies, whose pair are two registers. Of A a register holds "
            "both columns of a pair: half is column % 2.",
        ),
        Mistake(
            _turned_halves,
            "half is 0 for the even column: the lower bits of the register come first.",
        ),
        Mistake(
            _lanes_of_b,
            "row and column are exchanged: lanes that share a column hold a B.",
        ),
    ),
    hints=(
        "Which g has this row? Rows g and g + 8 belong to the same lanes.",
        "t is the number of the pair among the four of 8 columns: column % 8 // 2.",
        "lane = 4 (row % 8) + column % 8 // 2; register = row // 8 + 2 (column // 8).",
    ),
)


# ---- 18.bfloat16 --------------------------------------------------------------------


def _bits(x, added, nan=True):
    bits = x.view("uint32")
    rounded = (bits + added(bits) >> 16).astype("uint16")
    return np.where(np.isnan(x), np.uint16(0x7FFF), rounded) if nan else rounded


def _even(bits):
    return 0x7FFF + (bits >> 16 & 1)


def _bfloat16(x):
    return _bits(x, _even)


def _from_bits(*bits):
    return np.array(bits, "uint32").view("float32")


bfloat16 = Exercise(
    name="18.bfloat16",
    task="The bits of float32 numbers as bfloat16, rounded to nearest, ties to even.",
    solution=_bfloat16,
    cases=(
        Case("0.1, -5.5, 1e30", lambda: (np.array([0.1, -5.5, 1e30], "float32"),)),
        Case(
            "200 normal numbers",
            lambda: (np.random.default_rng(0).normal(size=200).astype("float32"),),
        ),
        Case(
            "ties",
            lambda: (_from_bits(0x3F808000, 0x3F818000, 0xBF808000, 0xBF818000),),
            "edge",
        ),
        Case(
            "0, -0, infinity, too large",
            lambda: (_from_bits(0, 1 << 31, 0x7F800000, 0x7F7FFFFF),),
            "edge",
        ),
        Case("two NaNs", lambda: (_from_bits(0x7FC00000, 0x7FFFFFFF),), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda x: _bits(x, lambda bits: 0),
            "you cut the lower half off, which rounds towards zero.",
            also=(lambda x: _bits(x, lambda bits: 0, nan=False),),
        ),
        Mistake(
            lambda x: _bits(x, lambda bits: 0x8000),
            "a tie, a lower half of exactly 0x8000, always goes up. It must go to the "
            "neighbour whose last bit is 0.",
            also=(lambda x: _bits(x, lambda bits: 0x8000, nan=False),),
        ),
        Mistake(
            lambda x: _bits(x, lambda bits: 0x7FFF),
            "a tie, a lower half of exactly 0x8000, always goes down. It must go to "
            "the neighbour whose last bit is 0.",
            also=(lambda x: _bits(x, lambda bits: 0x7FFF, nan=False),),
        ),
        Mistake(
            lambda x: _bits(x, _even, nan=False),
            "adding carries a NaN of all ones over into the sign: it becomes -0. NaNs "
            "need a case of their own, 0x7FFF.",
        ),
    ),
    hints=(
        "Adding half of a step and cutting rounds to nearest: half a step is 0x8000.",
        "Add a little less, 0x7FFF, and one more where the last bit that stays is 1.",
        "(bits + 0x7FFF + (bits >> 16 & 1)) >> 16, and 0x7FFF where np.isnan(x).",
    ),
)
