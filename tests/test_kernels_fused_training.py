"""Training by kernels: from `functional` and `optim` down, on CuPy's side.

Over the stand-in, whose kernels are the emulator's; on a GPU the same tests run for
real.
"""

import numpy as np
import pytest
import strict_kernels
from kernel_passes import TOLERANCE, drawn, dtype_of
from strict_array import watched

import minibig as mb
from minibig import backend, data, kernels, models, optim, training
from minibig import functional as F
from minibig.autograd import mode
from minibig.kernels import emulator, parameters
from minibig.ops import elementwise
from minibig.optim.clip import grad_norm, scale_gradients
from minibig.tensor import apply


@pytest.fixture(params=["strict", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request, monkeypatch):
    """Device "cuda" with kernels: the stand-in's or a real one."""
    if request.param == "real":
        yield
        return
    if emulator.missing():
        pytest.skip(emulator.missing())
    stand_in = request.getfixturevalue("strict")
    monkeypatch.setattr(stand_in, "RawModule", strict_kernels.RawModule, raising=False)
    monkeypatch.setattr(stand_in.cuda, "Device", strict_kernels.device, raising=False)
    kernels.load.cache_clear()
    with backend.kernels(True):
        yield
    kernels.load.cache_clear()


@pytest.fixture
def loaded(monkeypatch):
    """The names of the kernels that were launched."""
    names, launch = [], kernels.Kernel.__call__

    def noted(kernel, *arguments, **given):
        names.append(kernel.name)
        return launch(kernel, *arguments, **given)

    monkeypatch.setattr(kernels.Kernel, "__call__", noted)
    return names


# ---- from functional down to the kernel ---------------------------------------------

IDS_OF_ROWS = np.array([[1, 0, 4], [4, 4, -100]])
CALLS = {
    "softmax": lambda x, w: F.softmax(x, -1),
    "log_softmax": lambda x, w: F.log_softmax(x.permute(1, 0, 2), 2),
    "layer_norm": lambda x, w: F.layer_norm(x, 5, w[0], w[1]),
    "rms_norm": lambda x, w: F.rms_norm(x, 5, w[2]),
    "cross_entropy": lambda x, w: F.cross_entropy(x, IDS_OF_ROWS, label_smoothing=0.1),
    "gelu": lambda x, w: F.gelu(x),
    "gelu_tanh": lambda x, w: F.gelu(x.permute(2, 1, 0), approximate="tanh"),
    "silu": lambda x, w: F.silu(x[:, ::2]),
    "linear_activation": lambda x, w: F.linear_activation(x, w, w[:, 0], "gelu"),
    "embedding": lambda x, w: F.embedding([[1, 0, 1], [2, 2, 1]], w) * x,
}


KERNELS = {"layer_norm": "norm", "rms_norm": "norm", "linear_activation": "gelu"}
BOTH = ("forward", "backward")
EXPECTED = {"embedding": ("backward", "joined")}


def trained(name, device, dtype):
    """Result and gradients of a call, as NumPy arrays."""
    x = mb.tensor(drawn(2, 3, 5), device=device, requires_grad=True)
    w = mb.tensor(drawn(3, 5, seed=1), device=device, requires_grad=True)
    before = mode.bfloat16
    mode.bfloat16 = True
    try:
        narrow = [apply(elementwise.cast, t, dtype=np.dtype(dtype)) for t in (x, w)]
        with watched() as seen:
            y = CALLS[name](*narrow)
            (y * y).sum().backward()
    finally:
        mode.bfloat16 = before
    assert seen.waits == []
    found = [y.detach(), *(t.grad for t in (x, w) if t.grad is not None)]
    return [t.to("cpu").array.astype("float32") for t in found]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CALLS)
def test_op_on_cuda_is_done_by_a_kernel_and_agrees(name, dtype, gpu, loaded):
    dtype_of(dtype)
    ours = trained(name, "cuda", dtype)
    kernel = KERNELS.get(name, name)
    assert all(f"{kernel}_{way}" in loaded for way in EXPECTED.get(name, BOTH))
    for a, b in zip(ours, trained(name, "cpu", "float32"), strict=True):
        np.testing.assert_allclose(a, b, atol=5 * TOLERANCE[dtype], rtol=5e-2)


