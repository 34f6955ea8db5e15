"""Training in float16: float32 weights, a scaled loss, steps that overflow."""

import functools
import math
import sys

import numpy as np
import pytest
from families import FAMILIES, IMAGES, LABELS, loss_of
from strict_array import watched

import minibig as mb
from minibig import data, models, nn, optim
from minibig import functional as F
from minibig.tensor import Tensor
from minibig.training import (
    GradScaler,
    classification_loss,
    fit,
    load_checkpoint,
    mixed_precision,
    next_token_loss,
    regression_loss,
)

# ---- every family of models ---------------------------------------------------------


@pytest.mark.parametrize("make, batch", FAMILIES.values(), ids=FAMILIES)
def test_every_family_works_in_float16(device, make, batch):
    model = make().eval().to(device)
    batch = tuple(mb.tensor(array, device=device) for array in batch)
    expected = loss_of(model, *batch)
    expected.backward()
    gradients = {n: p.grad.numpy() for n, p in model.named_parameters()}
    masters = model.state_dict()
    model.zero_grad()
    half = mixed_precision.Precision("fp16", model)
    half.scaler.scale = 256.0
    with half.working():
        assert {p.dtype.name for p in model.parameters()} == {"float16"}
        loss = loss_of(model, *half.inputs(batch))
        half.backward(loss, 1.0)
    assert loss.dtype == "float32"
    assert loss.item() == pytest.approx(expected.item(), rel=5e-3)
    for name, p in model.named_parameters():
        assert p.array is masters[name] and p.dtype == p.grad.dtype == "float32"
        exact = gradients[name]
        apart = np.linalg.norm(p.grad.numpy() / 256 - exact)
        assert apart <= 0.05 * np.linalg.norm(exact) + 1e-4, name


@pytest.fixture
def bfloat16():
    pytest.importorskip("ml_dtypes", reason="needs ml_dtypes, which has bfloat16")


@pytest.mark.parametrize("make, batch", FAMILIES.values(), ids=FAMILIES)
def test_every_family_works_in_bfloat16_on_a_gpu(strict, bfloat16, make, batch):
    model = make().eval().to("cuda")
    batch = tuple(mb.tensor(array, device="cuda") for array in batch)
    expected = loss_of(model, *batch)
    expected.backward()
    gradients = {n: p.grad.numpy() for n, p in model.named_parameters()}
    masters = model.state_dict()
    model.zero_grad()
    brain = mixed_precision.Precision("bf16", model)
    with brain.working():
        assert {p.dtype.name for p in model.parameters()} == {"bfloat16"}
        loss = loss_of(model, *brain.inputs(batch))
        brain.backward(loss, 1.0)
    assert loss.dtype == "float32" and brain.scale == 1
    assert loss.item() == pytest.approx(expected.item(), rel=2e-2)
    for name, p in model.named_parameters():
        assert p.array is masters[name] and p.dtype == p.grad.dtype == "float32"
        apart = np.linalg.norm(p.grad.numpy() - gradients[name])
        assert apart <= 0.3 * np.linalg.norm(gradients[name]) + 1e-4, name


def test_bfloat16_learns_without_a_scale_and_waits_once_a_step(strict, bfloat16):
    single = text_run("fp32", 25)[0].loss
    with watched() as seen:
        brain, model = text_run("bf16", 25, "cuda")
    np.testing.assert_allclose(brain.loss, single, rtol=2e-2)
    assert brain.loss[-1] < brain.loss[0] - 0.03 and "scale" not in brain.steps[0]
    assert seen.waits == ["get"] * 25 and seen.slow == []
    assert {p.dtype.name for p in model.parameters()} == {"float32"}


# ---- the scale ----------------------------------------------------------------------


def test_scale_doubles_after_enough_good_steps_and_halves_at_once():
    scaler = GradScaler(growth_interval=3)
    assert scaler.scale == 65536 and GradScaler().growth_interval == 2000
    scales = []
    for good in (True, True, False, True, True, True, True, False, False):
        scaler.update(good)
        scales.append(scaler.scale / 65536)
    assert scales == [1, 1, 0.5, 0.5, 0.5, 1, 1, 0.5, 0.25]
    other = GradScaler(growth_interval=3)
    other.load_state_dict(scaler.state_dict())
    assert vars(other) == vars(scaler)


