"""Language models: text -> tokenizer -> ids -> batches -> a model of the next token."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .. import data
from ..autograd import no_grad
from ..data import tales
from ..data.fingerprint import fingerprint
from ..functional import cross_entropy
from ..models import GPT, GPTConfig, Llama, LlamaConfig
from ..nn import evaluating
from ..training import Evaluation, next_token_loss, perplexity
from .base import Preset, Task

BEGIN, END = "<|begin|>", "<|end|>"
CORPORA = {
    "documentation": data.documentation,
    "docstrings": data.docstrings,
    "library": data.library_source,
    "statements": data.statements,
    "tiny-shakespeare": data.tiny_shakespeare,
    "tales": None,  # documents from a grammar, made to measure
}
STORIES = {"train": 16000, "validation": 500, "test": 2000}


class TextError(ValueError):
    """A text that a preset cannot learn from."""


@dataclass(frozen=True, kw_only=True)
class LanguagePreset(Preset):
    """A model that writes on, token by token; its family adds `make_model`."""

    language: ClassVar[bool] = True

    corpus: str  # a name in CORPORA, or of a text of one's own
    tokenizer: str  # "char", "word" or "bpe"
    vocab_size: int | None  # for "bpe": entries to learn
    context_length: int  # tokens
    held_out: float = 0.1  # share of the text, its end
    prompt: str = "\n"
    init_std: float = 0.02  # of the first weights, GPT-2's; see `drawn_wider`

    def make_model(self, tokenizer):
        """The model with its first weights."""
        raise NotImplementedError(f"{type(self).__name__} must say how to make a model")

    def prepare(self, text=None):
        """The Task of this preset: its corpus, or `text` in its stead, read and cut.

        Raises TextError where the text is too short.
        """
        if text is None and self.corpus == "tales":
            return _tales(self)
        return _running_text(
            self, CORPORA[self.corpus]().text if text is None else text
        )

    @property
    def judged_on(self):
        """What `Task.judge` reads: of a text the part that was watched as well."""
        return "test" if self.corpus == "tales" else "held out"

    def describe(self, results):
        """Loss and perplexity, or the excess over the floor, in words."""
        if "excess" in results:
            excess, error = results["excess"], results["standard_error"]
            return (
                f"{excess:.2%} ± {error:.2%} above the floor of {tales.floor():.4f} "
                "nats a token, the least that is possible"
            )
        loss = results["loss"]
        return f"loss {loss:.4f} nats a token, perplexity {perplexity([loss]):.2f}"


@dataclass(frozen=True, kw_only=True)
class GPTPreset(LanguagePreset):
    """A GPT; see `models.GPTConfig`."""

    n_layer: int
    n_head: int
    n_embd: int
    dropout: float = 0.0
    bias: bool = False

    def make_model(self, tokenizer):
        """The GPT with its first weights."""
        return drawn_wider(GPT(config_of(self, tokenizer)), self.init_std)


@dataclass(frozen=True, kw_only=True)
class LlamaPreset(LanguagePreset):
    """A Llama whose output layer is its token embedding; see `models.LlamaConfig`."""

    n_layer: int
    n_head: int
    n_kv_head: int
    n_embd: int
    dim_feedforward: int

    def make_model(self, tokenizer):
        """The Llama with its first weights."""
        sizes = LlamaConfig(
            tokenizer.vocab_size, self.context_length, self.n_layer, self.n_head,
            self.n_embd, self.dim_feedforward, self.n_kv_head, tied=True,
        )  # fmt: skip
        return drawn_wider(Llama(sizes), self.init_std)


def config_of(preset, tokenizer):
    """The sizes of a GPT preset's model."""
    return GPTConfig(
        tokenizer.vocab_size, preset.context_length, preset.n_layer, preset.n_head,
        preset.n_embd, preset.dropout, preset.bias,
    )  # fmt: skip


@no_grad()
def drawn_wider(model, init_std):
    """The fresh model, its matrices as if drawn with `init_std` in the place of 0.02.

    A number of the next layer has a variance in proportion to width · init_std². 0.02
    suits GPT-2's width of 768; for a width C the like is 0.02 √(768 / C).
    """
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.mul_(init_std / 0.02)
    return model


def of_text(preset, text, name="a text"):
    """The preset, with a text of one's own noted as its corpus, by name and hash."""
    return replace(preset, corpus=f"{name}, hash {fingerprint(text)}")


def make_tokenizer(preset, text, seen):
    """The tokenizer that the preset names: words and pieces are learnt from what the
    model will see; characters, which must all be known, are those of the whole text."""
    if preset.tokenizer == "char":
        return data.CharTokenizer.train(text)
    if preset.tokenizer == "word":
        return data.WordTokenizer.train(seen, max_size=preset.vocab_size)
    return data.BPETokenizer.train(seen, preset.vocab_size)


def _running_text(preset, text):
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
            f"the text is too short: {shortest} of its tokens ({len(text)} characters) "
            f"would be held out, and a context of {length} needs {length + 1}: about "
            f"{int((length + 1) / preset.held_out)} tokens in all"
        )
    crops = data.RandomCrops(
        ids, context_length=length, batch_size=preset.batch_size, seed=preset.seed
    )
    windows = data.Windows(held_out, context_length=length, batch_size=64)
    judge = Evaluation(windows, next_token_loss)
    model = preset.make_model(tokenizer)
    return Task(model, crops, windows, next_token_loss, judge, tokenizer)


def _tales(preset):
    stories = {
        split: tales.generate(count, preset.seed, split)
        for split, count in STORIES.items()
    }
    if preset.context_length <= tales.longest():
        raise TextError(
            f"the longest tale has {tales.longest()} words and an end, but the context "
            f"is {preset.context_length}: use the preset gpt"
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

    model = preset.make_model(tokenizer)
    training, watching = loaders["train"], loaders["validation"]
    return Task(model, training, watching, next_token_loss, judge, tokenizer)


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


def write(model, tokenizer, prompt, length, **settings):
    """`prompt` and about `length` tokens that the model adds to it, as text.

    Without a prompt it begins as after the end of a line, where it knows one.
    """
    ids = tokenizer.encode(prompt) if prompt else []
    begin = tokenizer.special_tokens.get(BEGIN)
    ids = ids if begin is None else [begin, *ids]
    end = tokenizer.special_tokens.get(END)
    stops = () if end is None else (end,)
    before = [] if ids else _line_end(tokenizer)
    out = model.generate(before + ids, length, stop_ids=stops, **settings).numpy()
    return tokenizer.decode(out[len(before) :], skip_special_tokens=True)


def _line_end(tokenizer):
    """Ids of a line's end; the first id where a text without one was learnt."""
    try:
        return tokenizer.encode("\n")
    except ValueError:
        return [0]
