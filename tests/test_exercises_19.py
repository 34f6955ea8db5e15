"""The exercises of notebook 19: their solutions are what the library and NumPy do."""

import numpy as np
import pytest

import minibig as mb
from minibig import nn
from minibig.exercises import check
from minibig.exercises.course import nb19
from minibig.exercises.exercise import attempt, likely_mistake
from minibig.models import GPT, GPTConfig

EXERCISES = [nb19.memory, nb19.round_to, nb19.unscaled, nb19.best_segment]
each = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
MISTAKES = [(e, mistake) for e in EXERCISES for mistake in e.mistakes]


@each
def test_the_solution_passes_and_the_stub_is_not_attempted(exercise, capsys):
    assert check(exercise.name, exercise.solution)

    def stub(*inputs):
        raise NotImplementedError("your turn")

    assert not check(exercise.name, stub)
    assert "not attempted yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    "exercise, mistake",
    MISTAKES,
    ids=[f"{e.name}-{i}" for i, (e, _) in enumerate(MISTAKES)],
)
def test_a_mistake_fails_with_its_own_hint(exercise, mistake):
    outcomes = attempt(exercise, mistake.function)
    assert any(outcome.problem for outcome in outcomes)
    assert likely_mistake(exercise, outcomes) == mistake.hint


@each
@pytest.mark.parametrize("wrong", [lambda *inputs: None, lambda *inputs: 1 / 0])
def test_nothing_and_errors_are_told(exercise, wrong):
    assert not check(exercise.name, wrong)


def test_rounding_is_numpys_for_float16_and_ml_dtypes_for_others():
    x = np.random.default_rng(0).standard_normal(3000)
    x *= 2.0 ** np.random.default_rng(1).integers(-30, 20, 3000)
    with np.errstate(over="ignore"):
        expected = x.astype("float16").astype("float64")
    assert np.array_equal(nb19.round_to.solution(x, 5, 10), expected)
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="it has bfloat16 and float8")
    x = x.astype("float32").astype("float64")
    for dtype, bits in ((ml_dtypes.bfloat16, (8, 7)), (ml_dtypes.float8_e5m2, (5, 2))):
        with np.errstate(over="ignore"):
            expected = x.astype(dtype).astype("float64")
        assert np.array_equal(nb19.round_to.solution(x, *bits), expected)


def test_memory_counts_the_weights_of_the_librarys_gpt():
    sizes = {"T": 10, "C": 12, "L": 2, "V": 20}
    model = GPT(GPTConfig(20, 10, n_layer=2, n_head=3, n_embd=12))
    nothing = nb19.memory.solution(0, **sizes, size=4, again=False)
    assert nothing == 12 * model.num_parameters()


def test_unscaled_is_the_gradient_of_the_whole_batch():
    x = np.random.default_rng(2).standard_normal((8, 5)).astype("float32")
    layer = nn.Linear(5, 1, bias=False)

    def gradient(rows):
        layer.zero_grad()
        (layer(mb.tensor(rows)).tanh().mean() * 128.0).backward()
        return layer.weight.grad.numpy()[0].copy()

    parts = np.stack([gradient(x[:5]), gradient(x[5:])]).astype("float16")
    ours, good = nb19.unscaled.solution(parts, np.array([5, 3]), 128.0)
    assert good and ours.dtype == "float32"
    np.testing.assert_allclose(ours, gradient(x) / 128, rtol=2e-3, atol=1e-5)
