"""A corpus whose floor is known: little tales that a grammar tells.

No model of these stories can reach a lower expected loss than the grammar's entropy,
which is an exact number: `entropy()` nats a story, `floor()` nats a token. People and
things come back sentences after they were named, which a model that looks two words
back cannot follow (`ngram.TrigramModel` stays at more than twice the floor).

The floor is that of whole stories, one a row, from a begin token, which is given, to an
end token, which is predicted. Judge a model by `excess` on stories that it has not
seen. Notebook 11 trains a GPT on them.
"""

import functools
import math
import re
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from minibig.checks import kind, whole
from minibig.data.grammar import Grammar

SPLITS = ("train", "validation", "test")

_TOKEN = re.compile(r"\w+|[^\w\s]")


def _children(names: str, **words: str) -> list[dict[str, str]]:
    """Rows of children that share their pronouns."""
    return [
        {"name": name, "new": f"{words['kind']} named {name}", **words}
        for name in names.split()
    ]


def _words(words: str) -> list[dict[str, str]]:
    """Rows of words, each with its article; none here begins with a silent letter."""
    return [
        {"word": word, "new": f"{'an' if word[0] in 'aeiou' else 'a'} {word}"}
        for word in words.split()
    ]


TABLES = {
    "child": [
        *_children(
            "Mia Anna Lucy Nora Ella Rose Ivy Clara", she="she", his="her", kind="girl"
        ),
        *_children(
            "Tom Ben Leo Max Sam Finn Hugo Oscar", she="he", his="his", kind="boy"
        ),
    ],
    "animal": _words("cat dog donkey duck fox goat hen mouse otter owl pony rabbit"),
    "colour": _words("blue golden green orange red silver white yellow"),
    "thing": _words("ball basket boat book drum hat key kite lamp scarf spoon whistle"),
    "place": _words(
        "beach forest garden harbour lake market meadow river village well"
    ),
    "helper": _words("baker elf farmer giant knight ogre queen sailor shepherd witch"),
    "spot": [
        {"phrase": phrase}
        for phrase in (
            "behind the barn",
            "below the cliff",
            "beside the gate",
            "in the tower",
            "inside the oak",
            "near the mill",
            "on the wall",
            "under the bridge",
        )
    ],
    "food": _words("bread cake cheese fish honey jam pudding soup"),
}

# Within a rule the alternatives name new people and things at the same place, counted
# in words: where to look back then hardly varies, which a small model learns faster.
RULES = {
    "story": ["{opening} {loss} {search} {answer} {finding} {ending}"],
    "opening": ["{once} a {hero:child.new} {shared} {friend:animal.new} ."],
    "once": {"Once upon a time ,": 3, "A long time ago ,": 2, "Not so long ago ,": 1},
    "shared": {"lived with": 3, "played with": 2, "looked after": 1},
    "loss": {
        "One {time} , {hero} {lost} {hero.his} {colour:colour} {thing:thing} .": 2,
        "One {time} the wind took {hero.his} {colour:colour} {thing:thing} .": 1,
    },
    "time": {"day": 3, "morning": 2, "evening": 1},
    "lost": {"lost": 2, "missed": 1},
    "search": {
        "{hero.She} and the {friend} went to the {place:place} "
        "and {met} {helper:helper.new} .": 3,
        "So {hero} took the {friend} to the {place:place} "
        "and {met} {helper:helper.new} .": 2,
        "{hero} and the {friend} ran to the {place:place} "
        "and {met} {helper:helper.new} .": 2,
    },
    "met": {"met": 3, "asked": 2, "found": 1},
    "answer": {
        "“ I saw your {thing} {spot:spot} , ” said the {helper} .": 3,
        "“ Oh , the {thing} is {spot:spot} , ” said the {helper} .": 2,
        "The {helper} {spoke} , “ Look {spot:spot} ! ”": 2,
    },
    "spoke": {"said": 2, "whispered": 1},
    "finding": {
        "The {friend} looked {spot} and found the {thing} .": 3,
        "{hero} found it {spot} , and the {friend} danced for joy .": 2,
        "And there {lay} the {thing} !": 1,
    },
    "lay": {"lay": 2, "was": 1},
    "ending": {
        "{hero} gave the {helper} some {food:food} .": 3,
        "Then {hero} and the {helper} shared some {food:food} .": 2,
        "So {hero} thanked the {helper} with some {food:food} .": 2,
    },
}


