"""Sentence encoders: published BERTs that make a vector of a whole text."""

from pathlib import Path

import numpy as np

from .. import checks
from ..autograd import no_grad
from ..data import load_tokenizer, pad
from ..models import BERT
from .folder import read_table
from .settings import Settings

LENGTH, POOLING = "sentence_bert_config.json", "1_Pooling/config.json"


class SentenceEncoder:
    """Texts to vectors whose products say how alike the texts are in meaning.

    The mean of a BERT's vectors of the tokens, at length 1 (Sentence-BERT, arXiv
    1908.10084). Of a text that has more than `max_length` tokens, [CLS] and [SEP]
    among them, the end is not read.
    """

    def __init__(self, model, tokenizer, max_length=None):
        self.model = checks.kind("SentenceEncoder: model", model, BERT).eval()
        self.tokenizer = tokenizer
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"SentenceEncoder: the tokenizer's {tokenizer.vocab_size} tokens are "
                f"more than the model's {model.config.vocab_size}: do they belong "
                "together?"
            )
        context = model.config.context_length
        length = context if max_length is None else max_length
        self.max_length = checks.whole("SentenceEncoder: max_length", length, 1)
        if length > context:
            raise ValueError(
                f"SentenceEncoder: max_length {length} is more than the model's "
                f"context of {context}"
            )

    @classmethod
    def from_pretrained(cls, folder):
        """The encoder in a folder that `sentence-transformers` wrote.

        It holds a BERT (see `minibig.pretrained.load`), its tokenizer and, if they
        differ from the defaults, `sentence_bert_config.json` with `max_seq_length` and
        `1_Pooling/config.json`. ValueError for pooling that is not the mean.
        """
        model, tokenizer = BERT.from_pretrained(folder), load_tokenizer(folder)
        pooling = _settings(folder, POOLING)
        pooling.demand("pooling_mode_mean_tokens", True)
        for other in ("cls_token", "max_tokens", "mean_sqrt_len_tokens"):
            pooling.demand(f"pooling_mode_{other}", False)
        length = _settings(folder, LENGTH)
        length.demand("do_lower_case", False)
        return cls(model, tokenizer, length.get("max_seq_length"))

    def encode(self, texts, batch_size=8):
        """One vector of length 1 a text: N strings -> a NumPy array (N, C).

        Texts of like length share a batch, so that little is computed for padding.
        Small batches stay in a CPU's cache and are faster there; a GPU wants larger.
        """
        checks.whole("SentenceEncoder: batch_size", batch_size, 1)
        ids = self.tokenizer.encode_batch(texts, max_length=self.max_length)
        weight = self.model.token_embedding.weight
        vectors = np.zeros((len(ids), weight.shape[1]), weight.dtype)
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch, mask = pad([ids[i] for i in rows])
            with no_grad():
                found = self.model.sentence_embeddings(batch, mask)
            vectors[rows] = found.numpy()
        return vectors


def _settings(folder, name):
    """A folder's own settings of one kind; none where it lacks the file."""
    try:
        return Settings(read_table(Path(folder) / name), f"{folder}: {name}")
    except FileNotFoundError:
        return Settings({}, folder)
