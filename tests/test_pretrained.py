"""Folders of published weights: the variants found in the wild."""

import json

import numpy as np
import pytest
from published_folders import IDS, IMAGES, MODELS, output, saved

import minibig as mb
from minibig import models
from minibig.files import FileError, load_arrays, save_arrays
from minibig.models import (
    BERT,
    GPT,
    BERTForSequenceClassification,
    BERTForTokenClassification,
    Llama,
    ViT,
)
from minibig.pretrained.loading import FAMILIES


def renamed(rule):
    return lambda arrays: {rule(name): array for name, array in arrays.items()}


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_loads_to_equal_outputs_and_config(name, tmp_path):
    model = saved(name, tmp_path / "new" / "folder")
    again = type(model).from_pretrained(tmp_path / "new" / "folder")
    np.testing.assert_array_equal(output(again), output(model))
    assert again.config == model.config and not again.training
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(state[key], array, err_msg=key)


# ---- variants -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("gpt", "transformer."), ("masked", "bert."), ("llama", "model."), ("vit", "vit."),
     ("texts", "bert.")],
)  # fmt: skip
def test_names_without_the_prefix_are_understood(name, prefix, tmp_path):
    model = saved(name, tmp_path, renamed(lambda n: n.removeprefix(prefix)))
    names = load_arrays(tmp_path / "model.safetensors")[0]
    assert not any(n.startswith(prefix) for n in names)
    np.testing.assert_array_equal(
        output(type(model).from_pretrained(tmp_path)), output(model)
    )


def test_an_encoder_with_the_prefix_and_other_heads_is_understood(tmp_path):
    def change(arrays):
        arrays = {f"bert.{n}": a for n, a in arrays.items()}
        return arrays | {
            "cls.predictions.bias": np.zeros(11, "float32"),
            "cls.seq_relationship.weight": np.zeros((2, 8), "float32"),
            "classifier.weight": np.zeros((3, 8), "float32"),
            "bert.embeddings.position_ids": np.arange(8)[None],
        }

    model = saved("bert", tmp_path, change)
    np.testing.assert_array_equal(output(BERT.from_pretrained(tmp_path)), output(model))


@pytest.mark.parametrize("name", ["bert", "masked"])
def test_gamma_and_beta_are_weight_and_bias(name, tmp_path):
    def old(n):
        n = n.replace("LayerNorm.weight", "LayerNorm.gamma")
        return n.replace("LayerNorm.bias", "LayerNorm.beta")

    model = saved(name, tmp_path, renamed(old))
    assert any("gamma" in n for n in load_arrays(tmp_path / "model.safetensors")[0])
    again = type(model).from_pretrained(tmp_path)
    np.testing.assert_array_equal(output(again), output(model))


@pytest.mark.parametrize(
    ("name", "buffers"),
    [
        ("gpt", ["h.0.attn.bias", "transformer.h.1.attn.masked_bias"]),
        ("bert", ["embeddings.position_ids", "embeddings.token_type_ids"]),
        ("llama", ["model.layers.1.self_attn.rotary_emb.inv_freq",
                   "model.rotary_emb.inv_freq"]),
        ("vit", ["vit.pooler.dense.weight", "pooler.dense.bias"]),
    ],
)  # fmt: skip
def test_buffers_and_unused_layers_are_passed_over(name, buffers, tmp_path):
    extra = {buffer: np.zeros((1, 3), "float32") for buffer in buffers}
    model = saved(name, tmp_path, lambda arrays: arrays | extra)
    again = type(model).from_pretrained(tmp_path)
    np.testing.assert_array_equal(output(again), output(model))


