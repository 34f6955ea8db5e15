"""GPT: equal to the same model in PyTorch, causal, tied, started as GPT-2."""

import gc
import math
import tracemalloc

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig import models, optim
from minibig.generation import KVCache
from minibig.training import next_token_loss

SIZES = {"vocab_size": 11, "context_length": 7, "n_layer": 2, "n_head": 2, "n_embd": 8}


def gpt(**changes):
    return models.GPT(models.GPTConfig(**{**SIZES, **changes}))


def drawn(**changes):
    """A GPT in float64 whose every weight is drawn at random."""
    model, rng = gpt(**changes).to("float64"), np.random.default_rng(5)
    state = model.state_dict()
    model.load_state_dict({n: 0.4 * rng.normal(size=state[n].shape) for n in state})
    return model


def ids_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, SIZES["vocab_size"], shape)


# ---- PyTorch ------------------------------------------------------------------------


def twin(torch, w, ids, heads):
    """Logits of GPT-2 in plain PyTorch, from weights by our names."""
    functional = torch.nn.functional

    def linear(x, name):
        return functional.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

    def norm(x, name):
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
        y = (x - mean) / (variance + 1e-5).sqrt() * w[f"{name}.weight"]
        return y + w.get(f"{name}.bias", 0)

    length = ids.shape[1]
    ahead = torch.ones(length, length, dtype=torch.bool).triu(1)
    x = w["token_embedding.weight"][ids] + w["position_embedding.weight"][:length]
    for block in sorted({name[:8] for name in w if name.startswith("blocks.")}):
        joined = linear(norm(x, f"{block}.norm1"), f"{block}.self_attn.in_proj")
        q, k, v = (
            part.unflatten(2, (heads, -1)).transpose(1, 2)
            for part in joined.chunk(3, 2)
        )  # (B, H, T, D)
        scores = (q @ k.mT / math.sqrt(q.shape[3])).masked_fill(ahead, -math.inf)
        y = (scores.softmax(3) @ v).transpose(1, 2).flatten(2)
        x = x + linear(y, f"{block}.self_attn.out_proj")
        hidden = linear(norm(x, f"{block}.norm2"), f"{block}.feed_forward.linear1")
        hidden = functional.gelu(hidden, approximate="tanh")
        x = x + linear(hidden, f"{block}.feed_forward.linear2")
    return norm(x, "norm") @ w["token_embedding.weight"].T


@pytest.mark.oracle
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("length", [1, 5, 7])
def test_logits_loss_and_gradients_equal_pytorch(bias, length):
    torch = pytest.importorskip("torch")
    model, ids, targets = drawn(bias=bias), ids_of(3, length), ids_of(3, length, seed=1)
    targets[0, -1] = -100
    logits = model(ids)
    loss = F.cross_entropy(logits, targets)
    loss.backward()
    w = {
        name: torch.tensor(array, requires_grad=True)
        for name, array in model.state_dict().items()
    }
    expected = twin(torch, w, torch.tensor(ids), SIZES["n_head"])
    theirs = torch.nn.functional.cross_entropy(
        expected.flatten(0, 1), torch.tensor(targets).flatten()
    )
    theirs.backward()
    np.testing.assert_allclose(logits.numpy(), expected.detach(), rtol=0, atol=1e-10)
    assert loss.item() == pytest.approx(theirs.item(), abs=1e-12)
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(
            parameter.grad.numpy(), w[name].grad, rtol=0, atol=1e-10, err_msg=name
        )


# ---- what it sees -------------------------------------------------------------------


def test_a_token_changes_no_logit_before_it():
    model, ids = drawn(), ids_of(1, 7)
    before = model(ids).numpy()
    for place in range(7):
        changed = ids.copy()
        changed[0, place] = (ids[0, place] + 1) % SIZES["vocab_size"]
        after = model(changed).numpy()
        np.testing.assert_array_equal(before[0, :place], after[0, :place])
        assert (np.abs(before[0, place:] - after[0, place:]).max(1) > 1e-6).all()


def test_rows_do_not_see_each_other():
    model, ids = drawn(), ids_of(3, 6)
    alone = [model(row[None]).numpy()[0] for row in ids]
    np.testing.assert_allclose(model(ids).numpy(), np.stack(alone), atol=1e-12)


def test_places_are_told_apart():
    y = drawn()([[3, 3, 3]]).numpy()[0]
    assert np.abs(y[0] - y[1]).max() > 1e-3 and np.abs(y[1] - y[2]).max() > 1e-3


@pytest.mark.parametrize("parts", [(7,), (1,) * 7, (3, 1, 2, 1)])
def test_pieces_with_a_cache_equal_the_whole(parts):
    model, ids = drawn(), ids_of(2, 7)
    whole, cache, pieces, start = model(ids).numpy(), KVCache(2, 7), [], 0
    for length in parts:
        assert cache.length == start
        pieces.append(model(ids[:, start : start + length], cache=cache).numpy())
        start += length
    np.testing.assert_allclose(np.concatenate(pieces, 1), whole, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="8 tokens are more than the context of 7"):
        model(ids[:, :1], cache=cache)


