"""The exercises of notebook 12: words left out, their loss, pooling, rates by depth."""

import re

import numpy as np

from ..exercise import Case, Exercise, Mistake

MASK, SPECIAL, IGNORED = 4, 5, -100  # ids below 5 are special

# ---- 12.masked_loss -----------------------------------------------------------------


def _nats(logits, targets):
    """(nats of each place, whether it counts); what is ignored is asked for id 0."""
    counts = targets != IGNORED
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    wanted = np.where(counts, targets, 0)
    return -np.take_along_axis(log_p, wanted[..., None], -1)[..., 0], counts


def _masked_loss(logits, targets):
    nats, counts = _nats(logits, targets)
    return nats[counts].mean()


def _over_all_places(logits, targets):
    nats, counts = _nats(logits, targets)
    return (nats * counts).mean()


def _ignored_counted(logits, targets):
    return _nats(logits, targets)[0].mean()


def _row_by_row(logits, targets):
    nats, counts = _nats(logits, targets)
    return np.mean([row[kept].mean() for row, kept in zip(nats, counts, strict=True)])


def _sum_of_nats(logits, targets):
    nats, counts = _nats(logits, targets)
    return nats[counts].sum()


def _asked(shape, places, seed=0, size=1.0):
    def make():
        rng = np.random.default_rng(seed)
        logits = size * rng.normal(size=shape)
        targets = np.full(shape[:2], IGNORED)
        for place in places:
            targets[place] = rng.integers(1, shape[2])
        return logits, targets

    return make


def _by_hand():
    logits = np.log([[[1.0, 1, 2], [1, 8, 1], [1, 1, 1]]])
    return logits, np.array([[2, IGNORED, 0]])


masked_loss = Exercise(
    name="12.masked_loss",
    task="The mean cross-entropy in nats of the words that were left out.",
    solution=_masked_loss,
    cases=(
        Case("by hand", _by_hand),
        Case("three of eight", _asked((2, 4, 6), [(0, 1), (0, 3), (1, 0)])),
        Case("rows differ", _asked((3, 5, 7), [(0, 0), (1, 1), (1, 2), (2, 4)], 1)),
        Case("one place", _asked((1, 3, 4), [(0, 2)], 2), "edge"),
        Case("large logits", _asked((2, 3, 5), [(0, 1), (1, 2)], 3, 900.0), "edge"),
    ),
    mistakes=(
        Mistake(
            _over_all_places,
            "the sum is right, but you divide by all places. Only those that were left "
            "out count, so divide by their number.",
        ),
        Mistake(
            _ignored_counted,
            "places with the target -100 are in your mean: nothing is asked there.",
        ),
        Mistake(
            _row_by_row,
            "the mean is over all words that were left out, not first over each row: a "
            "row with one of them would weigh as much as a row with ten.",
        ),
        Mistake(
            _sum_of_nats,
            "this is the sum; the mean does not grow with the size of the batch.",
        ),
    ),
    hints=(
        "targets != -100 is True where a word was left out.",
        "Choose first: logits[chosen] is (N, V), targets[chosen] is (N,).",
        "Subtract each row's largest logit; minus log softmax at the target; the mean.",
    ),
)

# ---- 12.mask_tokens -----------------------------------------------------------------


def _mask_tokens(ids, draw, fate, words, probability=0.15):
    chosen = (draw < probability) & (ids >= SPECIAL)
    inputs = np.where(chosen & (fate < 0.8), MASK, ids)
    inputs = np.where(chosen & (fate >= 0.9), words, inputs)
    return inputs, np.where(chosen, ids, IGNORED)


def _always_mask(ids, draw, fate, words):
    return _mask_tokens(ids, draw, 0 * fate, words)


def _specials_too(ids, draw, fate, words):
    inputs, targets = _mask_tokens(ids + SPECIAL, draw, fate, words + SPECIAL)
    inputs = np.where(inputs == MASK, MASK, inputs - SPECIAL)
    return inputs, np.where(targets == IGNORED, IGNORED, targets - SPECIAL)


def _changed_alone(ids, draw, fate, words):
    inputs, targets = _mask_tokens(ids, draw, fate, words)
    return inputs, np.where(
        fate < 0.8, targets, np.where(fate >= 0.9, targets, IGNORED)
    )


