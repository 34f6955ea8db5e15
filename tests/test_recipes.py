"""From a preset to a model in a folder, and back."""

import dataclasses
import json
import math
import signal

import numpy as np
import pytest

import minibig as mb
from minibig import data, recipes
from minibig.data import tales
from minibig.files import FileError
from minibig.models import GPT, GPTConfig, Llama
from minibig.presets import PRESETS
from minibig.tasks import GPTPreset, language
from minibig.training import latest

TEXT = "".join(f"{n} times {n + 1} is {n * (n + 1)}.\n" for n in range(120))
TINY = GPTPreset(
    about="a test", corpus="documentation", tokenizer="char", vocab_size=None,
    context_length=16, n_layer=1, n_head=2, n_embd=16, batch_size=4, steps=12, lr=1e-2,
    min_lr=1e-3, warmup=2, dropout=0.1, prompt="1",
)  # fmt: skip


def train(folder, preset=TINY, text=TEXT, **settings):
    return recipes.train(preset, folder, text=text, say=lambda line: None, **settings)


def logits(model, ids=(1, 2, 3, 4)):
    with mb.no_grad():
        return model.eval()([list(ids)]).numpy()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return train(folder), folder


def test_folder_gives_back_the_same_model_and_tokenizer(trained):
    run, folder = trained
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        assert (folder / name).is_file()
    model, tokenizer = recipes.load_model(folder)
    np.testing.assert_array_equal(logits(model), logits(run.model))
    assert not model.training and model.config == run.model.config
    assert tokenizer.hash == run.tokenizer.hash
    texts = [recipes.write(m, tokenizer, "12 ", 20, seed=1) for m in (model, run.model)]
    assert texts[0] == texts[1] and texts[0].startswith("12 ") and len(texts[0]) == 23


def test_results_are_those_of_the_held_out_tenth(trained):
    run, folder = trained
    tokenizer = run.tokenizer
    assert tokenizer.hash == data.CharTokenizer.train(TEXT).hash
    held_out = np.array(tokenizer.encode(TEXT[int(len(TEXT) * 0.9) :]))
    losses, length = [], TINY.context_length
    for start in range(0, len(held_out) - 1, length):
        ids = held_out[start : start + length + 1]
        scores = logits(run.model, ids[:-1])[0].astype("float64")
        scores -= np.log(np.exp(scores).sum(1, keepdims=True))
        losses += (-scores[np.arange(len(ids) - 1), ids[1:]]).tolist()
    assert run.results["loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert len(run.history) == TINY.steps and run.seconds > 0
    best = min(row["loss"] for row in run.history.evaluations)
    assert run.results["loss"] == pytest.approx(best, abs=1e-6)
    saved = json.loads((folder / "config.json").read_text())
    assert saved["results"] == run.results


def test_learning_happens(trained):
    run, _ = trained
    assert run.results["loss"] < math.log(run.tokenizer.vocab_size) - 0.3


def test_second_call_goes_on_where_the_first_was_stopped(
    trained, tmp_path, monkeypatch
):
    def stop(run):
        if run.step == 5:
            signal.raise_signal(signal.SIGINT)

    fit = recipes.fit
    with monkeypatch.context() as patch:
        patch.setattr(recipes, "fit", lambda *a, **k: fit(*a, callbacks=[stop], **k))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    assert latest(tmp_path).name == "checkpoint-00000005.safetensors"
    assert not (tmp_path / "model.safetensors").exists()
    resumed = train(tmp_path)
    run, _ = trained
    np.testing.assert_array_equal(logits(resumed.model), logits(run.model))
    assert resumed.history.loss == run.history.loss and resumed.results == run.results


def test_the_presets_seed_decides_alone(trained, tmp_path):
    mb.seed(7)
    mb.randn(3)
    np.testing.assert_array_equal(
        logits(train(tmp_path).model), logits(trained[0].model)
    )


def test_finished_run_is_only_judged_again(trained):
    run, folder = trained
    again = train(folder)
    np.testing.assert_array_equal(logits(again.model), logits(run.model))
    assert again.results == run.results and len(again.history) == TINY.steps


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"preset": dataclasses.replace(TINY, lr=5e-3)}, "lr was 0.01"),
        ({"text": TEXT + "x"}, "the data|tokenizer_hash"),
        ({"preset": dataclasses.replace(TINY, seed=1)}, "seed was 0"),
    ],
)
def test_folder_of_another_run_is_refused(change, fact, trained):
    _, folder = trained
    with pytest.raises(ValueError, match=f"belongs to another run: (the )?.*({fact})"):
        train(folder, **change)


