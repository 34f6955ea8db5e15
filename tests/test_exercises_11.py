"""The exercises of notebook 11: their solutions are what the library does."""

import numpy as np
import pytest
from answers import likely

import minibig as mb
from minibig import functional as F
from minibig import generation
from minibig.exercises.course import nb11, nb11_cache


def test_causal_loss_is_the_librarys_cross_entropy():
    logits, ids, lengths = nb11.causal_loss.cases[1].make()
    targets = np.full_like(ids, -100)
    for row, length in enumerate(lengths):
        targets[row, : length - 1] = ids[row, 1:length]
    wanted = F.cross_entropy(mb.tensor(logits), targets).item()
    assert np.isclose(nb11.causal_loss.solution(logits, ids, lengths), wanted)


@pytest.mark.parametrize("value", [0.3, 0.8, 1.0])
def test_the_library_draws_by_the_same_probabilities(value):
    logits = np.random.default_rng(0).standard_normal(8)
    sums = np.cumsum(nb11.top_p.solution(nb11._softmax(logits), value))
    wanted = np.searchsorted(sums, np.random.default_rng(1).random(500), "right")
    copies = np.tile(logits, (500, 1))
    drawn = generation.choose(copies, np.random.default_rng(1), top_p=value)
    assert np.array_equal(drawn, wanted)


@pytest.mark.parametrize(
    "case", nb11_cache.cached_step.cases, ids=lambda case: case.name
)
def test_cached_step_is_the_librarys_grouped_attention(case):
    q, keys, values, lengths = case.make()
    real = np.arange(keys.shape[2]) < lengths[:, None]
    wanted = F.scaled_dot_product_attention(
        mb.tensor(q[:, :, None]), mb.tensor(keys), mb.tensor(values),
        real[:, None, None], enable_gqa=True,
    )  # fmt: skip
    found = nb11_cache.cached_step.solution(q, keys, values, lengths)
    assert np.allclose(found, wanted.numpy()[:, :, 0])


# ---- wrong answers, as they are written ----------------------------------------------


def published_top_p(p, top_p):
    """As in many repositories: remove what comes after the sum has passed top_p."""
    order = np.argsort(p)[::-1]
    remove = np.cumsum(p[order]) > top_p
    remove[1:] = remove[:-1].copy()
    remove[0] = False
    kept = p.copy()
    kept[order[remove]] = 0
    return kept / kept.sum()


def first_kept(p, top_p):
    order = np.argsort(-p)
    keep = np.cumsum(p[order]) <= top_p
    keep[0] = True
    kept = np.zeros_like(p)
    kept[order[keep]] = p[order[keep]]
    return kept / kept.sum()


def threshold(p, top_p):
    kept = np.where(p >= top_p, p, 0)
    return kept / kept.sum()


def threshold_by_the_top(p, top_p):
    kept = p * (p >= top_p * p.max())
    return kept / kept.sum()


def row_means(skip):
    def answer(logits, ids, lengths):
        means = []
        for row, row_ids, n in zip(logits, ids, lengths, strict=True):
            row = row - row.max(-1, keepdims=True)
            log_p = row - np.log(np.exp(row).sum(-1, keepdims=True))
            if n > 1 or not skip:
                means.append(-log_p[np.arange(n - 1), row_ids[1:n]].mean())
        return np.mean(means)

    return answer


def loss_sum(logits, ids, lengths):
    total = 0
    for row, row_ids, n in zip(logits, ids, lengths, strict=True):
        for scores, right in zip(row[: n - 1], row_ids[1:n], strict=True):
            scores = scores - scores.max()
            total += np.log(np.exp(scores).sum()) - scores[right]
    return total


def step_divided_by_the_width(q, keys, values, lengths):
    size = q.shape[1] // keys.shape[1]
    keys, values = np.repeat(keys, size, 1), np.repeat(values, size, 1)
    scores = np.einsum("bhd,bhsd->bhs", q, keys) / q.shape[-1]
    real = np.arange(keys.shape[2]) < lengths[:, None, None]
    e = np.where(real, scores, -np.inf)
    e = np.exp(e - e.max(-1, keepdims=True))
    return np.einsum("bhs,bhsd->bhd", e / e.sum(-1, keepdims=True), values)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "answer", "told"),
    [
        ("top_p", published_top_p, "one token too many"),
        ("top_p", first_kept, "the token that crosses top_p is dropped"),
        ("top_p", threshold, "by itself with a threshold"),
        ("top_p", threshold_by_the_top, "by itself with a threshold"),
        ("causal_loss", row_means(skip=True), "the mean of each row"),
        ("causal_loss", row_means(skip=False), "the mean of each row"),
        ("causal_loss", loss_sum, "the sum of the losses"),
        ("cached_step", step_divided_by_the_width, "divided by D; it is the root"),
    ],
)
def test_a_common_wrong_answer_is_named(name, answer, told, capsys):
    assert told in likely(f"11.{name}", answer, capsys)
