"""Launching the rung for Hopper: who is refused, tensor maps, and the proof that it
owes on a GPU that it meets for the first time."""

import ctypes
import re
import sys
import types

import numpy as np
import pytest
import strict_kernels
from kernel_passes import losses_of_gpt

from minibig import backend, kernels
from minibig.kernels import attention, attention_hopper, emulator, proof, tensor_map
from minibig.kernels.problem import WIDTHS, problem
from minibig.kernels.tensor_map import TensorMap, TensorMapError

FILE = "attention_hopper_forward.cu"


def zeros(width=64, dtype="float16"):
    return np.zeros((1, 1, 2, width), dtype)


def raising(error):
    """A function that raises it."""

    def call(*_):
        raise error

    return call


# ---- what is refused -----------------------------------------------------------------


def test_it_serves_on_hopper_alone():
    q = zeros()
    assert attention.explain(q, q, q, chip=90) == "hopper"
    for chip, name in ((75, "flash"), (80, "mma"), (100, "mma"), (120, "mma")):
        answer = attention.explain(q, q, q, chip=chip)
        assert answer.startswith(f"{name}; hopper needs compute capability 9.0")
        assert f"not {chip / 10}" in answer


@pytest.mark.parametrize("width, dtype, scale, reason", [
    (64, "float32", None, "flash; hopper reads float16 or bfloat16, not float32"),
    (64, "float16", -1.0, "flash; hopper wants a scale above 0, not -1.0"),
])  # fmt: skip
def test_what_it_cannot_do_falls_to_a_rung_below(width, dtype, scale, reason):
    q = zeros(width, dtype)
    assert re.match(reason, attention.explain(q, q, q, scale=scale, chip=90))
    with pytest.raises(ValueError, match="rung hopper"):
        attention.attention(q, q, q, scale=scale, rung="hopper")


def test_the_emulator_runs_it_where_it_is_named_only():
    q = zeros()
    assert attention.choose(problem(q, q, q, None, False, 0, None)).name == "mma"
    if not emulator.missing():
        out, _ = attention.attention(q, q, q, rung="hopper")
        assert not out.any()


def test_shared_memory_fits_a_block_of_hopper(monkeypatch):
    asked = []

    class Recorder(dict):
        def __getitem__(self, name):
            return lambda *arguments, shared: asked.append(shared)

    monkeypatch.setattr(attention_hopper, "load", lambda *_, options: Recorder())
    for width in WIDTHS:
        q = zeros(width)
        p = problem(q, q, q, None, False, 0, None)
        rung = attention.RUNGS["hopper"]
        out, lse = rung.forward(p, q, q, q, None)
        rung.backward(p, q, q, q, None, out, lse, out)
    assert len(asked) == 3 * len(WIDTHS) and max(asked) <= 227 << 10


# ---- tensor maps, told to a driver that writes down what it is told ------------------


class Driver:
    """cuTensorMapEncodeTiled: notes its arguments, writes the address and the sizes."""

    def __init__(self, status=0):
        self.status, self.calls = status, []

    def cuTensorMapEncodeTiled(self, space, *arguments):
        assert space.value % 64 == 0
        kind, rank, address, sizes, strides, box, steps, *modes = arguments
        told = types.SimpleNamespace(
            kind=kind, rank=rank, address=address.value, sizes=tuple(sizes),
            strides=tuple(strides), box=tuple(box), steps=tuple(steps), modes=modes,
        )  # fmt: skip
        self.calls.append(told)
        ctypes.memset(space.value, 0, 128)
        words = (ctypes.c_uint64 * 9).from_address(space.value)
        words[:] = [told.address, *told.sizes, *told.strides, told.box[1]]
        return self.status


@pytest.fixture
def driver(monkeypatch):
    found = Driver()
    monkeypatch.setattr(tensor_map, "_driver", lambda: found)
    return found


def test_the_driver_is_told_where_an_array_lies_and_what_a_box_is(driver, strict):
    array = strict.zeros((2, 50, 3, 128), "float16").swapaxes(1, 2)
    bits = TensorMap(array, 96).encoded()
    assert bits.shape == (1,) and bits.dtype == "V128"  # so CuPy passes it by value
    (told,) = driver.calls
    assert told.address == array.data.ptr
    assert (told.kind, told.rank) == (1, 4)
    assert told.sizes == (128, 50, 3, 2) and told.strides == (768, 256, 38400)  # bytes
    assert told.box == (64, 96, 1, 1) and told.steps == (1, 1, 1, 1)
    assert told.modes == [0, 3, 3, 0]  # swizzle of 128 bytes, zeros outside


