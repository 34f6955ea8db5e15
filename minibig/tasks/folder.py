"""A trained model in a folder: config.json, model.safetensors, and tokenizer.json where
it reads text."""

import dataclasses
import json
from pathlib import Path

from .. import models
from ..backend import to_device
from ..data import load_tokenizer
from ..files import FileError, atomic_write, load_arrays, save_arrays

# "model" in config.json → the classes of the model and of its sizes
MODELS = {
    "mlp": (models.MLP, models.MLPConfig),
    "lenet": (models.LeNet, models.LeNetConfig),
    "resnet": (models.ResNet, models.ResNetConfig),
    "vit": (models.ViT, models.ViTConfig),
    "lstm": (models.LSTMClassifier, models.LSTMClassifierConfig),
    "transformer": (models.Transformer, models.TransformerConfig),
    "bert": (models.BERTForMaskedLM, models.BERTConfig),
    "bert-classifier": (models.BERTForSequenceClassification, models.BERTConfig),
    "gpt": (models.GPT, models.GPTConfig),
    "llama": (models.Llama, models.LlamaConfig),
}
WRITERS = ("gpt", "llama")  # those that go on with a text


def save_model(model, tokenizer, folder, extra=None):
    """Writes config.json and model.safetensors into `folder`, and tokenizer.json.

    `tokenizer` is None for a model that reads no text.
    """
    folder = Path(folder)
    kind = next((n for n, (cls, _) in MODELS.items() if type(model) is cls), None)
    if kind is None:
        raise TypeError(f"a model is one of {', '.join(MODELS)}, not {type(model)}")
    if tokenizer is not None:
        tokenizer.save(folder / "tokenizer.json")
    config = {"model": kind, **dataclasses.asdict(model.config), **(extra or {})}
    with atomic_write(folder / "config.json") as file:
        file.write(json.dumps(config, indent=1).encode())
    arrays = {name: to_device(a, "cpu") for name, a in model.state_dict().items()}
    save_arrays(folder / "model.safetensors", arrays)


def load_model(folder, device="cpu"):
    """(model, tokenizer) from a folder that `save_model` or a finished run has written.

    The tokenizer is None where the model reads no text. Raises FileNotFoundError where
    a file is missing, FileError where one is damaged.
    """
    folder = Path(folder)
    config = read_config(folder)
    kind, sizes_of = MODELS[config["model"]]
    names = {field.name for field in dataclasses.fields(sizes_of)}
    reads_text = "vocab_size" in names
    tokenizer = load_tokenizer(folder / "tokenizer.json") if reads_text else None
    arrays = load_arrays(folder / "model.safetensors")[0]
    try:
        sizes = sizes_of(**{k: v for k, v in config.items() if k in names})
        if reads_text and sizes.vocab_size != tokenizer.vocab_size:
            raise ValueError(f"its tokenizer has {tokenizer.vocab_size} tokens")
        model = kind(sizes)
        model.load_state_dict(arrays)
    except (TypeError, ValueError) as error:
        raise FileError(f"the files in {folder} do not go together: {error}") from None
    return model.to(device).eval(), tokenizer


def read_config(folder):
    """The dict in a model folder's config.json: sizes, and what `train` noted.

    Raises FileNotFoundError where there is none, FileError where it is damaged.
    """
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is not JSON: {error}") from None
    kind = config.get("model") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in MODELS:
        raise FileError(
            f'{path} is not of a model from here: its "model" should be one of '
            f"{', '.join(MODELS)}"
        )
    return config
