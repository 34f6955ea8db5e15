"""The plain layers and their first values."""

import math

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig import nn
from minibig.nn import init

LAYERS = {
    "Linear": (lambda: nn.Linear(6, 3), lambda x, m: F.linear(x, m.weight, m.bias)),
    "Linear_no_bias": (
        lambda: nn.Linear(6, 3, bias=False),
        lambda x, m: F.linear(x, m.weight),
    ),
    "LayerNorm": (
        lambda: nn.LayerNorm(6, eps=0.1),
        lambda x, m: F.layer_norm(x, (6,), m.weight, m.bias, 0.1),
    ),
    "LayerNorm_two_axes": (
        lambda: nn.LayerNorm((2, 6), bias=False),
        lambda x, m: F.layer_norm(x, (2, 6), m.weight),
    ),
    "RMSNorm": (
        lambda: nn.RMSNorm(6, eps=0.1),
        lambda x, m: F.rms_norm(x, (6,), m.weight, 0.1),
    ),
    "Flatten": (nn.Flatten, lambda x, m: x.reshape(4, 12)),
    "Identity": (nn.Identity, lambda x, m: x),
    "ReLU": (nn.ReLU, lambda x, m: F.relu(x)),
    "GELU": (nn.GELU, lambda x, m: F.gelu(x)),
    "GELU_tanh": (
        lambda: nn.GELU(approximate="tanh"),
        lambda x, m: F.gelu(x, approximate="tanh"),
    ),
    "SiLU": (nn.SiLU, lambda x, m: F.silu(x)),
    "Sigmoid": (nn.Sigmoid, lambda x, m: F.sigmoid(x)),
    "Tanh": (nn.Tanh, lambda x, m: F.tanh(x)),
    "Softmax": (lambda: nn.Softmax(1), lambda x, m: F.softmax(x, 1)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_computes_its_function(name):
    make, function = LAYERS[name]
    layer, x = make(), mb.randn(4, 2, 6)
    np.testing.assert_array_equal(
        layer(x).detach().numpy(), function(x, layer).detach().numpy()
    )
    assert repr(layer).startswith(name.split("_")[0] + "(")


def test_embedding_looks_rows_up():
    layer = nn.Embedding(5, 3)
    ids = mb.tensor([[0, 4], [4, 1]])
    np.testing.assert_array_equal(layer(ids).numpy(), layer.weight.numpy()[ids.numpy()])
    with pytest.raises(IndexError, match="id 5"):
        layer(mb.tensor([5]))


def test_dropout_zeroes_a_share_and_scales_the_rest():
    layer = nn.Dropout(0.25)
    y = layer(mb.ones(100_000)).numpy()
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.01
    assert (layer.eval()(mb.ones(10)).numpy() == 1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.Linear(0, 3), "in_features must be a whole number.*not 0"),
        (lambda: nn.Linear(3, 2.0), "out_features must be a whole number.*not 2.0"),
        (lambda: nn.Embedding(-1, 3), "num_embeddings .*not -1"),
        (lambda: nn.Dropout(1.5), "dropout is a probability .*not 1.5"),
    ],
)
def test_size_that_cannot_be_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_sizes_may_be_numpy_integers():
    assert nn.Linear(np.int64(3), np.int32(2)).weight.shape == (2, 3)


# ---- first values -------------------------------------------------------------------

SHAPE = (300, 200)  # (out, in)
ROOT2 = math.sqrt(2)
EVEN = {  # name: (fill, bound)
    "uniform": (lambda w: init.uniform_(w, -0.3, 0.3), 0.3),
    "xavier": (init.xavier_uniform_, math.sqrt(6 / 500)),
    "xavier_gain": (lambda w: init.xavier_uniform_(w, 2.0), 2 * math.sqrt(6 / 500)),
    "kaiming": (init.kaiming_uniform_, math.sqrt(6 / 200)),
    "kaiming_out": (
        lambda w: init.kaiming_uniform_(w, mode="fan_out"),
        math.sqrt(6 / 300),
    ),
    "kaiming_slope": (
        lambda w: init.kaiming_uniform_(w, math.sqrt(5)),
        1 / math.sqrt(200),
    ),
    "kaiming_tanh": (
        lambda w: init.kaiming_uniform_(w, nonlinearity="tanh"),
        5 / 3 * math.sqrt(3 / 200),
    ),
}
NORMAL = {  # name: (fill, standard deviation)
    "normal": (lambda w: init.normal_(w, std=0.3), 0.3),
    "xavier": (init.xavier_normal_, math.sqrt(2 / 500)),
    "kaiming": (init.kaiming_normal_, math.sqrt(2 / 200)),
    "kaiming_linear_out": (
        lambda w: init.kaiming_normal_(w, mode="fan_out", nonlinearity="linear"),
        math.sqrt(1 / 300),
    ),
}


