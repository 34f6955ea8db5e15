"""The fourth exercise of notebook 16: how many threads a multiprocessor holds."""

from ..exercise import Case, Exercise, Mistake

# ---- 16.occupancy -------------------------------------------------------------------


def _ceil(a, b):
    return -(-a // b)


def _warps_held(registers, step=8, parts=4):
    """As many as the registers, in equal parts, have room for."""
    return parts * (65536 // parts // (32 * step * _ceil(registers, step)))


def _blocks(threads, registers, shared, most=32, reserved=1024, unit=128, **given):
    warps = _ceil(threads, 32)
    taken = unit * _ceil(shared + reserved, unit) or 1
    held = _warps_held(registers, **given)
    return min(64 // warps, most, held // warps, 233472 // taken)


def _occupancy(threads, registers, shared, **limits):
    return _blocks(threads, registers, shared, **limits) * _ceil(threads, 32)


def _parts_of_blocks(threads, registers, shared):
    warps = _ceil(threads, 32)
    fitting = 233472 / (128 * _ceil(shared + 1024, 128))
    return int(min(64, 32 * warps, _warps_held(registers), fitting * warps))


def _thin_warps(threads, registers, shared):
    held = 32 * _warps_held(registers) // threads
    fitting = 233472 // (128 * _ceil(shared + 1024, 128))
    return min(2048 // threads, 32, held, fitting) * threads // 32


occupancy = Exercise(
    name="16.occupancy",
    task="How many warps a Hopper multiprocessor holds of a kernel.",
    solution=_occupancy,
    cases=(
        Case("256 threads, 40 reg.", lambda: (256, 40, 0)),
        Case("128 threads, 32 reg.", lambda: (128, 32, 4000)),
        Case("48 kB shared", lambda: (256, 32, 49152)),
        Case("33 registers", lambda: (256, 33, 0)),
        Case("64 threads, 40 reg.", lambda: (64, 40, 0)),
        Case("32 threads", lambda: (32, 16, 0), "edge"),
        Case("48 threads", lambda: (48, 96, 0), "edge"),
        Case("7 kB, 32 would fit", lambda: (64, 24, 7000), "edge"),
        Case("too much shared", lambda: (256, 32, 240_000), "edge"),
    ),
    mistakes=(
        Mistake(
            _blocks,
            "that is the number of blocks. Each has threads / 32 warps, rounded up.",
        ),
        Mistake(
            lambda t, r, s: _occupancy(t, r, s, most=64),
            "a multiprocessor holds 32 blocks at most: with blocks of 32 threads that "
            "is half of what it could.",
        ),
        Mistake(
            lambda t, r, s: _occupancy(t, r, s, step=1),
            "registers are given out in eights: 33 a thread cost as much as 40.",
        ),
        Mistake(
            lambda t, r, s: _occupancy(t, r, s, parts=1),
            "no warp has registers in two parts: how many fit into 16,384, rounded "
            "down, comes first, and then times four.",
        ),
        Mistake(
            lambda t, r, s: _occupancy(t, r, s, unit=1),
            "shared memory is given out in pieces of 128 bytes: 7,000 and 1,024 more "
            "take 8,064.",
        ),
        Mistake(
            lambda t, r, s: _occupancy(t, r, s, reserved=0),
            "each block takes 1,024 bytes of shared memory more than it asks for.",
        ),
        Mistake(
            _parts_of_blocks,
            "you let in parts of blocks. Round down to whole blocks first, then "
            "multiply by the warps of one.",
        ),
        Mistake(
            _thin_warps,
            "48 threads are two warps, and take registers and places for 64: round "
            "the warps up before anything else.",
        ),
    ),
    hints=(
        "How many blocks does each of the four limits allow? The smallest counts.",
        "Round up the warps of a block, the registers of a thread and the shared "
        "memory of a block; all divisions by what is taken round down.",
        "Of registers fit 4 * (16384 // (32 * registers)) // warps blocks, of shared "
        "memory 233472 // (shared and 1024, rounded up to a multiple of 128).",
    ),
)