class Line(nn.Module):
    """x · weight: one number a row."""

    def __init__(self, weight=0.0):
        self.weight = nn.Parameter(mb.tensor([[weight]]))

    def forward(self, x):
        return F.linear(x, self.weight)


def rows(size, target=1.0):
    x = np.full((4, 1), size, np.float32)
    return data.ArrayBatches(x, np.full((4,), target, np.float32), batch_size=4)


def trained(model, loader, steps, loss=regression_loss, lr=1.0, **settings):
    optimizer = optim.SGD(model.parameters(), lr=lr)
    settings = {"precision": "fp16", **settings}
    return fit(model, loader, loss, optimizer, steps=steps, **settings)


def test_step_that_overflows_changes_no_weight_and_halves_the_scale():
    """d loss / d weight = -2 · 8: at a scale of 65,536 and 8,192 not to be written."""
    model = Line()
    optimizer = optim.Adam(model.parameters(), lr=0.5)
    schedule = optim.StepLR(optimizer, 1, 0.5)
    seen = []
    history = fit(
        model, rows(8.0), regression_loss, optimizer, steps=7, precision="fp16",
        schedule=schedule, callbacks=[lambda run: seen.append(model.weight.item())],
    )  # fmt: skip
    scales = history.column("scale")[1]
    assert scales == [65536 / 2**i for i in (0, 1, 2, 3, 4, 5, 5)]
    norms = history.column("grad_norm")[1]
    assert [math.isinf(norm) for norm in norms] == [True] * 5 + [False] * 2
    assert seen[:5] == [0.0] * 5 and seen[5] != 0.0
    assert norms[5] == pytest.approx(16, rel=1e-3)
    assert optimizer.state[0]["step"] == 2
    assert history.column("lr")[1] == [0.5 / 2**i for i in range(7)]


def test_scale_saves_gradients_too_small_for_float16():
    model, small = Line(), 2.0**-20
    with mixed_precision.lowered(model):
        loss = regression_loss(model, mb.tensor([[small]]).half(), mb.tensor([small]))
        loss.backward()
    assert model.weight.grad.item() == 0.0
    trained(model, rows(small, small), 1)
    assert model.weight.item() == pytest.approx(2 * small**2, rel=1e-3)


def test_gradients_that_overflow_without_a_scale_too_end_the_run():
    with pytest.raises(
        FloatingPointError, match=r"float16 even .* lower learning rate"
    ):
        trained(Line(), rows(6e4, 60.0), 30)


def test_loss_that_overflows_names_the_op():
    with pytest.raises(
        FloatingPointError, match=r"step 1: the loss is inf: .*`linear`"
    ):
        trained(Line(60000.0), rows(6e4), 5)


def test_clipping_sees_the_gradient_without_its_scale():
    model = Line()
    history = trained(model, rows(1.0, 0.25), 1, clip_norm=0.125, lr=0.1)
    assert history.steps[0]["grad_norm"] == pytest.approx(0.5, rel=1e-6)
    assert model.weight.item() == pytest.approx(0.0125, rel=1e-5)


# ---- runs ---------------------------------------------------------------------------


