"""Attention and Transformer layers: equal to PyTorch's, masks, shapes, mistakes.

Stored numbers of PyTorch are compared in test_references.py.
"""

import numpy as np
import pytest

import minibig as mb
from minibig import nn
from minibig.generation import LayerCache


def numbers(*shape, seed=0):
    rng = np.random.default_rng([seed, len(shape)])
    return mb.tensor(rng.normal(size=shape), requires_grad=True)


def drawn(module):
    """The module in float64 with weights drawn at random, biases and norms too."""
    rng = np.random.default_rng(11)
    module.to("float64")
    state = module.state_dict()
    module.load_state_dict({n: 0.4 * rng.normal(size=state[n].shape) for n in state})
    return module


def attention_of(embed_dim, num_heads, bias=True):
    return drawn(nn.MultiheadAttention(embed_dim, num_heads, bias=bias))


# ---- PyTorch ------------------------------------------------------------------------


def our_name(name):
    """What we call a weight of PyTorch's layers."""
    for theirs, ours in (
        ("in_proj_", "in_proj."),
        ("multihead_attn", "cross_attn"),
        ("linear", "feed_forward.linear"),
    ):
        name = name.replace(theirs, ours)
    return name


def with_our_weights(torch, twin, module):
    """The PyTorch module with the weights of ours."""
    state = module.state_dict()
    assert {our_name(n) for n, _ in twin.named_parameters()} == state.keys()
    with torch.no_grad():
        for n, p in twin.named_parameters():
            p.copy_(torch.tensor(state[our_name(n)]))
    return twin


def assert_gradients_equal(module, twin):
    gradients = {n: p.grad.numpy() for n, p in module.named_parameters()}
    for n, p in twin.named_parameters():
        np.testing.assert_allclose(
            gradients[our_name(n)], p.grad, rtol=0, atol=1e-10, err_msg=n
        )


ATTENTION = {
    "self": {},
    "cross": {"cross": True},
    "keys_and_values": {"cross": True, "value": True},
    "no_bias": {"bias": False},
    "no_bias_cross": {"bias": False, "cross": True},
    "padding": {"cross": True, "padding": True},
    "boolean_mask": {"mask": "bool"},
    "added_mask": {"mask": "float"},
    "boolean_mask_and_padding": {"mask": "bool", "padding": True},
    "added_mask_and_padding": {"mask": "float", "padding": True},
}


def attention_case(cross=False, value=False, padding=False, mask=None):
    """(query, key, value, mask, padding) as arrays; None where not given."""
    rng = np.random.default_rng(3)
    source = 4 if cross else 5
    key = rng.normal(size=(2, source, 6)) if cross else None
    values = rng.normal(size=(2, source, 6)) if value else None
    allowed = np.tril(np.ones((5, source), bool))
    if mask == "float":
        allowed = np.where(allowed, rng.normal(size=allowed.shape), -np.inf)
    real = np.arange(source) < np.array([[source], [source - 2]]) if padding else None
    return rng.normal(size=(2, 5, 6)), key, values, allowed if mask else None, real


@pytest.mark.oracle
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_equals_pytorch(name):
    torch = pytest.importorskip("torch")
    settings = dict(ATTENTION[name])
    bias = settings.pop("bias", True)
    query, key, value, mask, real = attention_case(**settings)
    layer = attention_of(6, 3, bias)
    ours = [None if a is None else mb.tensor(a, requires_grad=True)
            for a in (query, key, value)]  # fmt: skip
    y = layer(
        *ours,
        attn_mask=None if mask is None else mb.tensor(mask),
        key_padding_mask=None if real is None else mb.tensor(real),
    )
    (y * y).sum().backward()

    twin = torch.nn.MultiheadAttention(6, 3, bias=bias, batch_first=True).double()
    with_our_weights(torch, twin, layer)
    theirs = [None if a is None else torch.tensor(a, requires_grad=True)
              for a in (query, key, value)]  # fmt: skip
    q = theirs[0]
    k = q if key is None else theirs[1]
    v = k if value is None else theirs[2]
    if mask is not None:
        mask = torch.tensor(~mask if mask.dtype == bool else mask)
    if real is not None:
        real = torch.tensor(~real)
        if mask is not None and mask.dtype != torch.bool:  # PyTorch wants one kind
            real = torch.zeros(real.shape).double().masked_fill(real, -torch.inf)
    expected = twin(q, k, v, real, need_weights=False, attn_mask=mask)[0]
    (expected * expected).sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), expected.detach(), atol=1e-10)
    for a, b in zip(ours, theirs, strict=True):
        if a is not None:
            np.testing.assert_allclose(a.grad.numpy(), b.grad, atol=1e-10)
    assert_gradients_equal(layer, twin)


