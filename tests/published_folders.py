"""Small models of every published family, and folders of them to change."""

import json

import numpy as np

import minibig as mb
from minibig.files import load_arrays, save_arrays
from minibig.models import (
    BERT,
    GPT,
    BERTConfig,
    BERTForMaskedLM,
    BERTForSequenceClassification,
    BERTForTokenClassification,
    GPTConfig,
    Llama,
    LlamaConfig,
    RopeScaling,
    ViT,
    ViTConfig,
)

BERT_CONFIG = BERTConfig(11, 8, 2, 2, 8, 12, n_classes=3)
IDS = np.random.default_rng(0).integers(0, 11, (2, 5))
IMAGES = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype("float32")
MODELS = {
    "gpt": lambda: GPT(GPTConfig(11, 8, 2, 2, 8)),
    "gpt untied": lambda: GPT(GPTConfig(11, 8, 1, 2, 8, activation="relu", tied=False)),
    "bert": lambda: BERT(BERT_CONFIG),
    "bert without pooler": lambda: BERT(BERT_CONFIG, pooler=False),
    "masked": lambda: BERTForMaskedLM(BERT_CONFIG),
    "masked untied": lambda: BERTForMaskedLM(
        BERTConfig(11, 8, 1, 2, 8, 12, tied=False)
    ),
    "texts": lambda: BERTForSequenceClassification(BERT_CONFIG),
    "tokens": lambda: BERTForTokenClassification(BERT_CONFIG),
    "llama": lambda: Llama(LlamaConfig(11, 8, 2, 4, 16, 12, n_kv_head=2)),
    "llama stretched": lambda: Llama(
        LlamaConfig(11, 8, 1, 4, 8, 12, None, 6, 500.0, RopeScaling(8.0, 4), tied=True)
    ),
    "vit": lambda: ViT(ViTConfig(8, 4, 3, 2, 2, 8, 12)),
}


def made(name):
    """A model with every number drawn at random, in evaluation."""
    model, rng = MODELS[name](), np.random.default_rng(3)
    state = model.state_dict()
    model.load_state_dict({n: rng.standard_normal(a.shape) for n, a in state.items()})
    return model.eval()


def saved(name, folder, change=None, **settings):
    """That model, its arrays in `folder` changed, its config too."""
    model = made(name)
    model.save_pretrained(folder)
    arrays, metadata = load_arrays(folder / "model.safetensors")
    if change is not None:
        save_arrays(folder / "model.safetensors", change(arrays), metadata)
    configure(folder, **settings)
    return model


def configure(folder, **settings):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def output(model):
    with mb.no_grad():
        return model(IMAGES if isinstance(model, ViT) else IDS).numpy()