def test_what_no_kernel_does_is_done_by_array_code(gpu, loaded):
    wide = mb.ones(2, 3, dtype="float64", device="cuda")
    narrow = mb.ones(2, 3, device="cuda")
    for y in (F.softmax(wide, -1), F.gelu(wide), F.softmax(narrow, 0)):
        assert y.shape == (2, 3)
    assert F.gelu(mb.zeros(0, 3, device="cuda")).shape == (0, 3)
    with backend.kernels(False):
        F.layer_norm(narrow, 3)
    assert loaded == []


@pytest.mark.parametrize("family", ["GPT", "Llama"])
def test_model_trains_by_kernels_as_on_the_cpu(family, gpu, loaded):
    runs = []
    for device in ("cuda", "cpu"):
        mb.seed(3)
        config = getattr(models, f"{family}Config")
        sizes = (11, 8, 1, 2, 64) if family == "GPT" else (11, 8, 1, 2, 64, 96)
        model = getattr(models, family)(config(*sizes)).to(device)
        history = training.fit(
            model, data.RandomCrops([1, 2, 3] * 9, context_length=5, batch_size=2),
            training.next_token_loss, optim.AdamW(model.parameters(), lr=1e-2),
            steps=3, clip_norm=1.0,
        )  # fmt: skip
        runs.append(
            [row[name] for row in history.steps for name in ("loss", "grad_norm")]
        )
    np.testing.assert_allclose(*runs, rtol=1e-4)
    names = {name.removesuffix("_backward") for name in loaded}
    assert {"norm", "cross_entropy", "embedding", "adam", "gradient_norm"} <= names


# ---- all parameters at once ---------------------------------------------------------

SHAPES = ((), (3, 5), (0, 2), (4096,), (4097,), (2, 4200))
SETTINGS = {
    "AdamW": (optim.AdamW, {"lr": 0.1, "weight_decay": 0.3}),
    "Adam": (optim.Adam, {"lr": 0.1, "weight_decay": 0.2, "betas": (0.5, 0.9)}),
}


