"""Parameters, settings and gradients that no optimizer can use are refused."""

import math

import numpy as np
import pytest
from optimizers import ALL, parameter, set_gradients

import minibig as mb
from minibig import optim


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    "params, error, message",
    [
        (lambda p: [], ValueError, "no parameters"),
        (lambda p: p, TypeError, "not one Tensor"),
        (lambda p: {"params": [p]}, TypeError, "not one dict"),
        (lambda p: 3, TypeError, "not one int"),
        (lambda p: [p, p], ValueError, "occurs twice"),
        (lambda p: [{"params": [p]}, {"params": [p]}], ValueError, "occurs twice"),
        (lambda p: [p.array], TypeError, "tensors, not ndarray"),
        (lambda p: [p * 2], ValueError, "result of an operation, <mul"),
        (lambda p: [p.detach()], ValueError, "requires no gradient"),
        (lambda p: [{"params": []}], ValueError, "group is empty"),
        (lambda p: [{"lr": 1.0}], TypeError, 'list "params"'),
        (lambda p: [{"params": [p]}, p], TypeError, "a group is a dict"),
        (lambda p: [{"params": [p], "rate": 1}], ValueError, "no setting rate; it has"),
        (lambda p: [{"params": [p], "lr": -1}], ValueError, "lr must be at least 0"),
    ],
)
def test_unusable_parameters_are_refused(kind, params, error, message):
    with pytest.raises(error, match=message):
        kind(params(parameter(3)))


def test_gradient_on_another_device_is_refused(strict):
    p = parameter(3)
    p.grad = mb.ones(3, dtype="float64", device="cuda")
    with pytest.raises(ValueError, match=r"float64, cuda; the parameter is .* cpu"):
        optim.SGD([p]).step()


@pytest.mark.parametrize(
    "kind, settings, error, message",
    [
        (optim.SGD, {"lr": -0.1}, ValueError, "lr must be at least 0"),
        (optim.SGD, {"lr": math.nan}, ValueError, "not nan"),
        (optim.SGD, {"lr": math.inf}, ValueError, "finite, not inf"),
        (optim.SGD, {"lr": "0.1"}, TypeError, "lr must be a number, not str"),
        (optim.SGD, {"momentum": True}, TypeError, "not bool"),
        (optim.SGD, {"weight_decay": -1}, ValueError, "weight_decay"),
        (optim.SGD, {"nesterov": True}, ValueError, "nesterov needs momentum"),
        (optim.SGD, {"nesterov": 1, "momentum": 0.9}, TypeError, "True or False"),
        (
            optim.SGD,
            {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
            ValueError,
            "no dampening",
        ),
        (optim.Adadelta, {"rho": 1.0}, ValueError, "rho must be .* below 1, not 1"),
        (optim.Adadelta, {"eps": -1e-9}, ValueError, "eps"),
        (optim.Adam, {"betas": (0.9, 1.0)}, ValueError, r"betas\[1\].* below 1"),
        (optim.Adam, {"betas": (-0.1, 0.9)}, ValueError, r"betas\[0\]"),
        (optim.Adam, {"betas": 0.9}, TypeError, "a pair"),
        (optim.Adam, {"betas": (0.9, 0.9, 0.9)}, TypeError, "a pair"),
        (optim.AdamW, {"eps": -1.0}, ValueError, "eps"),
    ],
)
def test_unusable_settings_are_refused(kind, settings, error, message):
    with pytest.raises(error, match=message):
        kind([parameter(3)], **settings)


@pytest.mark.parametrize("shape, dtype", [((1,), "float64"), ((3,), "float32")])
def test_gradient_of_another_shape_or_dtype_is_refused_before_any_update(shape, dtype):
    a, b = parameter(3), parameter(3)
    before = a.numpy().copy()
    set_gradients([a])
    b.grad = mb.ones(*shape, dtype=dtype)
    with pytest.raises(ValueError, match=r"gradient of parameter 1 is \(\d,\), float"):
        optim.SGD([a, b]).step()
    np.testing.assert_array_equal(a.numpy(), before)


def test_base_optimizer_has_no_update_of_its_own():
    p = parameter(3)
    set_gradients([p])
    with pytest.raises(NotImplementedError):
        optim.Optimizer([p]).step()
