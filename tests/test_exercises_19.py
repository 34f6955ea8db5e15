"""The exercises of notebook 19: their solutions are what the library and NumPy do."""

import numpy as np
import pytest
from answers import likely

import minibig as mb
from minibig import nn
from minibig.exercises.course import nb19, nb19_parts
from minibig.models import GPT, GPTConfig


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
    ours, good = nb19_parts.unscaled.solution(parts, np.array([5, 3]), 128.0)
    assert good and ours.dtype == "float32"
    np.testing.assert_allclose(ours, gradient(x) / 128, rtol=2e-3, atol=1e-5)


# ---- wrong answers, as they are written ----------------------------------------------


def memory(weight=(12, 14), tables=1, small=1, outside=2, logits=2, unit=1):
    """An account with mistakes in its numbers."""

    def answer(B, T, C, L, V, size, again):
        N = tables * V * C + T * C + L * (12 * C**2 + 13 * C * small) + 2 * C * small
        arrays = outside + (L if again else 16 * L)
        largest = max(logits * V, 16 * C) if again else logits * V
        bytes_a_weight = weight[0] if size == 4 else weight[1]
        return (bytes_a_weight * N + size * B * T * (arrays * C + largest)) / unit

    return answer


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (memory((16, 18)), "the gradients of the weights"),
        (memory((16, 16)), "the gradients of the weights"),
        (memory((12, 12)), "16-bit copies"),
        (memory((12, 10)), "the masters"),
        (memory((8, 10)), "two moments"),
        (memory((4, 6)), "moments are missing"),
        (memory(unit=1e6), "in bytes"),
        (memory(unit=2**20), "in bytes"),
        (memory(unit=2**30), "in bytes"),
        (memory(logits=1), "the logits count twice"),
        (memory(outside=0), "outside the blocks"),
        (memory(small=0), "biases and norms"),
        (memory(tables=2), "no weights of its own"),
    ],
)
def test_a_wrong_account_is_told_its_mistake(answer, told, capsys):
    assert told in likely("19.memory", answer, capsys)


def rounded(rint=np.rint, first=-1, lowest=1, bias_less=1):
    """A rounding with mistakes in its exponents, or another function for np.rint."""

    def answer(x, exponent, fraction):
        bias = 2 ** (exponent - 1) - bias_less
        e = np.maximum(np.frexp(x)[1] + first, lowest - bias)
        y = rint(x / 2.0 ** (e - fraction)) * 2.0 ** (e - fraction)
        largest = (2 - 2.0**-fraction) * 2.0**bias
        return np.where(np.abs(y) > largest, np.copysign(np.inf, x), y)

    return answer


def by_the_largest(end):
    """A rounding whose last step is end(x, y, the largest number)."""

    def answer(x, exponent, fraction):
        bias = 2 ** (exponent - 1) - 1
        spacing = 2.0 ** (np.maximum(np.frexp(x)[1] - 1, 1 - bias) - fraction)
        y = np.rint(x / spacing) * spacing
        return end(x, y, (2 - 2.0**-fraction) * 2.0**bias)

    return answer


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (rounded(np.trunc), "cut the rest off"),
        (rounded(np.floor), "always rounded down"),
        (rounded(lambda x: np.floor(x + 0.5)), "ties go up"),
        (rounded(lambda x: np.sign(x) * np.floor(abs(x) + 0.5)), "ties go away"),
        (rounded(first=0), "one bit too few"),
        (rounded(first=-2), "one bit too many"),
        (rounded(lowest=0), "twice as dense"),
        (rounded(bias_less=0), "bias is one too large"),
        (by_the_largest(lambda x, y, top: y), "nothing is too large"),
        (by_the_largest(lambda x, y, top: np.clip(y, -top, top)), "with its sign"),
        (by_the_largest(lambda x, y, top: np.where(abs(y) > top, np.inf, y)), "plus"),
        (
            by_the_largest(
                lambda x, y, top: np.where(abs(x) > top, np.copysign(np.inf, x), y)
            ),
            "round first",
        ),
    ],
)
def test_a_wrong_rounding_is_told_its_mistake(answer, told, capsys):
    assert told in likely("19.round_to", answer, capsys)


def best(held=lambda n, a, k: -(-n // k) + a * k, end=1, first=1, flip=1):
    """A search over all lengths with a mistake in it."""

    def answer(n, a):
        found = [held(n, a, k) for k in range(1, n + end)]
        return (found.index(min(found)) + first, min(found))[::flip]

    return answer


def the_last_of_the_best(n, a):
    best_k, least = None, np.inf
    for k in range(1, n + 1):
        if -(-n // k) + a * k <= least:
            best_k, least = k, -(-n // k) + a * k
    return best_k, least


def near_the_root(*steps):
    """The better of the whole numbers so many steps from the one below the root."""

    def answer(n, a):
        root = int((n / a) ** 0.5)
        held = {k: -(-n // k) + a * k for k in (max(root + i, 1) for i in steps)}
        return min(held.items(), key=lambda pair: pair[1])

    return answer


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (best(lambda n, a, k: n // k + a * k), "n // k forgets"),
        (best(lambda n, a, k: n / k + a * k), "no number of segments"),
        (best(lambda n, a, k: -(-n // k) - 1 + a * k), "the last one too"),
        (best(lambda n, a, k: -(-n // k) + k), "one array a layer"),
        (best(end=0), "ends at n - 1"),
        (best(first=0), "one too small"),
        (best(flip=-1), "exchanged"),
        (the_last_of_the_best, "the smallest is asked for"),
        (near_the_root(0), "rounded the root"),
        (near_the_root(0, 1), "rounded the root"),
    ],
)
def test_a_wrong_segment_is_told_its_mistake(answer, told, capsys):
    assert told in likely("19.best_segment", answer, capsys)
