"""Writing: the cache changes nothing, and tokens are chosen as they should be."""

import itertools

import numpy as np
import pytest

import minibig as mb
from minibig import models
from minibig.generation import LayerCache, choose, generate
from minibig.random import at

SIZES = {"vocab_size": 11, "context_length": 8, "n_layer": 2, "n_head": 2, "n_embd": 8}


@pytest.fixture(scope="module")
def model():
    """A GPT whose next token depends on what came before, in float64."""
    gpt, rng = models.GPT(models.GPTConfig(**SIZES)).to("float64"), at("test", 0, 1)
    state = gpt.state_dict()
    gpt.load_state_dict({n: 0.6 * rng.normal(size=state[n].shape) for n in state})
    return gpt


PROMPTS = {"one": [3], "row": [1, 2, 3], "batch": [[1, 2], [3, 4], [5, 6]],
           "full": list(range(8)), "longer": [*range(10), 0, 1]}  # fmt: skip
SETTINGS = {
    "greedy": {"temperature": 0},
    "sampled": {"seed": 3},
    "cool": {"seed": 3, "temperature": 0.5, "top_k": 4, "top_p": 0.9},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_cache_changes_nothing_also_beyond_the_context(model, prompt, settings):
    cached = model.generate(prompt, 12, **settings)
    plain = model.generate(prompt, 12, use_cache=False, **settings)
    assert cached.tolist() == plain.tolist()
    shape = np.shape(prompt)
    assert cached.shape == (*shape[:-1], shape[-1] + 12) and cached.dtype == np.int64
    np.testing.assert_array_equal(cached.numpy()[..., : shape[-1]], prompt)


def test_cache_is_used(model, monkeypatch):
    lengths = []
    forward = type(model).forward

    def watched(self, ids, cache=None):
        lengths.append(np.shape(ids)[1])
        return forward(self, ids, cache)

    monkeypatch.setattr(type(model), "forward", watched)
    model.generate([1, 2, 3], 8, temperature=0)
    assert lengths == [3, 1, 1, 1, 1, 1, 8, 8]


def test_greedy_takes_the_likeliest_token_each_time(model):
    ids = [1, 2]
    for _ in range(10):
        ids.append(int(model([ids[-8:]]).numpy()[0, -1].argmax()))
    assert model.generate([1, 2], 10, temperature=0).tolist() == ids
    assert model.generate([1, 2], 10, top_k=1, seed=5).tolist() == ids


def test_rows_of_a_batch_are_greedy_alone(model):
    rows = [[1, 2, 3], [4, 5, 6]]
    together = model.generate(rows, 9, temperature=0).tolist()
    alone = [model.generate(row, 9, temperature=0).tolist() for row in rows]
    assert together == alone and together[0] != together[1]


def test_seed_decides_and_without_one_the_stream_does(model):
    texts = [model.generate([1], 12, seed=s).tolist() for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    mb.seed(4)
    free = [model.generate([1], 12).tolist() for _ in range(2)]
    mb.seed(4)
    assert free[0] != free[1]
    assert free == [model.generate([1], 12).tolist() for _ in range(2)]
    with_seed = model.generate([1], 12, seed=1).tolist()
    assert with_seed == texts[0]


def test_stop_id_ends_a_row_and_all_rows_end_the_text(model):
    text = model.generate([1, 2], 12, temperature=0).tolist()
    stop = text[4]
    end = text.index(stop, 2) + 1
    for stops in (stop, [stop], (stop,), {stop}, np.int64(stop)):
        found = model.generate([1, 2], 12, temperature=0, stop_ids=stops)
        assert found.tolist() == text[:end]
    rows = model.generate([[1, 2], [5, 6]], 12, seed=0, stop_ids=[stop]).numpy()
    free = model.generate([[1, 2], [5, 6]], 12, seed=0).numpy()
    for row, unstopped in zip(rows[:, 2:], free[:, 2:], strict=True):
        first = row.tolist().index(stop) if stop in row else len(row)
        assert (row[first:] == stop).all()  # an ended row repeats its stop id
        np.testing.assert_array_equal(row[: first + 1], unstopped[: first + 1])
    assert not (rows[:, :-1] == stop).all(0)[2:].any()  # it ended as soon as all had


def test_stop_id_in_the_prompt_does_not_stop(model):
    assert len(model.generate([7], 5, temperature=0, stop_ids=7)) > 1


def test_nothing_to_add_gives_the_prompt_back(model):
    assert model.generate([1, 2], 0).tolist() == [1, 2]
    assert generate(model, mb.tensor([[1], [2]]), 0).tolist() == [[1], [2]]


def test_training_mode_stays_part_by_part_and_dropout_is_off(model):
    gpt = models.GPT(models.GPTConfig(**SIZES, dropout=0.5))
    gpt.blocks[1].eval()
    texts = [gpt.generate([1, 2], 6, temperature=0).tolist() for _ in range(2)]
    assert texts[0] == texts[1]
    assert gpt.training and gpt.blocks[0].training and not gpt.blocks[1].training
    with pytest.raises(IndexError, match="id 11"):
        gpt.generate([11], 1)
    assert gpt.training and not gpt.blocks[1].training


def test_no_graph_is_recorded(model):
    assert not model.generate([1], 2).requires_grad
    assert all(p.grad is None for p in model.parameters())


# ---- choosing -----------------------------------------------------------------------


def expected_probabilities(logits, temperature=1.0, top_k=None, top_p=None):
    """What `choose` should draw from, one row, told in plain loops."""
    scaled = [x / temperature for x in logits]
    order = sorted(range(len(scaled)), key=lambda i: (-scaled[i], i))
    if top_k is not None:
        least = scaled[order[min(top_k, len(order)) - 1]]
        order = [i for i in order if scaled[i] >= least]
    weights = {i: np.exp(scaled[i] - scaled[order[0]]) for i in order}
    total = sum(weights.values())
    kept, reached = {}, 0.0
    for i in order:
        kept[i] = weights[i] / total
        reached += kept[i]
        if top_p is not None and reached >= top_p:
            break
    p = np.zeros(len(logits))
    for i, weight in kept.items():
        p[i] = weight / sum(kept.values())
    return p


class Fixed:
    """A generator that draws given numbers."""

    def __init__(self, values):
        self.values = values

    def random(self, shape):
        return np.reshape(self.values, shape)


CASES = list(
    itertools.product([0.3, 1.0, 2.5], [None, 1, 3, 50], [None, 0.05, 0.6, 0.95, 1.0])
)


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), CASES)
def test_probabilities_equal_the_plain_reference(temperature, top_k, top_p):
    logits = np.array([0.3, 2.0, -1.0, 2.0, 0.5, 1.2, -4.0])
    p = expected_probabilities(logits, temperature, top_k, top_p)
    assert p.sum() == pytest.approx(1)
    draws = (np.arange(4000) + 0.5) / 4000  # even: what is counted is exact
    found = choose(np.tile(logits, (4000, 1)), Fixed(draws), temperature, top_k, top_p)
    share = np.bincount(found, minlength=7) / 4000
    np.testing.assert_allclose(share, p, atol=1.01 / 4000)


