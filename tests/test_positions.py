"""Places as waves and as rotations; heads that share keys; gated feed-forward nets."""

import math
import tracemalloc

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig import nn


def drawn(*shape, seed=0, dtype="float64"):
    return mb.tensor(np.random.default_rng(seed).standard_normal(shape), dtype=dtype)


# ---- waves --------------------------------------------------------------------------


def test_sinusoidal_positions_are_the_papers_numbers():
    table = nn.sinusoidal_positions(7, 6, dtype="float64").numpy()
    for place in range(7):
        for i in range(3):
            angle = place / 10000 ** (2 * i / 6)
            assert table[place, 2 * i] == pytest.approx(math.sin(angle), abs=1e-12)
            assert table[place, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-12)


def test_waves_from_an_offset_are_the_rows_from_there():
    whole = nn.sinusoidal_positions(9, 4)
    part = nn.sinusoidal_positions(4, 4, offset=5)
    assert part.dtype == np.float32
    np.testing.assert_array_equal(part.numpy(), whole.numpy()[5:])


def test_products_of_waves_depend_on_distance_alone():
    table = nn.sinusoidal_positions(40, 8, dtype="float64").numpy()
    products = table @ table.T
    for distance in range(5):
        along = np.diagonal(products, distance)
        np.testing.assert_allclose(along, along[0], atol=1e-12)


# ---- rotations ----------------------------------------------------------------------


def test_scores_of_turned_rows_depend_on_distance_alone():
    q, k = drawn(8), drawn(8, seed=1)
    turn = nn.RotaryPositions(8)
    rows = turn(q.expand(30, 8)).numpy() @ turn(k.expand(30, 8)).numpy().T
    for distance in range(-5, 6):
        along = np.diagonal(rows, distance)
        np.testing.assert_allclose(along, along[0], atol=1e-12)
    assert np.abs(rows[0, 0] - rows[0, 1]) > 1e-3


def test_turning_keeps_lengths_and_leaves_the_first_row():
    x = drawn(2, 3, 5, 6)
    y = nn.RotaryPositions(6, base=100.0)(x).numpy()
    np.testing.assert_allclose((y**2).sum(-1), (x.numpy() ** 2).sum(-1), atol=1e-12)
    np.testing.assert_array_equal(y[..., 0, :], x.numpy()[..., 0, :])
    assert np.abs(y[..., 1:, :] - x.numpy()[..., 1:, :]).min() > 1e-6


def test_rows_turned_in_pieces_equal_the_whole():
    x, turn = drawn(2, 2, 7, 4), nn.RotaryPositions(4)
    pieces = [turn(x[:, :, i:j], offset=i).numpy() for i, j in [(0, 3), (3, 4), (4, 7)]]
    whole = turn(x).numpy()
    np.testing.assert_allclose(np.concatenate(pieces, 2), whole, atol=1e-14)


def test_far_places_keep_their_digits_in_float32():
    x = drawn(1, 64, dtype="float32")
    turn = nn.RotaryPositions(64)
    exact = turn(x.to("float64"), offset=100_000).numpy()
    found = turn(x, offset=100_000)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.numpy(), exact, atol=1e-6)


@pytest.mark.oracle
def test_rotation_is_that_of_published_llamas():
    torch = pytest.importorskip("torch")
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    q, k = drawn(2, 3, 6, 8), drawn(2, 3, 6, 8, seed=1)
    angles = np.arange(6)[:, None] * np.tile(nn.rotary_frequencies(8, 500.0), 2)
    cos, sin = torch.tensor(np.cos(angles))[None], torch.tensor(np.sin(angles))[None]
    theirs = llama.apply_rotary_pos_emb(
        *(torch.tensor(x.numpy()) for x in (q, k)), cos, sin
    )
    turn = nn.RotaryPositions(8, base=500.0)
    for ours, expected in zip((turn(q), turn(k)), theirs, strict=True):
        np.testing.assert_allclose(ours.numpy(), expected.numpy(), atol=1e-12)


def test_rotation_runs_on_a_device(device):
    x = drawn(2, 2, 3, 4, dtype="float32").to(device)
    x.requires_grad_()
    y = nn.RotaryPositions(4)(x, offset=2)
    (y * y).sum().backward()
    assert y.device == x.grad.device == device
    expected = 2 * x.detach().to("cpu").numpy()  # |y| = |x|
    np.testing.assert_allclose(x.grad.to("cpu").numpy(), expected, atol=1e-5)


# ---- heads that share keys and values -----------------------------------------------


@pytest.mark.parametrize("shared", [1, 2, 4])
def test_shared_heads_equal_repeated_ones_and_add_up_their_gradients(shared):
    q = drawn(2, 4, 3, 2).requires_grad_()
    k, v = (drawn(2, shared, 5, 2, seed=i).requires_grad_() for i in (1, 2))
    once = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    (once * drawn(2, 4, 3, 2, seed=3)).sum().backward()
    q2, k2, v2 = (x.detach().requires_grad_() for x in (q, k, v))
    repeated = (mb.stack([x] * (4 // shared), 2).flatten(1, 2) for x in (k2, v2))
    twice = F.scaled_dot_product_attention(q2, *repeated)
    (twice * drawn(2, 4, 3, 2, seed=3)).sum().backward()
    np.testing.assert_allclose(once.numpy(), twice.numpy(), atol=1e-14)
    for a, b in ((q, q2), (k, k2), (v, v2)):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-13)


def test_shared_heads_are_not_copied():
    q = drawn(1, 16, 1, 64, dtype="float32")
    k, v = (drawn(1, 1, 4096, 64, seed=i, dtype="float32") for i in (1, 2))
    F.scaled_dot_product_attention(q, k, v, enable_gqa=True)  # whatever is made once
    tracemalloc.start()
    try:
        F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * k.array.nbytes  # 16 copies of keys and values would be 32 of it


# ---- SwiGLU -------------------------------------------------------------------------


def test_swiglu_is_the_papers_equation():
    layer = nn.SwiGLU(4, 6).to("float64")
    x = drawn(2, 3, 4)
    gate, inner, outer = (
        m.weight.numpy().T for m in (layer.gate, layer.linear1, layer.linear2)
    )
    a = x.numpy() @ gate
    expected = (a / (1 + np.exp(-a)) * (x.numpy() @ inner)) @ outer
    np.testing.assert_allclose(layer(x).numpy(), expected, atol=1e-14)
    assert layer.num_parameters() == 3 * 4 * 6
    assert nn.SwiGLU(4, 6, bias=True).num_parameters() == 3 * 4 * 6 + 6 + 6 + 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.sinusoidal_positions(4, 3), "sinusoidal_positions.*even, not 3"),
        (lambda: nn.sinusoidal_positions(0, 4), "length .*at least 1, not 0"),
        (lambda: nn.RotaryPositions(7), "even, not 7"),
        (
            lambda: nn.RotaryPositions(4, base=-1),
            r"base must be .*from 0 \(0 excluded\), not -1",
        ),
        (lambda: nn.RotaryPositions(4)(drawn(3, 6)), r"not \(3, 6\)"),
    ],
)
def test_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
