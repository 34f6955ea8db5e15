"""From a preset to a trained model in a folder, and back from the folder.

What `python -m minibig train` and the notebooks do, as functions. What a family reads
and how it is judged stands in `tasks/`; how it is trained and kept is the same for all.
"""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from . import random
from .backend import check_device
from .data.tokenizers import Tokenizer
from .nn import Module
from .optim import AdamW, WarmupCosine
from .tasks import CORPORA, LanguagePreset, Preset, Task, TextError
from .tasks.folder import load_model, read_config, save_model
from .tasks.language import config_of, of_text, write
from .training import History, fit


@dataclass
class Trained:
    """What a run leaves: the model with its best weights, and how good it is."""

    model: Module
    tokenizer: Tokenizer | None
    history: History
    results: dict  # name → number, on held-out data
    seconds: float


def train(
    preset, folder, *, text=None, device="cpu", processes=1, precision="fp32", say=print
):
    """Trains the model of a preset in `folder`, or goes on there; returns a Trained.

    `text` stands in for a language model's corpus; its last tenth is held out. Each of
    `processes` works on a part of every batch (`training.DataParallel`); `precision` is
    that of `training.fit`. The folder gets checkpoints, and at the end config.json,
    model.safetensors and, where the model reads text, tokenizer.json. Raises TextError
    where the text is too short, ValueError where the folder belongs to another run.
    """
    check_device(device)
    began = time.perf_counter()
    task = prepare(preset, text)
    if text is not None and preset.corpus in CORPORA:
        preset = of_text(preset, text)
    model = task.model.to(device)
    reads = "" if task.tokenizer is None else f"{task.tokenizer!r}; "
    say(f"{reads}{model.num_parameters():,} parameters on {device}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    history = carry_out(
        task, preset, folder=folder, info=_settings(preset, task), processes=processes,
        precision=precision,
    )  # fmt: skip
    results = task.judge(model)
    extra = {"preset": dataclasses.asdict(preset), "results": results}
    save_model(model, task.tokenizer, folder, extra)
    return Trained(model, task.tokenizer, history, results, time.perf_counter() - began)


def prepare(preset, text=None):
    """The Task of a preset, its model's weights drawn from the preset's seed.

    `text`, for a language model alone, is read instead of its corpus.
    """
    random.seed(preset.seed)
    if text is None:
        return preset.prepare()
    if not isinstance(preset, LanguagePreset):
        raise TypeError(
            f"{type(preset).__name__} has data of its own and takes no text"
        )
    return preset.prepare(text)


def carry_out(task, preset, **settings):
    """Trains a task's model as the preset says; `settings` are `fit`'s. The History."""
    optimizer = make_optimizer(task.model, preset)
    schedule = WarmupCosine(optimizer, preset.warmup, preset.steps, preset.min_lr)
    return fit(
        task.model, task.training, task.loss, optimizer, steps=preset.steps,
        schedule=schedule, clip_norm=preset.clip_norm, evaluate=task.watching,
        **settings,
    )  # fmt: skip


def make_optimizer(model, preset):
    """AdamW that decays matrices and leaves vectors (norms, biases) alone."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": preset.weight_decay}]
    if vectors:
        groups.append({"params": vectors, "weight_decay": 0.0})
    return AdamW(groups, lr=preset.lr, betas=(0.9, preset.beta2))


def what_counts(preset):
    """The dict of a preset's fields (or such a dict) without its mere words."""
    fields = preset if isinstance(preset, dict) else dataclasses.asdict(preset)
    return {k: v for k, v in fields.items() if k not in ("about", "prompt")}


def _settings(preset, task):
    """What a run that goes on in the folder must share with the one that began."""
    settings = what_counts(preset)
    settings.pop("corpus", None)  # the data's hash says more: a file may be renamed
    if task.tokenizer is not None:
        settings["tokenizer_hash"] = task.tokenizer.hash
    return settings


__all__ = [
    "CORPORA", "Preset", "Task", "TextError", "Trained", "carry_out", "config_of",
    "load_model", "of_text", "prepare", "read_config", "save_model", "train", "write",
]  # fmt: skip
