"""The rung on tensor cores: its tiles, and both passes against the op in float64."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import test_kernels_emulated as rungs
from kernel_cases import Case, inputs, pairwise, whole_grid
from test_kernels_emulated import check, needs_emulator, run, wrong

from minibig import backend
from minibig.kernels import Module, attention, attention_mma, emulator, nvrtc
from minibig.kernels.problem import WIDTHS, problem
from minibig.kernels.source import parse, read

machine, planted = rungs.machine, rungs.planted  # fixtures

# Narrow heads in both types, wide ones in one: what takes long is to build them.
KINDS = {32: ("float16", "bfloat16"), 64: ("bfloat16", "float16"),
         80: ("float16",), 96: ("bfloat16",), 128: ("float16",)}  # fmt: skip
CASES = [
    replace(case, dtype=kind)
    for i, case in enumerate(pairwise(24))
    for kind in [KINDS[case.width][i % len(KINDS[case.width])]]
]
if rungs.FULL:
    kinds = ("float16", "bfloat16")
    CASES = [replace(case, dtype=kind) for case in whole_grid() for kind in kinds]


@pytest.fixture(autouse=True)
def bits_of_bfloat16(monkeypatch):
    """NumPy has no bfloat16: its bits go in."""
    monkeypatch.setitem(attention_mma.SIXTEEN_BITS, "uint16", "bfloat16")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_both_passes_agree_with_the_op(case, machine):
    check(case, run(case, "mma", machine))


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_queries_that_see_nothing_get_zeros_and_give_zeros(kind, machine):
    case = Case(33, 31, 32, "before", (2, 2, 1), "whole", kind)
    out, dq, dk, dv = run(case, "mma", machine)
    assert not out[0].any() and not dq[0].any() and not dk[0].any() and not dv[0].any()
    assert not out[1, :, :2].any() and not dq[1, :, :2].any()  # before all keys
    assert out[1, :, 2:].any() and dk[1].any()


EARLY = Case(150, 200, 32, dtype="float16")


def test_a_block_of_queries_before_all_keys_gives_zeros(machine):
    q, k, v, dout = (backend.to_device(x, machine) for x in inputs(EARLY))
    settings = {"is_causal": True, "offset": -140, "rung": "mma"}
    out, backward = attention.attention(q, k, v, **settings)
    out, dq, dk, dv = (backend.to_device(x, "cpu") for x in (out, *backward(dout)))
    assert not out[..., :140, :].any() and not dq[..., :140, :].any()
    assert out[..., 140:, :].any() and dk[..., :10, :].any()
    assert not dk[..., 10:, :].any() and not dv[..., 10:, :].any()


@needs_emulator
def test_large_scores_stay_finite():
    q, k, v, dout = (x * np.float16(30) for x in inputs(replace(EARLY, queries=33)))
    out, backward = attention.attention(q, k, v, rung="mma")
    for x in (out, *backward(dout)):
        assert np.isfinite(x).all()


@needs_emulator
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_every_order_of_threads_gives_the_same_bits(kind):
    case = Case(65, 33, 32, "causal", (1, 4, 2), "some", kind)
    first = run(case, "mma")
    with emulator.shuffled(1):
        for a, b in zip(first, run(case, "mma"), strict=True):
            np.testing.assert_array_equal(a, b)


@needs_emulator
def test_one_number_a_row_is_kept_for_the_backward():
    q, k, v, _ = inputs(Case(127, 129, 32, dtype="float16"))
    p = problem(q, k, v, None, False, 0, None)
    _, saved = attention.RUNGS["mma"].forward(p, q, k, v, None)
    scores = q.astype("float64") @ k.swapaxes(-1, -2) / np.sqrt(32)
    np.testing.assert_allclose(saved, np.log(np.exp(scores).sum(-1)), rtol=1e-5)


# ---- tiles --------------------------------------------------------------------------

PLACES = """
#include "ptx.cuh"
#include "attention.cuh"
#include "mma.cuh"

