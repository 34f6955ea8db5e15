"""The exercises of notebook 18 on shared memory: a swizzle, and how wgmma reads."""

import numpy as np

from ..exercise import Case, Exercise, Mistake

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


def _whole_row(row, chunk, width):
    return row * (width // 8) + (chunk ^ row)


def _set_not_wrapped(row, chunk, width):
    return row * (width // 8) + (chunk ^ row // (8 // _group(width)))


def _as_wide_as_the_row(row, chunk, width):
    group = min(8, width // 8)
    return row * (width // 8) + (chunk ^ row // (8 // group) % group)


def _within_the_set(row, chunk, width):
    return row * (width // 8) + (chunk ^ row % (8 // _group(width)))


def _group_alone(row, chunk, width):
    group = _group(width)
    return row * (width // 8) + (chunk ^ row // (8 // group)) % group


def _rows_of_eight(row, chunk, width):
    return _place(row, chunk, width) + row * (8 - width // 8)


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
            _whole_row,
            "row 8 sends a chunk out of its row: exclusive-or with row % 8, and with "
            "less where the group is smaller.",
        ),
        Mistake(
            _always_eight,
            "chunks leave their row: a row of 4 chunks has no place 7. Exclusive-or "
            "with a number below the group.",
            also=(_set_not_wrapped,),
        ),
        Mistake(
            _as_wide_as_the_row,
            "8 chunks do not divide a row of 10 or of 12. The group is 8 where 64 "
            "divides the width, else 4 where 32 does, else 2.",
        ),
        Mistake(
            _within_the_set,
            "you took row % w, the place within the w rows that share the banks. They "
            "do not meet; the next w rows do: row // w, modulo the group.",
        ),
        Mistake(
            _group_alone,
            "two chunks of a row get one place: only the exclusive or's right side is "
            "taken modulo the group, the chunk keeps its upper bits.",
        ),
        Mistake(
            lambda row, chunk, width: _place(row, chunk, width) - row * (width // 8),
            "that is the place within the row. The tile's earlier rows come before it, "
            "width // 8 chunks each.",
        ),
        Mistake(
            lambda row, chunk, width: 8 * _place(row, chunk, width),
            "counted in numbers or bytes; a place is counted in chunks of 8 numbers, "
            "and a row has width // 8.",
            also=(
                lambda row, chunk, width: 16 * _place(row, chunk, width),
                lambda row, chunk, width: (
                    _place(row, chunk, width) + row * (width - width // 8)
                ),
            ),
        ),
        Mistake(
            _rows_of_eight,
            "your rows have 8 chunks whatever the width is; they have width // 8.",
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
