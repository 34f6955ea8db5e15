"""Folders of published weights that cannot be followed: each is refused in a sentence,
before a model is made.
"""

import numpy as np
import pytest
from published_folders import MODELS, made, output, saved

from minibig.files import FileError
from minibig.models import GPT, ViT
from minibig.pretrained.loading import FAMILIES


def test_all_names_that_do_not_fit_stand_in_one_error(tmp_path):
    def change(arrays):
        del arrays["transformer.h.0.mlp.c_fc.bias"]
        arrays["transformer.h.7.extra"] = np.zeros(3, "float32")
        arrays["transformer.wpe.weight"] = np.zeros((9, 8), "float32")
        arrays["transformer.h.1.attn.c_attn.weight"] = np.zeros((24, 8), "float32")
        return arrays

    saved("gpt", tmp_path, change)
    with pytest.raises(ValueError) as caught:
        GPT.from_pretrained(tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path} does not fit; ")
    assert "missing: h.0.mlp.c_fc.bias;" in text
    assert "unexpected: h.7.extra;" in text
    assert "wpe.weight is (9, 8), not (8, 8)" in text
    assert "h.1.attn.c_attn.weight is (24, 8), not (8, 24)" in text


def test_one_weight_under_two_names_is_refused(tmp_path):
    extra = {"wpe.weight": np.zeros((8, 8), "float32")}
    saved("gpt", tmp_path, lambda arrays: arrays | extra)
    with pytest.raises(ValueError, match=r"wpe\.weight and .*are the same weight"):
        GPT.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gpt", {"model_type": None}, "lacks model_type"),
        ("gpt", {"model_type": "gpt_neo"}, "model_type 'gpt_neo'.*'gpt2' alone"),
        ("gpt", {"activation_function": "mish"}, "'mish' .*activation_function.*gelu"),
        ("gpt", {"activation_function": ["gelu"]}, "activation"),
        ("gpt", {"n_inner": 99}, "n_inner 99"),
        ("gpt", {"scale_attn_weights": False}, "scale_attn_weights False"),
        ("gpt", {"scale_attn_by_inverse_layer_idx": True}, "inverse_layer_idx"),
        ("gpt", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("gpt", {"n_head": 3}, "n_head 3 does not divide"),
        ("bert", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("bert", {"is_decoder": True}, "is_decoder True.*False alone"),
        ("vit", {"qkv_bias": False}, "qkv_bias False"),
        ("llama", {"model_type": "mistral"}, "model_type 'mistral'"),
        ("llama", {"sliding_window": 4096}, "sliding_window 4096"),
        ("llama", {"attention_bias": True}, "attention_bias"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
        ("llama", {"rope_parameters": None,
                   "rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial"),
        ("llama", {"rope_parameters": {"rope_type": "llama3"}}, "lacks factor"),
        ("llama", {"rope_parameters": "x"}, r"rope_parameters must be a table.*'x'"),
        ("gpt", {"n_embd": None}, r"/.*: config\.json: n_embd must .* not None"),
        ("gpt", {"layer_norm_epsilon": "x"}, r"config\.json: layer_norm_epsilon must"),
        ("llama", {"tie_word_embeddings": 1}, r"/.*: tie_word_embeddings must be True"),
        ("vit", {"image_size": [12, 12]}, r"/.*: image_size .* not \[12, 12\]"),
        ("llama", {"num_key_value_heads": 3}, r"/.*: .*n_kv_head 3 does not divide"),
        ("bert", {"num_labels": "two"}, r"/.*: num_labels must be .* not 'two'"),
    ],
)  # fmt: skip
def test_a_config_we_cannot_follow_is_refused(name, settings, message, tmp_path):
    model = saved(name, tmp_path, **settings)
    with pytest.raises(ValueError, match=message):
        type(model).from_pretrained(tmp_path)


HUGE = 10**9
TOO_LARGE = [
    ("gpt", "n_layer"), ("gpt", "n_embd"), ("gpt", "n_positions"),
    ("gpt", "vocab_size"), ("bert", "hidden_size"), ("bert", "intermediate_size"),
    ("bert", "type_vocab_size"), ("bert", "max_position_embeddings"),
    ("texts", "num_labels"),
    ("llama", "vocab_size"), ("llama", "intermediate_size"), ("llama", "head_dim"),
    ("vit", "image_size"), ("vit", "num_channels"), ("vit", "num_labels"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "setting"), TOO_LARGE)
def test_a_config_far_larger_than_the_weights_is_refused_before_the_model_is_made(
    name, setting, tmp_path, monkeypatch
):
    model = saved(name, tmp_path, **{setting: HUGE})

    def make(*arguments):
        raise AssertionError("a model was made")

    monkeypatch.setattr(FAMILIES[type(model)], "make", make)
    with pytest.raises(ValueError, match=r"config\.json asks for .*do the two belong"):
        type(model).from_pretrained(tmp_path)


def test_more_layers_than_arrays_are_refused_however_small_they_are(tmp_path):
    extra = {"transformer.h.0.attn.extra": np.zeros(10**4, "float32")}
    saved("gpt", tmp_path, lambda arrays: arrays | extra, n_layer=30, n_embd=2)
    with pytest.raises(ValueError, match=r"asks for 30 layers .* in 29 arrays"):
        GPT.from_pretrained(tmp_path)


def test_many_new_classes_are_no_fault_of_the_folder(tmp_path):
    saved("vit", tmp_path)
    assert output(ViT.from_pretrained(tmp_path, n_classes=10**4)).shape == (2, 10**4)


@pytest.mark.parametrize("name", MODELS)
def test_the_least_size_of_a_family_is_what_its_matrices_hold(name):
    model = made(name)
    held = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    least = FAMILIES[type(model)].least(model.config)
    assert 0.7 * held < least < 1.1 * held


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "model.pt"])
def test_pickles_are_refused_with_a_hint(pickle, tmp_path):
    saved("gpt", tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / pickle)
    with pytest.raises(FileError, match=r"pickle.*take the model\.safetensors"):
        GPT.from_pretrained(tmp_path)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        GPT.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        GPT.from_pretrained(tmp_path)
    saved("gpt", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors and no"):
        GPT.from_pretrained(tmp_path)
    for text, message in (("{", "is not JSON"), ("[]", "no table of settings")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(FileError, match=message):
            GPT.from_pretrained(tmp_path)
