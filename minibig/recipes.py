"""From a preset to a trained language model in a folder, and back from the folder.

text -> tokenizer -> ids -> batches -> GPT -> `fit` -> folder: what `python -m minibig
train` and notebook 00 do, as functions.
"""

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import data, random
from .autograd import no_grad
from .backend import check_device, to_device
from .data import tales
from .data.fingerprint import fingerprint
from .files import FileError, atomic_write, load_arrays, save_arrays
from .functional import cross_entropy
from .models import GPT, GPTConfig
from .nn import evaluating
from .optim import AdamW, WarmupCosine
from .presets import Preset
from .training import Evaluation, fit, next_token_loss

BEGIN, END = "<|begin|>", "<|end|>"
CORPORA = {
    "documentation": data.documentation,
    "docstrings": data.docstrings,
    "library": data.library_source,
    "statements": data.statements,
    "tiny-shakespeare": data.tiny_shakespeare,
    "tales": None,  # documents from a grammar, made to measure
}
STORIES = {"train": 48000, "validation": 500, "test": 2000}


class TextError(ValueError):
    """A text that a preset cannot learn from."""


@dataclass
class Trained:
    """What a run leaves: the model with its best weights, and how good it is."""

    model: GPT
    tokenizer: data.tokenizers.Tokenizer
    history: object
    results: dict  # name → number, on held-out text
    seconds: float


@dataclass
class Task:
    """A text made ready: batches to train on, to watch and to judge by."""

    tokenizer: data.tokenizers.Tokenizer
    training: data.loader.Loader
    watching: data.loader.Loader
    judge: object  # function of the model that returns {name: number}


def train(preset, folder, *, text=None, device="cpu", say=print):
    """Trains the model of a preset in `folder`, or goes on there; returns a Trained.

    `text` stands in for the preset's corpus; its last tenth is held out. The folder
    gets checkpoints, and at the end config.json, tokenizer.json and model.safetensors.
    Raises TextError where the text is too short, ValueError where the folder belongs to
    another run.
    """
    check_device(device)
    began = time.perf_counter()
    if text is not None and preset.corpus in CORPORA:
        preset = of_text(preset, text)
    task = prepare(preset, text)
    random.seed(preset.seed)
    model = GPT(config_of(preset, task.tokenizer)).to(device)
    say(f"{task.tokenizer!r}; {model.num_parameters():,} parameters on {device}")
    optimizer = make_optimizer(model, preset)
    schedule = WarmupCosine(optimizer, preset.warmup, preset.steps, preset.min_lr)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = dataclasses.asdict(preset) | {"tokenizer_hash": task.tokenizer.hash}
    del settings["corpus"]  # the hash of the data says more: a file may be renamed
    history = fit(
        model, task.training, next_token_loss, optimizer, steps=preset.steps,
        schedule=schedule, clip_norm=preset.clip_norm, evaluate=task.watching,
        folder=folder, info=settings,
    )  # fmt: skip
    results = task.judge(model)
    extra = {"preset": dataclasses.asdict(preset), "results": results}
    save_model(model, task.tokenizer, folder, extra)
    return Trained(model, task.tokenizer, history, results, time.perf_counter() - began)


def of_text(preset, text, name="a text"):
    """The preset, with a text of one's own noted as its corpus, by name and hash."""
    return dataclasses.replace(preset, corpus=f"{name}, hash {fingerprint(text)}")


def config_of(preset, tokenizer):
    """The sizes of a preset's model."""
    return GPTConfig(
        tokenizer.vocab_size, preset.context_length, preset.n_layer, preset.n_head,
        preset.n_embd, preset.dropout, preset.bias,
    )  # fmt: skip


