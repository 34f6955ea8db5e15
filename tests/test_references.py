"""Attention, norms, Transformer layers and GPT against numbers stored from PyTorch."""

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig import models, nn
from tests.references import make_blocks
from tests.references.make_blocks import ATTENTION, LAYERS, NAMES, NORMS, C, H, T, V

STORED = np.load(make_blocks.PATH)


def layer(name, parameters):
    """The layer or model of a case, in float64, with the parameters drawn for it."""
    if name == "gpt":
        module = models.GPT(models.GPTConfig(V, T, n_layer=2, n_head=H, n_embd=C))
    else:
        kind = f"Transformer{name.split('_')[0].title()}Layer"
        inner = make_blocks.INNER
        module = getattr(nn, kind)(C, H, inner, dropout=0.0, **LAYERS[name])
    module = module.to("float64")
    module.load_state_dict(parameters)
    return module


def masks_of(name, others):
    """Pre-norm layers are causal, post-norm ones see padding; memory is padded."""
    masks = {"is_causal": True}
    if not LAYERS[name]["norm_first"]:
        masks = {"key_padding_mask": mb.tensor(others["padding"])}
    if name.startswith("decoder"):
        masks["memory_key_padding_mask"] = mb.tensor(others["memory_padding"])
    return masks


def our_run(name):
    """Output and gradients by name, as make_blocks.torch_run gives them."""
    floats, others = make_blocks.draws(name)
    inputs = {
        key: mb.tensor(floats[key], requires_grad=True)
        for key in ("x", "memory", "q", "k", "v")
        if key in floats
    }
    rest = {key: floats[key] for key in floats if key not in inputs}
    if name in ATTENTION:
        settings = dict(ATTENTION[name])
        mask = others.get(settings.pop("mask", None))
        y = F.scaled_dot_product_attention(*inputs.values(), mask, **settings)
    elif name in NORMS:
        inputs |= {key: mb.tensor(x, requires_grad=True) for key, x in rest.items()}
        y = F.layer_norm(inputs["x"], NORMS[name], inputs["weight"], inputs["bias"])
    else:
        module = layer(name, rest)
        if name == "gpt":
            y = module(others["ids"])
        else:
            y = module(*inputs.values(), **masks_of(name, others))
        inputs |= dict(module.named_parameters())
    y.backward(mb.tensor(make_blocks.upstream_of(y.shape)))
    gradients = {f"d{key}": x.grad.numpy() for key, x in inputs.items()}
    return {"output": y.numpy()} | gradients


def stored(name):
    return {
        key.removeprefix(f"{name}/"): STORED[key]
        for key in STORED.files
        if key.startswith(f"{name}/")
    }


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for key in expected:
        np.testing.assert_allclose(
            found[key], expected[key], rtol=1e-10, atol=1e-11, err_msg=key
        )


@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_equal_the_stored_ones_of_pytorch(name):
    assert_equal(our_run(name), stored(name))


@pytest.mark.oracle
@pytest.mark.parametrize("name", NAMES)
def test_the_stored_numbers_are_those_of_the_installed_pytorch(name):
    pytest.importorskip("torch")
    assert_equal(make_blocks.torch_run(name), stored(name))
