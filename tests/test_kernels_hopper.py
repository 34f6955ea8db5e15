"""The rung for Hopper: its products and copies, and its results against the op.

On the emulator, which knows wgmma and the copy engine as their manual has them, and on
a GPU of compute capability 9.0.
"""

import itertools

import numpy as np
import pytest
import test_kernels_emulated as rungs
from kernel_cases import Case, answer, from_bfloat16, inputs, to_bfloat16
from test_kernels_emulated import FULL, check, needs_emulator, run

from minibig import backend
from minibig.kernels import Module, attention, attention_mma, emulator, nvrtc, parse
from minibig.kernels.attention_hopper import ARCHITECTURE
from minibig.kernels.problem import WIDTHS, problem
from minibig.kernels.tensor_map import TensorMap

planted, machine = rungs.planted, rungs.machine  # fixtures
OPTIONS = (ARCHITECTURE,)

# A type for each width: what takes long is to build them.
CASES = [
    Case(1, 1, 64, dtype="float16"),
    Case(2, 33, 128, "after", (2, 2, 1), "some", "bfloat16"),
    Case(31, 200, 64, "after", (1, 4, 2), "none", "float16"),
    Case(63, 127, 128, "causal", (2, 1, 1), "whole", "bfloat16"),
    Case(65, 129, 64, "before", (2, 3, 1), "some", "float16"),
    Case(127, 65, 128, "causal", (1, 1, 1), "none", "bfloat16"),
    Case(129, 128, 64, "all", (2, 2, 2), "whole", "float16"),
    Case(200, 520, 64, "after", (1, 2, 1), "some", "float16"),  # all stages, twice
    Case(130, 385, 128, "all", (1, 1, 1), "some", "bfloat16"),
    # Widths that do not fill their last block of 64 columns
    Case(33, 127, 32, "after", (1, 2, 1), "some", "bfloat16"),
    Case(127, 300, 80, "causal", (2, 2, 1), "some", "float16"),
    Case(150, 65, 96, "before", (1, 2, 2), "none", "bfloat16"),
]
if FULL:  # sights and types take turns
    lengths = (1, 2, 33, 63, 127, 128, 129, 200, 257, 600)
    sights = (("all", "some"), ("causal", "none"), ("after", "whole"))
    turns = itertools.cycle(itertools.product(sights, ("float16", "bfloat16")))
    CASES = [
        Case(*sizes, sight, (2, 2, 1), padding, kind)
        for sizes, ((sight, padding), kind) in zip(
            itertools.product(lengths, lengths, WIDTHS), turns, strict=False
        )
    ]


@pytest.fixture(autouse=True)
def bits_of_bfloat16(monkeypatch):
    """NumPy has no bfloat16: its bits go in."""
    monkeypatch.setitem(attention_mma.SIXTEEN_BITS, "uint16", "bfloat16")


@pytest.fixture
def hopper(machine):
    """ "cpu", that is the emulator, or "cuda" with a Hopper GPU."""
    if machine == "cuda" and attention.chip_of(backend.cupy()) != 90:
        pytest.skip("needs a GPU of compute capability 9.0")
    return machine


def forward(case, machine="cpu"):
    """out by the rung, as a NumPy array of float32 or float16."""
    q, k, v, _ = (backend.to_device(x, machine) for x in inputs(case))
    settings = case.settings
    if settings["mask"] is not None:
        settings["mask"] = backend.to_device(settings["mask"], machine)
    out, _ = attention.attention(q, k, v, rung="hopper", **settings)
    out = backend.to_device(out, "cpu")
    return from_bfloat16(out) if case.dtype == "bfloat16" else out


@pytest.mark.parametrize("case", CASES, ids=str)
def test_both_passes_agree_with_the_op(case, hopper):
    check(case, run(case, "hopper", hopper))


