"""Results that are computed again in backward: equal, with less memory."""

import tracemalloc

import numpy as np
import pytest
from strict_array import watched

import minibig as mb
from minibig import functional as F
from minibig import models, nn, training
from minibig.gradcheck import gradcheck
from minibig.training import mixed_precision


def leaf(*sizes, device="cpu"):
    return mb.randn(*sizes, dtype="float64", device=device, requires_grad=True)


def recomputed(model):
    """The model with every block's inside computed again in backward."""
    for block in model.blocks:
        block.forward = lambda *inputs, forward=block.forward, **settings: (
            mb.checkpoint(forward, *inputs, **settings)
        )
    return model


def gpt(device="cpu", **sizes):
    mb.seed(2)
    sizes = {"vocab_size": 11, "context_length": 8, "n_layer": 3, "n_head": 2,
             "n_embd": 8, "dropout": 0.2, **sizes}  # fmt: skip
    return models.GPT(models.GPTConfig(**sizes)).to(device)


IDS = np.random.default_rng(0).integers(0, 11, (3, 8))


def test_gpt_gets_the_same_gradients_bit_for_bit(device):
    """With dropout: the same masks are drawn again, and later ones are not shifted."""
    results = []
    for model in (gpt(device), recomputed(gpt(device))):
        mb.seed(7)
        loss = training.next_token_loss(model, IDS, IDS)
        loss.backward()
        second = training.next_token_loss(model, IDS, IDS)
        grads = [p.grad.numpy() for p in model.parameters()]
        results.append([loss.detach().numpy(), second.detach().numpy(), *grads])
    assert len(results[0]) == len(results[1])
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_it_never_waits_for_the_gpu(strict):
    model = recomputed(gpt("cuda"))
    with watched() as seen:
        training.next_token_loss(model, mb.tensor(IDS, device="cuda"),
                                 mb.tensor(IDS, device="cuda")).backward()  # fmt: skip
    assert seen.waits == []


def test_it_works_in_float16():
    results = []
    for model in (gpt(), recomputed(gpt())):
        with mixed_precision.lowered(model):
            mb.seed(7)
            training.next_token_loss(model, IDS, IDS).backward()
        results.append([p.grad.numpy() for p in model.parameters()])
    for ours, expected in zip(*results, strict=True):
        assert ours.dtype == "float16"
        np.testing.assert_array_equal(ours, expected)


def test_memory_does_not_grow_with_the_depth():
    def peak(depth, call):
        layers = [nn.Linear(64, 64) for _ in range(depth)]
        x = mb.randn(256, 64, requires_grad=True)

        def part(x, layer):
            for _ in range(4):
                x = F.gelu(layer(x))
            return x

        tracemalloc.start()
        y = x
        for layer in layers:
            y = call(part, y, layer)
        y.sum().backward()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most / x.array.nbytes

    direct, ours = peak(8, lambda f, *xs: f(*xs)), peak(8, mb.checkpoint)
    assert direct > 8 * 4 and ours < direct / 2
    kept = (peak(16, mb.checkpoint) - ours) / 8
    assert kept < 1.5  # what a part keeps: its input


def test_several_inputs_and_outputs(device):
    def function(a, b, factor, *, shift):
        return a * b + shift, a.sum() * factor, b.argmax(-1)

    results = []
    for call in (lambda f, *xs, **s: f(*xs, **s), mb.checkpoint):
        mb.seed(1)
        a, b = leaf(3, 4, device=device), leaf(4, device=device)
        x, y, ids = call(function, a * 2, b, 3.0, shift=1.0)
        (x.exp().sum() + y).backward()
        results.append(
            [t.numpy() for t in (x.detach(), y.detach(), ids, a.grad, b.grad)]
        )
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_unused_outputs_inputs_and_inputs_given_twice():
    a, b = leaf(3), leaf(3)
    y, _ = mb.checkpoint(lambda a, b, c: (a * c, b.exp()), a, b, a)
    y.sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), 2 * a.detach().numpy())
    assert not b.grad.numpy().any()
    c, d = leaf(3), leaf(3)
    mb.checkpoint(lambda c, d: c * 2, c, d).sum().backward()
    assert d.grad is None and c.grad.tolist() == [2, 2, 2]
    mb.checkpoint(lambda c: c, c).sum().backward()
    assert c.grad.tolist() == [3, 3, 3]


def test_parts_within_parts_and_two_backward_passes():
    x = leaf(4)

    def inner(x):
        return mb.checkpoint(lambda x: (x * x).exp(), x).sin()

    y = mb.checkpoint(inner, x).sum()
    y.backward(retain_graph=True)
    y.backward()
    once = np.cos(np.exp(x.numpy() ** 2)) * np.exp(x.numpy() ** 2) * 2 * x.numpy()
    np.testing.assert_allclose(x.grad.numpy(), 2 * once, rtol=1e-12)


def test_nothing_is_recorded_where_nothing_is_wanted():
    calls = []

    def function(x):
        calls.append(mb.autograd.mode.recording)
        return x * 2

    with mb.no_grad():
        assert not mb.checkpoint(function, leaf(3)).requires_grad
    assert not mb.checkpoint(function, mb.ones(3)).requires_grad
    assert calls == [False, True]


def test_gradient_check():
    x, w = leaf(3, 4), leaf(5, 4)
    assert gradcheck(lambda x: mb.checkpoint(lambda x: F.linear(x, w).tanh(), x), [x])


def test_results_from_outside_must_be_inputs():
    x = leaf(3)
    outside = x * 2
    for function in (lambda x: x * outside, lambda x: outside):
        with pytest.raises(RuntimeError, match=r"result of `multiply` .* as an input"):
            mb.checkpoint(function, x)


def test_inputs_and_weights_changed_before_backward_are_noticed():
    for changed in range(2):
        x, w = leaf(3), leaf(3)
        y = mb.checkpoint(lambda x, w=w: (x * w).exp(), x).sum()
        with mb.no_grad():
            (w if changed else x).add_(1)
        with pytest.raises(RuntimeError, match=r"`checkpoint` .*changed in place"):
            y.backward()
    middle = leaf(3) * 1
    y = mb.checkpoint(lambda x: x.exp(), middle).sum()
    with mb.no_grad():
        middle.mul_(2)
    with pytest.raises(RuntimeError, match=r"`checkpoint` .*changed in place"):
        y.backward()


def test_a_function_that_does_something_else_the_second_time_is_an_error():
    x, w, calls = leaf(3), leaf(3), []

    def function(x):
        calls.append(x)
        return x * w if len(calls) == 1 else x * 2

    y = mb.checkpoint(function, x).sum()
    with pytest.raises(RuntimeError, match="did not do the same twice"):
        y.backward()


def test_random_streams_go_on_after_an_error():
    x = leaf(3)
    calls = []

    def function(x):
        calls.append(None)
        if len(calls) > 1:
            raise KeyError("mine")
        return F.dropout(x, 0.5)

    y = mb.checkpoint(function, x).sum()
    before = mb.random.get_state()
    with pytest.raises(KeyError):
        y.backward()
    assert mb.random.get_state() == before and mb.autograd.mode.recording


@pytest.mark.parametrize("arguments, message", [
    ((mb.ones(2), mb.ones(2)), "takes a function"),
    ((lambda x: x.numpy(), mb.ones(2)), "must give a Tensor"),
    ((lambda x: [x * 2], mb.ones(2)), "must give a Tensor"),
])  # fmt: skip
def test_mistakes_are_named(arguments, message):
    with pytest.raises(TypeError, match=message):
        mb.checkpoint(*arguments)