def make_optimizer(model, preset):
    """AdamW that decays matrices and leaves vectors (norms, biases) alone."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": preset.weight_decay}]
    if vectors:
        groups.append({"params": vectors, "weight_decay": 0.0})
    return AdamW(groups, lr=preset.lr, betas=(0.9, preset.beta2))


def prepare(preset, text=None):
    """The Task of a preset: its corpus, or `text` in its stead, read and cut."""
    if text is None and preset.corpus == "tales":
        return _tales(preset)
    text = CORPORA[preset.corpus]().text if text is None else text
    length = preset.context_length
    cut = int(len(text) * (1 - preset.held_out))
    tokenizer = make_tokenizer(preset, text, text[:cut])
    # The split is by characters, so that no piece of a word reaches over it.
    ids, held_out = (
        np.array(tokenizer.encode(part), np.int64) for part in (text[:cut], text[cut:])
    )
    shortest = min(len(ids), len(held_out))
    if shortest < length + 1:
        raise TextError(
            f"the text is too short: of its {len(text)} characters {shortest} tokens "
            f"are held out, and a context of {length} needs {length + 1}: about "
            f"{int((length + 1) / preset.held_out)} tokens in all"
        )
    crops = data.RandomCrops(
        ids, context_length=length, batch_size=preset.batch_size, seed=preset.seed
    )
    windows = data.Windows(held_out, context_length=length, batch_size=64)
    return Task(tokenizer, crops, windows, Evaluation(windows, next_token_loss))


def make_tokenizer(preset, text, seen):
    """The tokenizer that the preset names: words and pieces are learnt from what the
    model will see; characters, which must all be known, are those of the whole text."""
    if preset.tokenizer == "char":
        return data.CharTokenizer.train(text)
    if preset.tokenizer == "word":
        return data.WordTokenizer.train(seen, max_size=preset.vocab_size)
    return data.BPETokenizer.train(seen, preset.vocab_size)


def _tales(preset):
    stories = {
        split: tales.generate(count, preset.seed, split)
        for split, count in STORIES.items()
    }
    if preset.context_length <= tales.longest():
        raise TextError(
            f"the longest tale has {tales.longest()} words and an end, but the context "
            f"is {preset.context_length}: use the preset tales"
        )
    tokenizer = data.WordTokenizer.train(
        stories["train"], unknown=False, special_tokens=(BEGIN, END)
    )
    loaders = {
        split: document_loader(part, tokenizer, preset, shuffle=split == "train")
        for split, part in stories.items()
    }

    def judge(model):
        floor = [-tales.log_probability(story) for story in stories["test"]]
        ratio = tales.excess(document_losses(model, loaders["test"]), floor)
        return {"excess": ratio.value, "standard_error": ratio.standard_error}

    return Task(tokenizer, loaders["train"], loaders["validation"], judge)


def document_loader(documents, tokenizer, preset, shuffle):
    """One document a row: begin token, its tokens, end token."""
    ids = [tokenizer.encode(document) for document in documents]
    begin, end = (tokenizer.special_tokens[name] for name in (BEGIN, END))
    return data.Documents(
        ids, context_length=preset.context_length, begin_id=begin, end_id=end,
        batch_size=preset.batch_size, seed=preset.seed, shuffle=shuffle,
    )  # fmt: skip


@no_grad()
def document_losses(model, loader):
    """Nats of each document of a loader, in order, its end token included."""
    with evaluating(model):
        losses = [
            cross_entropy(model(inputs), targets, reduction="none").sum(1).numpy()
            for inputs, targets in loader
        ]
    return np.concatenate(losses).astype(np.float64)


def save_model(model, tokenizer, folder, extra=None):
    """Writes config.json, tokenizer.json and model.safetensors into `folder`."""
    folder = Path(folder)
    tokenizer.save(folder / "tokenizer.json")
    config = {"model": "gpt", **dataclasses.asdict(model.config), **(extra or {})}
    with atomic_write(folder / "config.json") as file:
        file.write(json.dumps(config, indent=1).encode())
    arrays = {name: to_device(a, "cpu") for name, a in model.state_dict().items()}
    save_arrays(folder / "model.safetensors", arrays)


def load_model(folder, device="cpu"):
    """(model, tokenizer) from a folder that `save_model` or a finished run has written.

    Raises FileNotFoundError where a file is missing, FileError where one is damaged.
    """
    folder = Path(folder)
    config = read_config(folder)
    tokenizer = data.load_tokenizer(folder / "tokenizer.json")
    arrays = load_arrays(folder / "model.safetensors")[0]
    names = {field.name for field in dataclasses.fields(GPTConfig)}
    try:
        sizes = GPTConfig(**{k: v for k, v in config.items() if k in names})
        if sizes.vocab_size != tokenizer.vocab_size:
            raise ValueError(f"its tokenizer has {tokenizer.vocab_size} tokens")
        model = GPT(sizes)
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
    if not isinstance(config, dict) or config.get("model") != "gpt":
        raise FileError(f'{path} is not of a model from here: it lacks "model": "gpt"')
    return config


def write(model, tokenizer, prompt, length, **settings):
    """`prompt` and about `length` tokens that the model adds to it, as text."""
    ids = tokenizer.encode(prompt) if prompt else []
    begin = tokenizer.special_tokens.get(BEGIN)
    ids = ids if begin is None else [begin, *ids]
    end = tokenizer.special_tokens.get(END)
    stops = () if end is None else (end,)
    out = model.generate(ids or [0], length, stop_ids=stops, **settings)
    return tokenizer.decode(out.numpy(), skip_special_tokens=True)


__all__ = [
    "CORPORA", "Preset", "TextError", "Trained", "load_model", "prepare", "read_config",
    "save_model", "train", "write",
]  # fmt: skip
