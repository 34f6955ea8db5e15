"""Randomness is a function of (seed, stream, step), and can be taken up again."""

import json

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig import nn, random


def draw(generator):
    return generator.integers(0, 1 << 30, 4).tolist()


def test_same_seed_gives_the_same_numbers():
    runs = []
    for _ in range(2):
        mb.seed(42)
        runs.append([mb.randn(3).tolist(), mb.rand(3).tolist(), nn.Linear(3, 2)])
    assert runs[0][:2] == runs[1][:2]
    assert np.array_equal(runs[0][2].weight.numpy(), runs[1][2].weight.numpy())
    mb.seed(43)
    assert mb.randn(3).tolist() != runs[0][0]


def test_each_draw_of_a_stream_is_new():
    mb.seed(0)
    first, second = draw(random.generator("a")), draw(random.generator("a"))
    assert first != second
    assert first == draw(random.at("a", 0)) and second == draw(random.at("a", 1))


def test_streams_do_not_disturb_each_other():
    mb.seed(1)
    expected = mb.randn(4).tolist()
    mb.seed(1)
    F.dropout(mb.ones(10), 0.5)
    nn.Linear(2, 2)
    assert mb.randn(4).tolist() == expected
    assert draw(random.at("a", 0)) != draw(random.at("b", 0))


def test_at_advances_nothing_and_takes_a_seed():
    mb.seed(5)
    before = random.get_state()
    numbers = draw(random.at("a", 3, seed=9))
    assert random.get_state() == before and draw(random.at("a", 3)) != numbers
    mb.seed(9)
    assert draw(random.at("a", 3)) == numbers


def test_state_survives_json_and_goes_on_where_it_was():
    mb.seed(7)
    mb.randn(2)
    state = json.loads(json.dumps(random.get_state()))
    expected = [mb.randn(2).tolist(), F.dropout(mb.ones(9), 0.5).tolist()]
    mb.seed(8)
    random.set_state(state)
    assert [mb.randn(2).tolist(), F.dropout(mb.ones(9), 0.5).tolist()] == expected


def test_a_saved_state_is_not_changed_by_later_draws():
    mb.seed(0)
    state = random.get_state()
    mb.randn(2)
    assert state == {"seed": 0, "counters": {}}


@pytest.mark.parametrize("value", [-1, 1.5, "1", None, True])
def test_seed_must_be_a_whole_number_from_0_on(value):
    error = ValueError if value in (-1, 1.5) else TypeError
    for use in (mb.seed, lambda seed: random.at("a", 0, seed)):
        if value is not None or use is mb.seed:  # at(…, None) takes the global seed
            with pytest.raises(error, match=r"at least 0, not"):
                use(value)


def test_seed_may_be_a_numpy_number_and_is_stored_as_python_int():
    mb.seed(np.int64(3))
    assert type(random.get_state()["seed"]) is int


def test_dropout_keeps_the_asked_share():
    mb.seed(0)
    y = F.dropout(mb.ones(100_000), 0.3).numpy()
    assert abs((y == 0).mean() - 0.3) < 0.005
    assert np.allclose(y[y > 0], 1 / 0.7)