def test_queries_before_all_keys_give_zeros(hopper):
    q, k, v, dout = inputs(Case(150, 200, 64, dtype="float16"))
    q, k, v, dout = (backend.to_device(x, hopper) for x in (q, k, v, dout))
    settings = {"is_causal": True, "offset": -140, "rung": "hopper"}
    out, backward = attention.attention(q, k, v, **settings)
    out, dq, dk, dv = (backend.to_device(x, "cpu") for x in (out, *backward(dout)))
    assert not out[..., :140, :].any() and not dq[..., :140, :].any()
    assert out[..., 140:, :].any() and dk[..., :10, :].any()
    assert not dk[..., 10:, :].any() and not dv[..., 10:, :].any()


def test_heads_side_by_side_in_one_projection_need_no_copy(hopper, monkeypatch):
    case = Case(65, 65, 80, "causal", (2, 2, 2), "some", "float16")
    q, k, v, dout = inputs(case)
    joined = np.stack([x.swapaxes(1, 2) for x in (q, k, v)], 2)  # (B, T, 3, H, D)
    joined = backend.to_device(joined, hopper)
    views = [joined[:, :, i].swapaxes(1, 2) for i in range(3)]
    assert all(attention.RUNGS["hopper"].readable(x) is x for x in views)
    settings = case.settings
    settings["mask"] = backend.to_device(settings["mask"], hopper)
    out, backward = attention.attention(*views, rung="hopper", **settings)
    assert out.swapaxes(1, 2).flags.c_contiguous
    dout = backend.to_device(np.ascontiguousarray(dout.swapaxes(1, 2)), hopper)
    found = [out, *backward(dout.swapaxes(1, 2))]
    check(case, [backend.to_device(x, "cpu") for x in found])


@needs_emulator
def test_every_order_of_threads_gives_the_same_bits():
    case = Case(129, 300, 64, "causal", (1, 2, 1), "some", "float16")
    first = run(case, "hopper")
    with emulator.shuffled(1):
        for a, b in zip(first, run(case, "hopper"), strict=True):
            np.testing.assert_array_equal(a, b)


@needs_emulator
def test_large_scores_stay_finite_and_one_number_a_row_is_kept():
    q, k, v, _ = inputs(Case(65, 129, 64, dtype="float16"))
    out, _ = attention.attention(q * 30, k * 30, v, rung="hopper")
    assert np.isfinite(out).all()
    p = problem(q, k, v, None, False, 0, None)
    _, saved = attention.RUNGS["hopper"].forward(p, q, k, v, None)
    scores = q.astype("float64") @ k.swapaxes(-1, -2) / np.sqrt(64)
    np.testing.assert_allclose(saved, np.log(np.exp(scores).sum(-1)), rtol=1e-5)


# ---- the copy engine and wgmma, by themselves ----------------------------------------