def test_arrays_that_cannot_be_mapped_are_refused():
    x = np.zeros((1, 2, 4, 64), "float16")
    for wrong in (
        x.astype("float32"),
        x[0],
        x[..., ::2],
        x[:, ::-1],
        x.swapaxes(2, 3),
        x[..., :4].copy(),
        np.zeros((1, 2, 4, 68), "float16")[..., :64],
        np.broadcast_to(x[:, :1], x.shape),
    ):
        with pytest.raises(ValueError, match="TensorMap: wants four axes of 16 bits"):
            TensorMap(wrong)
        if wrong.ndim == 4 and wrong.itemsize == 2 and wrong.shape[-1] % 8 == 0:
            TensorMap(attention.RUNGS["hopper"].readable(wrong))
    module = kernels.load(FILE, "float16", 64, options=("-arch=sm_90a",))
    given = (x, x, x, None, x, x, 1, 1, 4, 4, 4, 1.0)
    with pytest.raises(TypeError, match="q is a TensorMap, not ndarray"):
        module["attention_hopper_forward"]((1,), (384,), *given)


def test_a_driver_that_refuses_or_is_absent_is_an_error(driver, strict, monkeypatch):
    driver.status = 1
    array = strict.zeros((1, 2, 3, 64), "float16")
    with pytest.raises(TensorMapError, match=r"answers 1 for \(1, 2, 3, 64\)"):
        TensorMap(array).encoded()
    monkeypatch.undo()
    tensor_map._driver.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", raising(OSError("libcuda.so.1")))
    with pytest.raises(TensorMapError, match="driver is not installed"):
        tensor_map._driver()


# ---- the proof, over the stand-in ----------------------------------------------------


@pytest.fixture
def h200(strict, driver, monkeypatch):
    """Device "cuda": the stand-in as a Hopper GPU; its kernels are the emulator's."""
    if emulator.missing():
        pytest.skip(emulator.missing())

    class Function(strict_kernels.Function):
        def _value(self, parameter, kind, given):
            if parameter.type != "TensorMap":
                return super()._value(parameter, kind, given)
            assert type(given) is np.ndarray and given.size == 1  # by value
            address, *numbers, rows = given.view("u8")[:9].tolist()
            shape, strides = numbers[3::-1], (*numbers[:3:-1], 2)
            ends = zip(shape, strides, strict=True)
            count = sum((n - 1) * step for n, step in ends) // 2 + 1
            whole = (ctypes.c_uint16 * count).from_address(address)
            memory = np.frombuffer(whole, "u2")
            return TensorMap(np.lib.stride_tricks.as_strided(memory, shape, strides),
                             rows)  # fmt: skip

    class RawModule(strict_kernels.RawModule):
        def __init__(self, *, options, **settings):
            hopper = "wgmma" in settings["code"]
            assert ("-arch=sm_90a" in options) == hopper
            super().__init__(options=options, **settings)

        def get_function(self, name):
            return Function(self, name)

    small = (1, 33, 130, 100, True), (2, 3, 5, None, True)  # it is slow there
    monkeypatch.setattr(proof, "SMALL", small)
    monkeypatch.setattr(proof, "_in_own_process", proof.verdict)  # the stand-in is here
    monkeypatch.setattr(strict_kernels, "MOST_SHARED", 227 << 10)
    monkeypatch.setattr(strict, "RawModule", RawModule, raising=False)
    device = types.SimpleNamespace(compute_capability="90", id=0, use=lambda: None)
    monkeypatch.setattr(strict.cuda, "Device", lambda i=0: device, raising=False)
    kernels.load.cache_clear()
    proof._doubt.cache_clear()
    with backend.kernels(True):
        yield strict
    kernels.load.cache_clear()
    proof._doubt.cache_clear()


def plant(monkeypatch, word, fault):
    """The rung's kernel, changed."""
    text = kernels.read(FILE).text
    assert word in text
    source = kernels.parse(FILE, text.replace(word, fault))
    module = kernels.Module(source, "float16", 64, options=("-arch=sm_90a",))
    real = attention_hopper.load

    def load(name, *template, options):
        return module if name == FILE else real(name, *template, options=options)

    monkeypatch.setattr(attention_hopper, "load", load)


def explained(xp):
    q, k, v = (
        xp.asarray(np.random.default_rng(i).standard_normal((1, 2, 40, 64)))
        .astype("float16") for i in range(3)
    )  # fmt: skip
    return attention.explain(q, k, v), attention.attention(q, k, v)[0]


def test_a_kernel_that_agrees_with_the_rung_below_serves(h200, monkeypatch):
    answer, out = explained(h200)
    assert answer == "hopper"
    monkeypatch.setattr(proof, "_error", None)  # asked once: not called again
    again, _ = explained(h200)
    assert again == "hopper" and out.shape == (1, 2, 40, 64)


