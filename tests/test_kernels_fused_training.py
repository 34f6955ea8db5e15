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
from minibig.kernels import emulator
from minibig.ops import elementwise
from minibig.optim.clip import grad_norm
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
