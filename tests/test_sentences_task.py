"""The preset `lstm`: what it learns from, what it is judged by, its folder."""

import dataclasses

import numpy as np
import pytest

from minibig import data, recipes
from minibig.data.docstring_tasks import TextData
from minibig.data.tabular import Split
from minibig.presets import PRESETS
from minibig.tasks import sentences

TINY = dataclasses.replace(
    PRESETS["lstm"], n_embd=8, hidden_size=8, batch_size=8, steps=6, warmup=2
)
WORDS = ["read", "write", "close", "open", "file", "line"]


@pytest.fixture
def small(monkeypatch):
    """Twenty texts a part, other ones in each, instead of all docstrings."""
    texts = {
        part: tuple(
            f"{n} {first} {second}" for first in WORDS[:4] for second in WORDS[1:]
        )
        for n, part in enumerate(("train", "validation", "test"))
    }
    tokenizer = data.WordTokenizer.train(texts["train"], special_tokens=("<pad>",))
    rng, parts = np.random.default_rng(0), []
    for part in texts.values():
        ids, _ = data.pad([tokenizer.encode(text) for text in part], 1)
        parts.append(Split(ids, rng.permutation(len(ids)) % 2))
    made = TextData(
        "small", *parts, texts, ("no", "yes"), tokenizer, "Python", "0" * 16
    )
    monkeypatch.setitem(sentences.SETS, "real_or_shuffled", lambda: made)
    return made


def test_folder_gives_back_a_model_that_answers_alike(small, tmp_path):
    run = recipes.train(TINY, tmp_path, say=lambda line: None)
    model, tokenizer = recipes.load_model(tmp_path)
    assert tokenizer.hash == small.tokenizer.hash
    ids = small.test.features
    np.testing.assert_array_equal(model(ids).numpy(), run.model.eval()(ids).numpy())
    right = run.model(ids).argmax(-1).numpy() == small.test.targets
    assert run.results["accuracy"] == right.mean()
    assert TINY.describe({"accuracy": 0.91, "loss": 0.2}).startswith("91.00%")


def test_it_learns_from_watches_and_judges_by_three_parts(small):
    task = recipes.prepare(TINY)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([ids for ids, _ in task.training]), 0),
        np.sort(small.train.features, 0),
    )
    assert task.watching.loader.hash != task.judge.loader.hash
    for evaluation, part in ((task.watching, "validation"), (task.judge, "test")):
        (ids, _), *rest = list(evaluation.loader)
        assert not rest
        np.testing.assert_array_equal(ids, getattr(small, part).features)


def test_the_model_is_of_the_words_and_classes_of_its_texts(small):
    for pooling in ("max", "mean"):
        preset = dataclasses.replace(TINY, pooling=pooling)
        config = recipes.prepare(preset).model.config
        assert config.vocab_size == small.tokenizer.vocab_size
        assert (config.n_classes, config.pad_id) == (2, small.pad_id)
        assert config.pooling == pooling


def test_padding_changes_no_answer(small):
    model = recipes.prepare(TINY).model.eval()
    ids = small.test.features[:3]
    more = np.concatenate([ids, np.full((3, 4), small.pad_id)], 1)
    np.testing.assert_allclose(model(more).numpy(), model(ids).numpy(), atol=1e-6)


def test_a_set_of_texts_goes_by_its_name():
    expected = {data.real_or_shuffled, data.which_library}
    assert set(sentences.SETS.values()) == expected
    assert {make.__name__ for make in expected} == set(sentences.SETS)
    with pytest.raises(ValueError, match='"real_or_shuffled", "which_library"'):
        recipes.prepare(dataclasses.replace(TINY, texts="no"))
