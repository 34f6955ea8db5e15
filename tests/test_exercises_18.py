"""The exercises of notebook 18: their solutions are what the library does."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from answers import likely

from minibig.exercises import check
from minibig.exercises.course import nb18, nb18_shared, nb18_warp
from minibig.exercises.cuda import run
from minibig.kernels import Module, emulator, nvrtc, parse

needs_emulator = pytest.mark.skipif(
    emulator.missing() is not None, reason=str(emulator.missing())
)
NOTEBOOK = Path(__file__).parent.parent / "course" / "18_tensor_cores.py"


def test_owner_is_the_lane_that_lies_there():
    lane, register, half = np.meshgrid(
        np.arange(32), np.arange(4), np.arange(2), indexing="ij"
    )
    row = lane // 4 + 8 * (register % 2)
    column = lane % 4 * 2 + half + 8 * (register // 2)
    for ours, true in zip(
        nb18.owner.solution(row, column), (lane, register, half), strict=True
    ):
        np.testing.assert_array_equal(ours, true)


def test_bfloat16_is_that_of_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="it has bfloat16")
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 10_000, dtype="uint64").astype("uint32")
    bits = np.concatenate([bits, bits & 0xFFFF0000 | 0x8000])  # and ties
    x = bits.view("float32")
    x = x[~np.isnan(x)]
    with np.errstate(over="ignore"):
        theirs = x.astype(ml_dtypes.bfloat16).view("uint16")
    np.testing.assert_array_equal(nb18.bfloat16.solution(x), theirs)


PLACES = """
#include "ptx.cuh"
#include "attention.cuh"
#include "mma.cuh"
template <int D>
__device__ void list(int* out) {
  for (int i = 0; i < 2 * D; i++) out[i] = place<D>(i / (D / 8), i % (D / 8)) / 8;
}
__global__ void places(int* out) {
  list<32>(out), list<64>(out + 256), list<80>(out + 512), list<96>(out + 768);
  list<128>(out + 1024);
}
"""


@needs_emulator
def test_swizzle_is_that_of_the_kernels():
    out = np.zeros((5, 256), "int32")
    Module(parse("places.cu", PLACES))["places"]((1,), (1,), out)
    for width, listed in zip((32, 64, 80, 96, 128), out, strict=True):
        ours = nb18_shared.swizzle.solution(*nb18_shared._tile(width))
        np.testing.assert_array_equal(ours.ravel(), listed[: 2 * width])


def test_a_described_matrix_keeps_all_its_numbers_and_no_two_in_one_place():
    row, k = np.mgrid[:64, :16]
    found = [
        nb18_shared.descriptor.solution(
            *nb18_shared._described(0x400 + 32 * step, row, k)
        )
        for step in range(4)
    ]
    assert sorted(np.ravel(found)) == list(range(0x400, 0x400 + 64 * 128, 2))


def text_of(*names):
    """What the notebook assigns to these names, strings, one after the other."""
    body = ast.parse(NOTEBOOK.read_text("utf-8")).body
    texts = {node.targets[0].id: node.value.value for node in body
             if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
             and isinstance(node.targets[0], ast.Name)}  # fmt: skip
    return "".join(texts[name] for name in names)


@pytest.mark.skipif(nvrtc.missing() is not None, reason=str(nvrtc.missing()))
@pytest.mark.parametrize("names, template, chips", [
    (["ONE_MMA"], ("float16",), ("sm_80", "sm_90")),
    (["FETCH"], (), ("sm_80", "sm_90")),
    (["LOAD", "COMPUTE"], (), ("sm_80", "sm_90")),
    (["PLACES"], (), ("sm_80", "sm_90")),
    (["AHEAD"], (), ("sm_80", "sm_90")),
    (["ONE_TILE", "MULTIPLY"], (), ("sm_90a",)),
    ([], (), ("sm_80", "sm_90")),
], ids=lambda value: "_".join(value) if type(value) is list else "")  # fmt: skip
def test_a_kernel_of_the_notebook_compiles_for_gpus(names, template, chips):
    source = parse("notebook.cu", text_of(*names) or kernel_of_the_notebook())
    for chip in chips:
        _, found = nvrtc.compile(source, template, chip)
        assert not any(kernel.spilled or kernel.stack for kernel in found.values())


def kernel_of_the_notebook():
    """The CUDA text between the marks of the last exercise."""
    text = NOTEBOOK.read_text("utf-8").split("def product_source")[1]
    return re.search(r'return r"""(.*?)"""', text, re.DOTALL)[1]


def with_kernel(text):
    def product(a, b):
        out = np.zeros((16, 8), "float32")
        return run(lambda: text, "product", (1,), (32,), a, b, out, a.shape[1])[2]

    return product


@needs_emulator
def test_the_notebooks_kernel_passes(capsys):
    assert check("18.product", with_kernel(kernel_of_the_notebook())) is True


@needs_emulator
@pytest.mark.parametrize("right, wrong, number", [
    ("g + r % 2 * 8) * K + k + r / 2 * 8", "g + r / 2 * 8) * K + k + r % 2 * 8", 0),
    ("+ k + r / 2", "+ r / 2", None),
    ("pair[0].bits | (unsigned)pair[8]", "pair[8].bits | (unsigned)pair[0]", 3),
])  # fmt: skip
def test_a_wrong_kernel_gets_its_hint(right, wrong, number, capsys):
    text = kernel_of_the_notebook()
    assert text.count(right) == 1
    assert check("18.product", with_kernel(text.replace(right, wrong))) is False
    printed = capsys.readouterr().out
    for i, mistake in enumerate(nb18_warp.product.mistakes):
        assert (mistake.hint in printed) == (i == number)


# ---- wrong answers, as they are written ----------------------------------------------


def owner(
    lane=lambda row, column: row % 8 * 4 + column % 8 // 2,
    register=lambda row, column: row // 8 + column // 8 * 2,
    half=lambda row, column: column % 2,
):
    return lambda *place: (lane(*place), register(*place), half(*place))


def swizzle(moved, row_length=lambda width: width // 8):
    def place(row, chunk, width):
        group = 8 if width % 64 == 0 else 4 if width % 32 == 0 else 2
        return row * row_length(width) + moved(row, chunk, group)

    return place


def of_the_set(row, chunk, group):
    return chunk ^ row // (8 // group) % group


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (owner(lane=lambda row, column: column % 8 // 2 * 4 + row % 8), "g and t are"),
        (owner(lane=lambda row, column: column % 8 // 2 * 8 + row % 8), "g and t are"),
        (owner(lane=lambda row, column: 4 * row + column % 8 // 2), "g is row % 8"),
        (owner(lane=lambda row, column: 4 * row + column // 2), "g is row % 8"),
        (owner(lane=lambda row, column: row % 8 * 4 + column // 2), "column % 8 // 2"),
        (owner(lane=lambda row, column: row % 8 * 4 + column % 4), "holds pairs"),
        (owner(lane=lambda row, column: row % 8 * 4 + column % 8), "holds pairs"),
        (owner(lane=lambda row, column: row % 8 * 4 + column // 4), "holds pairs"),
        (
            owner(register=lambda row, column: row // 8 + column // 8),
            "are one in yours",
        ),
        (
            owner(register=lambda row, column: row // 8 * 2 + column // 8),
            "a1 and a2 are",
        ),
        (owner(half=lambda row, column: 1 - column % 2), "the lower bits"),
    ],
)
def test_a_wrong_owner_is_told_its_mistake(answer, told, capsys):
    assert told in likely("18.owner", answer, capsys)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (swizzle(lambda row, chunk, group: chunk ^ row), "row 8 sends a chunk"),
        (swizzle(lambda row, chunk, group: chunk ^ row % 8), "chunks leave their row"),
        (swizzle(lambda row, chunk, group: chunk ^ row % group), "every second row"),
        (swizzle(lambda row, chunk, group: chunk ^ row // (8 // group)), "leave their"),
        (swizzle(lambda row, chunk, group: chunk ^ row % (8 // group)), "row // w"),
        (swizzle(lambda row, chunk, g: (chunk ^ row // (8 // g)) % g), "one place"),
        (swizzle(of_the_set, lambda width: 0), "the place within the row"),
        (swizzle(of_the_set, lambda width: 8), "8 chunks whatever"),
        (swizzle(of_the_set, lambda width: width), "counted in chunks"),
    ],
)
def test_a_wrong_swizzle_is_told_its_mistake(answer, told, capsys):
    assert told in likely("18.swizzle", answer, capsys)
