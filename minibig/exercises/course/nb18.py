"""The exercises of notebook 18, tensor cores."""

import numpy as np

from ..exercise import Case, Exercise, Mistake

# ---- 18.owner -----------------------------------------------------------------------


def _owner(row, column):
    lane = row % 8 * 4 + column % 8 // 2
    return lane, row // 8 + 2 * (column // 8), column % 2


def _registers_exchanged(row, column):
    lane, _, half = _owner(row, column)
    return lane, 2 * (row // 8) + column // 8, half


def _halves_four_apart(row, column):
    register = row // 8 + 2 * (column // 8)
    return row % 8 * 4 + column % 4, register, column % 8 // 4


def _down_the_columns(row, column):
    _, register, half = _owner(row, column)
    return column % 8 // 2 * 8 + row % 8, register, half


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
            _registers_exchanged,
            "a1 and a2 are exchanged: a1 is eight rows further down, a2 eight columns "
            "to the right.",
        ),
        Mistake(
            _halves_four_apart,
            "the two halves of a register are neighbours, columns 2t and 2t + 1, not "
            "four columns apart.",
        ),
        Mistake(
            _down_the_columns,
            "your lanes run down the columns. The lane is 4g + t: four neighbouring "
            "lanes share a row.",
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


# ---- 18.swizzle ---------------------------------------------------------------------


def _group(width):
    return 8 if width % 64 == 0 else 4 if width % 32 == 0 else 2


def _place(row, chunk, width):
    group = _group(width)
    return row * (width // 8) + (chunk ^ row // (8 // group) % group)


def _every_row_counts(row, chunk, width):
    return row * (width // 8) + (chunk ^ row % _group(width))


def _always_eight(row, chunk, width):
    return row * (width // 8) + (chunk ^ row % 8)


def _turned(row, chunk, width):
    group = _group(width)
    moved = (chunk + row // (8 // group)) % group
    return row * (width // 8) + chunk // group * group + moved


def _tile(width):
    row, chunk = np.mgrid[:16, : width // 8]
    return row, chunk, width


swizzle = Exercise(
    name="18.swizzle",
    task="Where a chunk of 16 bytes lies in a swizzled tile, counted in chunks.",
    solution=_place,
    cases=(
        Case("width 64", lambda: _tile(64)),
        Case("width 128", lambda: _tile(128)),
        Case("width 32: 2 rows share", lambda: _tile(32), "edge"),
        Case("width 80: groups of 2", lambda: _tile(80), "edge"),
        Case("width 96: groups of 4", lambda: _tile(96), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda row, chunk, width: row * (width // 8) + chunk,
            "nothing changes places: eight rows under each other are read from the "
            "same banks.",
        ),
        Mistake(
            _every_row_counts,
            "narrow rows share the banks: with groups of 4, two rows do, and only "
            "every second row may change the order.",
        ),
        Mistake(
            _always_eight,
            "chunks leave their row: a row of 4 chunks has no place 7. Exclusive-or "
            "with a number below the group.",
        ),
        Mistake(
            _turned,
            "you rotate the chunks. That has no conflicts either, but it is not what "
            "ldmatrix's tiles here, and Hopper's hardware, agree on: exclusive or.",
        ),
    ),
    hints=(
        "Row `row` begins at row * (width // 8); only the chunk within it changes.",
        "With a group of 8 it is chunk ^ row % 8. How many rows of a smaller group "
        "make up 128 bytes, modulo 8 chunks?",
        "chunk ^ (row // (8 // group) % group).",
    ),
)


# ---- 18.descriptor ------------------------------------------------------------------


def _fields(descriptor):
    return (descriptor & 0x3FFF) << 4, (descriptor >> 32 & 0x3FFF) << 4


def _swizzled(address):
    return address ^ (address >> 7 & 7) << 4


def _address(descriptor, row, k):
    start, stride = _fields(descriptor)
    return _swizzled(start + row // 8 * stride + row % 8 * 128 + 2 * k)


def _plain(descriptor, row, k):
    start, stride = _fields(descriptor)
    return start + row // 8 * stride + row % 8 * 128 + 2 * k


def _start_added_late(descriptor, row, k):
    start, stride = _fields(descriptor)
    return start + _swizzled(row // 8 * stride + row % 8 * 128 + 2 * k)


def _wrong_stride(descriptor, row, k):
    start, _ = _fields(descriptor)
    leading = (descriptor >> 16 & 0x3FFF) << 4
    return _swizzled(start + row // 8 * leading + row % 8 * 128 + 2 * k)


def _units_forgotten(descriptor, row, k):
    start, stride = descriptor & 0x3FFF, descriptor >> 32 & 0x3FFF
    return _swizzled(start + row // 8 * stride + row % 8 * 128 + 2 * k)


def _numbers_of_a_byte(descriptor, row, k):
    start, stride = _fields(descriptor)
    return _swizzled(start + row // 8 * stride + row % 8 * 128 + k)


def _described(start, row, k, stride=1024):
    return start >> 4 | 1 << 16 | (stride >> 4) << 32 | 1 << 62, row, k


descriptor = Exercise(
    name="18.descriptor",
    task="The byte address of element (row, k) of the matrix that a descriptor means.",
    solution=_address,
    cases=(
        Case("row 3, k 1", lambda: _described(0x4000, 3, 1)),
        Case("row 13, k 9", lambda: _described(0x4000, 13, 9)),
        Case("the third step of k", lambda: _described(0x2040, 6, 5)),
        Case("a gap between blocks", lambda: _described(0x400, 41, 12, 2048), "edge"),
        Case("element (0, 0)", lambda: _described(0x8000, 0, 0), "edge"),
    ),
    mistakes=(
        Mistake(
            _plain,
            "the swizzle is missing: these are the addresses of rows as they come.",
        ),
        Mistake(
            _start_added_late,
            "you swizzled before you added the start, which may lie inside a row. The "
            "exclusive or is taken on the bits of the whole address.",
        ),
        Mistake(
            _wrong_stride,
            "from 8 rows to the next 8 leads the stride offset, bits 32 to 45; you "
            "took the leading one.",
        ),
        Mistake(
            _units_forgotten,
            "start and stride are counted in units of 16 bytes: shift them by 4.",
        ),
        Mistake(_numbers_of_a_byte, "a number has 2 bytes: k is 2 k bytes along."),
    ),
    hints=(
        "Begin without the swizzle: start, blocks of 8 rows, rows of 128 bytes, k.",
        "start + row // 8 * stride + row % 8 * 128 + 2 * k, both in bytes.",
        "Then address ^ (address >> 7 & 7) << 4.",
    ),
)


# ---- 18.product ---------------------------------------------------------------------
# The mistakes are what a wrong kernel would compute, so that no compiler is needed.


def _product(a, b):
    return (a.astype("float64") @ b.astype("float64")).astype("float32")


def _registers_wrong(a, b):
    blocks = a.reshape(2, 8, -1, 2, 8)  # half of the rows, step of k, half of the step
    return _product(blocks.transpose(3, 1, 2, 0, 4).reshape(a.shape), b)


def _last_step_alone(a, b):
    return _product(a[:, -16:], b[-16:])


def _first_step_again(a, b):
    steps = a.shape[1] // 16
    return _product(np.tile(a[:, :16], steps), np.tile(b[:16], (steps, 1)))


def _pairs_turned(a, b):
    return _product(a, b.reshape(-1, 2, 8)[:, ::-1].reshape(b.shape))


def _matrices(width, seed):
    rng = np.random.default_rng(seed)
    shapes = ((16, width), (width, 8))
    return tuple(rng.standard_normal(shape).astype("float16") for shape in shapes)


product = Exercise(
    name="18.product",
    task="A kernel for one warp: C (16, 8) = A (16, K) B (K, 8), by mma.m16n8k16.",
    solution=_product,
    cases=(
        Case("K = 32", lambda: _matrices(32, 0)),
        Case("K = 64", lambda: _matrices(64, 1)),
        Case("K = 16, one step", lambda: _matrices(16, 2), "edge"),
        Case(
            "large sums",
            lambda: (
                np.full((16, 4096), 1, "float16"),
                np.full((4096, 8), 1, "float16"),
            ),
            "edge",
        ),
    ),
    mistakes=(
        Mistake(
            _registers_wrong,
            "registers 1 and 2 of A are exchanged: a1 is eight rows down, a2 eight "
            "columns to the right.",
        ),
        Mistake(
            _last_step_alone,
            "only the last 16 of k count: the sums must be zero before the loop, not "
            "in each step.",
        ),
        Mistake(
            _first_step_again,
            "every step reads the first 16 of k again: add k to the addresses.",
        ),
        Mistake(
            _pairs_turned,
            "the halves of B's registers are exchanged: row 2t is in the lower bits.",
        ),
    ),
    hints=(
        "g = threadIdx.x / 4, t = threadIdx.x % 4, and the formulas for a, b and c.",
        "A pair of A: *(const unsigned*)(a + row * K + k + column), where column is "
        "2t + r / 2 * 8 and row g + r % 2 * 8.",
        "A pair of B: low.bits | (unsigned)high.bits << 16, from rows 2t + 8 r and the "
        "next, column g.",
    ),
    tolerance=1e-3,
)
