"""Launching kernels: what is refused, which rung serves, and CuPy's side of it.

CuPy's side runs over the stand-in, whose kernels are the emulator's; on a GPU the same
tests run for real.
"""

import numpy as np
import pytest
import strict_kernels

import minibig as mb
from minibig import backend, kernels
from minibig import functional as F
from minibig.kernels import attention, emulator
from minibig.kernels.source import Parameter
from minibig.ops.attention import scaled_dot_product_attention

needs_emulator = pytest.mark.skipif(
    emulator.missing() is not None, reason=str(emulator.missing())
)
TEXT = "__global__ void add(const float* x, float* y, int n) { y[0] += x[n]; }\n"


@pytest.fixture
def cuda(request, monkeypatch):
    """Device "cuda" with kernels: the stand-in and the emulator."""
    stand_in = request.getfixturevalue("strict")
    monkeypatch.setattr(stand_in, "RawModule", strict_kernels.RawModule, raising=False)
    monkeypatch.setattr(stand_in.cuda, "Device", strict_kernels.device, raising=False)
    kernels.load.cache_clear()
    with backend.kernels(True):
        yield
    kernels.load.cache_clear()


@pytest.fixture(params=["strict", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request):
    """Device "cuda": the stand-in's or a real one."""
    if request.param == "strict":
        if emulator.missing():
            pytest.skip(emulator.missing())
        request.getfixturevalue("cuda")


@pytest.fixture
def served(monkeypatch):
    """The rungs that were asked to run, by name."""
    names = []

    def noting(rung):
        forward = rung.forward

        def run(problem, *arrays):
            names.append(rung.name)
            return forward(problem, *arrays)

        return run

    for rung in attention.LADDER:
        monkeypatch.setattr(rung, "forward", noting(rung))
    return names


def drawn(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# ---- a kernel's arguments -----------------------------------------------------------


def test_parameters_are_read_off_the_source():
    text = """
template <typename Number, int D>
__global__ void __launch_bounds__(128, 2) f(
    const Number* __restrict__ x,  // (N, D), rows
    long long* y, unsigned n, float scale) {}
"""
    source = kernels.parse("f.cu", text)
    assert source.template == ("Number", "D")
    assert source.expressions("float", 64) == {"f": "f<float, 64>"}
    assert source.kernels["f"] == (
        Parameter("x", "Number", True, False),
        Parameter("y", "long long", True, True),
        Parameter("n", "unsigned", False, False),
        Parameter("scale", "float", False, False),
    )


def test_a_source_says_what_its_templates_take():
    with pytest.raises(ValueError, match=r"takes Number, D, not \(float\)"):
        kernels.load("attention_flash_forward.cu", "float")
    with pytest.raises(ValueError, match="takes no template arguments, not"):
        kernels.load("attention_naive_forward.cu", 64)
    with pytest.raises(ValueError, match="no kernel"):
        kernels.parse("empty.cu", "int x;")
    with pytest.raises(ValueError, match="same template arguments"):
        kernels.parse(
            "two.cu", TEXT + TEXT.replace("__global", "template <int D>\n__global")
        )


@pytest.mark.parametrize("arguments, error, message", [
    ((drawn(2, dtype="float64"), drawn(1), 0), TypeError, "x must be .*32.*float64"),
    (([1.0], drawn(1), 0), TypeError, "x must be an array of float32, not list"),
    ((drawn(4)[::2], drawn(1), 0), ValueError, r"x \(2,\) .*gaps.*ascontiguousarray"),
    ((drawn(3, 2).T, drawn(1), 0), ValueError, r"x \(2, 3\) .*another order"),
    ((drawn(2), drawn(1), 2**31), ValueError, "n = 2147483648 does not fit int32"),
    ((drawn(2), drawn(1), 1.5), ValueError, "n = 1.5 does not fit int32"),
    ((drawn(2), drawn(1)), TypeError, r"add takes 3 arguments \(x, y, n\), not 2"),
])  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(arguments, error, message):
    add = kernels.Module(kernels.parse("add.cu", TEXT))["add"]
    with pytest.raises(error, match=message):
        add((1,), (1,), *arguments)


@pytest.mark.parametrize("kind", ["size_t", "unsigned int", "__half"])
@pytest.mark.parametrize("before", ["void __launch_bounds__(32)",
                                    "__launch_bounds__(32) void"])  # fmt: skip
def test_a_parameter_of_a_type_that_no_launch_knows_is_named(before, kind):
    text = f"__global__ {before} f(const {kind}* x) {{}}"
    f = kernels.Module(kernels.parse("f.cu", text))["f"]
    with pytest.raises(TypeError, match=f"f: x is of type {kind}; kernels take Tensor"):
        f((1,), (32,), drawn(2))


def test_arrays_on_two_devices_are_refused(strict):
    add = kernels.Module(kernels.parse("add.cu", TEXT))["add"]
    with pytest.raises(backend.DeviceError, match="two devices"):
        add((1,), (1,), drawn(2), strict.zeros(1, "float32"), 0)


DECLARED = """
__global__ void f(float* x) {
  __shared__ float parts[32];
  float* row = (float*)emulator::shared_memory;
  parts[threadIdx.x] = row[threadIdx.x] = x[threadIdx.x];
  x[threadIdx.x] = parts[threadIdx.x] + row[threadIdx.x];
}
"""


@pytest.mark.parametrize("shared", [(48 << 10) - 128, (48 << 10) - 64, 48 << 10])
def test_shared_memory_that_a_kernel_declares_counts_with_that_of_a_launch(
    shared, cuda, strict
):
    x = strict.zeros(32, "float32") + np.float32(1.5)
    kernels.Module(kernels.parse("f.cu", DECLARED))["f"]((1,), (32,), x, shared=shared)
    assert (backend.to_device(x, "cpu") == 3).all()


@needs_emulator
def test_more_shared_memory_than_any_gpu_has_is_refused_by_the_emulator():
    f, x = kernels.Module(kernels.parse("f.cu", DECLARED))["f"], drawn(32)
    f((1,), (32,), x, shared=227 << 10)
    with pytest.raises(emulator.EmulatorError, match=r"232449 bytes .* at most 232448"):
        f((1,), (32,), x, shared=(227 << 10) + 1)


@pytest.mark.parametrize("shapes, message", [
    (((2, 3, 4), (2, 3, 4), (2, 3, 4)), r"q \(B, H, T, D\)"),
    (((1, 2, 3, 32), (1, 2, 3, 32), (1, 2, 3, 64)), "of one shape"),
    (((1, 2, 3, 32), (2, 2, 3, 32), (2, 2, 3, 32)), "one batch"),
    (((1, 2, 3, 32), (1, 2, 0, 32), (1, 2, 0, 32)), "no size 0"),
    (((1, 4, 3, 32), (1, 3, 3, 32), (1, 3, 3, 32)), "do not divide"),
])  # fmt: skip
def test_shapes_of_attention_that_do_not_fit_are_refused(shapes, message):
    with pytest.raises(ValueError, match=message) as raised:
        attention.attention(*(np.zeros(s, "float32") for s in shapes))
    assert str(shapes[0]) in str(raised.value)


def test_masks_and_dtypes_that_do_not_fit_are_refused():
    q = np.zeros((2, 1, 3, 32), "float32")
    for mask in (np.ones((2, 4), bool), np.ones((2, 3))):
        with pytest.raises(ValueError, match=r"mask is \(B, S\) = \(2, 3\) booleans"):
            attention.attention(q, q, q, mask=mask)
    with pytest.raises(TypeError, match="one dtype"):
        attention.attention(q, q.astype("float16"), q)
    with pytest.raises(ValueError, match="'flat' is none of hopper, mma, flash,"):
        attention.attention(q, q, q, rung="flat")


# ---- which rung ---------------------------------------------------------------------


@pytest.mark.parametrize("width, dtype, rung", [
    (64, "float32", "flash"), (128, "float16", "flash"), (48, "float32", "tiled"),
])  # fmt: skip
def test_the_best_rung_that_can_is_chosen(width, dtype, rung):
    q = np.zeros((1, 1, 2, width), dtype)
    assert attention.explain(q, q, q, chip=75).split(";")[0] == rung


def test_which_rung_and_why_no_better_one_is_answered():
    q = np.zeros((1, 1, 2, 48), "float32")
    answer = attention.explain(q, q, q, chip=80)
    assert answer.startswith("tiled") and "flash knows head widths" in answer
    with pytest.raises(ValueError, match=r"rung flash knows head widths \(32, 64"):
        attention.attention(q, q, q, rung="flash")


def test_a_problem_for_no_rung_is_refused_with_every_reason():
    q = np.zeros((1, 1, 2, 64), "float64")
    with pytest.raises(
        ValueError, match=r"flash reads .*tiled reads .*naive reads"
    ) as e:
        attention.attention(q, q, q)
    assert "float64" in str(e.value)


# ---- from functional down to the kernel, on CuPy's side -----------------------------


def both(shapes, settings, mask=None, seed=0):
    """out and gradients on the GPU, then on the CPU; as NumPy arrays."""
    answers = []
    for device in ("cuda", "cpu"):
        leaves = [
            mb.tensor(drawn(*s, seed=seed + i), device=device, requires_grad=True)
            for i, s in enumerate(shapes)
        ]
        given = None if mask is None else mb.tensor(mask, device=device)
        y = F.scaled_dot_product_attention(*leaves, given, **settings)
        y.backward(mb.tensor(drawn(*y.shape, seed=9), device=device))
        answers.append(
            [y.to("cpu").numpy(), *(x.grad.to("cpu").numpy() for x in leaves)]
        )
    return zip(*answers, strict=True)


QKV = ((2, 4, 33, 32), (2, 4, 33, 32), (2, 4, 33, 32))
PADDING = np.arange(33) < np.array([[20], [33]])
CALLS = {
    "causal": (QKV, {"is_causal": True}, None),
    "offset": (((1, 2, 3, 32), (1, 2, 9, 32), (1, 2, 9, 32)),
               {"is_causal": True, "offset": 6}, None),
    "padding": (QKV, {}, PADDING[:, None, None]),
    "padding of all": (QKV, {}, PADDING[0]),
    "three axes": (((3, 5, 32),) * 3, {"is_causal": True}, None),
    "grouped": (((2, 4, 9, 32), (2, 2, 9, 32), (2, 2, 9, 32)),
                {"enable_gqa": True, "is_causal": True}, None),
    "grouped, padding": (((2, 4, 9, 32), (2, 1, 33, 32), (2, 1, 33, 32)),
                         {"enable_gqa": True}, PADDING[:, None, None]),
    "scale": (QKV, {"scale": 0.5}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_attention_on_cuda_is_done_by_a_kernel_and_agrees(name, gpu, served):
    for ours, theirs in both(*CALLS[name]):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    assert served == ["flash"]


PLAIN = {
    "bias": (QKV, {}, drawn(33, 33)),
    "mask of scores": (QKV, {}, np.tri(33) > 0),
    "mask of heads": (QKV, {}, np.arange(33) < np.array([20, 33, 5, 1])[:, None, None]),
    "other width of v": ((*QKV[:2], (2, 4, 33, 16)), {}, None),
    "keys of another batch": (((1, 4, 9, 32), *QKV[1:]), {}, None),
    "no axes in front": (((9, 32),) * 3, {}, None),
    "no queries": (((2, 4, 0, 32), *QKV[1:]), {}, None),
    "no sequences": (((0, 4, 9, 32),) * 3, {}, None),
    "more sequences than a grid has": (((65536, 1, 1, 2),) * 3, {}, None),
    "more heads than a grid has": (((1, 65536, 1, 2),) * 3, {}, None),
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_no_kernel_does_is_done_by_array_code(name, gpu, served):
    for ours, theirs in both(*PLAIN[name]):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    assert served == (["flash"] if name == "no axes in front" else [])


def test_two_dtypes_are_done_by_array_code(gpu, served):
    arrays = [drawn(*shape, seed=i) for i, shape in enumerate(QKV)]
    arrays[0] = arrays[0].astype("float16")
    answers = []
    for device in ("cuda", "cpu"):
        moved = (backend.to_device(x, device) for x in arrays)
        out, _ = scaled_dot_product_attention(*moved)
        answers.append(backend.to_device(out, "cpu"))
    np.testing.assert_allclose(*answers, atol=2e-3)
    assert served == []


def test_kernels_can_be_switched_off(gpu, served):
    with backend.kernels(False):
        for ours, theirs in both(*CALLS["causal"]):
            np.testing.assert_allclose(ours, theirs, atol=2e-5)
    assert served == []


def test_strided_heads_of_a_projection_are_served(gpu, served):
    answers = []
    for device in ("cuda", "cpu"):
        mb.seed(1)
        layer = mb.nn.MultiheadAttention(64, 2).to(device)
        x = mb.tensor(drawn(2, 9, 64), device=device, requires_grad=True)
        y = layer(x, is_causal=True)
        (y * y).sum().backward()
        grads = (x.grad, layer.in_proj.weight.grad)
        answers.append([t.to("cpu").numpy() for t in (y, *grads)])
    assert served == ["flash"]
    for ours, theirs in zip(*answers, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@needs_emulator
def test_a_kernels_op_stands_in_for_the_plain_one():
    q, k, v, dout = (drawn(1, 2, 9, 64, seed=i) for i in range(4))
    answers = []
    for op in (attention.attention, scaled_dot_product_attention):
        out, backward = op(q, k, v, is_causal=True, offset=1)
        answers.append([out, *backward(dout)[:3]])
        again = backward(dout)
        np.testing.assert_array_equal(again[0], answers[-1][1])
    for ours, theirs in zip(*answers, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_without_a_compiler_the_answer_says_so(monkeypatch):
    monkeypatch.setattr("minibig.kernels.emulator.builder.compiler", lambda: None)
    add = kernels.Module(kernels.parse("add.cu", TEXT))["add"]
    with pytest.raises(emulator.EmulatorError, match=r"needs Linux .* C\+\+ compiler"):
        add((1,), (1,), drawn(1), drawn(1), 0)
