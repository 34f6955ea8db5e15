"""What every named run shares: its numbers, and what is made ready from them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ..data.loader import Loader
from ..data.tokenizers import Tokenizer
from ..nn import Module


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How a model is trained; a family adds what it reads and how large it is.

    A family is a subclass in a file of its own, with `prepare`, and the models it may
    make stand in `folder.MODELS`. Fields are numbers, strings and tuples of them.
    """

    language: ClassVar[bool] = False  # whether the model writes text, token by token
    judged_on: ClassVar[str] = "test"  # the part of the data that `Task.judge` reads

    about: str
    batch_size: int  # rows
    steps: int
    lr: float  # highest rate
    min_lr: float  # last rate of the cosine
    warmup: int  # steps
    beta2: float = 0.99
    weight_decay: float = 0.1  # of matrices alone
    clip_norm: float = 1.0
    seed: int = 0

    def prepare(self):
        """The Task of this preset: its data read, its model with first weights."""
        raise NotImplementedError(f"{type(self).__name__} must say how to prepare")

    def describe(self, results):
        """What `Task.judge` found, in words."""
        return ", ".join(f"{name} {value:.4f}" for name, value in results.items())


@dataclass
class Task:
    """A preset made ready: a model, batches to train on, to watch and to judge by."""

    model: Module
    training: Loader
    watching: Loader | Callable[[Module], dict]  # as `fit` takes it
    loss: Callable[..., Any]  # of the model and a batch; a mean, as Tensor
    judge: Callable[[Module], dict]  # name → number, on data kept for the end
    tokenizer: Tokenizer | None = None