# What the stored numbers leave out: no biases, tanh-GELU, masks of the memory.
LAYERS = {
    "encoder": {"norm_first": True, "activation": "gelu_tanh"},
    "encoder_no_bias": {"bias": False},
    "decoder_no_bias": {"bias": False, "norm_first": True},
    "decoder": {"activation": "gelu"},
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", LAYERS)
def test_layer_equals_pytorch(name):
    torch = pytest.importorskip("torch")
    kind, settings = f"Transformer{name.split('_')[0].title()}Layer", LAYERS[name]
    layer = drawn(getattr(nn, kind)(8, 2, 12, 0.0, **settings))
    if settings.get("activation") == "gelu_tanh":
        settings = settings | {"activation": torch.nn.GELU("tanh")}
    twin = getattr(torch.nn, kind)(8, 2, 12, 0.0, batch_first=True, **settings)
    with_our_weights(torch, twin.double(), layer)
    arrays = [numbers(2, 5, 8).detach().numpy()]
    masks = [np.tril(np.ones((5, 5), bool))]
    if name.startswith("decoder"):
        arrays.append(numbers(2, 4, 8).detach().numpy())
        masks.append(np.arange(4) <= np.arange(5)[:, None])
    ours = [mb.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    their_masks = [torch.tensor(~mask) for mask in masks]
    y = layer(*ours, *(mb.tensor(mask) for mask in masks))
    expected = twin(*theirs, *their_masks)
    (y * y).sum().backward()
    (expected * expected).sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), expected.detach(), atol=1e-10)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad, rtol=0, atol=1e-10)
    assert_gradients_equal(layer, twin)


# ---- alone --------------------------------------------------------------------------


def test_one_head_is_softmax_of_scaled_products():
    layer = attention_of(4, 1, bias=False)
    x = numbers(1, 3, 4).detach().numpy()[0]
    w = {name: array for name, array in layer.state_dict().items()}
    q, k, v = np.split(x @ w["in_proj.weight"].T, 3, axis=1)
    p = np.exp(q @ k.T / 2)
    p /= p.sum(1, keepdims=True)
    expected = p @ v @ w["out_proj.weight"].T
    y = layer(mb.tensor(x[None])).detach().numpy()
    np.testing.assert_allclose(y[0], expected, atol=1e-12)


def test_padded_tokens_change_nothing():
    layer = attention_of(6, 3)
    x = numbers(2, 5, 6).detach()
    real = mb.tensor(np.arange(5) < np.array([[5], [3]]))
    before = layer(x, key_padding_mask=real).detach().numpy()
    changed = x.numpy().copy()
    changed[1, 3:] = 1e3
    after = layer(mb.tensor(changed), key_padding_mask=real).detach().numpy()
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1, :3], after[1, :3])
    alone = layer(x[1:, :3]).detach().numpy()
    np.testing.assert_allclose(after[1:, :3], alone, atol=1e-12)


def test_mask_may_be_a_plain_array():
    layer, x = attention_of(6, 3), numbers(2, 5, 6)
    mask, real = np.tril(np.ones((5, 5), bool)), mb.tensor(np.ones((2, 5), bool))
    expected = layer(x, is_causal=True).detach().numpy()
    for settings in ({}, {"key_padding_mask": real}):
        y = layer(x, attn_mask=mask, **settings).detach().numpy()
        np.testing.assert_allclose(y, expected, atol=1e-12)


def test_decoder_layer_with_a_cache_equals_the_whole_at_once():
    mb.seed(3)
    layer = nn.TransformerDecoderLayer(8, 2, 12, 0.0, norm_first=True).to("float64")
    x, memory = numbers(2, 5, 8).detach(), numbers(2, 4, 8, seed=1).detach()
    whole = layer(x, memory, is_causal=True).detach().numpy()
    cache = LayerCache(5)
    parts = [
        layer(x[:, i : i + n], memory, is_causal=True, cache=cache).detach().numpy()
        for i, n in ((0, 3), (3, 1), (4, 1))
    ]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-12)


