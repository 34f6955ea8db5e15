"""The preset `bert`: what it learns from, what it is judged by, its folder."""

import dataclasses

import numpy as np
import pytest

import minibig as mb
from minibig import data, recipes
from minibig import functional as F
from minibig.data.loader import IGNORE
from minibig.files import load_arrays
from minibig.models import BERTForMaskedLM
from minibig.presets import PRESETS
from minibig.tasks import masked_language as task_of
from tools import pretrain_bert

TINY = dataclasses.replace(
    PRESETS["bert"], n_layer=1, n_head=2, n_embd=16, dim_feedforward=32, vocab_size=300,
    context_length=16, batch_size=8, steps=6, warmup=2, watched=20, judged=10,
)  # fmt: skip
WORDS = ("read", "write", "close", "open", "file", "line", "list", "the", "a", "of")


def documents(count, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 12)) + f" {n}" for n in range(count)]


@pytest.fixture
def small(monkeypatch):
    """A corpus of ten words in place of Python's documentation."""
    parts = documents(60, 0), documents(40, 1)
    monkeypatch.setattr(task_of, "texts", lambda held_out: parts)
    return parts


def test_folder_gives_back_a_model_that_guesses_alike(small, tmp_path):
    run = recipes.train(TINY, tmp_path, say=lambda line: None)
    model, tokenizer = recipes.load_model(tmp_path)
    assert tokenizer.hash == run.tokenizer.hash
    ids = [tokenizer.encode("open the [MASK] of a file")]
    np.testing.assert_array_equal(model(ids).numpy(), run.model.eval()(ids).numpy())
    said = TINY.describe(run.results)
    assert f"{run.results['accuracy']:.2%} of the words left out are guessed" in said
    assert run.history.steps[-1]["loss"] < run.history.steps[0]["loss"]


def test_a_run_becomes_a_published_folder_in_half_precision(
    small, tmp_path, monkeypatch
):
    run = recipes.train(TINY, tmp_path / "run", say=lambda line: None)
    ids = [run.tokenizer.encode("open the [MASK] of a file")]
    expected = run.model.eval()(ids).numpy()
    monkeypatch.setattr(pretrain_bert, "how_made", lambda run: {"seed": 0})
    pretrain_bert.write(run, tmp_path / "out")
    model = BERTForMaskedLM.from_pretrained(tmp_path / "out")
    np.testing.assert_allclose(model(ids).numpy(), expected, atol=0.02)
    assert data.load_tokenizer(tmp_path / "out").hash == run.tokenizer.hash
    arrays, _ = load_arrays(tmp_path / "out" / "model.safetensors")
    assert {array.dtype.name for array in arrays.values()} == {"float16"}


def test_held_out_text_is_watched_and_judged_with_fixed_words_left_out(small):
    task = recipes.prepare(TINY)
    first, again = task.judge(task.model), task.judge(task.model)
    assert first == again and task.watching(task.model) == task.watching(task.model)
    assert first["loss"] != task.watching(task.model)["loss"]
    assert first["loss"] == pytest.approx(np.log(task.tokenizer.vocab_size), rel=0.05)
    assert first["unigram_loss"] < first["loss"]


def test_training_leaves_out_other_words_in_every_epoch(small):
    loader = recipes.prepare(TINY).training
    step = len(loader)  # the first batch of the second epoch, by seed and place
    rows = {}
    for inputs, targets in map(loader.batch, range(2 * step)):
        for row, target in zip(inputs, targets, strict=True):
            whole = np.where(target == IGNORE, row, target)
            rows.setdefault(whole.tobytes(), []).append(tuple(target))
    assert all(len(found) == 2 for found in rows.values())
    assert np.mean([a != b for a, b in rows.values()]) > 0.9


