"""Dates as people write them, made into ISO dates by a Transformer."""

from dataclasses import dataclass

import numpy as np

from .. import checks
from ..data import ArrayBatches, dates
from ..functional import cross_entropy
from ..models import Transformer, TransformerConfig
from ..training import Evaluation
from .base import Preset, Task


@dataclass(frozen=True, kw_only=True)
class DatesPreset(Preset):
    """A Transformer that reads a date in characters; see `models.TransformerConfig`."""

    n_layer: int  # of the encoder, and of the decoder
    n_head: int
    n_embd: int
    dim_feedforward: int
    dropout: float = 0.0
    norm_first: bool = True
    label_smoothing: float = 0.1
    examples: int = 64_000  # to learn from
    watched: int = 600
    judged: int = 3000
    beta2: float = 0.98
    weight_decay: float = 0.0

    def __post_init__(self):
        name = f"{type(self).__name__}: label_smoothing"
        checks.number(name, self.label_smoothing, 0, 1)

    def make_model(self):
        """The Transformer with its first weights; its vocabulary is `data.dates`'."""
        coder = dates.tokenizer()
        pad, begin, end = (coder.special_tokens[name] for name in dates.SPECIAL_TOKENS)
        return Transformer(
            TransformerConfig(
                coder.vocab_size, self.n_layer, self.n_head, self.n_embd,
                self.dim_feedforward, self.dropout, norm_first=self.norm_first,
                pad_id=pad, begin_id=begin, end_id=end,
            )
        )  # fmt: skip

    def prepare(self):
        """The Task of this preset. Whom it learns from, is watched by and judged on are
        dates of different days; watching keeps the weights of the smallest loss."""
        training = self.loader("train", self.examples, self.batch_size, drop_last=True)
        watching = Evaluation(
            self.loader("validation", self.watched, 200, shuffle=False), loss
        )
        judged = dates.generate(self.judged, self.seed, "test")
        return Task(
            self.make_model(), training, watching, self.smoothed_loss,
            lambda model: {"exact": exact(model, judged)}, dates.tokenizer(),
        )  # fmt: skip

    def loader(self, split, count, batch_size, **settings):
        """Batches (sources, inputs, targets) of so many examples of a split."""
        examples = dates.generate(count, self.seed, split)
        return ArrayBatches(
            *dates.arrays(examples), batch_size=batch_size, seed=self.seed, **settings
        )

    def smoothed_loss(self, model, sources, inputs, targets):
        """What is trained for: the loss with the targets smoothed."""
        return loss(model, sources, inputs, targets, self.label_smoothing)

    def describe(self, results):
        """The share of exact dates, in words."""
        return f"{results['exact']:.2%} of {self.judged:,} unseen dates are exact"


def loss(model, sources, inputs, targets, label_smoothing=0.0):
    """Cross-entropy in nats a character of ISO dates."""
    logits = model(sources, inputs)
    return cross_entropy(logits, targets, label_smoothing=label_smoothing)


def translate(model, texts, *, beams=1, length_penalty=0.6, batch_size=500):
    """What the model makes of each of several texts: strings, ISO dates if it can."""
    sources, longest = dates.encode(texts), len("2024-03-05") + 1
    found = []
    for first in range(0, len(texts), batch_size):
        ids = model.generate(
            sources[first : first + batch_size], longest, beams=beams,
            length_penalty=length_penalty,
        )  # fmt: skip
        found += dates.decode(ids.to("cpu").numpy())
    return found


def exact(model, examples, **settings):
    """The share of Examples that a model translates without a mistake."""
    found = translate(model, [example.text for example in examples], **settings)
    right = [a == example.iso for a, example in zip(found, examples, strict=True)]
    return float(np.mean(right))
