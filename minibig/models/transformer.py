"""The Transformer: an encoder reads a text, a decoder writes another about it.

Vaswani et al., "Attention Is All You Need", arXiv 1706.03762. Departures: pre-norm on
request (arXiv 2002.04745), with a norm after each stack; weights that are not tied, on
request. Taught by notebook 09.
"""

import math
from dataclasses import dataclass

from .. import checks, nn
from ..autograd import no_grad
from ..beam_search import beam_search
from ..creation import tensor, zeros
from ..functional import linear
from ..generation import KVCache, MemoryCache
from .inputs import checked_ids, checked_mask


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a Transformer, the same for encoder and decoder, and its special ids.

    Without `target_vocab_size` both texts share one vocabulary. `tied`: the output
    layer has the weight of the target's embedding, and with one vocabulary the source's
    is the same too (section 3.4).
    """

    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dim_feedforward: int
    dropout: float = 0.1
    activation: str = "relu"
    norm_first: bool = False
    tied: bool = True
    target_vocab_size: int | None = None
    pad_id: int = 0
    begin_id: int = 1
    end_id: int = 2

    def __post_init__(self):
        sizes = ("vocab_size", "n_layer", "n_head", "n_embd", "dim_feedforward")
        for name in sizes:
            checks.whole(f"TransformerConfig: {name}", getattr(self, name), 1)
        if self.n_embd % self.n_head or self.n_embd % 2:
            raise ValueError(
                f"TransformerConfig: n_embd {self.n_embd} must be even and a multiple "
                f"of n_head {self.n_head}"
            )
        checks.probability("TransformerConfig: dropout", self.dropout, without=1)
        checks.choice("TransformerConfig: activation", self.activation, nn.ACTIVATIONS)
        for name in ("norm_first", "tied"):
            checks.switch(f"TransformerConfig: {name}", getattr(self, name))
        if self.target_vocab_size is not None:
            checks.whole("TransformerConfig: target_vocab_size", self.target_size, 1)
        for name in ("pad_id", "begin_id", "end_id"):
            given = checks.whole(f"TransformerConfig: {name}", getattr(self, name), 0)
            if given >= self.target_size:
                raise ValueError(
                    f"TransformerConfig: {name} {given} is outside the vocabulary of "
                    f"{self.target_size}"
                )

    @property
    def target_size(self):
        """How many tokens the decoder knows."""
        return self.target_vocab_size or self.vocab_size


class TransformerCache:
    """What a decoder need not compute again: its own keys, and those of the memory."""

    def __init__(self, n_layer, capacity):
        self.own = KVCache(n_layer, capacity)
        self.memories = [MemoryCache() for _ in range(n_layer)]

    def reorder(self, rows):
        """Row i becomes what row `rows[i]` was; rows of one source share its memory."""
        for layer in self.own.layers:
            layer.reorder(rows)


class Transformer(nn.Module):
    """Logits of each next token of the target: (B, S), (B, T) -> (B, T, V).

    Padding of the source, id `pad_id`, is not looked at. Targets are padded at their
    end, where no earlier token looks.
    """

    def __init__(self, config):
        c = self.config = checks.kind("Transformer: config", config, TransformerConfig)
        layer = (
            c.n_embd, c.n_head, c.dim_feedforward, c.dropout, c.activation, 1e-5,
            c.norm_first, True, 0.0,
        )  # fmt: skip
        self.source_embedding = nn.Embedding(c.vocab_size, c.n_embd)
        shared = c.tied and c.target_vocab_size is None
        self.target_embedding = (
            self.source_embedding if shared else nn.Embedding(c.target_size, c.n_embd)
        )
        self.dropout = nn.Dropout(c.dropout)
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(*layer) for _ in range(c.n_layer)
        )
        self.decoder = nn.ModuleList(
            nn.TransformerDecoderLayer(*layer) for _ in range(c.n_layer)
        )
        self.encoder_norm, self.decoder_norm = (
            nn.LayerNorm(c.n_embd) if c.norm_first else nn.Identity() for _ in range(2)
        )
        self.output = None if c.tied else nn.Linear(c.n_embd, c.target_size, bias=False)
        self._initialise()

    def _initialise(self):
        """Xavier's even weights; embeddings of variance 1/C, as they get multiplied by
        √C on their way in and multiply normed rows on their way out."""
        for name, parameter in self.named_parameters():
            if "embedding" in name:
                nn.init.normal_(parameter, std=1 / math.sqrt(self.config.n_embd))
            elif parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, source, target, source_mask=None, target_mask=None):
        """source (B, S), target (B, T), which begins with `begin_id` -> (B, T, V).

        The masks, (B, S) and (B, T), are True at real tokens; without them every id but
        `pad_id` is real in the source, and all are in the target.
        """
        memory, source_mask = self.encode(source, source_mask)
        return self.decode(target, memory, source_mask, target_mask)

    def encode(self, source, source_mask=None):
        """The source's memory (B, S, C), and the mask (B, S) to look at it through."""
        source = checked_ids("Transformer", source, self.device)
        if source_mask is None:
            source_mask = source != self.config.pad_id
        source_mask = checked_mask(
            "Transformer", source_mask, source.shape, self.device
        )
        x = self._embedded(self.source_embedding, source)
        for layer in self.encoder:
            x = layer(x, key_padding_mask=source_mask)
        return self.encoder_norm(x), source_mask

    def decode(self, target, memory, source_mask, target_mask=None, cache=None):
        """Logits (B, T, V) of the tokens after each of the target's, given a memory.

        With a TransformerCache the target is what comes after those already seen.
        """
        target = checked_ids("Transformer", target, self.device)
        start = 0 if cache is None else cache.own.length
        shape = (len(target), start + target.shape[1])
        target_mask = checked_mask("Transformer", target_mask, shape, self.device)
        x = self._embedded(self.target_embedding, target, start)
        for i, layer in enumerate(self.decoder):
            x = layer(
                x, memory, key_padding_mask=target_mask, is_causal=True,
                memory_key_padding_mask=source_mask,
                cache=cache and cache.own.layers[i],
                memory_cache=cache and cache.memories[i],
            )  # fmt: skip
        output = self.target_embedding if self.output is None else self.output
        return linear(self.decoder_norm(x), output.weight)  # (B, T, V)

    def _embedded(self, embedding, ids, start=0):
        """Tokens times √C plus the waves of their places: (B, T, C)."""
        x = embedding(ids) * math.sqrt(self.config.n_embd)
        waves = nn.sinusoidal_positions(
            ids.shape[1], self.config.n_embd, offset=start, dtype=x.dtype,
            device=x.device,
        )  # fmt: skip
        return self.dropout(x + waves)

    def generate(
        self, source, max_new_tokens, *, beams=1, length_penalty=0.6, source_mask=None,
        use_cache=True,
    ):  # fmt: skip
        """The target that the model writes for each source: (B, S) or (S,) -> (B, T).

        Without `begin_id`, with `end_id`, then filled up with `pad_id`. One beam takes
        the likeliest token each time; several search as `beam_search` says.
        `source_mask` has the source's shape.
        """
        checks.whole("Transformer.generate: max_new_tokens", max_new_tokens, 1)
        checks.whole("Transformer.generate: beams", beams, 1)
        source = tensor(source, device=self.device)
        single = source.ndim == 1
        if single:
            source = source.reshape(1, -1)
            if source_mask is not None:
                source_mask = tensor(source_mask, device=self.device).unsqueeze(0)
        if source.ndim == 2 and not len(source):
            return zeros(0, 0, dtype="int64")
        with nn.evaluating(self), no_grad():
            step, count = self._steps(
                source, source_mask, beams, max_new_tokens, use_cache
            )
            found = beam_search(
                step, count, max_new_tokens, beams=beams, begin_id=self.config.begin_id,
                end_id=self.config.end_id, pad_id=self.config.pad_id,
                length_penalty=length_penalty,
            )  # fmt: skip
        return tensor(found[0] if single else found)

    def _steps(self, source, source_mask, beams, capacity, use_cache):
        """The function that gives the logits after each of B · `beams` texts, and B."""
        memory, source_mask = self.encode(source, source_mask)
        repeated = [i for i in range(len(memory)) for _ in range(beams)]
        memory, source_mask = memory[repeated], source_mask[repeated]
        cache = TransformerCache(self.config.n_layer, capacity) if use_cache else None

        def step(ids, parents):
            if cache is not None and cache.own.length:
                ids = ids[:, -1:]
                if beams > 1:
                    cache.reorder(parents)
            logits = self.decode(ids, memory, source_mask, cache=cache)
            return logits[:, -1].to("cpu").numpy()

        return step, len(memory) // beams