def test_saving_leaves_the_model_as_it_is(trained, tmp_path):
    run, _ = trained
    parameter = next(run.model.parameters())
    parameter.grad = mb.ones_like(parameter)
    recipes.save_model(run.model, run.tokenizer, tmp_path)
    assert parameter.grad is not None
    parameter.grad = None
    assert recipes.load_model(tmp_path)[0].config == run.model.config


def test_device_is_kept_and_the_model_comes_back_on_the_cpu(strict, tmp_path):
    preset = dataclasses.replace(TINY, steps=2)
    run = train(tmp_path, preset, device="cuda")
    assert run.model.device == "cuda"
    model, _ = recipes.load_model(tmp_path)
    assert model.device == "cpu"
    expected = run.model.to("cpu")
    np.testing.assert_array_equal(logits(model), logits(expected))


@pytest.mark.parametrize("tokenizer", ["char", "bpe", "word"])
def test_every_tokenizer_trains(tokenizer, tmp_path):
    size = {"char": None, "bpe": 270, "word": 50}[tokenizer]
    preset = dataclasses.replace(
        TINY, tokenizer=tokenizer, vocab_size=size, steps=2, context_length=8
    )
    run = train(tmp_path, preset)
    assert math.isfinite(run.results["loss"])
    assert recipes.load_model(tmp_path)[1].hash == run.tokenizer.hash


def test_corpus_of_the_preset_is_read_when_no_text_is_given(monkeypatch):
    class Corpus:
        text = TEXT

    monkeypatch.setitem(recipes.CORPORA, "documentation", Corpus)
    with_corpus, with_text = recipes.prepare(TINY), recipes.prepare(TINY, TEXT)
    assert with_corpus.training.hash == with_text.training.hash
    other = recipes.prepare(TINY, TEXT * 2)
    assert other.training.hash != with_text.training.hash


@pytest.mark.parametrize("text", ["", "too short", TEXT[:150]])
def test_too_short_text_is_refused_before_any_file(text, tmp_path):
    with pytest.raises(ValueError, match=r"short|empty"):
        train(tmp_path / "new", text=text)
    assert not (tmp_path / "new").exists()


def test_damaged_folder_is_named(trained, tmp_path):
    run, _ = trained
    recipes.save_model(run.model, run.tokenizer, tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(FileError, match=r"config\.json"):
        recipes.load_model(tmp_path)
    with pytest.raises(FileNotFoundError):
        recipes.load_model(tmp_path / "nowhere")


def test_vectors_are_not_decayed():
    mb.seed(0)
    task_model = GPT(GPTConfig(5, 4, 1, 1, 4))
    matrices, vectors = recipes.make_optimizer(task_model, TINY).param_groups
    assert {p.ndim for p in matrices["params"]} == {2}
    assert {p.ndim for p in vectors["params"]} == {1}
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0)
    assert matrices["betas"] == (0.9, TINY.beta2)


