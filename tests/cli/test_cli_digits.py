"""`python -m minibig train` for what is no language model."""

import dataclasses
import sys
from pathlib import Path

import pytest
from command_line import refused, results, run

from minibig import recipes
from minibig.data import CharTokenizer, images, tabular
from minibig.models import MLP, Transformer, TransformerConfig
from minibig.presets import PRESETS
from minibig.recipes import save_model


@pytest.fixture
def small(monkeypatch):
    """The preset "mlp", much smaller."""
    preset = dataclasses.replace(PRESETS["mlp"], hidden=(8,), steps=20, warmup=2)
    monkeypatch.setitem(PRESETS, "mlp", preset)


def test_training_says_how_many_digits_are_recognised(capsys, small):
    assert run("train", "--preset", "mlp") == 0
    out = capsys.readouterr().out
    accuracy = results(Path("runs/mlp"))["accuracy"]
    assert f"\ntest: {accuracy:.2%} of the digits are recognised" in out
    assert "generate" not in out
    call = out.partition("The model is kept in runs/mlp; in Python: minibig.")[2]
    assert call.startswith("recipes.load_model('runs/mlp')\n")
    model, tokenizer = recipes.load_model("runs/mlp")
    assert isinstance(model, MLP) and tokenizer is None
    assert run("train", "--preset", "mlp") == 0
    assert "all 20 steps are done already" in capsys.readouterr().out
    assert results(Path("runs/mlp"))["accuracy"] == accuracy


def test_digits_without_scikit_learn_are_one_sentence(capsys, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for cached in (images.digit_images, tabular.digits):
        cached.cache_clear()
    said = refused(capsys, "train", "--preset", "mlp")
    assert "digits comes with scikit-learn" in said
    assert "pip install scikit-learn" in said and not Path("runs").exists()


def test_steps_and_seed_are_taken(small):
    assert run("train", "--preset", "mlp", "--steps", 3, "--seed", 4) == 0
    assert "accuracy" in results(Path("runs/mlp"))


def test_generate_refuses_what_is_no_language_model(capsys, small):
    assert run("train", "--preset", "mlp", "--steps", 2) == 0
    said = refused(capsys, "generate", "--folder", "runs/mlp")
    assert "no language model but of the kind mlp" in said


def test_generate_refuses_a_model_that_writes_only_answers(capsys, tmp_path):
    tokenizer = CharTokenizer.train("abc", special_tokens=("<pad>", "<s>", "</s>"))
    config = TransformerConfig(tokenizer.vocab_size, 1, 1, 4, 4)
    save_model(Transformer(config), tokenizer, tmp_path)
    said = refused(capsys, "generate", "--folder", tmp_path, "--prompt", "a")
    assert "no language model but of the kind transformer" in said


@pytest.mark.parametrize("option", ["--text", "--corpus"])
def test_a_text_or_corpus_for_digits_is_refused(capsys, small, text_file, option):
    said = refused(capsys, "train", "--preset", "mlp", option, text_file)
    assert "for demo, nanogpt-cpu, gpt, llama and tiny; mlp has data of its" in said
    assert not Path("runs").exists()


def test_a_sample_of_what_writes_no_text_is_refused(capsys, small):
    said = refused(capsys, "train", "--preset", "mlp", "--sample", 5)
    assert "--sample is for demo" in said and "mlp writes no text" in said


def test_a_folder_of_another_model_is_told_by_the_model(capsys, small):
    assert run("train", "--preset", "mlp", "--steps", 2) == 0
    said = refused(capsys, "train", "--preset", "cnn", "--folder", "runs/mlp")
    assert "the model was 'MLP' there and is 'LeNet' here" in said
