"""Words left out of Python's documentation and docstrings, for a BERT to guess."""

from dataclasses import dataclass

import numpy as np

from .. import checks, data, random
from ..autograd import no_grad
from ..data.fingerprint import fingerprint
from ..data.loader import IGNORE
from ..functional import cross_entropy
from ..models import BERTConfig, BERTForMaskedLM
from ..nn import evaluating
from ..training.evaluation import on_device
from .base import Preset, Task

CLS, SEP, MASK = "[CLS]", "[SEP]", "[MASK]"


@dataclass(frozen=True, kw_only=True)
class BERTPreset(Preset):
    """A BERT and its WordPiece tokenizer; see `models.BERTConfig`."""

    vocab_size: int
    context_length: int  # tokens, [CLS] among them
    n_layer: int
    n_head: int
    n_embd: int
    dim_feedforward: int
    dropout: float = 0.0
    probability: float = 0.15  # that a word is left out
    held_out: float = 0.2  # share of the texts
    watched: int = 256  # rows of held-out text
    judged: int = 512
    beta2: float = 0.98

    def __post_init__(self):
        checks.whole("BERTPreset: context_length", self.context_length, 2)

    def make_model(self, tokenizer):
        """The BERT with its first weights."""
        return BERTForMaskedLM(
            BERTConfig(
                tokenizer.vocab_size, self.context_length, self.n_layer, self.n_head,
                self.n_embd, self.dim_feedforward, dropout=self.dropout,
            )
        )  # fmt: skip

    def prepare(self):
        """The Task of this preset. Whole documents are held out, and the words that are
        left out of them are the same at every evaluation."""
        seen, unseen = texts(self.held_out)
        tokenizer = data.WordPieceTokenizer.train(seen, self.vocab_size)
        rows = packed(seen, tokenizer, self.context_length)
        watching, judging = self.held_out_loaders(unseen, tokenizer)
        by_frequency = judge_unigram(unigram(rows, tokenizer), judging)
        return Task(
            self.make_model(tokenizer), self.loader(rows, tokenizer),
            lambda model: judge(model, watching), loss,
            lambda model: judge(model, judging) | by_frequency, tokenizer,
        )  # fmt: skip

    def held_out_loaders(self, texts, tokenizer):
        """Batches to watch and batches to judge by, of rows drawn from held-out texts;
        the words left out of them are always the same."""
        rows = packed(texts, tokenizer, self.context_length)
        order = random.at("held out", 0, self.seed).permutation(len(rows))
        ends = self.watched, self.watched + self.judged
        return tuple(
            self.loader(rows[part], tokenizer, shuffle=False)
            for part in np.split(order[: ends[1]], ends[:1])
        )

    def loader(self, rows, tokenizer, **settings):
        """Batches of rows with words left out."""
        return data.MaskedRows(
            rows, mask_id=tokenizer.token_to_id[MASK], vocab_size=tokenizer.vocab_size,
            special_ids=list(tokenizer.special_tokens.values()), seed=self.seed,
            probability=self.probability, batch_size=self.batch_size, **settings,
        )  # fmt: skip

    def describe(self, results):
        """What is guessed, by the model and by frequency alone, in words."""
        return (
            f"{results['accuracy']:.2%} of the words left out are guessed, loss "
            f"{results['loss']:.4f} nats; by frequency alone "
            f"{results['unigram_accuracy']:.2%} and {results['unigram_loss']:.4f}"
        )


def texts(held_out=0.2):
    """(seen, held out): lists of texts, topics of the documentation and docstrings."""
    corpora = data.documentation(), data.docstrings()
    every = [text for corpus in corpora for text in corpus.documents]
    parts = [], []
    for text in every:
        parts[is_held_out(text, held_out)].append(text)
    return parts


def is_held_out(text, share=0.2):
    """Whether a text is of the share that is not learnt from.

    Its hash decides, so that it is on the same side with every version of Python.
    """
    return int(fingerprint(text), 16) < share * 2**64


def packed(documents, tokenizer, length):
    """Rows (N, length) of ids: [CLS], then running text, [SEP] behind each document.

    Documents follow one another and are cut where a row is full, so that no place is
    empty; what is left over at the end is dropped.
    """
    checks.whole("packed: length", length, 2)  # [CLS] and one more
    cls, sep = tokenizer.token_to_id[CLS], tokenizer.token_to_id[SEP]
    ids = []
    for document in documents:
        ids += [*tokenizer.encode(document, add_special_tokens=False), sep]
    count = len(ids) // (length - 1)
    if not count:
        raise ValueError(f"{len(ids)} tokens of text make no row of {length}")
    rows = np.array(ids[: count * (length - 1)]).reshape(count, length - 1)
    return np.insert(rows, 0, cls, axis=1).astype(np.uint16)


def loss(model, inputs, targets):
    """Cross-entropy in nats a word left out; logits are made of these alone."""
    chosen = targets != IGNORE
    return cross_entropy(model.guesses(model.bert(inputs)[chosen]), targets[chosen])


@no_grad()
def judge(model, loader):
    """{"loss": nats a word left out, "accuracy": share guessed} over a loader."""
    total, right, count = 0.0, 0, 0
    with evaluating(model):
        for batch in loader:
            inputs, targets = on_device(batch, model.device)
            chosen = targets != IGNORE
            wanted = targets[chosen]
            logits = model.guesses(model.bert(inputs)[chosen])
            total += float(cross_entropy(logits, wanted, reduction="sum"))
            right += int((logits.argmax(-1) == wanted).sum())
            count += wanted.numel()
    return {"loss": total / count, "accuracy": right / count}


def unigram(rows, tokenizer):
    """Log-probabilities (V,): how frequent each token is in rows, counted once more.

    Special tokens are never left out; theirs is -inf.
    """
    counts = np.bincount(rows.ravel(), minlength=tokenizer.vocab_size) + 1.0
    counts[list(tokenizer.special_tokens.values())] = 0
    with np.errstate(divide="ignore"):
        return np.log(counts / counts.sum())


def judge_unigram(log_probabilities, loader):
    """What `judge` says of the guesser that always names the most frequent token."""
    targets = np.concatenate([batch[1][batch[1] != IGNORE] for batch in loader])
    return {
        "unigram_loss": float(-log_probabilities[targets].mean()),
        "unigram_accuracy": float((targets == log_probabilities.argmax()).mean()),
    }
