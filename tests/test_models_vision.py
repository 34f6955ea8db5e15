"""MLP, LeNet and ResNet: shapes, mistakes, and what they must learn."""

import numpy as np
import pytest

import minibig as mb
from minibig import data, models, optim
from minibig.training import Evaluation, accuracy, classification_loss, fit

MODELS = {
    "mlp": lambda **s: models.MLP(models.MLPConfig((64, 32, 10), **s)),
    "lenet": lambda **s: models.LeNet(
        models.LeNetConfig(8, kernel_size=3, widths=(8, 16), hidden=(64, 32), **s)
    ),
    "resnet": lambda **s: models.ResNet(
        models.ResNetConfig(n_channels=1, widths=(8, 16), **s)
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_pictures_become_a_logit_a_class(name):
    model = MODELS[name]()
    assert model(mb.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_mlp_is_built_as_its_config_says():
    config = models.MLPConfig([4, 8, 6, 2], "tanh", dropout=0.1, batch_norm=True)
    names = [type(layer).__name__ for layer in models.MLP(config).layers]
    hidden = ["Linear", "BatchNorm1d", "Tanh", "Dropout"]
    assert names == [*hidden, *hidden, "Linear"] and config.sizes == (4, 8, 6, 2)
    assert models.MLP(models.MLPConfig((4, 2))).num_parameters() == 10


def test_lenet_has_the_parameters_of_the_paper():
    """120 · 7 · 7 · 16 instead of 5 · 5: its edges are padded."""
    counts = 156, 2416, 16 * 49 * 120 + 120, 120 * 84 + 84, 850
    assert models.LeNet(models.LeNetConfig()).num_parameters() == sum(counts)


def test_resnet_20_has_the_parameters_of_the_paper():
    """0.27 million (table 6), here with 1x1 shortcuts and their norms."""
    model = models.ResNet(models.ResNetConfig(n_block=3))
    shortcuts = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert model.num_parameters() - shortcuts == 269_722
    assert model(mb.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_a_residual_block_without_weights_hands_its_input_on():
    block = models.cnn.ResidualBlock(4, 4).eval()
    for conv in (block.conv1, block.conv2):
        mb.nn.init.zeros_(conv.weight)
    x = mb.rand(2, 4, 5, 5)
    np.testing.assert_array_equal(block(x).detach().numpy(), x.numpy())


def batches(part, size, **settings):
    pictures = part.features.reshape(-1, 1, 8, 8)
    return data.ArrayBatches(pictures, part.targets, batch_size=size, **settings)


# steps, learning rate, share of the test digits named rightly
TASKS = {
    "mlp": (150, 1e-2, 0.95), "lenet": (300, 1e-2, 0.96), "resnet": (200, 1e-2, 0.97),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_digits_are_learnt(name):
    pytest.importorskip("sklearn")
    steps, lr, least = TASKS[name]
    digits, model = data.digits(), MODELS[name]()
    optimizer = optim.AdamW(model.parameters(), lr=lr)
    fit(
        model, batches(digits.train, 64), classification_loss, optimizer, steps=steps,
        schedule=optim.WarmupCosine(optimizer, 10, steps),
    )  # fmt: skip
    test = batches(digits.test, 270, shuffle=False)
    found = Evaluation(test, classification_loss, {"accuracy": accuracy})(model)
    assert found["accuracy"] >= least


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.MLPConfig((3,)), "sizes .*input and output"),
        (lambda: models.MLPConfig((3, 0)), "sizes .*not 0"),
        (lambda: models.MLPConfig((3, 2), "step"), "activation .*'step'"),
        (lambda: MODELS["mlp"]()(mb.zeros(2, 5)), r"\(batch, 64\), not \(2, 5\)"),
        (lambda: models.LeNetConfig(3), "image_size .*at least 4"),
        (lambda: models.LeNetConfig(widths=(6,)), r"widths must be 2 whole .*\(6,\)"),
        (lambda: MODELS["lenet"]()(mb.zeros(1, 1, 9, 9)), r"not \(1, 1, 9, 9\)"),
        (lambda: models.ResNetConfig(widths=()), r"widths must be whole numbers"),
        (lambda: MODELS["resnet"]()(mb.zeros(1, 3, 8, 8)), r"\(1, 3, 8, 8\)"),
    ],
)
def test_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