def test_draws_are_distributed_as_the_probabilities():
    logits, count = np.array([0.0, 1.0, 2.0, -1.0, 0.5]), 20_000
    p = expected_probabilities(logits, 0.8)
    found = choose(np.tile(logits, (count, 1)), at("test", 1, 7), 0.8)
    counts = np.bincount(found, minlength=5)
    chi_square = ((counts - count * p) ** 2 / (count * p)).sum()
    assert chi_square < 18.5  # 4 degrees of freedom: 0.1 % of all draws lie above


def test_token_of_probability_zero_is_never_chosen():
    logits = np.tile([-np.inf, 0.0, 0.0, -np.inf], (3, 1))
    draws = Fixed([0.0, 0.5, np.nextafter(1, 0)])
    assert choose(logits, draws).tolist() == [1, 2, 2]
    almost = np.log(np.full((1, 1000), 0.001))
    almost[0, 0] = -np.inf
    assert choose(almost, Fixed([np.nextafter(1, 0)])).tolist() == [999]


def test_tiny_temperature_is_greedy():
    logits = np.array([[1.0, 1.5, -3.0], [2.0, 0.0, 1.9]])
    assert choose(logits, Fixed([0.99, 0.99]), 1e-300).tolist() == [1, 0]
    assert choose(logits, None, 0).tolist() == [1, 0]