template <int D>
__global__ void places(int* out, int* of_lanes) {
  for (int i = threadIdx.x; i < 16 * D / 8; i += 32)
    out[i] = place<D>(i / (D / 8), i % (D / 8));
  for (int k = 0; k < D / 16; k++, of_lanes += 64) {
    of_lanes[threadIdx.x] = lane_place<D>(k);
    of_lanes[32 + threadIdx.x] = lane_place<D>(k, true);
  }
}
"""


@pytest.fixture(params=WIDTHS)
def places(request):
    """Where the chunks of 16 rows lie, and those that the lanes point at."""
    if emulator.missing():
        pytest.skip(emulator.missing())
    width = request.param
    out = np.full((16, width // 8), -1, "int32")
    of_lanes = np.full((width // 16, 2, 32), -1, "int32")
    kernel = Module(parse("places.cu", PLACES), width)["places"]
    kernel((1,), (32,), out, of_lanes)
    return out, of_lanes


def test_a_tile_keeps_every_chunk_in_its_row(places):
    width = places[0].shape[1] * 8
    for row, chunks in enumerate(places[0]):
        assert sorted(chunks) == list(range(row * width, (row + 1) * width, 8))


def test_ldmatrix_finds_eight_rows_in_eight_groups_of_banks(places):
    groups = places[0] // 8 % 8  # 16 bytes of 128
    for first, chunk in itertools.product((0, 8), range(groups.shape[1])):
        assert len(set(groups[first : first + 8, chunk])) == 8


def test_lanes_point_at_the_four_matrices_of_an_operand(places):
    chunks, of_lanes = places
    for k, matrix, row in np.ndindex(len(of_lanes), 4, 8):
        a, b = of_lanes[k, :, 8 * matrix + row]
        lower, right = matrix % 2, matrix // 2
        assert a == chunks[8 * lower + row, 2 * k + right]
        assert b == chunks[8 * right + row, 2 * k + lower]


# ---- what is refused ----------------------------------------------------------------


def test_what_the_rung_cannot_do_falls_to_the_rung_below():
    q = np.zeros((1, 1, 2, 64), "float16")
    assert attention.explain(q, q, q, chip=80).startswith("mma; hopper needs")
    old = attention.explain(q, q, q, chip=75)
    assert old.startswith("flash; ")
    assert "; mma needs compute capability 8.0 (Ampere) or newer, not 7.5" in old
    negative = attention.explain(q, q, q, scale=-1.0, chip=90)
    assert negative.endswith("; mma wants a scale above 0, not -1.0")
    wide = q.astype("float32")
    assert "; mma reads" in attention.explain(wide, wide, wide, chip=90)


@pytest.mark.skipif(nvrtc.missing() is not None, reason=str(nvrtc.missing()))
def test_the_compiler_refuses_turing():
    for file in ("attention_mma_forward.cu", "attention_mma_backward.cu"):
        with pytest.raises(nvrtc.CompilerError, match="sm_80 or higher"):
            nvrtc.compile(read(file), ("float16", 32), "sm_75")


def test_shared_memory_fits_every_chip_it_is_meant_for(monkeypatch):
    asked = []

    class Recorder(dict):
        def __getitem__(self, name):
            return lambda *arguments, shared: asked.append(shared)

    monkeypatch.setattr(attention_mma, "load", lambda *_: Recorder())
    for width in WIDTHS:
        q = np.zeros((1, 1, 2, width), "float16")
        p = problem(q, q, q, None, False, 0, None)
        rung = attention.RUNGS["mma"]
        out, lse = rung.forward(p, q, q, q, None)
        rung.backward(p, q, q, q, None, out, lse, out)
    assert len(asked) == 3 * len(WIDTHS)
    assert max(asked) <= 99 << 10  # what sm_86 and sm_89 give to a block


def test_arrays_at_odd_addresses_are_moved():
    x = np.zeros(65, "float16")[1:]
    assert x.ctypes.data % 16
    assert attention.RUNGS["mma"].readable(x).ctypes.data % 16 == 0
    whole = np.zeros(64, "float16")
    assert attention.RUNGS["mma"].readable(whole) is whole


# ---- planted faults -----------------------------------------------------------------

FORWARD, BACKWARD = "attention_mma_forward.cu", "attention_mma_backward.cu"
# The last wait of each kernel holds back copies that nobody reads any more, but that
# must not land on what is stored in their places. The emulator cannot show it missing:
# there copies land when their thread waits for them, or never.
LAST_WAITS = {(FORWARD, 2), (BACKWARD, 1), (BACKWARD, 3)}
FAULTS = [  # file, what stands there, its number in the file, what is planted
    (FORWARD, "row + y < rows);", 0, "true);"),
    (FORWARD, "if (row >= rows) break;", 0, ""),
] + [
    (file, word, number, "")
    for file in (FORWARD, BACKWARD)
    for word in ("__syncthreads();", "__syncwarp();", "copy_async_wait<0>();")
    for number in range(read(file).text.count(word))
    if not ("wait" in word and (file, number) in LAST_WAITS)
]


@needs_emulator
@pytest.mark.parametrize("file, word, number, fault", FAULTS)
def test_a_fault_shows(file, word, number, fault, planted):
    def change(text):
        parts = text.split(word)
        before, after = parts[: number + 1], parts[number + 1 :]
        return word.join(before) + fault + word.join(after)

    planted(file, change)
    far = Case(200, 200, 32, "far", dtype="float16")  # a block of them sees nothing
    assert wrong(Case(65, 200, 32, dtype="float16"), "mma") or wrong(far, "mma")
