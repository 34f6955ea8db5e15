"""Layers for images and sequences against numbers stored from PyTorch."""

import numpy as np
import pytest

import minibig as mb
from minibig import nn
from tests.references import make_layers
from tests.references.make_blocks import upstream_of
from tests.references.make_layers import CASES, LENGTHS, draws, is_recurrent

STORED = np.load(make_layers.PATH)


def our_run(name):
    """Outputs, gradients and buffers by name, as make_layers.torch_run gives them."""
    kind, arguments, settings, _ = CASES[name]
    layer = getattr(nn, kind)(*arguments, **settings).to("float64")
    x, parameters, states = draws(name, layer)
    layer.load_state_dict(parameters, strict=False)
    x = mb.tensor(x, requires_grad=True)
    states = [mb.tensor(state, requires_grad=True) for state in states]
    if is_recurrent(name):
        first = tuple(states) if len(states) > 1 else states[0]
        y, last = layer(x, first, LENGTHS)
        outputs = [y, *(last if len(states) > 1 else (last,))]
    else:
        outputs = [layer(x)]
        if "Norm" in kind:
            outputs += [layer(2 * x + 1), layer.eval()(x)]
    sum((y * mb.tensor(upstream_of(y.shape))).sum() for y in outputs).backward()
    found = {f"output{i}": y.numpy() for i, y in enumerate(outputs)}
    found |= {f"dstate{i}": state.grad.numpy() for i, state in enumerate(states)}
    found |= {f"d{key}": p.grad.numpy() for key, p in layer.named_parameters()}
    found |= {key: buffer.numpy() for key, buffer in layer.named_buffers()}
    return found | {"dx": x.grad.numpy()}


def stored(name):
    return {
        key.removeprefix(f"{name}/"): STORED[key]
        for key in STORED.files
        if key.startswith(f"{name}/")
    }


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for key in expected:
        assert found[key].shape == expected[key].shape, key
        assert found[key].dtype == expected[key].dtype, key
        np.testing.assert_allclose(
            found[key], expected[key], rtol=1e-10, atol=1e-11, err_msg=key
        )


@pytest.mark.parametrize("name", CASES)
def test_values_gradients_and_buffers_equal_the_stored_ones_of_pytorch(name):
    assert_equal(our_run(name), stored(name))


@pytest.mark.oracle
@pytest.mark.parametrize("name", CASES)
def test_the_stored_numbers_are_those_of_the_installed_pytorch(name):
    pytest.importorskip("torch")
    assert_equal(make_layers.torch_run(name), stored(name))
