"""Llama: causal, cached, with shared heads; and GPT's padding, which it has too."""

import numpy as np
import pytest

import minibig as mb
from minibig import nn
from minibig.generation import KVCache
from minibig.models import GPT, GPTConfig, Llama, LlamaConfig, RopeScaling

SIZES = {"vocab_size": 11, "context_length": 9, "n_layer": 2, "n_head": 4,
         "n_embd": 16, "dim_feedforward": 12}  # fmt: skip
SCALING = RopeScaling(8.0, 32)


def llama(**changes):
    return Llama(LlamaConfig(**{**SIZES, **changes}))


def gpt(**changes):
    return GPT(GPTConfig(11, 9, 2, 2, 8, **changes))


def drawn(model):
    """The model in float64, in evaluation, with every number drawn at random."""
    model, rng = model.to("float64"), np.random.default_rng(5)
    state = model.state_dict()
    model.load_state_dict({n: 0.4 * rng.normal(size=a.shape) for n, a in state.items()})
    return model.eval()


def ids_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 11, shape)


VARIANTS = {
    "llama": llama,
    "2 kv heads": lambda: llama(n_kv_head=2),
    "1 kv head, tied": lambda: llama(n_kv_head=1, tied=True),
    "wide heads, stretched": lambda: llama(head_width=6, rope_scaling=SCALING),
    "gpt": gpt,
    "gpt untied": lambda: gpt(tied=False),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_token_changes_no_logit_before_it(name):
    model, ids = drawn(VARIANTS[name]()), ids_of(1, 7)
    before = model(ids).numpy()
    for place in range(7):
        changed = ids.copy()
        changed[0, place] = (ids[0, place] + 1) % 11
        after = model(changed).numpy()
        np.testing.assert_array_equal(before[0, :place], after[0, :place])
        assert (np.abs(before[0, place:] - after[0, place:]).max(1) > 1e-9).all()


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("parts", [(1,) * 9, (4, 1, 3, 1)])
def test_pieces_with_a_cache_equal_the_whole_also_with_padding(name, parts):
    model, ids = drawn(VARIANTS[name]()), ids_of(2, 9)
    mask = np.arange(9) >= np.array([[0], [3]])  # padding in front
    for given in (None, mask):
        whole, cache, pieces = (
            model(ids, attention_mask=given).numpy(),
            KVCache(2, 9),
            [],
        )
        for length in parts:
            start = cache.length
            seen = None if given is None else given[:, : start + length]
            piece = model(ids[:, start : start + length], cache, seen)
            pieces.append(piece.numpy())
        np.testing.assert_allclose(np.concatenate(pieces, 1), whole, atol=1e-12)
    with pytest.raises(ValueError, match="10 tokens are more than the context of 9"):
        model(ids[:, :1], cache)


@pytest.mark.parametrize("name", VARIANTS)
def test_padding_changes_no_logit_of_a_real_token(name):
    model, ids = drawn(VARIANTS[name]()), ids_of(2, 9)
    mask = np.arange(9) < np.array([[9], [4]])
    found = model(ids, attention_mask=mask).numpy()
    np.testing.assert_allclose(found[1, :4], model(ids[1:, :4]).numpy()[0], atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("places", [slice(0, 3), slice(2, 5), slice(6, 9)])
def test_no_real_token_sees_padding_wherever_it_stands(name, places):
    model, ids = drawn(VARIANTS[name]()), ids_of(2, 9)
    mask = np.ones((2, 9), bool)
    mask[1, places] = False
    other = np.where(mask, ids, (ids + 1) % 11)
    found = model(ids, attention_mask=mask).numpy()[mask]
    changed = model(other, attention_mask=mask).numpy()[mask]
    np.testing.assert_array_equal(changed, found)
    if places.stop < 9:  # causality does not hide it
        assert np.abs(model(other).numpy()[mask] - found).max() > 1e-6


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("settings", [{"temperature": 0}, {"seed": 3, "top_k": 5}])
def test_generation_with_a_cache_equals_that_without(name, settings):
    model = drawn(VARIANTS[name]())
    cached = model.generate(ids_of(2, 3), 12, **settings)
    plain = model.generate(ids_of(2, 3), 12, use_cache=False, **settings)
    assert cached.tolist() == plain.tolist()


def test_cache_holds_the_shared_heads_alone():
    model, cache = llama(n_kv_head=2), KVCache(2, 9)
    with mb.no_grad():
        model(ids_of(3, 5), cache)
    assert cache.layers[0].keys.shape == (3, 2, 9, 4)  # 2 heads, not 4


def test_attention_depends_on_distance_alone():
    """Rotations know no first place: a text seen from place 3 on has equal states."""
    config = LlamaConfig(**{**SIZES, "n_layer": 1})
    layer = drawn(nn.Sequential(*Llama(config).blocks))[0]
    x = mb.tensor(np.random.default_rng(0).standard_normal((1, 5, 16)))
    cache = KVCache(1, 9).layers[0]
    blank = mb.zeros(1, 3, 16, dtype="float64")
    hidden = mb.tensor(np.arange(8)[None] >= 3)
    with mb.no_grad():
        layer(blank, None, cache)
        moved = layer(x, hidden, cache)
        np.testing.assert_allclose(moved.numpy(), layer(x).numpy(), atol=1e-12)


def test_number_of_parameters_follows_the_formula():
    model = llama(n_kv_head=2)
    c, f, d = 16, 12, 4
    block = 2 * c * c + 2 * c * 2 * d + 3 * c * f + 2 * c
    assert model.num_parameters() == 2 * 11 * c + 2 * block + c
    tied = llama(n_kv_head=2, tied=True)
    assert tied.num_parameters() == model.num_parameters() - 11 * c


def test_stretched_rotations_slow_down_what_turned_slowly():
    f = np.array(nn.rotary_frequencies(64, 10000.0))
    slowed = np.array(RopeScaling(4.0, 128, low=1.0, high=4.0).slowed(f))
    rounds = 128 * f / (2 * np.pi)
    np.testing.assert_allclose(slowed[rounds > 4], f[rounds > 4])
    np.testing.assert_allclose(slowed[rounds < 1], f[rounds < 1] / 4)
    assert (np.diff(slowed) < 0).all() and (slowed <= f).all()


def test_gradients_reach_every_weight_in_float32_on_a_device(device):
    model = llama(n_kv_head=2).to(device)
    y = model(ids_of(2, 7))
    (y * y).sum().backward()
    assert y.dtype == np.float32 and y.device == device
    for name, p in model.named_parameters():
        assert p.grad.dtype == np.float32 and float(p.grad.abs().sum().item()) > 0, name


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: llama(n_head=3), ValueError, "n_head 3 does not divide n_embd 16"),
        (lambda: llama(n_kv_head=3), ValueError, "n_kv_head 3 does not divide"),
        (lambda: llama(n_kv_head=0), ValueError, "n_kv_head .*at least 1, not 0"),
        (lambda: llama(n_embd=12), ValueError, "heads of width 3 cannot turn"),
        (lambda: llama(head_width=5), ValueError, "heads of width 5 cannot turn"),
        (lambda: llama(rope_base=0), ValueError, "rope_base .*not 0"),
        (lambda: llama(norm_eps="1e-6"), TypeError, "norm_eps .*not '1e-6'"),
        (lambda: llama(rope_scaling={"factor": 2}), TypeError, "RopeScaling.*not dict"),
        (lambda: RopeScaling(0.5, 32), ValueError, "factor .*not 0.5"),
        (lambda: RopeScaling(2.0, 32, 4.0, 4.0), ValueError, "high .*not 4.0"),
        (lambda: gpt(activation="gelu_new"), ValueError, "activation .*'gelu_new'"),
        (lambda: llama()(ids_of(7)), ValueError, r"not \(7,\)"),
        (lambda: llama()(ids_of(1, 10)), ValueError, "10 tokens .* context of 9"),
        (lambda: llama()([[11]]), IndexError, "id 11 is outside 0 … 10"),
        (lambda: llama()([[1, 2]], None, [[True]]), ValueError, r"\(1, 1\).*\(1, 2\)"),
    ],
)  # fmt: skip
def test_mistake_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
