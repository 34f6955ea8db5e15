"""Convolution, pooling and batch norm as layers."""

import math

import numpy as np
import pytest

import minibig as mb
from minibig import backend, nn, threads
from minibig import functional as F


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# ---- convolution --------------------------------------------------------------------


def test_a_kernel_of_one_pixel_is_a_linear_layer_on_the_channels():
    conv, x = nn.Conv2d(3, 5, 1), mb.tensor(images(2, 3, 4, 4).astype("float32"))
    linear = F.linear(x.permute(0, 2, 3, 1), conv.weight[:, :, 0, 0], conv.bias)
    found = conv(x).permute(0, 2, 3, 1).detach().numpy()
    np.testing.assert_allclose(found, linear.detach().numpy(), atol=1e-6)


def test_an_edge_is_found_by_hand():
    x = mb.tensor([[[[0.0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]]])
    kernel = mb.tensor([[[[-1.0, 1.0]]]])
    assert F.conv2d(x, kernel).tolist() == [[[[0, 1, 0]] * 3]]


@pytest.mark.parametrize("settings", [{"padding": "same"}, {"padding": (1, 2)}])
def test_settings_of_the_layer_reach_the_function(settings):
    conv = nn.Conv2d(4, 6, (3, 5), dilation=(1, 1), groups=2, bias=False, **settings)
    x = mb.randn(2, 4, 7, 8)
    y = F.conv2d(x, conv.weight, groups=2, **settings)
    np.testing.assert_array_equal(conv(x).detach().numpy(), y.detach().numpy())
    assert y.shape == (2, 6, 7, 8)
    assert repr(conv).startswith("Conv2d(4, 6, (3, 5), padding=")
    assert "groups=2, bias=False" in repr(conv)


def test_first_layer_computes_no_gradient_of_the_images():
    conv, x = nn.Conv2d(2, 3, 3, padding=1), mb.randn(2, 2, 5, 5)
    wanted = mb.tensor(x, requires_grad=True)
    for given in (x, wanted):
        conv(given).exp().sum().backward()
    half = {name: p.grad.numpy() / 2 for name, p in conv.named_parameters()}
    conv.zero_grad()
    conv(x).exp().sum().backward()
    for name, p in conv.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), half[name], rtol=1e-4, atol=1e-5)
    assert x.grad is None and wanted.grad.shape == x.shape


def test_convolution_starts_as_pytorchs():
    conv = nn.Conv2d(16, 64, 5)
    bound = 1 / math.sqrt(16 * 25)
    for parameter in (conv.weight, conv.bias):
        values = parameter.numpy()
        assert np.abs(values).max() <= bound * (1 + 1e-6)
        assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.2)


def test_weight_changed_before_backward_is_noticed():
    conv, x = nn.Conv2d(1, 1, 2), mb.randn(1, 1, 3, 3)
    y = conv(x.requires_grad_()).sum()
    with mb.no_grad():
        conv.weight.zero_()
    with pytest.raises(RuntimeError, match="conv2d"):
        y.backward()


@pytest.mark.parametrize("count", [1, 2])
def test_blocks_and_threads_change_nothing(count, monkeypatch):
    def run():
        x = mb.tensor(images(3, 4, 9, 8), requires_grad=True)
        w = mb.tensor(images(6, 2, 3, 3, seed=1), requires_grad=True)
        y = F.conv2d(x, w, stride=2, padding=1, groups=2)
        y = F.batch_norm(F.max_pool2d(y, 2, 1), None, None, training=True)
        F.avg_pool2d(y, 2, padding=1).exp().sum().backward()
        return [y.numpy(), x.grad.numpy(), w.grad.numpy()]

    whole = run()
    monkeypatch.setattr(backend, "BLOCK", 3)
    before = threads.get_num_threads()
    threads.set_num_threads(count)
    try:
        blocked = run()
    finally:
        threads.set_num_threads(before)
    for a, b in zip(whole, blocked, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.Conv2d(0, 1, 3), "in_channels .*at least 1, not 0"),
        (lambda: nn.Conv2d(4, 6, 3, groups=4), "groups 4 .*out_channels 6"),
        (lambda: nn.Conv2d(4, 6, 0), "kernel_size .*not 0"),
        (lambda: nn.Conv2d(1, 1, 3, padding="full")(mb.ones(1, 1, 4, 4)), '"same"'),
        (lambda: nn.MaxPool2d(3)(mb.ones(2, 3)), r"max_pool2d .*\(2, 3\)"),
        (lambda: nn.AvgPool2d(2, padding=2)(mb.ones(1, 1, 4, 4)), "over half"),
        (lambda: nn.BatchNorm2d(3)(mb.ones(2, 4, 1, 1)), r"3 channels, not \(2, 4"),
        (lambda: nn.BatchNorm1d(3)(mb.ones(2, 3, 1, 1)), r"\(B, C\) or \(B, C, L\)"),
        (lambda: nn.BatchNorm1d(3)(mb.ones(1, 3)), r"more than one .*\(1, 3\)"),
        (lambda: nn.BatchNorm1d(3, momentum=2.0), "momentum .*2.0"),
    ],
)
def test_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- pooling ------------------------------------------------------------------------


