"""BERT: an encoder that learns from guessing the words left out of a text.

Devlin et al., arXiv 1810.04805. Departures: weights start from a whole normal
distribution, not a truncated one; there is no next-sentence task. What it is trained on
is made by `minibig.data.mask_tokens`. Taught by notebook 12.
"""

from dataclasses import dataclass

from .. import checks, nn
from .. import functional as F
from ..creation import arange, zeros
from .inputs import checked_ids, checked_mask
from .published import Published


@dataclass(frozen=True)
class BERTConfig:
    """Sizes of a BERT; `n_types` kinds of text, `n_classes` for its classifiers.

    `tied`: words are guessed with the weight of the token embedding.
    """

    vocab_size: int
    context_length: int
    n_layer: int
    n_head: int
    n_embd: int
    dim_feedforward: int
    n_types: int = 2
    n_classes: int = 2
    dropout: float = 0.1
    activation: str = "gelu"
    layer_norm_eps: float = 1e-12
    tied: bool = True

    def __post_init__(self):
        sizes = ("vocab_size", "context_length", "n_layer", "n_head", "n_embd",
                 "dim_feedforward", "n_types", "n_classes")  # fmt: skip
        for name in sizes:
            checks.whole(f"BERTConfig: {name}", getattr(self, name), 1)
        if self.n_embd % self.n_head:
            raise ValueError(
                f"BERTConfig: n_head {self.n_head} does not divide n_embd {self.n_embd}"
            )
        checks.probability("BERTConfig: dropout", self.dropout, without=1)
        checks.choice("BERTConfig: activation", self.activation, nn.ACTIVATIONS)
        checks.number("BERTConfig: layer_norm_eps", self.layer_norm_eps, 0)
        checks.switch("BERTConfig: tied", self.tied)


class BERT(Published):
    """A vector for each token that knows all others: ids (B, T) -> (B, T, C).

    Without `pooler` it makes no vector of the whole text, which guessing words and
    classifying tokens do not need.
    """

    def __init__(self, config, pooler=True):
        c = self.config = checks.kind("BERT: config", config, BERTConfig)
        self.token_embedding = nn.Embedding(c.vocab_size, c.n_embd)
        self.position_embedding = nn.Embedding(c.context_length, c.n_embd)
        self.type_embedding = nn.Embedding(c.n_types, c.n_embd)
        self.norm = nn.LayerNorm(c.n_embd, c.layer_norm_eps)
        self.dropout = nn.Dropout(c.dropout)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                c.n_embd, c.n_head, c.dim_feedforward, c.dropout, c.activation,
                c.layer_norm_eps, activation_dropout=0.0,
            )
            for _ in range(c.n_layer)
        )  # fmt: skip
        self.pooler = nn.Linear(c.n_embd, c.n_embd) if pooler else None
        initialise(self)

    def forward(self, ids, attention_mask=None, token_type_ids=None):
        """(B, T) -> (B, T, C). `attention_mask` is True at real tokens (all, if not
        given), `token_type_ids` says which of two texts a token is of (the first)."""
        c = self.config
        ids = checked_ids("BERT", ids, self.device, c.context_length)
        mask = checked_mask("BERT", attention_mask, ids.shape, self.device)
        if token_type_ids is None:
            types = zeros(1, 1, dtype="int64", device=self.device)
        else:
            types = checked_ids("BERT: token types", token_type_ids, self.device)
            if types.shape != ids.shape:
                raise ValueError(
                    f"BERT: token_type_ids {types.shape} and ids {ids.shape} differ"
                )
        places = arange(ids.shape[1], device=self.device)
        x = self.token_embedding(ids) + self.position_embedding(places)
        x = self.dropout(self.norm(x + self.type_embedding(types)))  # (B, T, C)
        for block in self.blocks:
            x = block(x, key_padding_mask=mask)
        return x

    def pooled(self, hidden):
        """One vector for a text, tanh of a layer over its first token: (B, C)."""
        if self.pooler is None:
            raise ValueError("this BERT has no pooler: make it with pooler=True")
        return self.pooler(hidden[:, 0]).tanh()

    def sentence_embeddings(self, ids, attention_mask=None, token_type_ids=None):
        """Vectors of length 1 whose products say how alike texts are: (B, C).

        The mean of the real tokens' vectors (Sentence-BERT, arXiv 1908.10084).
        """
        hidden = self(ids, attention_mask, token_type_ids)
        mask = checked_mask("BERT", attention_mask, hidden.shape[:2], self.device)
        if mask is None:
            return F.normalize(hidden.mean(1), dim=1)
        # A sum: the length that the mean would divide by is taken out just after.
        return F.normalize((hidden * mask.unsqueeze(2)).sum(1), dim=1)


class BERTForMaskedLM(Published):
    """Logits of the word at every place, left out or not: ids (B, T) -> (B, T, V)."""

    def __init__(self, config):
        self.config = config
        self.bert = BERT(config, pooler=False)
        self.dense = nn.Linear(config.n_embd, config.n_embd)
        self.norm = nn.LayerNorm(config.n_embd, config.layer_norm_eps)
        self.output = (
            None
            if config.tied
            else nn.Linear(config.n_embd, config.vocab_size, bias=False)
        )
        self.bias = nn.Parameter(zeros(config.vocab_size))
        initialise(self)

    def forward(self, ids, attention_mask=None, token_type_ids=None):
        """The arguments are those of BERT."""
        return self.guesses(self.bert(ids, attention_mask, token_type_ids))

    def guesses(self, hidden):
        """Logits (..., V) of the encoder's vectors (..., C): in training only those of
        words left out are needed, one in seven."""
        activation = nn.ACTIVATIONS[self.config.activation]
        x = self.norm(activation(self.dense(hidden)))
        output = self.bert.token_embedding if self.output is None else self.output
        return F.linear(x, output.weight, self.bias)


class BERTForSequenceClassification(Published):
    """Logits of a text's class: ids (B, T) -> (B, n_classes)."""

    def __init__(self, config):
        self.config = config
        self.bert = BERT(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.n_embd, config.n_classes)
        initialise(self.classifier)

    def forward(self, ids, attention_mask=None, token_type_ids=None):
        """The arguments are those of BERT."""
        hidden = self.bert(ids, attention_mask, token_type_ids)
        return self.classifier(self.dropout(self.bert.pooled(hidden)))


class BERTForTokenClassification(Published):
    """Logits of each token's class: ids (B, T) -> (B, T, n_classes)."""

    def __init__(self, config):
        self.config = config
        self.bert = BERT(config, pooler=False)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.n_embd, config.n_classes)
        initialise(self.classifier)

    def forward(self, ids, attention_mask=None, token_type_ids=None):
        """The arguments are those of BERT."""
        hidden = self.bert(ids, attention_mask, token_type_ids)
        return self.classifier(self.dropout(hidden))


def initialise(module):
    """Weights of deviation 0.02, biases 0, as in the code of the paper."""
    for name, parameter in module.named_parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