def test_dropout_acts_in_training_alone():
    mb.seed(1)
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.5)
    x = mb.randn(2, 5, 8)
    assert not np.array_equal(layer(x).detach().numpy(), layer(x).detach().numpy())
    layer.eval()
    np.testing.assert_array_equal(layer(x).detach().numpy(), layer(x).detach().numpy())


@pytest.mark.parametrize("norm_first", [False, True])
def test_dropout_stands_where_pytorch_has_it(norm_first):
    """After each attention's softmax, each part, and between the linear layers."""
    x, memory = mb.randn(2, 5, 8), mb.randn(2, 4, 8)

    def draws(layer, *inputs):
        mb.seed(0)
        layer(*inputs)
        return mb.random.get_state()["counters"]["dropout"]

    encoder = nn.TransformerEncoderLayer(8, 2, 12, 0.3, norm_first=norm_first)
    decoder = nn.TransformerDecoderLayer(8, 2, 12, 0.3, norm_first=norm_first)
    assert draws(encoder, x) == 4 and draws(decoder, x, memory) == 6
    assert encoder.feed_forward.dropout.p == decoder.cross_attn.dropout == 0.3
    own = nn.TransformerEncoderLayer(8, 2, 12, 0.3, activation_dropout=0.0)
    assert own.feed_forward.dropout.p == 0.0 and draws(own, x) == 3


MISTAKES = {
    "heads_do_not_divide": (
        lambda: nn.MultiheadAttention(6, 4),
        (ValueError, "num_heads 4 does not divide embed_dim 6"),
    ),
    "width": (
        lambda: attention_of(6, 3)(numbers(2, 5, 4)),
        (ValueError, r"\(batch, length, 6\), not \(2, 5, 4\)"),
    ),
    "no_batch": (
        lambda: attention_of(6, 3)(numbers(5, 6)),
        (ValueError, r"\(batch, length, 6\), not \(5, 6\)"),
    ),
    "key_width": (
        lambda: attention_of(6, 3)(numbers(2, 5, 6), numbers(2, 5, 5)),
        (ValueError, r"\(2, 5, 5\)"),
    ),
    "batches_differ": (
        lambda: attention_of(6, 3)(numbers(1, 5, 6), numbers(2, 5, 6)),
        (ValueError, r"batches differ.*\(1, 5, 6\), \(2, 5, 6\)"),
    ),
    "value_alone": (
        lambda: attention_of(6, 3)(numbers(2, 5, 6), value=numbers(2, 5, 6)),
        (ValueError, "a value needs a key"),
    ),
    "keys_and_values_differ": (
        lambda: attention_of(6, 3)(
            numbers(2, 5, 6), numbers(2, 4, 6), numbers(2, 3, 6)
        ),
        (ValueError, "k and v need as many rows"),
    ),
    "mask_shape": (
        lambda: attention_of(6, 3)(
            numbers(2, 5, 6), attn_mask=mb.tensor(np.ones((4, 4), bool))
        ),
        (ValueError, r"mask.*\(4, 4\)"),
    ),
    "mask_of_numbers": (
        lambda: attention_of(6, 3)(
            numbers(2, 5, 6), attn_mask=mb.tensor(np.ones((5, 5), int))
        ),
        (TypeError, "booleans or floats, not int64"),
    ),
    "padding_shape": (
        lambda: attention_of(6, 3)(
            numbers(2, 5, 6), key_padding_mask=mb.tensor(np.ones((2, 4), bool))
        ),
        (ValueError, r"key_padding_mask is \(2, 4\), but the keys are 5 in 2 rows"),
    ),
    "padding_of_ids": (
        lambda: attention_of(6, 3)(
            numbers(2, 5, 6), key_padding_mask=mb.tensor(np.ones((2, 5), int))
        ),
        (TypeError, "Tensor of booleans"),
    ),
    "mask_and_padding": (
        lambda: attention_of(6, 3)(
            numbers(2, 5, 6),
            attn_mask=mb.tensor(np.ones((4, 4), bool)),
            key_padding_mask=mb.tensor(np.ones((2, 5), bool)),
        ),
        (ValueError, r"\(4, 4\)"),
    ),
    "activation": (
        lambda: nn.TransformerEncoderLayer(8, 2, activation="swish"),
        (ValueError, "activation is one of.*'swish'"),
    ),
    "size": (
        lambda: nn.TransformerEncoderLayer(8, 2, 0),
        (ValueError, "out_features must be a whole number"),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_named(name):
    call, (error, message) = MISTAKES[name]
    with pytest.raises(error, match=message):
        call()