def stepped(name, device, transposed=False):
    """Parameters and states after two steps; one parameter has a gradient in one."""
    kind, settings = SETTINGS[name]
    parameters = [
        mb.tensor(drawn(*s, seed=i), device=device, requires_grad=True)
        for i, s in enumerate(SHAPES)
    ]
    groups = [{"params": parameters[:3]}, {"params": parameters[3:], "lr": 0.03}]
    optimizer = kind(groups, **settings)
    for step in range(2):
        for i, p in enumerate(parameters[step == 0 :]):
            g = backend.to_device(drawn(*p.shape, seed=50 + i + step), device)
            if transposed and g.ndim == 2:
                g = backend.array_module(g).ascontiguousarray(g.T).T
            p.grad = mb.Tensor(g)
        optimizer.step()
    arrays = [p.array for p in parameters]
    for entry in optimizer.state_dict()["state"].values():
        arrays += [x for x in entry.values() if not isinstance(x, int)]
    return [backend.to_device(x, "cpu") for x in arrays]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_of_all_parameters_is_one_launch_and_agrees(name, gpu, loaded):
    with watched() as seen:
        ours = stepped(name, "cuda", transposed=True)
    assert loaded == ["adam"] * 2
    assert set(seen.waits) <= {"get"}  # of this test, at the end
    for a, b in zip(ours, stepped(name, "cpu"), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


def test_parameters_that_the_kernel_does_not_read_are_stepped_too(gpu, loaded):
    results = []
    for device in ("cuda", "cpu"):
        parameters = [
            mb.ones(3, dtype=dtype, device=device, requires_grad=True)
            for dtype in ("float32", "float64")
        ]
        optimizer = optim.AdamW(parameters, lr=0.1)
        for p in parameters:
            p.grad = mb.ones_like(p) * 0.5
        optimizer.step()
        results.append([p.to("cpu").array for p in parameters])
    assert loaded == ["adam"]
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_norm_of_all_gradients_is_that_of_the_cpu(gpu, loaded):
    arrays = [drawn(*s, seed=i) for i, s in enumerate(SHAPES)]
    there = [mb.tensor(x, device="cuda") for x in arrays]
    there.append(mb.tensor(drawn(7, 40), device="cuda").T)
    with watched() as seen:
        norm = grad_norm(there)
    assert seen.waits == [] and norm.shape == () and norm.dtype == "float64"
    squares = [np.square(x.astype("float64")).sum() for x in (*arrays, drawn(7, 40))]
    assert float(norm) == pytest.approx(np.sqrt(sum(squares)), rel=1e-6)
    assert loaded == ["gradient_norm_parts", "gradient_norm"]
    there.append(mb.tensor([1e20, 1.0], device="cuda"))
    assert float(grad_norm(there)) == np.inf
    there[-1] = mb.tensor([np.nan, 1.0], device="cuda")
    assert np.isnan(float(grad_norm(there)))
    assert float(grad_norm([mb.ones(4, dtype="float64", device="cuda")])) == 2
    assert float(grad_norm([mb.zeros(0, device="cuda")])) == 0


def with_gradients(device, *others):
    """Parameters of all SHAPES and of `others`, arrays, with gradients."""
    arrays = [drawn(*s, seed=i) for i, s in enumerate(SHAPES)]
    gradients = [mb.tensor(x, dtype=x.dtype, device=device) for x in (*arrays, *others)]
    parameters = [mb.Tensor(g.array, requires_grad=True) for g in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = g
    return parameters


def on_cpu(parameters):
    return [p.grad.to("cpu").array for p in parameters]


@pytest.mark.parametrize("max_norm", [0.5, 1e6, 0.0, np.inf])
def test_clipping_is_one_launch_and_agrees(max_norm, gpu, loaded):
    ours, theirs = with_gradients("cuda"), with_gradients("cpu")
    arrays = [p.grad.array for p in ours]
    with watched() as seen:
        norm = optim.clip_grad_norm_(ours, max_norm)
    assert seen.waits == []
    assert loaded == ["gradient_norm_parts", "gradient_norm", "gradient_clip"]
    expected = optim.clip_grad_norm_(theirs, max_norm)
    assert float(norm) == pytest.approx(float(expected), rel=1e-6)
    for a, b in zip(on_cpu(ours), on_cpu(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-12)
    assert all(p.grad.array is x for p, x in zip(ours, arrays, strict=True))
    assert all(p.grad.version[0] == 1 for p in ours)


def test_gradients_that_the_kernel_cannot_change_are_clipped_too(gpu, loaded):
    found = []
    for device in ("cuda", "cpu"):
        *parameters, wide, whole = with_gradients(
            device, drawn(3).astype("float64"), drawn(7, 40)
        )
        strided = mb.zeros(7, 20, device=device, requires_grad=True)
        strided.grad = whole.grad[:, ::2]
        parameters += [wide, strided, parameters[1]]  # given twice: scaled twice
        norm = optim.clip_grad_norm_(parameters, 0.5)
        found.append([norm.to("cpu").array, *on_cpu([*parameters, whole])])
    assert loaded == ["gradient_clip"]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("max_norm", [1.0, np.inf])
def test_norm_that_is_not_finite_is_never_hidden(bad, max_norm, gpu, loaded):
    """NaN makes all NaN; an infinite norm zeros, and NaN of infinities, as PyTorch."""
    found = []
    for by_kernel in (True, False):
        parameters = with_gradients("cuda", np.float32([1, bad, 2]))
        with backend.kernels(by_kernel):
            norm = optim.clip_grad_norm_(parameters, max_norm)
        found.append([norm.to("cpu").array, *on_cpu(parameters)])
    assert "gradient_clip" in loaded and not np.isfinite(found[0][0])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_error_if_nonfinite_leaves_gradients_as_they_are(gpu, loaded):
    parameters = with_gradients("cuda", np.float32([1, np.nan, 2]))
    before = on_cpu(parameters)
    with pytest.raises(RuntimeError, match="norm of the gradients is nan"):
        optim.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    assert "gradient_clip" not in loaded
    for a, b in zip(on_cpu(parameters), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_loss_scale_is_taken_off_in_one_launch_and_after_one_wait(gpu, loaded):
    losses = []
    for device in ("cuda", "cpu"):
        mb.seed(3)
        model = models.GPT(models.GPTConfig(11, 8, 1, 2, 64)).to(device)
        with watched() as seen:
            history = training.fit(
                model, data.RandomCrops([1, 2, 3] * 9, context_length=5, batch_size=2),
                training.next_token_loss, optim.AdamW(model.parameters(), lr=1e-2),
                steps=3, clip_norm=1.0, precision="fp16",
            )  # fmt: skip
        assert set(seen.waits) <= {"get"} and len(seen.waits) <= 3  # one a step
        losses.append(history.loss)
    np.testing.assert_allclose(*losses, rtol=1e-2)
    assert loaded.count("gradient_scale") == loaded.count("adam") == 3


# ---- casts --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_weights_and_gradients_are_cast_in_one_launch_each(kind, gpu, loaded):
    dtype = dtype_of(kind)
    x = [drawn(*s, seed=i) for i, s in enumerate(SHAPES)]
    x[0].flat[0] = 1e6  # too large for float16, and seen
    there = [backend.to_device(a, "cuda") for a in x]
    there.append(backend.to_device(drawn(7, 40), "cuda").T)
    narrow = parameters.cast(there, dtype)
    wide = parameters.cast(narrow, "float32")
    assert loaded == ["cast", "cast"]
    with np.errstate(over="ignore"):
        expected = [a.astype(dtype) for a in (*x, drawn(7, 40).T)]
    for a, b, c in zip(narrow, expected, wide, strict=True):
        np.testing.assert_array_equal(backend.to_device(a, "cpu"), b)
        np.testing.assert_array_equal(backend.to_device(c, "cpu"), b.astype("float32"))


def test_arrays_of_two_kinds_are_left_to_array_code(gpu, loaded):
    arrays = [mb.ones(3, dtype=d, device="cuda").array for d in ("float32", "float64")]
    assert parameters.cast(arrays, "float16") is None
    assert parameters.cast(arrays[:1], "float64") is None
    assert loaded == []


def test_what_is_no_number_is_none_in_bfloat16(gpu):
    """Of float32's NaNs a GPU makes 0x7fffffff, which rounds to -0."""
    bits = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x7FC00000], "uint32")
    there = backend.to_device(bits.view("float32"), "cuda")
    (found,) = parameters.cast([there], dtype_of("bfloat16"))
    assert np.isnan(backend.to_device(found, "cpu").astype("float32")).all()


def test_arrays_of_more_chunks_than_a_block_has_threads(gpu, loaded):
    arrays = [mb.tensor([float(i)], device="cuda").array for i in range(600)]
    norm = float(parameters.gradient_norm(arrays))
    assert norm == pytest.approx(np.sqrt(np.square(np.arange(600.0)).sum()))
    parameters.scale_gradients(arrays, 0.5)
    assert all(float(x[0]) == i / 2 for i, x in enumerate(arrays))


def test_scaled_gradients_count_as_changed(gpu):
    gradients = [p.grad for p in with_gradients("cuda")]
    scale_gradients(gradients, 0.5)
    assert all(g.version[0] == 1 for g in gradients)
    scale_gradients(gradients, 1)
    assert all(g.version[0] == 1 for g in gradients)


def test_a_gradient_of_another_dtype_is_read_as_the_kernels_own(gpu):
    x = backend.to_device(drawn(3, 9), "cuda")
    dy = drawn(3, 9, seed=1)
    _, backward = kernels.softmax.softmax(x)
    found = [backward(backend.to_device(d, "cuda"))[0] for d in (dy, dy.astype("f8"))]
    np.testing.assert_array_equal(*(backend.to_device(d, "cpu") for d in found))
