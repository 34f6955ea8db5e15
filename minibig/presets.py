"""Training runs that have a name: the same numbers for notebooks and command line.

A preset says what is read, by which tokenizer, how large the model is and how it is
trained; `recipes.train` carries it out.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A language model and its training; see the fields' comments for units."""

    about: str
    corpus: str  # a name in `recipes.CORPORA`, or of a text of one's own
    tokenizer: str  # "char", "word" or "bpe"
    vocab_size: int | None  # for "bpe": entries to learn
    context_length: int  # tokens
    n_layer: int
    n_head: int
    n_embd: int
    batch_size: int  # rows
    steps: int
    lr: float  # highest rate
    min_lr: float  # last rate of the cosine
    warmup: int  # steps
    beta2: float = 0.99
    weight_decay: float = 0.1  # of matrices alone
    clip_norm: float = 1.0
    dropout: float = 0.0
    bias: bool = False
    seed: int = 0
    held_out: float = 0.1  # share of the text, its end
    prompt: str = "\n"


PRESETS = {
    "demo": Preset(
        about="one minute: the Python documentation in byte-level BPE pieces",
        corpus="documentation", tokenizer="bpe", vocab_size=1024, context_length=64,
        n_layer=4, n_head=4, n_embd=128, batch_size=12, steps=700, lr=3e-3, min_lr=3e-4,
        warmup=50, prompt="The",
    ),
    "nanogpt-cpu": Preset(
        about="nanoGPT's small CPU recipe, in characters; made for --text FILE",
        corpus="documentation", tokenizer="char", vocab_size=None, context_length=64,
        n_layer=4, n_head=4, n_embd=128, batch_size=12, steps=2000, lr=1e-3,
        min_lr=1e-4, warmup=100,
    ),
    "tales": Preset(
        about="little stories whose best possible loss is known exactly",
        corpus="tales", tokenizer="word", vocab_size=None, context_length=75, n_layer=4,
        n_head=4, n_embd=128, batch_size=32, steps=1500, lr=4e-3, min_lr=1e-4,
        warmup=50, weight_decay=0.01, prompt="",
    ),
}  # fmt: skip