def _asked_everywhere(ids, draw, fate, words):
    return _mask_tokens(ids, draw, fate, words)[0], ids.copy()


def _what_is_seen(ids, draw, fate, words):
    inputs, targets = _mask_tokens(ids, draw, fate, words)
    return inputs, np.where(targets == IGNORED, IGNORED, inputs)


def _rows(shape, seed=0, rate=None, special=True):
    def make():
        rng = np.random.default_rng([12, seed])
        ids = rng.integers(SPECIAL, 40, shape)
        if special:
            ids[:, 0], ids[:, -1] = 2, 3
        draw = rng.random(shape) if rate is None else np.full(shape, rate)
        return ids, draw, rng.random(shape), rng.integers(SPECIAL, 40, shape)

    return make


def _one_of_each():
    ids = np.array([[2, 10, 11, 12, 13, 3]])
    draw = np.array([[0.1, 0.1, 0.1, 0.1, 0.9, 0.1]])
    fate = np.array([[0.5, 0.5, 0.85, 0.95, 0.5, 0.5]])
    return ids, draw, fate, np.full((1, 6), 20)


mask_tokens = Exercise(
    name="12.mask_tokens",
    task="Leave words out: what the network is given, and what it is asked for.",
    solution=_mask_tokens,
    cases=(
        Case("one of each", _one_of_each),
        Case("a batch", _rows((8, 30))),
        Case("another", _rows((4, 60), 1)),
        Case("all chosen", _rows((3, 20), 2, 0.0), "edge"),
        Case("none chosen", _rows((2, 6), 3, 0.15, special=False), "edge"),
    ),
    mistakes=(
        Mistake(
            _always_mask,
            "every chosen word becomes [MASK]: one in ten stays as it is, and one in "
            "ten becomes the word drawn for it.",
        ),
        Mistake(
            _specials_too,
            "special tokens (ids below 5) are left out as well: nobody learns from "
            "guessing a [CLS].",
        ),
        Mistake(
            _changed_alone,
            "a chosen word that stays as it is is asked for all the same.",
        ),
        Mistake(
            _asked_everywhere,
            "the targets are -100 where nothing was chosen.",
        ),
        Mistake(
            _what_is_seen,
            "the targets are the words that stood there before, not what the network "
            "is given now.",
        ),
    ),
    hints=(
        "First who is chosen: draw < 0.15, and no special token.",
        "np.where(chosen & (fate < 0.8), 4, ids) puts the [MASK]s in.",
        "From 0.9 on it is the word drawn; from 0.8 to 0.9 it stays. Targets: the old "
        "ids where chosen, -100 elsewhere.",
    ),
)

# ---- 12.mean_pooling ----------------------------------------------------------------


def _mean_pooling(hidden, mask):
    kept = mask[:, :, None]
    return (hidden * kept).sum(1) / kept.sum(1)


def _vectors(lengths, width=3, seed=0):
    def make():
        rng = np.random.default_rng([12, seed])
        longest = max(lengths)
        mask = np.arange(longest) < np.array(lengths)[:, None]
        return rng.normal(1.0, 1.0, (len(lengths), longest, width)), mask

    return make


def _two_and_one():
    hidden = np.array([[[1.0, 2.0], [3.0, 6.0]], [[5.0, 7.0], [100.0, 100.0]]])
    return hidden, np.array([[True, True], [True, False]])


mean_pooling = Exercise(
    name="12.mean_pooling",
    task="One vector a text: the mean of the vectors of its real tokens.",
    solution=_mean_pooling,
    cases=(
        Case("by hand", _two_and_one),
        Case("different lengths", _vectors((5, 2, 4))),
        Case("seven texts", _vectors((3, 3, 1, 6, 2, 5, 4), 4, 1)),
        Case("no padding", _vectors((4, 4), 2, 2), "edge"),
        Case("one token each", _vectors((1, 1, 1), 3, 3), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda hidden, mask: hidden.mean(1),
            "padding is in your mean. It has vectors too, and they mean nothing.",
        ),
        Mistake(
            lambda hidden, mask: (hidden * mask[:, :, None]).mean(1),
            "padding is zero in your sum, but still in the number you divide by.",
        ),
        Mistake(
            lambda hidden, mask: (hidden * mask[:, :, None]).sum(1),
            "this is the sum: a text of twice the length gets twice the vector.",
        ),
        Mistake(
            lambda hidden, mask: hidden[:, 0],
            "this is the first token's vector; the mean is over all real tokens.",
        ),
        Mistake(
            lambda hidden, mask: (hidden * mask[:, :, None]).sum(1) / mask.sum(),
            "you divide by the real tokens of the whole batch; each text has its own "
            "number of them.",
        ),
    ),
    hints=(
        "mask[:, :, None] is (B, T, 1) and broadcasts over the C numbers.",
        "Multiply by it, and sum over the tokens: axis 1.",
        "Divide by mask.sum(1)[:, None], the number of real tokens of each text.",
    ),
)

