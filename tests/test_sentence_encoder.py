"""Sentence encoders: vectors of texts, whatever the batches; what is refused."""

import json

import numpy as np
import pytest

import minibig as mb
from minibig.data import WordPieceTokenizer
from minibig.models import BERT, GPT, BERTConfig, GPTConfig
from minibig.pretrained import SentenceEncoder

TEXTS = ["one file", "a file of many lines is a long file", "", "line", "no name"]
TOKENIZER = WordPieceTokenizer.train(TEXTS, 60, min_frequency=1)
V = TOKENIZER.vocab_size


def bert(**changes):
    """A fresh BERT, in training, with word vectors large enough to tell words apart."""
    sizes = {"vocab_size": V, "context_length": 12, "n_layer": 1, "n_head": 2,
             "n_embd": 8, "dim_feedforward": 12}  # fmt: skip
    mb.seed(0)
    model = BERT(BERTConfig(**{**sizes, **changes}))
    with mb.no_grad():
        model.token_embedding.weight.mul_(50)
    return model


@pytest.fixture
def folder(tmp_path):
    """A folder as `sentence-transformers` writes it, without its two small files."""
    bert().save_pretrained(tmp_path)
    TOKENIZER.save(tmp_path / "tokenizer.json")
    return tmp_path


def write(folder, name, table):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(table))


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_vectors_are_those_of_each_text_alone_in_its_place(batch_size):
    encoder = SentenceEncoder(bert(), TOKENIZER)
    found = encoder.encode(TEXTS, batch_size)
    assert found.shape == (5, 8) and found.dtype == np.float32
    for text, vector in zip(TEXTS, found, strict=True):
        with mb.no_grad():
            hidden = encoder.model([TOKENIZER.encode(text)]).numpy()[0]
        mean = hidden.mean(0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    assert np.abs(found[0] - found[3]).max() > 0.05


def test_no_texts_give_no_vectors():
    assert SentenceEncoder(bert(), TOKENIZER).encode([]).shape == (0, 8)


def test_only_max_length_tokens_are_read():
    encoder = SentenceEncoder(bert(), TOKENIZER, max_length=4)
    found = encoder.encode(["a file of many lines", "a file", "a line"])
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert np.abs(found[0] - found[2]).max() > 0.05


def test_folder_gives_model_tokenizer_and_length(folder):
    whole = SentenceEncoder.from_pretrained(folder)
    assert whole.max_length == 12 and not whole.model.training
    wanted = SentenceEncoder(bert(), TOKENIZER).encode(TEXTS)
    np.testing.assert_array_equal(whole.encode(TEXTS), wanted)
    write(folder, "sentence_bert_config.json", {"max_seq_length": 6})
    write(folder, "1_Pooling/config.json", {"pooling_mode_mean_tokens": True})
    assert SentenceEncoder.from_pretrained(folder).max_length == 6


@pytest.mark.parametrize("table", [
    {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True},
    {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
])  # fmt: skip
def test_other_pooling_is_refused(folder, table):
    write(folder, "1_Pooling/config.json", table)
    with pytest.raises(ValueError, match="pooling_mode_m"):
        SentenceEncoder.from_pretrained(folder)


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(TypeError, match="BERT, not GPT"):
        SentenceEncoder(GPT(GPTConfig(V, 8, 1, 1, 4)), TOKENIZER)
    with pytest.raises(ValueError, match=rf"{V} tokens are more than .* {V - 1}:"):
        SentenceEncoder(bert(vocab_size=V - 1), TOKENIZER)
    with pytest.raises(ValueError, match=r"max_length 13 is more than .* of 12"):
        SentenceEncoder(bert(), TOKENIZER, max_length=13)
    with pytest.raises(TypeError, match="several strings"):
        SentenceEncoder(bert(), TOKENIZER).encode("one file")
    with pytest.raises(ValueError, match="batch_size"):
        SentenceEncoder(bert(), TOKENIZER).encode(["one file"], 0)