TIES = {
    "gpt": ("transformer.wte.weight", "lm_head.weight"),
    "llama stretched": ("model.embed_tokens.weight", "lm_head.weight"),
    "masked": (
        "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
}  # fmt: skip


@pytest.mark.parametrize("name", TIES)
def test_a_tied_head_may_be_there_or_not_or_stand_for_both(name, tmp_path):
    original, copy = TIES[name]
    model = saved(name, tmp_path)
    arrays = load_arrays(tmp_path / "model.safetensors")[0]
    assert copy not in arrays
    both = arrays | {copy: arrays[original].copy()}
    alone = {n: a for n, a in both.items() if n != original}
    for variant in (both, alone):
        save_arrays(tmp_path / "model.safetensors", variant)
        again = type(model).from_pretrained(tmp_path)
        np.testing.assert_array_equal(output(again), output(model))
    save_arrays(tmp_path / "model.safetensors", both | {copy: arrays[original] + 1})
    with pytest.raises(ValueError, match=r"ties .* but they differ"):
        type(model).from_pretrained(tmp_path)


def test_an_encoder_without_pooler_loads_without_it(tmp_path):
    model = saved("masked", tmp_path)
    encoder = BERT.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no pooler"):
        encoder.pooled(encoder(IDS))
    np.testing.assert_array_equal(output(encoder), output(model.bert))


def test_a_new_classifier_starts_on_a_published_body(tmp_path):
    body = saved("bert", tmp_path / "body")
    model = BERTForSequenceClassification.from_pretrained(
        tmp_path / "body", n_classes=4
    )
    np.testing.assert_array_equal(output(model.bert), output(body))
    assert output(model).shape == (2, 4) and model.config.n_classes == 4
    pictures = saved("vit", tmp_path / "vit")
    other = ViT.from_pretrained(tmp_path / "vit", n_classes=7)
    assert output(other).shape == (2, 7)
    np.testing.assert_array_equal(
        other.hidden_states(IMAGES).numpy(), pictures.hidden_states(IMAGES).numpy()
    )
    with pytest.raises(ValueError, match="GPT has no classifier"):
        saved("gpt", tmp_path / "gpt")
        GPT.from_pretrained(tmp_path / "gpt", n_classes=2)


def test_loading_draws_nothing_but_a_new_classifier(tmp_path):
    saved("bert", tmp_path)
    before = mb.random.get_state()
    BERT.from_pretrained(tmp_path)
    assert mb.random.get_state() == before
    mb.nn.Linear(2, 2)
    assert mb.random.get_state() != before  # drawing goes on afterwards
    drawn = [
        BERTForTokenClassification.from_pretrained(tmp_path, n_classes=4)
        for _ in range(2)
    ]
    weights = [model.classifier.weight.numpy() for model in drawn]
    assert weights[0].std() > 0.01 and not np.array_equal(*weights)


def test_a_class_built_on_ours_loads_and_saves(tmp_path):
    class Writer(GPT):
        pass

    model = saved("gpt", tmp_path / "a")
    writer = Writer.from_pretrained(tmp_path / "a")
    assert isinstance(writer, Writer)
    writer.save_pretrained(tmp_path / "b")
    np.testing.assert_array_equal(
        output(GPT.from_pretrained(tmp_path / "b")), output(model)
    )


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floats_become_float32(dtype, tmp_path):
    model = saved("llama", tmp_path, lambda arrays: {
        n: a.astype(dtype) for n, a in arrays.items()})  # fmt: skip
    again = Llama.from_pretrained(tmp_path)
    assert {p.dtype for p in again.parameters()} == {np.dtype("float32")}
    for key, array in model.state_dict().items():
        expected = array.astype(dtype).astype("float32")
        np.testing.assert_array_equal(again.state_dict()[key], expected)


def test_a_folder_from_before_n_positions_is_read_by_n_ctx(tmp_path):
    model = saved("gpt", tmp_path, n_ctx=8)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["n_positions"]
    path.write_text(json.dumps(config))
    np.testing.assert_array_equal(output(GPT.from_pretrained(tmp_path)), output(model))


# ---- several files ------------------------------------------------------------------


def split_up(folder, change=lambda table: table):
    """Rewrites a folder's weights as two files and an index, changed."""
    arrays = load_arrays(folder / "model.safetensors")[0]
    (folder / "model.safetensors").unlink()
    names, places = sorted(arrays), {}
    for i, part in enumerate((names[::2], names[1::2])):
        file = f"model-{i}.safetensors"
        save_arrays(folder / file, {n: arrays[n] for n in part})
        places |= dict.fromkeys(part, file)
    table = change({"metadata": {}, "weight_map": places})
    (folder / "model.safetensors.index.json").write_text(json.dumps(table))


def test_weights_in_parts_load_as_one(tmp_path):
    model = saved("gpt", tmp_path)
    split_up(tmp_path)
    np.testing.assert_array_equal(output(GPT.from_pretrained(tmp_path)), output(model))


@pytest.mark.parametrize(
    ("places", "error", "message"),
    [
        ({"x": "../model-0.safetensors"}, FileError, "no weight_map of names to files"),
        ({"x": "/etc/passwd"}, FileError, "no weight_map"),
        ({"x": ".."}, FileError, "no weight_map"),
        ({"x": 3}, FileError, "no weight_map"),
        ({"x": "model-2.safetensors"}, FileNotFoundError, "lacks model-2.safetensors"),
        ({"x": "model-0.safetensors"}, FileError, "names x, which is in no file"),
    ],
)
def test_a_wrong_index_is_named(places, error, message, tmp_path):
    saved("gpt", tmp_path)
    split_up(tmp_path, lambda t: {"weight_map": t["weight_map"] | places})
    with pytest.raises(error, match=message):
        GPT.from_pretrained(tmp_path)


def test_a_weight_in_two_parts_is_named(tmp_path):
    saved("gpt", tmp_path)
    split_up(tmp_path)
    first = load_arrays(tmp_path / "model-0.safetensors")[0]
    second = load_arrays(tmp_path / "model-1.safetensors")[0]
    save_arrays(tmp_path / "model-1.safetensors", first | second)
    with pytest.raises(FileError, match="stands in two files"):
        GPT.from_pretrained(tmp_path)


def test_only_published_families_have_folders():
    found = {c for c in vars(models).values() if hasattr(c, "from_pretrained")}
    assert found == set(FAMILIES)
