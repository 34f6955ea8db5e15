"""Training with kernels: dropout's mask, NumPy's random bits made on the device, and
attention in bfloat16."""

import numpy as np
import pytest
import strict_kernels
from kernel_passes import losses_of_gpt
from strict_array import watched

import minibig as mb
from minibig import backend, kernels, models, training
from minibig import functional as F
from minibig.kernels import attention_flash, dropout, emulator

pytestmark = pytest.mark.skipif(
    emulator.missing() is not None, reason=str(emulator.missing())
)


@pytest.fixture(params=["strict", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request, monkeypatch):
    """Device "cuda" with kernels: the stand-in's or a real one."""
    if request.param == "real":
        yield
        return
    stand_in = request.getfixturevalue("strict")
    monkeypatch.setattr(stand_in, "RawModule", strict_kernels.RawModule, raising=False)
    monkeypatch.setattr(stand_in.cuda, "Device", strict_kernels.device, raising=False)
    kernels.load.cache_clear()
    with backend.kernels(True):
        yield
    kernels.load.cache_clear()


def numpys(rng, count, least):
    return np.frombuffer(rng.bytes(2 * count), "<u2") >= least


@pytest.mark.parametrize("count", [0, 1, 3, 4, 127, 128, 129, 32768, 33001])
def test_mask_is_numpys_bit_for_bit(count):
    """Sizes around a thread's 128 and a block's 32,768 numbers; states of all kinds."""
    for step in range(3):
        key = [2**40 + step, 17, step]
        found = dropout.keep_mask(np.random.default_rng(key), count, 20000, np.empty(0))
        expected = numpys(np.random.default_rng(key), count, 20000)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("least", [0, 1, 65535, 65536])
def test_ends_of_the_probabilities(least):
    found = dropout.keep_mask(np.random.default_rng(3), 4000, least, np.empty(0))
    np.testing.assert_array_equal(found, numpys(np.random.default_rng(3), 4000, least))


def test_both_devices_drop_the_same_and_nobody_waits(gpu):
    results = []
    for device in ("cpu", "cuda"):
        mb.seed(5)
        x = mb.ones(40, 50, device=device, requires_grad=True)
        with watched() as seen:
            y = F.dropout(F.dropout(x, 0.3), 0.1)
            y.sum().backward()
        assert seen.waits == []
        results.append((y.detach().numpy(), x.grad.numpy(), mb.rand(2).numpy()))
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert 0.55 < (results[0][0] > 0).mean() < 0.7


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_gpt_trains_by_the_flash_kernel_in_every_precision(gpu, monkeypatch, precision):
    if precision == "bf16":
        pytest.importorskip("ml_dtypes", reason="needs ml_dtypes, which has bfloat16")
    forward, seen = attention_flash.Flash.forward, []

    def noted(self, p, q, *rest):
        seen.append(q.dtype.name)
        return forward(self, p, q, *rest)

    monkeypatch.setattr(attention_flash.Flash, "forward", noted)
    losses = losses_of_gpt(precision, context_length=5, n_layer=1, n_embd=64)
    names = {"fp16": "float16", "bf16": "bfloat16"}
    assert seen == [names[precision]] * 2
    np.testing.assert_allclose(*losses, rtol=5e-3)


@pytest.mark.parametrize("gpu", ["strict"], indirect=True)
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_layer_in_16_bits_copies_nothing_into_other_numbers(strict, gpu, precision):
    """A cast is a launch, and twice the bytes: more layers must not bring more."""
    if precision == "bf16":
        pytest.importorskip("ml_dtypes", reason="needs ml_dtypes, which has bfloat16")
    casts, astype = [], strict.ndarray.astype

    def noted(x, dtype, *arguments, **settings):
        if x.size > 64 and x.dtype != dtype:
            casts[-1] += 1
        return astype(x, dtype, *arguments, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict.ndarray, "astype", noted)
        for n_layer in (1, 3):
            config = models.GPTConfig(
                vocab_size=50, context_length=8, n_layer=n_layer, n_head=2, n_embd=64
            )
            model, ids = models.GPT(config).to("cuda"), mb.tensor([[1, 2, 3]] * 9)
            brain = training.mixed_precision.Precision(precision, model)
            casts.append(0)
            with brain.working(), np.errstate(over="ignore"):
                logits = model(ids.to("cuda"))
                brain.backward(F.cross_entropy(logits, ids.to("cuda")), 1.0)
    assert casts[0] == casts[1] <= 4