# ---- 12.layer_rates -----------------------------------------------------------------


def _block_of(name):
    found = re.search(r"blocks\.(\d+)\.", name)
    return int(found[1]) if found else None


def _layer_rates(names, n_layer, lr, decay):
    steps = []
    for name in names:
        block = _block_of(name)
        if name.startswith("classifier."):
            steps.append(0)
        elif block is None:
            steps.append(n_layer + 1)
        else:
            steps.append(n_layer - block)
    return np.array([lr * decay**step for step in steps])


def _upside_down(names, n_layer, lr, decay):
    rates = []
    for name in names:
        block = _block_of(name)
        step = 0 if block is None else block + 1
        rates.append(lr * decay ** (n_layer + 1 if "classifier." in name else step))
    return np.array(rates)


def _head_shrunk(names, n_layer, lr, decay):
    return decay * _layer_rates(names, n_layer, lr, decay)


def _embeddings_fast(names, n_layer, lr, decay):
    rates = _layer_rates(names, n_layer, lr, decay)
    table = [_block_of(n) is None and not n.startswith("classifier.") for n in names]
    return np.where(table, lr, rates)


def _first_digit(names, n_layer, lr, decay):
    cut = [re.sub(r"blocks\.(\d)\d+\.", r"blocks.\1.", name) for name in names]
    return _layer_rates(cut, n_layer, lr, decay)


def _line(names, n_layer, lr, decay):
    rates = _layer_rates(names, n_layer, 1.0, decay)
    steps = np.round(np.log(rates) / np.log(decay)) if decay < 1 else 0 * rates
    return lr * (1 - steps * (1 - decay))


def _model(n_layer, lr, decay):
    def make():
        parts = (
            "self_attn.in_proj.weight",
            "norm1.bias",
            "feed_forward.linear1.weight",
        )
        names = ["bert.token_embedding.weight", "bert.norm.bias"]
        names += [f"bert.blocks.{i}.{part}" for i in range(n_layer) for part in parts]
        return [*names, "classifier.weight", "classifier.bias"], n_layer, lr, decay

    return make


layer_rates = Exercise(
    name="12.layer_rates",
    task="A learning rate for each parameter, smaller the farther it is from the top.",
    solution=_layer_rates,
    cases=(
        Case("two blocks", _model(2, 1.0, 0.5)),
        Case("three blocks", _model(3, 0.1, 0.5)),
        Case("twelve blocks", _model(12, 1.0, 0.5)),
        Case("one block", _model(1, 2.0, 0.25), "edge"),
        Case("decay 1", _model(2, 0.5, 1.0), "edge"),
    ),
    mistakes=(
        Mistake(
            _upside_down,
            "the wrong end is slow: the classifier is new and needs the full rate, the "
            "embeddings have learnt most and get the smallest.",
        ),
        Mistake(
            _head_shrunk,
            "one factor too many: the classifier has the full rate, and the last block "
            "one factor of decay.",
        ),
        Mistake(
            _embeddings_fast,
            "the embeddings and their norm lie below block 0, so they get one factor "
            "of decay more than it.",
        ),
        Mistake(
            _first_digit,
            "blocks.10 is taken for blocks.1: read the number up to the next dot.",
        ),
        Mistake(
            _line,
            "each layer multiplies by decay; you subtract the same amount each time, "
            "which gets to zero or below.",
        ),
    ),
    hints=(
        "How many steps below the classifier is block i of n_layer? n_layer - i.",
        "The embeddings, and all else that is in no block, are n_layer + 1 down.",
        "lr * decay ** steps; if there is a block, it is int(name.split('.')[2]).",
    ),
)