@functools.cache
def grammar() -> Grammar:
    """The grammar of the tales, built once."""
    return Grammar(RULES, TABLES)


def generate(n: int, seed: int = 0, split: str = "train") -> list[str]:
    """`n` stories, the same ones for the same seed and split.

    Splits ("train", "validation", "test") are independent draws; a larger `n` adds
    stories behind the first ones. Two stories are the same with probability
    `grammar().repeat_probability()`, about 10⁻¹², so held-out stories are new ones.
    Raises ValueError for an unknown split and a negative `n`.
    """
    if split not in SPLITS:
        raise ValueError(f"split is one of {', '.join(SPLITS)}; got {split!r}")
    n, seed = whole("the number of stories", n, 0), whole("a seed", seed, 0)
    rng = np.random.default_rng([seed, zlib.crc32(f"tales.{split}".encode())])
    rules, size = grammar(), grammar().most_choices
    return [text(rules.sample(iter(rng.random(size).tolist()))[0]) for _ in range(n)]


def words(story: str) -> list[str]:
    """The words and punctuation marks of a story; `text` joins them again."""
    return _TOKEN.findall(kind("a story", story, str))


def text(words: Iterable[str]) -> str:
    """The story that these words and punctuation marks make."""
    return re.sub(r" ([.,!”])|(“) ", r"\1\2", " ".join(words))


def vocabulary() -> list[str]:
    """Every word and punctuation mark that the grammar can say, sorted."""
    rules = grammar()
    ways = (way for rule in rules.rules.values() for way in rule.alternatives)
    said = (phrase for way in ways for item in way.items for phrase in rules.said(item))
    return sorted({word for phrase in said for word in phrase})


def log_probability(story: str) -> float:
    """The natural logarithm of a story's probability; -inf if it is no tale of ours."""
    tokens = words(story)
    return grammar().log_probability(tokens) if text(tokens) == story else -math.inf


def entropy() -> float:
    """H, nats a story: what the best possible model loses on average, exactly."""
    return grammar().entropy()


def expected_tokens() -> float:
    """Words and punctuation marks a story, on average, and one for the end token."""
    return grammar().expected_length() + 1


def floor() -> float:
    """The lowest loss a model can reach: nats a token, the end token among them.

    `entropy()` holds for every lossless tokenizer; the tokens counted here are words.
    """
    return entropy() / expected_tokens()


def longest() -> int:
    """Words and punctuation marks of the longest story, without begin and end token."""
    return grammar().longest()


class Excess(NamedTuple):
    """How far a model is above the floor, relative to the floor."""

    value: float
    standard_error: float


def excess(model_nll: Sequence[float], grammar_nll: Sequence[float]) -> Excess:
    """The model's excess over the grammar on the same stories: 0.03 is 3 % above.

    With m_i and g_i the negative log-likelihoods of story i, summed over its tokens and
    the end token, R = Σ(m_i - g_i) / Σ g_i. Pairing removes the luck of the draw: an
    improbable story costs both. The standard error is the ratio estimator's,
    √(Σ e_i² / (n (n - 1))) / mean(g), with residuals e_i = m_i - g_i - R g_i
    (Cochran 1977, "Sampling Techniques", section 6.4).
    """
    model, floor = (
        np.asarray(nll, dtype=np.float64) for nll in (model_nll, grammar_nll)
    )
    if model.shape != floor.shape or model.ndim != 1 or len(model) < 2:
        raise ValueError(
            "excess takes one negative log-likelihood a story from each side, for at "
            f"least two stories; got shapes {model.shape} and {floor.shape}"
        )
    n, difference = len(model), model - floor
    ratio = difference.sum() / floor.sum()
    residuals = difference - ratio * floor
    error = math.sqrt(residuals @ residuals / (n * (n - 1))) / floor.mean()
    return Excess(float(ratio), float(error))