TEXT = """
#include "ptx.cuh"
#include "attention.cuh"
#include "mma.cuh"
#include "wgmma.cuh"
#include "tma.cuh"

template <typename Number>
struct Memory {
  Number a[128 * 64], b[2][128 * 64];
  Barrier full;
};

// From row, head, sequence: 128 rows of a's 64 columns and of b's 128.
template <typename Number>
__device__ Memory<Number>& fetched(char* memory, const TensorMap& a, const TensorMap& b,
                                   int row, int head, int sequence) {
  Memory<Number>& m = at_block<Memory<Number>>(memory);
  if (threadIdx.x == 0) {
    barrier_init(&m.full, 1);
    barrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    barrier_arrive_expecting(&m.full, 3 * sizeof m.a);
    copy_box(m.a, a, 0, row, head, sequence, &m.full);
    copy_box(m.b[0], b, 0, row, head, sequence, &m.full);
    copy_box(m.b[1], b, 64, row, head, sequence, &m.full);
  }
  barrier_wait(&m.full, 0);
  return m;
}

// b as it lies in shared memory.
template <typename Number, int N>
__global__ void boxes(const __grid_constant__ TensorMap a,
                      const __grid_constant__ TensorMap b, Number* y, int row,
                      int head, int sequence) {
  DYNAMIC_SHARED(char, memory);
  Memory<Number>& m = fetched<Number>(memory, a, b, row, head, sequence);
  for (int i = threadIdx.x; i < 2 * 128 * 64; i += 128)
    y[i] = m.b[i / (128 * 64)][i % (128 * 64)];
}

template <int N>
__device__ void store(const float (&c)[N / 8][4], float* y) {
  const int row = threadIdx.x / 32 * 16 + lane_row();
  for (int j = 0; j < N / 2; j++)
    y[(row + j % 4 / 2 * 8) * N + j / 4 * 8 + lane_column() + j % 2] = c[j / 4][j % 4];
}

// left = A Bᵀ with A (64, 64) and the first 64 columns of N rows of B, from registers
// too where that has a text; right = A B with 64 rows and N columns of B.
template <typename Number, int N>
__global__ void products(const __grid_constant__ TensorMap a,
                         const __grid_constant__ TensorMap b, const Number* again,
                         float* left, float* from_registers, float* right) {
  DYNAMIC_SHARED(char, memory);
  Memory<Number>& m = fetched<Number>(memory, a, b, 0, 0, 0);
  float c[N / 8][4] = {}, d[N / 8][4] = {};
  unsigned x[4][4];
  const int row = threadIdx.x / 32 * 16 + lane_row();
#pragma unroll
  for (int i = 0; i < 16; i++) {
    const Number* p = again + (row + i % 2 * 8) * 64 + i / 2 * 8 + lane_column();
    x[i / 4][i % 4] = p[0].bits | (unsigned)p[1].bits << 16;
  }
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < 4; k++)
    if (k == 0)
      wgmma_transposed_first<Number, N>(c, descriptor_of(m.a), descriptor_of(m.b[0]));
    else
      wgmma_transposed<Number, N>(c, descriptor_of(m.a + 16 * k),
                                  descriptor_of(m.b[0] + 16 * k));
  wgmma_commit();
#pragma unroll
  for (int k = 0; k < 4; k++)
    wgmma<Number, N>(d, x[k], descriptor_of(m.b[0] + 16 * k * 64, 128 * 128));
  wgmma_commit();
  wgmma_wait<0>();
  store<N>(c, left);
  if constexpr (N == 64) {
    wgmma_fence();
    wgmma_transposed_first<Number, N>(c, x[0], descriptor_of(m.b[0]));
#pragma unroll
    for (int k = 1; k < 4; k++)
      wgmma_transposed<Number, N>(c, x[k], descriptor_of(m.b[0] + 16 * k));
    wgmma_commit();
    wgmma_wait<0>();
  }
  store<N>(c, from_registers);
  store<N>(d, right);
}
"""
BYTES = 3 * 128 * 128 + 2048
KINDS = ("float16", "bfloat16")


def drawn(kind, *shape, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape, "float32")
    return to_bfloat16(x) if kind == "bfloat16" else x.astype("float16")


def launch(name, kind, width, machine, *arguments):
    """Runs a kernel of TEXT; (array,) or (array, a view of it) become tensor maps."""
    moved = [
        backend.to_device(x[0] if isinstance(x, tuple) else x, machine)
        if isinstance(x, np.ndarray | tuple)
        else x
        for x in arguments
    ]
    given = [
        TensorMap(x[1](y) if x[1:] else y) if isinstance(x, tuple) else y
        for x, y in zip(arguments, moved, strict=True)
    ]
    module = Module(parse("hopper_test.cu", TEXT), kind, width, options=OPTIONS)
    module[name]((1,), (128,), *given, shared=BYTES)
    return [backend.to_device(x, "cpu") for x in moved if not isinstance(x, int)]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("row, head, sequence", [
    (0, 0, 0), (128, 1, 0), (-3, 1, 1), (5, 2, 0), (0, 0, 2),
])  # fmt: skip
def test_a_box_arrives_swizzled_with_zeros_outside(row, head, sequence, turned, hopper):
    """`turned`: the heads of a row lie side by side, as after a projection."""
    a, b = drawn("float16", 2, 2, 200, 64), drawn("float16", 2, 2, 200, 96, seed=1)
    y = np.full((2, 128, 8, 8), 7, "float16")
    whole = np.ascontiguousarray(b.swapaxes(1, 2)) if turned else b
    view = (lambda x: x.swapaxes(1, 2)) if turned else (lambda x: x)
    *_, y = launch("boxes", "float16", 64, hopper, (a,), (whole, view), y, row, head,
                   sequence)  # fmt: skip
    rows = row + np.arange(128)
    inside = (rows >= 0) & (rows < 200) & (head < 2) & (sequence < 2)
    exact = np.zeros((128, 128), "float16")
    exact[inside, :96] = b[min(sequence, 1), min(head, 1), rows[inside]]
    for block, r, chunk in np.ndindex(2, 128, 8):
        start = 64 * block + 8 * chunk
        found = y[block, r, chunk ^ r % 8]
        np.testing.assert_array_equal(found, exact[r, start : start + 8])


