"""Each rung of attention against the plain-array op in float64, both passes.

On the emulator, and on a GPU where there is one, with canaries around what kernels
write: 24 cases a rung in which as many pairs of sizes as possible meet, and the faults
that the emulator must notice. MINIBIG_EMULATOR=full runs the whole grid.
"""

import os
import re

import numpy as np
import pytest
from kernel_cases import Case, answer, from_bfloat16, inputs, pairwise, whole_grid

from minibig import backend
from minibig.kernels import attention, emulator, problem, source
from minibig.kernels import kernel as kernels
from minibig.kernels.emulator import EmulatorError

FULL = os.environ.get("MINIBIG_EMULATOR") == "full"
CASES = whole_grid() if FULL else pairwise(24)
needs_emulator = pytest.mark.skipif(
    emulator.missing() is not None, reason=str(emulator.missing())
)
HALVES = [
    Case(65, 33, 64, "causal", (1, 4, 2), "some", "float16"),
    Case(33, 127, 80, "after", (2, 2, 2), "none", "float16"),
    Case(31, 65, 128, "causal", (1, 2, 1), "some", "bfloat16"),
]
ODD = [  # widths that only the rungs without a table of widths know
    Case(33, 65, 1, "causal", (2, 3, 1), "some"),
    Case(65, 31, 67, "all", (1, 4, 2), "none"),
]
# With one key dS is 0; what flash leaves of it is rounding, dP and Δ summed apart.
TOLERANCE = {"float32": 3e-5, "float16": 2e-3, "bfloat16": 2e-2}


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def machine(request, monkeypatch):
    """ "cpu", that is the emulator, or "cuda", with canaries around all outputs."""
    if request.param == "cpu" and emulator.missing():
        pytest.skip(emulator.missing())
    written = []
    if request.param == "cuda":
        monkeypatch.setattr(problem.Problem, "empty", between_canaries(written))
    yield request.param
    for whole, start, stop in written:
        whole = backend.to_device(whole, "cpu")
        assert (whole[:start] == 255).all() and (whole[stop:] == 255).all()


def between_canaries(written, edge=1024):
    """Problem.empty with 1,024 bytes of 255 before and after the array."""

    def empty(p, shape, dtype=None):
        dtype = p.dtype if dtype is None else np.dtype(dtype)
        stop = edge + int(np.prod(shape)) * dtype.itemsize
        whole = p.xp.full(stop + edge, 255, "uint8")
        written.append((whole, edge, stop))
        return whole[edge:stop].view(dtype).reshape(shape)

    return empty


def run(case, rung, machine="cpu"):
    """out, dq, dk, dv by a rung, as NumPy arrays."""
    q, k, v, dout = (backend.to_device(x, machine) for x in inputs(case))
    settings = case.settings
    if settings["mask"] is not None:
        settings["mask"] = backend.to_device(settings["mask"], machine)
    out, backward = attention.attention(q, k, v, rung=rung, **settings)
    return [backend.to_device(x, "cpu") for x in (out, *backward(dout))]


def check(case, found):
    for name, ours, exact in zip(("out", "dq", "dk", "dv"), found, answer(case),
                                 strict=True):  # fmt: skip
        ours = from_bfloat16(ours) if case.dtype == "bfloat16" else ours
        assert ours.shape == exact.shape
        size = max(1, np.abs(exact).max())
        error = np.abs(ours - exact).max() / size  # NaN where nothing was written
        assert error < TOLERANCE[case.dtype], f"{name} of {case}"


def wrong(case, rung, seeds=range(4)):
    """What the emulator says, or that numbers are wrong; None if all is well."""
    for seed in seeds:
        try:
            with emulator.shuffled(seed):
                check(case, run(case, rung))
        except (EmulatorError, AssertionError) as error:
            return str(error)
    return None


@pytest.fixture
def planted(monkeypatch):
    """A function that changes a .cu file's text: planted(file, change)."""

    def plant(file, change):
        text = source.read(file)
        changed = change(text.text)
        assert changed != text.text
        parsed = source.parse(file, changed)
        real = kernels.load

        def load(name, *template, options=()):
            if name == file:
                return kernels.Module(parsed, *template, options=options)
            return real(name, *template, options=options)

        for module in ("flash", "hopper", "mma", "unfused"):
            monkeypatch.setattr(f"minibig.kernels.attention_{module}.load", load)

    return plant


