"""Texts from docstrings, read by an LSTM: are the words in order, or whose are they?"""

from dataclasses import dataclass

from .. import data
from ..checks import choice
from ..models import LSTMClassifier, LSTMClassifierConfig
from ..training import Evaluation, accuracy, classification_loss
from .base import Preset, Task

SETS = {
    "real_or_shuffled": data.real_or_shuffled,
    "which_library": data.which_library,
}


@dataclass(frozen=True, kw_only=True)
class LSTMPreset(Preset):
    """An LSTM that reads a text word by word; see `models.LSTMClassifierConfig`."""

    texts: str = "real_or_shuffled"  # a name in SETS
    n_embd: int
    hidden_size: int  # of each direction
    n_layer: int = 1
    bidirectional: bool = True
    pooling: str = "max"
    dropout: float = 0.0
    beta2: float = 0.999

    def make_model(self, texts):
        """The LSTM with its first weights, for the words of a `data.TextData`."""
        return LSTMClassifier(
            LSTMClassifierConfig(
                texts.tokenizer.vocab_size, len(texts.target_names), self.n_embd,
                self.hidden_size, self.n_layer, self.bidirectional, self.pooling,
                self.dropout, texts.pad_id,
            )
        )  # fmt: skip

    def prepare(self):
        """The Task of this preset; watching keeps the weights of the smallest loss."""
        texts = SETS[choice("texts", self.texts, SETS)]()
        training = data.ArrayBatches(
            *texts.train, batch_size=self.batch_size, seed=self.seed
        )
        watching, judge = (
            Evaluation(
                data.ArrayBatches(*part, batch_size=256, shuffle=False),
                classification_loss,
                {"accuracy": accuracy},
            )
            for part in (texts.validation, texts.test)
        )
        return Task(
            self.make_model(texts), training, watching, classification_loss, judge,
            texts.tokenizer,
        )  # fmt: skip

    def describe(self, results):
        """Accuracy and loss, in words."""
        return (
            f"{results['accuracy']:.2%} of the unseen texts are told right, loss "
            f"{results['loss']:.4f} nats"
        )
