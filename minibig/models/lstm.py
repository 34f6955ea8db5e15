"""An LSTM that reads a text, there and back, and names its class.

Hochreiter and Schmidhuber, "Long Short-Term Memory" (Neural Computation 9, 1997); in
both directions: Graves and Schmidhuber (Neural Networks 18, 2005). Departures: a forget
gate (Gers et al., 2000); the text's vector is the mean of all states, or the largest of
each (arXiv 1705.02364), not only the last. Taught by notebook 07.
"""

from dataclasses import dataclass

import numpy as np

from .. import checks, nn
from ..creation import tensor
from ..recurrence import checked_lengths
from ..shaping import cat
from .inputs import checked_ids


@dataclass(frozen=True)
class LSTMClassifierConfig:
    """Sizes; `pooling` is "mean", "max" or "last", `pad_id` the id that fills rows up.

    `hidden_size` is that of each direction.
    """

    vocab_size: int
    n_classes: int
    n_embd: int
    hidden_size: int
    n_layer: int = 1
    bidirectional: bool = True
    pooling: str = "mean"
    dropout: float = 0.0
    pad_id: int | None = None

    def __post_init__(self):
        sizes = "vocab_size", "n_classes", "n_embd", "hidden_size", "n_layer"
        for name in sizes:
            checks.whole(f"LSTMClassifierConfig: {name}", getattr(self, name), 1)
        checks.switch("LSTMClassifierConfig: bidirectional", self.bidirectional)
        words = ("mean", "max", "last")
        checks.choice("LSTMClassifierConfig: pooling", self.pooling, words)
        checks.probability("LSTMClassifierConfig: dropout", self.dropout, without=1)
        if self.pad_id is not None:
            checks.whole("LSTMClassifierConfig: pad_id", self.pad_id, 0)
            if self.pad_id >= self.vocab_size:
                raise ValueError(
                    f"LSTMClassifierConfig: pad_id {self.pad_id} is outside the "
                    f"vocabulary of {self.vocab_size}"
                )


class LSTMClassifier(nn.Module):
    """Logits of a text's class: ids (B, T) -> (B, n_classes).

    Padding at a row's end changes nothing: `lengths` (B,) says where it begins, or the
    config's `pad_id` shows it.
    """

    def __init__(self, config):
        c = self.config = checks.kind(
            "LSTMClassifier: config", config, LSTMClassifierConfig
        )
        self.embedding = nn.Embedding(c.vocab_size, c.n_embd)
        self.lstm = nn.LSTM(
            c.n_embd, c.hidden_size, c.n_layer, dropout=c.dropout,
            bidirectional=c.bidirectional,
        )  # fmt: skip
        self.dropout = nn.Dropout(c.dropout)
        width = c.hidden_size * (2 if c.bidirectional else 1)
        self.classifier = nn.Linear(width, c.n_classes)

    def forward(self, ids, lengths=None):
        ids = checked_ids("LSTMClassifier", ids, self.device)
        lengths = checked_lengths("LSTMClassifier", lengths, ids)
        if lengths is None and self.config.pad_id is not None:
            lengths = self._lengths(ids)
        x = self.dropout(self.embedding(ids))  # (B, T, C)
        output, (h_n, _) = self.lstm(x, lengths=lengths)  # (B, T, H)
        return self.classifier(self.dropout(self._pooled(output, h_n, lengths)))

    def _lengths(self, ids):
        """Up to the last id that is not padding; 1 for a row of nothing else."""
        real = ids.numpy() != self.config.pad_id
        after = real[:, ::-1].argmax(1)
        return np.where(real.any(1), real.shape[1] - after, 1)

    def _pooled(self, output, h_n, lengths):
        """A vector for each text: (B, H)."""
        if self.config.pooling == "last":
            directions = 2 if self.config.bidirectional else 1
            return cat([h_n[i - directions] for i in range(directions)], dim=1)
        count = output.shape[1]
        if lengths is None:
            lengths = np.full(len(output), count)
        if self.config.pooling == "mean":
            divisor = tensor(lengths[:, None], dtype=output.dtype, device=output.device)
            return output.sum(1) / divisor
        beyond = tensor(np.arange(count) >= lengths[:, None], device=output.device)
        return output.masked_fill(beyond.unsqueeze(2), -float("inf")).amax(1)