@pytest.mark.parametrize("rung", ["naive", "tiled", "flash"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rung_agrees_with_the_op_in_both_passes(case, rung, machine):
    check(case, run(case, rung, machine))


@pytest.mark.parametrize("case", HALVES, ids=str)
def test_flash_agrees_with_the_op_in_16_bits(case, machine, monkeypatch):
    if case.dtype == "bfloat16":  # NumPy has none: its bits go in
        numbers = {"uint16": "bfloat16"}
        monkeypatch.setattr("minibig.kernels.attention_flash.NUMBERS", numbers)
    check(case, run(case, "flash", machine))


@pytest.mark.parametrize("rung", ["naive", "tiled"])
@pytest.mark.parametrize("case", ODD, ids=str)
def test_rungs_without_a_table_take_any_width(case, rung, machine):
    check(case, run(case, rung, machine))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("who", ["q", "k"])
@pytest.mark.parametrize("rung", attention.RUNGS)
def test_what_is_no_number_stays_in_sight(rung, who, bad, machine):
    if (
        machine == "cuda"
        and rung == "hopper"
        and attention.chip_of(backend.cupy()) != 90
    ):
        pytest.skip("needs a GPU of compute capability 9.0")
    case = Case(4, 5, 64, dtype="float16" if rung in ("mma", "hopper") else "float32")
    q, k, v, dout = (x.copy() for x in inputs(case))
    (q if who == "q" else k)[0, 0, 1] = bad
    q, k, v, dout = (backend.to_device(x, machine) for x in (q, k, v, dout))
    out, backward = attention.attention(q, k, v, rung=rung)
    out, dq, dk, dv = (backend.to_device(x, "cpu") for x in (out, *backward(dout)))
    hit = np.isnan(out).all(-1)[0, 0]
    assert (hit == ([0, 1, 0, 0] if who == "q" else [1, 1, 1, 1])).all()
    assert np.isnan(dq[0, 0, 1]).any() and np.isnan(dk).any() and np.isnan(dv).any()


@pytest.mark.parametrize("rung", ["naive", "tiled", "flash"])
def test_queries_that_see_nothing_get_zeros_and_give_zeros(rung, machine):
    case = Case(33, 31, 32, "before", (2, 2, 1), "whole")
    out, dq, dk, dv = run(case, rung, machine)
    assert not out[0].any() and not dq[0].any() and not dk[0].any() and not dv[0].any()
    assert not out[1, :, :2].any() and not dq[1, :, :2].any()  # before all keys
    assert out[1, :, 2:].any() and dk[1].any()


@needs_emulator
@pytest.mark.parametrize("rung", ["naive", "tiled", "flash"])
def test_every_order_of_threads_gives_the_same_bits(rung):
    case = Case(65, 33, 32, "causal", (1, 4, 2), "some")
    first = run(case, rung)
    with emulator.shuffled(1):
        for a, b in zip(first, run(case, rung), strict=True):
            np.testing.assert_array_equal(a, b)


@needs_emulator
@pytest.mark.parametrize("rung", ["naive", "tiled", "flash"])
def test_scores_of_ten_thousands_stay_finite(rung):
    q, k, v, dout = (x * 100 for x in inputs(Case(33, 65, 32)))
    out, backward = attention.attention(q, k, v, rung=rung)
    for x in (out, *backward(dout)):
        assert np.isfinite(x).all()


@needs_emulator
def test_flash_keeps_one_number_a_row_for_its_backward():
    q, k, v, _ = inputs(Case(127, 129, 32))
    p = attention.problem(q, k, v, None, False, 0, None)
    _, saved = attention.RUNGS["flash"].forward(p, q, k, v, None)
    scores = q.astype("float64") @ k.swapaxes(-1, -2) / np.sqrt(32)
    np.testing.assert_allclose(saved, np.log(np.exp(scores).sum(-1)), rtol=1e-5)


# ---- planted faults -----------------------------------------------------------------

BARRIERS = [
    (file, word, number)
    for file in ("attention_tiled_forward.cu", "attention_tiled_backward.cu",
                 "attention_flash_forward.cu", "attention_flash_backward.cu")
    for word in ("__syncthreads();", "__syncwarp();")
    for number in range(source.read(file).text.count(word))
]  # fmt: skip


@needs_emulator
@pytest.mark.parametrize("file, word, number", BARRIERS)
def test_a_missing_barrier_shows(file, word, number, planted):
    def without(text):
        before, after = text.split(word)[: number + 1], text.split(word)[number + 1 :]
        return f"{word.join(before)} {word.join(after)}"

    planted(file, without)
    rung = re.match("attention_([a-z]+)_", file)[1]
    assert wrong(Case(65, 129, 64), rung)


GUARDS = [
    ("attention_naive_forward.cu", "if (i >= (long long)T * D) return;", ""),
    ("attention_tiled_forward.cu", "first_t + y < T && d < D", "d < D"),
    ("attention_tiled_backward.cu", "s < S && d < D", "d < D"),
    ("attention_flash_forward.cu", "if (first + y >= T) continue;", ""),
    ("attention_flash_backward.cu", "if (first + y >= S) continue;", ""),
]


@needs_emulator
@pytest.mark.parametrize("file, guard, without", GUARDS)
def test_a_missing_guard_is_an_address_outside(file, guard, without, planted):
    planted(file, lambda text: text.replace(guard, without))
    rung = re.match("attention_([a-z]+)_", file)[1]
    message = wrong(Case(33, 31, 32), rung, seeds=[0])
    assert re.search(r"block \(.*thread \(.*touches \w+ outside", message)


@needs_emulator
def test_a_read_beyond_the_end_is_noticed_though_nobody_uses_it(planted):
    planted("attention_tiled_forward.cu", lambda text: text.replace(
        "inside ? to_float(matrix[r * row_length + c]) : 0",
        "to_float(matrix[r * row_length + c]) * inside",
    ))  # fmt: skip
    message = wrong(Case(33, 31, 32), "tiled", seeds=[0])
    assert re.search("touches [qkv] outside", message)