def filled(fill, shape=SHAPE):
    w = mb.zeros(*shape)
    assert fill(w) is w and w.dtype == np.float32
    return w.numpy().astype("float64")


@pytest.mark.parametrize("name", EVEN)
def test_even_values_fill_their_range(name):
    fill, bound = EVEN[name]
    w = filled(fill)
    assert np.abs(w).max() <= bound * (1 + 1e-6)
    assert np.abs(w).max() > 0.999 * bound
    assert abs(w.mean()) < 4 * bound / math.sqrt(3 * w.size)
    assert w.var() == pytest.approx(bound**2 / 3, rel=0.02)
    quarters = np.histogram(w, 4, (-bound, bound))[0] / w.size
    np.testing.assert_allclose(quarters, 0.25, atol=0.01)


@pytest.mark.parametrize("name", NORMAL)
def test_normal_values_have_their_deviation(name):
    fill, std = NORMAL[name]
    w = filled(fill)
    assert abs(w.mean()) < 4 * std / math.sqrt(w.size)
    assert w.std() == pytest.approx(std, rel=0.015)
    assert (w**4).mean() / std**4 == pytest.approx(3, rel=0.05)  # a normal kurtosis


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["xavier", "kaiming"])
@pytest.mark.parametrize("shape", [(20, 30), (8, 4, 3, 5)])
def test_spread_is_pytorchs(name, shape):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for kind in ("uniform_", "normal_"):
        theirs = getattr(torch.nn.init, f"{name}_{kind}")(torch.empty(shape))
        ours = filled(getattr(init, f"{name}_{kind}"), shape)
        assert ours.std() == pytest.approx(theirs.std().item(), rel=0.15)
    fans = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    assert init.fans(mb.zeros(*shape)) == fans
    for kind in ("linear", "sigmoid", "tanh", "relu", "leaky_relu"):
        gain = torch.nn.init.calculate_gain(kind)
        assert init.calculate_gain(kind) == pytest.approx(gain)


def test_linear_and_embedding_start_as_pytorchs():
    layer, bound = nn.Linear(100, 400), 0.1
    w, b = layer.weight.numpy(), layer.bias.numpy()
    for values in (w, b):
        assert np.abs(values).max() <= bound * (1 + 1e-6)
        assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    table = nn.Embedding(500, 80).weight.numpy()
    assert table.std() == pytest.approx(1, rel=0.02) and abs(table.mean()) < 0.02


def test_zeros_ones_and_constants():
    assert (filled(init.zeros_, (2, 3)) == 0).all()
    assert (filled(init.ones_, (2, 3)) == 1).all()
    assert (filled(lambda w: init.constant_(w, 2.5), (2, 3)) == 2.5).all()


def test_first_values_are_a_function_of_the_seed():
    weights = []
    for seed in (3, 3, 4):
        mb.seed(seed)
        weights.append(
            [nn.Linear(4, 4).weight.tolist(), nn.Linear(4, 4).weight.tolist()]
        )
    assert weights[0] == weights[1] != weights[2]
    assert weights[0][0] != weights[0][1]


def test_first_values_do_not_depend_on_other_streams():
    mb.seed(3)
    expected = nn.Linear(4, 4).weight.tolist()
    mb.seed(3)
    mb.randn(7)
    nn.Dropout(0.5)(mb.ones(10))
    assert nn.Linear(4, 4).weight.tolist() == expected


def test_parameters_that_require_gradients_are_filled_without_a_graph():
    w = nn.Parameter(mb.zeros(3, 3))
    init.normal_(w)
    assert w.is_leaf and w.requires_grad and w.numpy().any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init.xavier_uniform_(mb.zeros(3)), r"not shape \(3,\)"),
        (lambda: init.calculate_gain("swish"), "nonlinearity is one of.*'swish'"),
        (lambda: init.kaiming_normal_(mb.zeros(2, 2), mode="in"), "mode is .*'in'"),
    ],
)
def test_mistake_in_first_values_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