@pytest.mark.parametrize("kind, width", [("float16", 64), ("bfloat16", 128)])
def test_wgmma_multiplies_what_its_descriptors_tell_of(kind, width, hopper):
    a, b = drawn(kind, 1, 1, 128, 64), drawn(kind, 1, 1, 128, 128, seed=1)
    results = np.zeros((3, 64, width), "float32")
    *_, left, from_registers, right = launch(
        "products", kind, width, hopper, (a,), (b,), a, *results
    )
    x, y = (z[0, 0] for z in (a, b))
    x, y = (from_bfloat16(z) if kind == "bfloat16" else z.astype("f4") for z in (x, y))
    np.testing.assert_allclose(left, x[:64] @ y[:width, :64].T, atol=1e-4)
    np.testing.assert_allclose(right, x[:64] @ y[:64, :width], atol=1e-4)
    np.testing.assert_allclose(from_registers, left, atol=1e-4)


@pytest.mark.skipif(nvrtc.missing() is not None, reason=str(nvrtc.missing()))
def test_only_hopper_knows_the_instructions():
    source = parse("hopper_test.cu", TEXT)
    nvrtc.compile(source, ("float16", 64), "sm_90a")
    for chip in ("sm_80", "sm_90"):
        with pytest.raises(nvrtc.CompilerError, match=r"wgmma|not supported|requires"):
            nvrtc.compile(source, ("float16", 64), chip)


# ---- planted faults ------------------------------------------------------------------

FORWARD, BACKWARD = "attention_hopper_forward.cu", "attention_hopper_backward.cu"
FREE = "if (!barrier_wait(&tiles.keys_free[stage], before)) return;"
SCORES = "    wgmma_wait<1>();  // for the scores; the sum is still at work\n"
BACK = "    hand_back(&tiles.values_free[last]);\n"
FAULTS = {
    "scores not waited for": (FORWARD, SCORES, ""),
    "fetched into a tile in use": (FORWARD, FREE, ""),
    "handed back too early": (FORWARD, SCORES, SCORES + BACK),
    "never handed back": (FORWARD, BACK, ""),
    "rows of another tile": (FORWARD, "at_b + i * 16 * BLOCK", "at_b + i * 8 * BLOCK"),
    "dP not waited for": (BACKWARD, "    wgmma_wait<1>();  // for dP\n", ""),
    "numbers not there yet": (BACKWARD, "rs(tiles, 32)", "rs(tiles, 1)"),
}


@needs_emulator
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_shows(name, planted):
    file, word, fault = FAULTS[name]
    planted(file, lambda text: text.replace(word, fault))
    case, wrong = Case(65, 700, 64, dtype="float16"), 0
    for seed in range(4):
        if wrong:
            break
        try:
            with emulator.shuffled(seed):
                found = [forward(case)] if file == FORWARD else run(case, "hopper")
            pairs = zip(found, answer(case), strict=False)
            wrong += not all(np.abs(a - b).max() < 2e-3 for a, b in pairs)
        except emulator.EmulatorError as error:
            wrong += " thread (" in str(error)  # its compiler's errors do not count
    assert wrong