def test_logits_from_end_to_end_of_float64_are_no_overflow():
    logits = np.array([[1e308, -1e308, 0.0]])
    assert choose(logits, Fixed([0.5]), 0.5, 2, 0.9).tolist() == [0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_damaged_logits_are_an_error(bad):
    with pytest.raises(FloatingPointError, match=r"not finite.*diverged"):
        choose(np.array([[0.0, bad, 1.0]]), None, 0)
    with pytest.raises(FloatingPointError):
        choose(np.full((1, 3), -np.inf), None, 0)


@pytest.mark.parametrize(
    ("ids", "settings", "message"),
    [
        ([], {}, "at least one token id"),
        ([[]], {}, "at least one token id"),
        (3, {}, "at least one token id"),
        ([0.5], {}, "whole numbers, not float32"),
        ([[1], [2, 3]], {}, "ragged"),
        ([1], {"temperature": -1}, "temperature .*from 0, not -1"),
        ([1], {"temperature": np.nan}, "temperature .*not nan"),
        ([1], {"temperature": np.inf}, "finite number .*not inf"),
        ([1], {"top_k": 0}, "top_k .*not 0"),
        ([1], {"top_k": 2.5}, "top_k .*not 2.5"),
        ([1], {"top_p": 0}, "top_p .*0 excluded.*not 0"),
        ([1], {"top_p": 1.5}, "top_p .*not 1.5"),
        ([1], {"max_new_tokens": -1}, "max_new_tokens .*not -1"),
        ([1], {"max_new_tokens": 1.5}, "max_new_tokens .*not 1.5"),
        ([1], {"seed": -1}, "a seed must be .*not -1"),
        ([1], {"stop_ids": [2, -1]}, "a stop id must be .*not -1"),
    ],
)
def test_mistake_is_named(model, ids, settings, message):
    with pytest.raises(ValueError, match=message):
        model.generate(ids, settings.pop("max_new_tokens", 2), **settings)


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "stop_ids", "seed"])
def test_setting_that_is_no_number_is_named(model, name):
    what = {"stop_ids": "a stop id", "seed": "a seed"}.get(name, name)
    with pytest.raises(TypeError, match=f"{what} must be .*number.* not 'a'"):
        model.generate([1], 2, **{name: "a"})


def test_stop_ids_are_none_one_or_several(model):
    whole = model.generate([1], 4, temperature=0).tolist()
    assert model.generate([1], 4, temperature=0, stop_ids=None).tolist() == whole
    stop = whole[1]
    tensors = mb.tensor(stop), mb.tensor([stop])
    for stops in (stop, [stop], {stop}, *tensors, np.array(stop)):
        stopped = model.generate([1], 4, temperature=0, stop_ids=stops)
        assert stopped.tolist() == whole[:2]


def test_layer_cache_gives_back_all_it_was_given():
    cache, rng = LayerCache(5), np.random.default_rng(0)
    parts = [rng.normal(size=(2, 3, n, 4)) for n in (2, 1, 2)]
    for number, part in enumerate(parts, 1):
        keys, values = cache.append(mb.tensor(part), mb.tensor(-part))
        whole = np.concatenate(parts[:number], 2)
        np.testing.assert_array_equal(keys.numpy(), whole)
        np.testing.assert_array_equal(values.numpy(), -whole)
    assert cache.length == 5