# ---- weights ------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(11, 7, 2, 8), (65, 64, 4, 128)])
def test_number_of_parameters_follows_the_formula(sizes, bias):
    v, t, n, c = sizes
    model = gpt(vocab_size=v, context_length=t, n_layer=n, n_embd=c, bias=bias)
    expected = (v + t) * c + n * (12 * c * c + 2 * c) + c
    if bias:
        expected += n * 11 * c + c
    assert model.num_parameters() == expected


def test_weights_start_as_gpt2s():
    model = gpt(vocab_size=300, context_length=200, n_layer=8, n_embd=64)
    for name, parameter in model.named_parameters():
        w = parameter.numpy()
        if w.ndim == 2:
            into_stream = name.endswith(("out_proj.weight", "linear2.weight"))
            std = 0.02 / (4 if into_stream else 1)  # √(2 · 8 layers) = 4
            assert w.std() == pytest.approx(std, rel=0.05), name
            assert abs(w.mean()) < 4 * std / math.sqrt(w.size), name
        else:
            assert (w == (0 if name.endswith("bias") else 1)).all(), name
    with mb.no_grad():
        loss = next_token_loss(model, np.zeros((4, 200), int), ids_of(4, 200))
    assert loss.item() == pytest.approx(math.log(300), abs=0.1)


def test_output_layer_is_the_embedding_also_after_training_and_loading():
    mb.seed(2)
    model = gpt()
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    before = model.token_embedding.weight.numpy().copy()
    for _ in range(3):
        optimizer.zero_grad()
        next_token_loss(model, ids_of(2, 7), ids_of(2, 7, seed=1)).backward()
        optimizer.step()
    w = model.token_embedding.weight.numpy()
    assert np.abs(w - before).max(1).min() > 0.05  # as an output, every row learns
    state = model.state_dict()
    assert [n for n in state if state[n].shape == (11, 8)] == ["token_embedding.weight"]
    other = gpt()
    other.load_state_dict(state)
    expected = model(ids_of(2, 7)).numpy()
    np.testing.assert_array_equal(other(ids_of(2, 7)).numpy(), expected)
    state["token_embedding.weight"][4] += 1  # an unseen token: as output alone
    logits = model([[1, 2]]).numpy()
    changed = np.abs(logits - other([[1, 2]]).numpy()).max((0, 1)) > 1e-4
    assert changed.nonzero()[0].tolist() == [4]


def test_float32_stays_float32():
    model = gpt(dropout=0.1)
    logits = model(ids_of(2, 7))
    logits.sum().backward()
    assert logits.dtype == np.float32
    assert {p.grad.dtype for p in model.parameters()} == {np.dtype("float32")}


def test_dropout_draws_in_training_alone():
    model, ids = gpt(dropout=0.5), ids_of(1, 7)
    assert model(ids).tolist() != model(ids).tolist()
    mb.seed(0)
    model(ids)  # after the embedding; in a layer after softmax, attention and MLP
    assert mb.random.get_state()["counters"]["dropout"] == 1 + 2 * 3
    model.eval()
    assert model(ids).tolist() == model(ids).tolist()


def test_training_steps_make_no_cycles_and_keep_no_memory():
    model = gpt(dropout=0.1, n_embd=32)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    ids, targets = ids_of(8, 7), ids_of(8, 7, seed=1)

    def train(steps):
        for _ in range(steps):
            optimizer.zero_grad()
            next_token_loss(model, ids, targets).backward()
            optim.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    tracemalloc.start()
    gc.disable()
    try:
        train(5)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        train(30)
        grown = tracemalloc.get_traced_memory()[0] - before
        cycles = gc.collect()
    finally:
        gc.enable()
        tracemalloc.stop()
    assert grown < 2**20 and cycles == 0  # kept graphs would be some 5 MB


# ---- mistakes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gpt(n_head=3), ValueError, "n_head 3 does not divide n_embd 8"),
        (lambda: gpt(n_layer=0), ValueError, "n_layer must be .* at least 1, not 0"),
        (lambda: gpt(vocab_size=2.5), ValueError, "vocab_size .*not 2.5"),
        (lambda: gpt(n_embd=True), TypeError, "n_embd .*not True"),
        (lambda: gpt(dropout=1.0), ValueError, "dropout .*not 1.0"),
        (lambda: gpt()(ids_of(7)), ValueError, r"\(batch, length\), not \(7,\)"),
        (lambda: gpt()(ids_of(2, 0)), ValueError, r"\(batch, length\), not \(2, 0\)"),
        (lambda: gpt()(ids_of(1, 8)), ValueError, "8 tokens .* context of 7"),
        (lambda: gpt()([[11]]), IndexError, "id 11 is outside 0 … 10"),
        (lambda: gpt()([[-1]]), IndexError, "id -1 is outside"),
        (lambda: gpt()([[0.5]]), TypeError, "whole numbers.*float32"),
    ],
)
def test_mistake_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