def test_a_kernel_that_computes_something_else_is_not_trusted(h200, monkeypatch):
    plant(monkeypatch, "at_b + (block * 8 * N + within)", "at_b + (block * 8 * N + 16)")
    answer, out = explained(h200)
    assert answer.startswith("mma; hopper disagrees with mma on this GPU: by ")
    assert np.isfinite(backend.to_device(out, "cpu")).all()  # mma's
    q = h200.zeros((1, 1, 2, 64), "float16")
    with pytest.raises(ValueError, match="rung hopper disagrees with mma"):
        attention.attention(q, q, q, rung="hopper")


def test_a_kernel_that_reads_the_keys_of_another_head_is_not_trusted(h200, monkeypatch):
    plant(monkeypatch, "kv_head = head / (heads / kv_heads)", "kv_head = 0")
    answer, _ = explained(h200)
    assert answer.startswith("mma; hopper disagrees with mma on this GPU: by ")


def test_a_kernel_that_never_ends_its_wait_is_not_trusted(h200, monkeypatch):
    plant(monkeypatch, "if (!here) all", "all")  # as where a tile never came
    answer, _ = explained(h200)
    assert answer.startswith("mma; hopper disagrees with mma on this GPU: by nan")


def test_a_kernel_that_does_not_load_or_run_is_not_trusted(h200, monkeypatch, driver):
    driver.status = 801
    answer, _ = explained(h200)
    assert answer == (
        "mma; hopper failed its first run on this GPU: TensorMapError: "
        "cuTensorMapEncodeTiled answers 801 for (1, 4, 33, 64)"
    )


def test_a_gpt_trains_by_it_and_copies_no_heads(h200, monkeypatch):
    """q, k, v and the gradient of the output are read where a projection put them."""
    monkeypatch.setattr(attention_hopper, "doubt", lambda *_: None)
    copies, readable = [], attention_hopper.Hopper.readable

    def noted(x):
        copies.append(readable(x) is not x)
        return readable(x)

    monkeypatch.setattr(attention_hopper.Hopper, "readable", staticmethod(noted))
    losses = losses_of_gpt("fp16", context_length=40, n_layer=2, n_embd=128)
    assert copies == [False] * 2 * 2 * 4  # steps, layers, arrays
    np.testing.assert_allclose(*losses, rtol=5e-3)


def test_no_memory_for_the_proof_is_no_proof(h200, monkeypatch):
    monkeypatch.setattr(proof, "_error", raising(MemoryError("all is taken")))
    answer, _ = explained(h200)
    assert answer.endswith("its first run on this GPU: MemoryError: all is taken")


def test_a_kernel_that_sees_one_sequence_alone_is_not_trusted(h200, monkeypatch):
    plant(monkeypatch, "blockIdx.z", "0")
    answer, _ = explained(h200)
    assert answer.startswith("mma; hopper disagrees with mma on this GPU: by ")


JOB = ("hopper", "mma", 0, "float16", 64)


@pytest.mark.parametrize("program, answer", [
    ("print('hello'); print('{\"doubt\": null}')", None),
    ("print('{\"doubt\": \"is wrong\"}'); import os; os.abort()", "is wrong"),
    ("import os; os._exit(7)",
     "ended the process of its first run on this GPU with code 7"),
    ("import time; time.sleep(60)",
     "did not end its first run on this GPU within 2 s"),
])  # fmt: skip
def test_the_proof_survives_whatever_its_process_does(program, answer, monkeypatch):
    monkeypatch.setattr(proof, "PROGRAM", program)
    monkeypatch.setattr(proof, "SECONDS", 2)
    assert proof._in_own_process(*JOB) == answer


def test_a_process_that_cannot_be_started_is_no_proof(monkeypatch):
    monkeypatch.setattr(sys, "executable", "no-such-python")
    answer = proof._in_own_process(*JOB)
    assert answer.startswith("could not be tried on this GPU: ")


def test_the_process_of_a_proof_runs_this_library(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    program = (
        "import sys; from minibig import kernels; from minibig.kernels import proof; "
        "proof.verdict = lambda *job: [kernels.__file__, *job]; proof.main()"
    )
    monkeypatch.setattr(proof, "PROGRAM", program)
    assert proof._in_own_process(*JOB) == [kernels.__file__, *JOB]


def test_without_a_gpu_the_process_of_a_proof_says_what_is_missing(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    answer = proof._in_own_process(*JOB)
    assert answer.startswith("failed its first run on this GPU: ")