def test_rows_are_full_and_hold_the_text_in_order():
    tokenizer = data.WordPieceTokenizer.train(documents(60, 0), 200)
    texts = documents(7, 3)
    rows = task_of.packed(texts, tokenizer, 10)
    assert rows.shape[1] == 10 and (rows[:, 0] == tokenizer.token_to_id["[CLS]"]).all()
    stream = [i for t in texts for i in tokenizer.encode(t)[1:]]  # [SEP] behind each
    assert rows[:, 1:].ravel().tolist() == stream[: rows[:, 1:].size]
    assert len(stream) - rows[:, 1:].size < 9
    with pytest.raises(ValueError, match="tokens of text make no row of 500"):
        task_of.packed(texts[:1], tokenizer, 500)


def test_held_out_documents_are_not_among_those_seen():
    seen, unseen = task_of.texts()
    assert not set(seen) & set(unseen)
    assert 0.18 < len(unseen) / len(seen + unseen) < 0.22
    assert all(map(task_of.is_held_out, unseen)) and not any(
        map(task_of.is_held_out, seen)
    )


def test_the_side_of_a_text_depends_on_the_text_alone():
    held_out = [n for n in range(40) if task_of.is_held_out(f"text {n}")]
    assert held_out == [0, 3, 6, 12, 26, 30, 33]  # of 40: luck, but always the same
    more = [n for n in range(40) if task_of.is_held_out(f"text {n}", 0.5)]
    assert set(held_out) < set(more) and len(more) < 30


def test_ids_of_an_unsigned_type_are_masked_alike():
    ids = np.arange(5, 45).reshape(4, 10)
    settings = {"mask_id": 4, "vocab_size": 50, "step": 0}
    for a, b in zip(
        data.mask_tokens(ids.astype("uint16"), **settings),
        data.mask_tokens(ids, **settings),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_loss_is_that_of_the_words_left_out_alone(small):
    task = recipes.prepare(TINY)
    inputs, targets = map(mb.tensor, task.training.batch(0))
    whole = F.cross_entropy(task.model.eval()(inputs), targets)
    found = task.loss(task.model, inputs, targets)
    assert found.item() == pytest.approx(whole.item(), rel=1e-5)
    whole.backward()
    expected = [p.grad.numpy() for p in task.model.parameters()]
    task.model.zero_grad()
    found.backward()
    for name_and_parameter, gradient in zip(
        task.model.named_parameters(), expected, strict=True
    ):
        np.testing.assert_allclose(
            name_and_parameter[1].grad.numpy(), gradient, atol=1e-6,
            err_msg=name_and_parameter[0],
        )  # fmt: skip


def test_judge_counts_words_not_batches(small):
    task = recipes.prepare(TINY)
    rows = np.tile(np.arange(5, 21), (9, 1))
    loader = TINY.loader(rows, task.tokenizer, shuffle=False)
    inputs, targets = (np.concatenate(part) for part in zip(*loader, strict=True))
    logits = task.model.eval()(inputs)
    found = task_of.judge(task.model.train(), loader)
    expected = F.cross_entropy(logits, targets).item()
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    chosen = targets != IGNORE
    right = logits.numpy().argmax(-1)[chosen] == targets[chosen]
    assert found["accuracy"] == pytest.approx(right.mean())
    assert task.model.training


def test_unigram_guesses_the_most_frequent_token():
    tokenizer = data.WordPieceTokenizer.train(documents(60, 0), 200)
    rows = task_of.packed(["a a a file", "a list"], tokenizer, 7)
    table = task_of.unigram(np.repeat(rows, 50, 0), tokenizer)
    assert np.exp(table).sum() == pytest.approx(1)
    assert table.argmax() == tokenizer.token_to_id["a"]
    assert np.isneginf(table[tokenizer.token_to_id["[SEP]"]])
    loader = TINY.loader(rows, tokenizer, shuffle=False)
    found = task_of.judge_unigram(table, loader)
    targets = next(iter(loader))[1]
    hits = targets[targets != IGNORE] == table.argmax()
    assert found["unigram_accuracy"] == pytest.approx(hits.mean())
    nats = -table[targets[targets != IGNORE]].mean()
    assert found["unigram_loss"] == pytest.approx(nats)