def test_pools_by_hand():
    x = mb.tensor([[[[1.0, 2, 5], [4, 3, 0], [9, 8, 7]]]])
    assert nn.MaxPool2d(2, 1)(x).tolist() == [[[[4, 5], [9, 8]]]]
    assert nn.AvgPool2d(2)(x).tolist() == [[[[2.5]]]]
    assert nn.MaxPool2d(2, ceil_mode=True)(x).tolist() == [[[[4, 5], [9, 7]]]]
    assert repr(nn.MaxPool2d(2)) == "MaxPool2d(2, stride=2, padding=0)"


@pytest.mark.oracle
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_ties_of_a_maximum_go_where_pytorch_sends_them(stride):
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).integers(0, 2, (2, 3, 7, 8)).astype("float64")
    x = mb.tensor(values, requires_grad=True)
    theirs = torch.tensor(values, requires_grad=True)
    y = F.max_pool2d(x, 3, stride, 1)
    expected = torch.nn.functional.max_pool2d(theirs, 3, stride, 1)
    dy = images(*y.shape, seed=1)
    y.backward(mb.tensor(dy))
    expected.backward(torch.tensor(dy))
    np.testing.assert_array_equal(y.numpy(), expected.detach().numpy())
    np.testing.assert_allclose(x.grad.numpy(), theirs.grad.numpy(), atol=1e-12)


def test_a_nan_is_the_maximum_of_its_window_and_gets_no_gradient():
    values = images(1, 1, 2, 4)
    values[0, 0, 1, 1] = np.nan
    x = mb.tensor(values, requires_grad=True)
    y = F.max_pool2d(x, 2)
    y.backward(mb.ones(*y.shape, dtype=y.dtype))
    assert np.isnan(y.numpy()).tolist() == [[[[True, False]]]]
    assert x.grad.numpy()[..., :2].sum() == 0 and x.grad.numpy()[..., 2:].sum() == 1


# ---- batch norm ---------------------------------------------------------------------


def test_running_statistics_are_kept_in_files_and_not_trained():
    norm = nn.BatchNorm2d(3)
    assert list(norm.state_dict()) == [
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
    ]  # fmt: skip
    assert [name for name, _ in norm.named_parameters()] == ["weight", "bias"]
    norm(mb.randn(4, 3, 2, 2))
    other = nn.BatchNorm2d(3)
    other.load_state_dict(norm.state_dict())
    assert other.num_batches_tracked.item() == 1
    x = mb.randn(2, 3, 2, 2)
    np.testing.assert_array_equal(
        norm.eval()(x).detach().numpy(), other.eval()(x).detach().numpy()
    )


def test_evaluation_changes_no_statistics_and_training_does():
    norm, x = nn.BatchNorm1d(2), mb.tensor([[0.0, 1.0], [2.0, 5.0]])
    norm.eval()(x)
    assert norm.running_mean.tolist() == [0, 0] and norm.num_batches_tracked.item() == 0
    norm.train()(x)
    np.testing.assert_allclose(norm.running_mean.numpy(), [0.1, 0.3], rtol=1e-6)
    np.testing.assert_allclose(norm.running_var.numpy(), [1.1, 1.7], rtol=1e-6)


def test_without_running_statistics_the_batch_decides_in_evaluation_too():
    norm, x = (
        nn.BatchNorm1d(2, affine=False, track_running_stats=False),
        mb.randn(50, 2),
    )
    assert not norm.state_dict()
    y = norm.eval()(x).numpy()
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(0), 1, rtol=1e-4)


def test_batch_norm_far_from_zero_keeps_its_digits():
    """Two passes: mean(x²) - mean² has no digits left in float32 at 1e4."""
    x = 1e4 + images(64, 3, 5, 5)
    found = F.batch_norm(mb.tensor(x.astype("float32")), None, None, training=True)
    exact = F.batch_norm(mb.tensor(x.astype("float32").astype("float64")), None, None,
                         training=True)  # fmt: skip
    np.testing.assert_allclose(found.numpy(), exact.numpy(), atol=2e-3)


def test_layers_move_to_the_device_with_their_statistics(strict):
    def run(device):
        mb.seed(1)
        model = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.ReLU(),
            nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.AvgPool2d(2),
        ).to(device)  # fmt: skip
        x = mb.tensor(images(3, 2, 8, 8).astype("float32"), device=device)
        model(x).exp().sum().backward()
        arrays = [p.grad.numpy() for p in model.parameters()]
        return arrays + [b.numpy() for _, b in model.named_buffers()]

    for a, b in zip(run("cpu"), run("cuda"), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
