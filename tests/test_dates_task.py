"""The preset `transformer`: what it learns from, what it is judged by, its folder."""

import dataclasses

import numpy as np
import pytest

import minibig as mb
from minibig import functional as F
from minibig import recipes
from minibig.data import dates
from minibig.presets import PRESETS
from minibig.tasks.dates import exact, loss, translate

TINY = dataclasses.replace(
    PRESETS["transformer"], n_layer=1, n_head=2, n_embd=16, dim_feedforward=32,
    batch_size=8, steps=6, warmup=2, examples=100, watched=20, judged=30,
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dates")
    return recipes.train(TINY, folder, say=lambda line: None), folder


def test_folder_gives_back_a_model_that_translates_alike(trained):
    run, folder = trained
    model, tokenizer = recipes.load_model(folder)
    assert tokenizer.hash == dates.tokenizer().hash
    texts = [example.text for example in dates.generate(8, split="test")]
    assert translate(model, texts) == translate(run.model, texts)
    assert run.results["exact"] == exact(run.model, dates.generate(30, split="test"))
    assert run.history.steps[-1]["loss"] < run.history.steps[0]["loss"]
    assert TINY.describe({"exact": 0.9875}) == "98.75% of 30 unseen dates are exact"


def test_a_preset_learns_from_watches_and_judges_different_days():
    task = recipes.prepare(TINY)
    coder, found = dates.tokenizer(), {}
    for split, loader in (
        ("train", task.training),
        ("validation", task.watching.loader),
    ):
        targets = np.concatenate([batch[2] for batch in loader])
        found[split] = set(dates.decode(targets))
        assert found[split] <= {e.iso for e in dates.generate(100, split=split)}
    assert len(found["validation"]) == 20 and not found["train"] & found["validation"]
    assert task.model.config.pad_id == coder.special_tokens[dates.PAD]
    mb.seed(0)
    other = recipes.prepare(dataclasses.replace(TINY, seed=1))
    assert other.training.hash != task.training.hash


def test_loss_is_smoothed_in_training_and_plain_in_watching():
    task = recipes.prepare(TINY)
    batch = task.training.batch(0)
    logits = task.model.eval()(*batch[:2])
    smoothed = F.cross_entropy(logits, batch[2], label_smoothing=0.1).item()
    assert task.loss(task.model, *batch).item() == pytest.approx(smoothed, rel=1e-6)
    plain = F.cross_entropy(logits, batch[2]).item()
    assert loss(task.model, *batch).item() == pytest.approx(plain, rel=1e-6)
    watched = [loss(task.model, *b).item() for b in task.watching.loader]
    assert task.watching(task.model)["loss"] == pytest.approx(np.mean(watched))


@pytest.mark.parametrize("beams", [1, 2])
def test_translation_does_not_depend_on_what_shares_a_batch(trained, beams):
    model = trained[0].model
    texts = [example.text for example in dates.generate(9, split="validation")]
    together = translate(model, texts, beams=beams)
    assert together == translate(model, texts, beams=beams, batch_size=2)
    assert together == [translate(model, [t], beams=beams)[0] for t in texts]
    assert translate(model, []) == []


def test_no_source_is_no_target_and_one_source_takes_one_mask(trained):
    model = trained[0].model
    assert model.generate(np.zeros((0, 3), int), 6).shape == (0, 0)
    source, mask = dates.encode(["5 May 2024"])[0], [1] * 5 + [0] * 5
    both = model.generate([source], 6, source_mask=[mask]).tolist()
    assert model.generate(source, 6, source_mask=mask).tolist() == both[0]
    with pytest.raises(ValueError, match=r"needed are .* \(1, 10\)"):
        model.generate(source, 6, source_mask=mask[1:])


def test_exact_is_the_share_of_whole_dates():
    class Model:
        def generate(self, sources, longest, **settings):
            ids = [dates.tokenizer().encode(t) for t in ("2024-03-05", "2024-03-06")]
            return mb.tensor(ids)

    examples = [dates.Example("5 March 2024", "2024-03-05", "English")] * 2
    assert exact(Model(), examples) == 0.5
