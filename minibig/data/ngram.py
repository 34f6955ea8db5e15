"""A trigram model of words: the plain baseline beside a language model.

It mixes the relative frequencies of word triples, pairs and single words with the
uniform distribution. The weights of the mixture depend on how often the context was
seen and are fitted on texts that were not counted (Jelinek and Mercer 1980,
"Interpolated estimation of Markov source parameters from sparse data").
"""

from collections.abc import Hashable, Sequence

import numpy as np

_UNKNOWN, _BEGIN, _END = 0, 1, 2

Text = Sequence[Hashable]


class TrigramModel:
    """The probability of each token given the two before it, and of the end.

    `train` and `held_out` are texts, each a sequence of tokens (words, ids, or anything
    hashable): the first are counted, the others set the mixture's weights by
    expectation-maximisation. Tokens that `train` does not have share one entry.
    """

    def __init__(self, train: Sequence[Text], held_out: Sequence[Text]):
        if len(train) == 0 or len(held_out) == 0:
            raise ValueError("TrigramModel needs texts to count and texts held out")
        tokens = dict.fromkeys(token for text in train for token in text)
        self._ids = {token: index for index, token in enumerate(tokens, start=_END + 1)}
        self._size = len(tokens) + 3  # base of the keys
        triples = self._triples(train)
        self._counts = {}  # (first, last) column of the triples -> sorted keys, counts
        for columns in ((0, 3), (1, 3), (2, 3), (0, 2), (1, 2)):
            keys = self._keys(triples[:, slice(*columns)])
            self._counts[columns] = np.unique(keys, return_counts=True)
        self._total = len(triples)
        self._weights = self._fit(*self._components(self._triples(held_out)))

    def negative_log_likelihoods(self, texts: Sequence[Text]) -> np.ndarray:
        """Nats of each text, its end included; shape (len(texts),)."""
        if len(texts) == 0:
            return np.zeros(0)
        components, group = self._components(self._triples(texts))
        nats = -np.log((self._weights[group] * components).sum(1))
        starts = np.cumsum([0, *(len(text) + 1 for text in texts)])[:-1]
        return np.add.reduceat(nats, starts)

    def _triples(self, texts):
        """Each token with the two before it, as ids; (tokens and ends, 3)."""
        rows = []
        for text in texts:
            ids = [self._ids.get(token, _UNKNOWN) for token in text]
            ids = [_BEGIN, _BEGIN, *ids, _END]
            rows.extend(zip(ids, ids[1:], ids[2:], strict=False))
        return np.array(rows, dtype=np.int64)

    def _keys(self, ids):
        """One number for each row of ids."""
        return ids @ self._size ** np.arange(ids.shape[1])[::-1]

    def _count(self, triples, columns):
        known, counts = self._counts[columns]
        keys = self._keys(triples[:, slice(*columns)])
        place = np.searchsorted(known, keys).clip(max=len(known) - 1)
        return np.where(known[place] == keys, counts[place], 0)

    def _components(self, triples):
        """The mixture's four probabilities (N, 4), and the group of weights (N,)."""
        pair, single = self._count(triples, (0, 2)), self._count(triples, (1, 2))
        components = np.empty((len(triples), 4))
        components[:, 0] = self._count(triples, (0, 3)) / np.maximum(pair, 1)
        components[:, 1] = self._count(triples, (1, 3)) / np.maximum(single, 1)
        components[:, 2] = self._count(triples, (2, 3)) / self._total
        components[:, 3] = 1 / (self._size - 1)  # all tokens but "begin"
        return components, np.frexp(pair.astype(np.float64))[1]  # 0, 1, 2-3, 4-7, ...

    def _fit(self, components, group, steps=50):
        """Mixture weights that make the held-out texts likely; (groups, 4)."""
        weights = np.full((64, 4), 0.25)
        for _ in range(steps):
            share = weights[group] * components
            share /= share.sum(1, keepdims=True)
            total = np.array([np.bincount(group, s, minlength=64) for s in share.T]).T
            total += 1e-3  # a group that no text has keeps equal weights
            weights = total / total.sum(1, keepdims=True)
        return weights