def text_run(name, steps=12, device="cpu", folder=None, accumulate=2, **settings):
    """(history, model) of a small GPT with dropout, in a precision."""
    ids = [int(digit) for digit in str(10**96 // 97)]
    mb.seed(3)
    model = models.GPT(models.GPTConfig(11, 8, 2, 2, 8, dropout=0.1)).to(device)
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    loader = data.RandomCrops(ids, context_length=8, batch_size=4)
    history = fit(
        model, loader, next_token_loss, optimizer, steps=steps, clip_norm=1.0,
        accumulate=accumulate, precision=name, folder=folder, **settings,
    )  # fmt: skip
    return history, model


def test_float16_learns_as_float32_does(device):
    single, half = (text_run(name, 25, device)[0].loss for name in ("fp32", "fp16"))
    np.testing.assert_allclose(half, single, rtol=2e-3)
    assert single[-1] < single[0] - 0.03


def test_a_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    eager = functools.partial(GradScaler, growth_interval=3)
    monkeypatch.setattr(mixed_precision, "GradScaler", eager)
    whole, model = text_run("fp16")
    text_run("fp16", 7, folder=tmp_path, save_every=5)
    assert load_checkpoint(tmp_path).info["scaler"] == {"scale": 2.0**18,
                                                        "good_steps": 1}  # fmt: skip
    rest, other = text_run("fp16", folder=tmp_path)
    assert rest.loss == whole.loss and whole.steps[-1]["scale"] == 2.0**19
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array)


def test_a_run_moves_to_the_other_device(strict, tmp_path):
    whole = text_run("fp16")[0]
    text_run("fp16", 6, "cuda", tmp_path)
    rest, model = text_run("fp16", device="cpu", folder=tmp_path)
    np.testing.assert_allclose(rest.loss, whole.loss, rtol=1e-3)
    assert model.device == "cpu"


def test_checkpoint_of_another_precision_is_refused(tmp_path):
    text_run("fp16", 2, folder=tmp_path)
    with pytest.raises(ValueError, match="was 'fp16' there and is 'fp32' here"):
        text_run("fp32", 4, folder=tmp_path)


def test_gradients_of_several_batches_are_added_up_in_float32():
    """64 small gradients after a large one: float16 would lose them."""
    x = np.ones((65, 1), np.float32)
    x[1:] = 2.0**-13
    model = Line()
    loader = data.ArrayBatches(x, np.ones(65, np.float32), batch_size=1, shuffle=False)
    trained(model, loader, 1, accumulate=65)
    assert model.weight.item() == pytest.approx(2 * x.sum() / 65, rel=1e-3)


def test_fit_waits_for_the_gpu_once_a_step(strict):
    with watched() as seen:
        text_run("fp16", 3, "cuda")
    assert seen.waits == ["get"] * 3


def test_batch_norm_keeps_its_statistics_in_float32():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(),
                          nn.Linear(4 * 196, 2))  # fmt: skip
    loader = data.ArrayBatches(IMAGES, LABELS, batch_size=2)
    trained(model, loader, 2, classification_loss, lr=0.01)
    state = model.state_dict()
    assert "float16" not in {array.dtype.name for array in state.values()}
    assert np.abs(state["1.running_mean"]).max() > 1e-3


@pytest.mark.parametrize("settings, error, message", [
    ({"precision": "bf16"}, ValueError, r'"bf16" needs a GPU.*"fp16"'),
    ({"precision": "half"}, ValueError, 'precision is one of "fp32", "fp16", "bf16"'),
    ({"processes": 2}, ValueError, "one process"),
])  # fmt: skip
def test_precision_that_is_not_offered_is_refused(settings, error, message):
    with pytest.raises(error, match=message):
        trained(Line(), rows(1.0), 1, **settings)


def test_missing_ml_dtypes_is_named(strict, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ValueError, match="pip install ml_dtypes"):
        trained(Line().to("cuda"), rows(1.0), 1, precision="bf16")


def test_weights_must_be_float32():
    with pytest.raises(
        TypeError, match=r'weights of float32; .* float64: .*to\("float'
    ):
        trained(Line().to("float64"), rows(1.0), 1)


def test_models_weights_come_back_where_the_loss_fails():
    model = Line(2.0)
    before = model.weight.array

    def loss(model, x, t):
        raise KeyError("mine")

    with pytest.raises(KeyError):
        trained(model, rows(1.0), 1, loss)
    assert model.weight.array is before and isinstance(model.weight, Tensor)


def test_an_op_that_can_do_bfloat16_itself_does_it_where_it_can(strict, bfloat16):
    import ml_dtypes

    from minibig.ops import bfloat16 as ops

    seen = []

    def double(x, *, small):
        seen.append(x.dtype.name)
        return x + x, lambda dy: (dy + dy,)

    double.in_bfloat16 = lambda x, small: double(x, small=small) if small else None
    x = strict.asarray(np.ones(3, ml_dtypes.bfloat16))
    for small, dtype in ((True, "bfloat16"), (False, "float32")):
        y, backward = ops.computed(double, [x], {"small": small})
        assert seen.pop() == dtype
        assert y.dtype.name == backward(y)[0].dtype.name == "bfloat16"
        assert backward(y)[0].get().tolist() == [4, 4, 4]