def test_tales_are_judged_against_their_floor(tmp_path, monkeypatch):
    monkeypatch.setattr(
        language, "STORIES", {"train": 400, "validation": 8, "test": 30}
    )
    preset = dataclasses.replace(
        PRESETS["gpt"], n_layer=1, n_head=2, n_embd=16, steps=8, warmup=2
    )
    run = recipes.train(preset, tmp_path, say=lambda line: None)
    assert run.results.keys() == {"excess", "standard_error"}
    stories = tales.generate(30, preset.seed, "test")
    begin, end = (
        run.tokenizer.special_tokens[t] for t in (language.BEGIN, language.END)
    )
    ids = run.tokenizer.encode(stories[0])
    scores = logits(run.model, [begin, *ids])[0].astype("float64")
    scores -= np.log(np.exp(scores).sum(1, keepdims=True))
    expected = -scores[np.arange(len(ids) + 1), [*ids, end]].sum()
    loader = language.document_loader(stories, run.tokenizer, preset, shuffle=False)
    losses = language.document_losses(run.model, loader)
    assert losses.shape == (30,) and losses[0] == pytest.approx(expected, rel=1e-4)
    floor = sum(-tales.log_probability(story) for story in stories)
    assert run.results["excess"] == pytest.approx(losses.sum() / floor - 1)
    assert 0 < run.results["standard_error"] < 1 < run.results["excess"] < 20
    text = recipes.write(run.model, run.tokenizer, "", 20, seed=0)
    assert text and language.BEGIN not in text and language.END not in text


@pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if p.language])
def test_preset_is_complete(name):
    preset = PRESETS[name]
    assert preset.corpus in recipes.CORPORA and preset.n_embd % preset.n_head == 0
    assert preset.tokenizer in ("char", "word", "bpe") and preset.about
    assert preset.warmup < preset.steps and preset.min_lr < preset.lr


def test_gpt_and_llama_learn_the_same_at_the_same_size():
    gpt, llama = PRESETS["gpt"], PRESETS["llama"]
    sizes = {"about", "n_head", "n_kv_head", "dim_feedforward", "dropout", "bias"}
    shared = dataclasses.asdict(gpt).keys() - sizes
    assert all(getattr(gpt, name) == getattr(llama, name) for name in shared)
    tokenizer = data.WordTokenizer.train(" ".join(tales.generate(1000)))
    models = [preset.make_model(tokenizer) for preset in (gpt, llama)]
    assert [type(model) for model in models] == [GPT, Llama]
    positions = gpt.context_length * gpt.n_embd  # the GPT's table, which a Llama lacks
    first, second = (model.num_parameters() for model in models)
    assert first - positions == second


def test_first_weights_are_as_wide_as_the_preset_says():
    tokenizer = data.CharTokenizer.train(TEXT)
    drawn = []
    for init_std in (0.02, 0.06):
        mb.seed(0)
        preset = dataclasses.replace(PRESETS["gpt"], init_std=init_std)
        drawn.append(preset.make_model(tokenizer).state_dict())
    for name, first in drawn[0].items():
        scale = 3 if first.ndim == 2 else 1
        np.testing.assert_allclose(drawn[1][name], scale * first, rtol=1e-5)
    assert drawn[1]["token_embedding.weight"].std() == pytest.approx(0.06, rel=0.05)


def test_a_llama_trains_and_comes_back_from_its_folder(tmp_path):
    sizes = {"n_layer": 1, "n_embd": 16, "dim_feedforward": 32, "tokenizer": "char"}
    numbers = {"context_length": 16, "batch_size": 4, "steps": 12, "lr": 0.02}
    preset = dataclasses.replace(PRESETS["llama"], warmup=2, **sizes, **numbers)
    run = train(tmp_path, preset)
    assert run.model.config.n_kv_head == 2 < run.model.config.n_head
    assert run.results["loss"] < math.log(run.tokenizer.vocab_size) - 0.3
    model, tokenizer = recipes.load_model(tmp_path)
    np.testing.assert_array_equal(logits(model), logits(run.model))
    text = recipes.write(model, tokenizer, "12 ", 10, seed=0)
    assert text.startswith("12 ") and len(text) == 13


def test_the_nanogpt_recipe_is_the_published_one():
    p = PRESETS["nanogpt-cpu"]
    assert (p.context_length, p.batch_size, p.n_layer, p.n_head) == (64, 12, 4, 4)
    assert (p.n_embd, p.dropout, p.bias, p.tokenizer) == (128, 0.0, False, "char")
    assert (p.steps, p.beta2, p.weight_decay, p.clip_norm) == (2000, 0.99, 0.1, 1.0)
    assert (p.lr, p.min_lr, p.warmup, p.held_out) == (1e-3, 1e-4, 100, 0.1)
