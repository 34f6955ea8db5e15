"""The weights that come with the package: small, readable, and better than counting."""

import json

import numpy as np
import pytest

import minibig as mb
from minibig import data
from minibig.models import BERT, BERTForMaskedLM
from minibig.presets import PRESETS
from minibig.pretrained import PYTHON_BERT, SentenceEncoder
from minibig.tasks import masked_language as task_of


@pytest.fixture(scope="module")
def made():
    return json.loads((PYTHON_BERT / "config.json").read_bytes())["minibig"]


def test_weights_take_two_megabytes_and_say_how_they_were_made(made):
    assert sum(path.stat().st_size for path in PYTHON_BERT.iterdir()) <= 2_100_000
    assert (PYTHON_BERT / "model.safetensors").stat().st_size <= 2_000_000
    assert made["command"] == "make pretrain-bert"
    assert made["results"]["loss"] < made["results"]["unigram_loss"]
    assert made["tokenizer"] == data.load_tokenizer(PYTHON_BERT).hash
    steps = [row["step"] for row in made["evaluations"]]
    assert steps == sorted(steps) and steps[-1] == made["steps"]
    text = (PYTHON_BERT / "config.json").read_text()
    assert "/home" not in text and "/root" not in text and "/work" not in text


def test_preset_still_has_the_sizes_of_the_weights():
    model = BERTForMaskedLM.from_pretrained(PYTHON_BERT)
    tokenizer = data.load_tokenizer(PYTHON_BERT)
    assert PRESETS["bert"].make_model(tokenizer).config == model.config


def test_it_guesses_words_of_text_that_it_has_not_seen():
    tokenizer = data.load_tokenizer(PYTHON_BERT)
    topics = data.documentation().documents
    unseen = [text for text in topics if task_of.is_held_out(text)]
    seen = [text for text in topics if not task_of.is_held_out(text)]
    rows = task_of.packed(unseen, tokenizer, 64)[:40]
    loader = PRESETS["bert"].loader(rows, tokenizer, shuffle=False)
    found = task_of.judge(BERTForMaskedLM.from_pretrained(PYTHON_BERT), loader)
    table = task_of.unigram(task_of.packed(seen, tokenizer, 64), tokenizer)
    by_frequency = task_of.judge_unigram(table, loader)
    assert found["loss"] < by_frequency["unigram_loss"] - 1.5
    assert found["accuracy"] > by_frequency["unigram_accuracy"] + 0.2


def test_encoder_reads_alone_and_in_a_batch_alike():
    model = BERT.from_pretrained(PYTHON_BERT)
    assert model.pooler is None and model.device == "cpu"
    encoder = SentenceEncoder.from_pretrained(PYTHON_BERT)
    texts = ["Open a file.", "Return the length of the list.", "Close it"]
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    with mb.no_grad():
        assert model([[2, 3]]).dtype == np.float32
