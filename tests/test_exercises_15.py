"""The exercises of notebook 15: their solutions against other ways to the same."""

import numpy as np
import pytest

import minibig as mb
from minibig import optim
from minibig.exercises.course import nb15


@pytest.mark.parametrize("case", nb15.two_streams.cases, ids=lambda case: case.name)
def test_two_streams_is_the_longest_path(case):
    """Over all i: the copies up to i, then the kernels from i on."""
    copies, kernels = case.make()
    paths = [sum(copies[: i + 1]) + sum(kernels[i:]) for i in range(len(copies))]
    assert nb15.two_streams.solution(copies, kernels) == max(paths)


def test_product_turns_from_bytes_to_operations_at_the_edge_of_the_roof():
    """Squares of side n have n / 6 operations a byte in float32."""
    peak, bandwidth = 25e9, 1e9
    for n, bound in ((149, "bytes"), (151, "operations")):
        time = nb15.product_time.solution(n, n, n, 4, peak, bandwidth)
        expected = {"bytes": 12 * n * n / bandwidth, "operations": 2 * n**3 / peak}
        assert max(expected, key=expected.get) == bound
        assert time == pytest.approx(1e6 * expected[bound])


@pytest.mark.parametrize("case", nb15.clip.cases, ids=lambda case: case.name)
def test_clip_is_the_librarys(case):
    g, max_norm = case.make()
    parameter = mb.zeros(*g.shape, requires_grad=True)
    parameter.grad = mb.tensor(np.asarray(g), dtype="float32")
    optim.clip_grad_norm_([parameter], max_norm)
    ours = np.asarray(nb15.clip.solution(g, max_norm))
    np.testing.assert_allclose(ours, parameter.grad.numpy(), rtol=2e-6)


@pytest.mark.parametrize("look", [
    bool, float, int, lambda x: x.item(), lambda x: x[x > 0], lambda x: x.tolist(),
    lambda x: 1 if x.sum() > 0 else 0, lambda x: max(x.sum(), 1.0),
])  # fmt: skip
def test_every_look_at_a_watched_array_raises(look):
    with pytest.raises(nb15.WaitError, match="wait for the GPU"):
        look(nb15._watched([2.0]))


def test_what_a_watched_array_computes_is_watched():
    x = nb15._watched([[3.0, 4.0]])
    for y in (x + 1, np.sqrt(x), x.sum(), np.maximum(x.sum(), 1), x[0], x @ x.T):
        assert type(y) is nb15.Watched


def test_best_fit_never_asks_more_often_than_a_pool_of_equal_sizes():
    rng = np.random.default_rng(0)
    for _ in range(30):
        events, alive, made = [], [], 0
        for _ in range(60):
            if alive and rng.random() < 0.5:
                events.append(-alive.pop(rng.integers(len(alive))))
            else:
                made += 1
                alive.append(made)
                events.append(int(rng.integers(1, 9000)))
        equal = nb15.best_fit.mistakes[0].function(events)
        asked, held = nb15.best_fit.solution(events)
        assert asked <= equal[0] and held % 512 == 0
