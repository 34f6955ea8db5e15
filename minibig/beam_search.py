"""Searching for the likeliest text, several beginnings at a time. See notebook 09."""

import numpy as np

from . import checks


def beam_search(
    step, count, max_new_tokens, *, beams, begin_id, end_id, pad_id, length_penalty=0.6
):
    """The best text found for each of `count` rows: (count, T), filled with `pad_id`.

    `step(ids, parents)` returns logits (N, V) of what follows each of N = count · beams
    texts, ids (N, t); text i goes on from text `parents[i]` of the call before. A text
    is scored by log P / ((5 + length) / 6)^`length_penalty` (arXiv 1609.08144, equation
    14; the length counts `end_id`), and one that reaches `max_new_tokens` counts as it
    stands. The search for a row ends when no unfinished text can still win. With one
    beam it is greedy: the first end is taken.
    """
    checks.whole("beam_search: beams", beams, 1)
    checks.number("beam_search: length_penalty", length_penalty, 0)
    ids = np.full((count, beams, 1), begin_id)
    scores = np.full((count, beams), -np.inf)
    scores[:, 0] = 0  # all beams begin alike: one of them counts
    best = Best(count, length_penalty, max_new_tokens)
    parents = np.arange(count * beams)
    for length in range(1, max_new_tokens + 1):
        logits = step(ids.reshape(count * beams, -1), parents)
        total = scores[..., None] + log_softmax(logits).reshape(count, beams, -1)
        source, token, scores = likeliest(total, 2 * beams)
        texts = np.take_along_axis(ids, source[..., None], 1)
        texts = np.concatenate([texts, token[..., None]], 2)  # (count, 2 beams, t + 1)
        ended = token == end_id
        ended[:, beams:] = False  # worse than every beam: it would not have been kept
        best.add(texts, scores, ended, length)
        alive = np.argsort(token == end_id, 1, kind="stable")[:, :beams]
        ids = np.take_along_axis(texts, alive[..., None], 1)
        scores = np.take_along_axis(scores, alive, 1)
        source = np.take_along_axis(source, alive, 1)
        parents = (source + beams * np.arange(count)[:, None]).reshape(-1)
        if best.settled(scores[:, 0], greedy=beams == 1):
            break
    else:
        best.add(ids, scores, np.isfinite(scores), max_new_tokens)
    return best.padded(pad_id)


class Best:
    """The best finished text of each row, and whether a better one can come."""

    def __init__(self, count, length_penalty, longest):
        self.length_penalty, self.longest = length_penalty, longest
        self.scores, self.texts = np.full(count, -np.inf), [None] * count
        self.done = np.zeros(count, bool)

    def penalty(self, length):
        """What log P of a text is divided by."""
        return ((5 + length) / 6) ** self.length_penalty

    def add(self, texts, scores, finished, length):
        """Takes the finished ones among texts (count, N, t) that beat what is there."""
        scores = scores / self.penalty(length)
        for row, i in np.argwhere(finished & np.isfinite(scores)):
            if not self.done[row] and scores[row, i] > self.scores[row]:
                self.scores[row], self.texts[row] = scores[row, i], texts[row, i, 1:]

    def settled(self, alive, greedy):
        """Whether every row is done; `alive` is log P of its best unfinished text.

        log P only falls, and the longest text is divided by most.
        """
        reachable = alive / self.penalty(self.longest)
        self.done |= self.scores > (-np.inf if greedy else reachable)
        return self.done.all()

    def padded(self, pad_id):
        """The texts as one array, filled up with `pad_id`."""
        ids = np.full((len(self.texts), max(map(len, self.texts))), pad_id)
        for row, text in zip(ids, self.texts, strict=True):
            row[: len(text)] = text
        return ids


def likeliest(total, most):
    """Beam, token and score of the `most` highest of total (count, beams, V)."""
    flat = total.reshape(len(total), -1)
    order = np.argsort(-flat, axis=1, kind="stable")[:, :most]
    return *np.divmod(order, total.shape[2]), np.take_along_axis(flat, order, 1)


def log_softmax(logits):
    """Log-probabilities in float64; FloatingPointError where a logit is NaN."""
    logits = logits.astype(np.float64)
    top = logits.max(-1, keepdims=True)
    if not np.isfinite(top).all():
        raise FloatingPointError("the model's logits are not finite: damaged weights?")
    logits -= top
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))
