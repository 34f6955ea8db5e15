"""Dates as people write them, in eight languages and in numbers, beside ISO dates.

Every text has one reading. Where both orders of day and month make a date, 3/4/2024
say, it is not written in numbers, years have four digits, and a year in front is
followed by the month. Notebook 09 translates them with a Transformer.
"""

import functools
import itertools
import re
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np

from .. import random
from ..checks import choice, kind, whole
from .tokenizers import CharTokenizer
from .tokenizers import pad as padded

SPLITS = ("train", "validation", "test")
FIRST, LAST = date(1900, 1, 1), date(2099, 12, 31)
HELD_OUT = 3000  # days for validation, and as many for the test
PAD, BEGIN, END = SPECIAL_TOKENS = ("<|pad|>", "<|begin|>", "<|end|>")
CASES = (str, str, str, str.lower, str.upper)  # as it is written, most of the time

ROMAN = "I II III IV V VI VII VIII IX X XI XII"


class Language(NamedTuple):
    """How dates are written: words for months and weekdays, templates around them.

    `{d}` is the day, `{dd}` with a leading zero, `{m}` and `{mm}` are the month, `{y}`
    the year; `first` is the day 1 where the language counts it.
    """

    months: str = ROMAN
    short: str = ROMAN
    weekdays: str = "- - - - - - -"
    templates: tuple[str, ...] = ()
    first: str = "1"


LANGUAGES = {
    "English": Language(
        "January February March April May June July August September October November "
        "December",
        "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        (
            "{d} {month} {y}", "{d}{th} {month} {y}", "{month} {d}, {y}",
            "{month} {d}{th}, {y}", "the {d}{th} of {month} {y}",
            "{weekday}, {d} {month} {y}", "{weekday}, {month} {d}, {y}",
            "{d} {short} {y}", "{short} {d}, {y}", "{dd}-{short}-{y}",
            "{y} {month} {d}",
        ),
    ),
    "German": Language(
        "Januar Februar März April Mai Juni Juli August September Oktober November "
        "Dezember",
        "Jan. Feb. März Apr. Mai Juni Juli Aug. Sept. Okt. Nov. Dez.",
        "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
        (
            "{d}. {month} {y}", "{weekday}, {d}. {month} {y}", "{d}. {short} {y}",
            "am {d}. {month} {y}", "{weekday}, den {d}. {month} {y}",
        ),
    ),
    "French": Language(
        "janvier février mars avril mai juin juillet août septembre octobre novembre "
        "décembre",
        "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.",
        "lundi mardi mercredi jeudi vendredi samedi dimanche",
        (
            "{d} {month} {y}", "le {d} {month} {y}", "{weekday} {d} {month} {y}",
            "{d} {short} {y}",
        ),
        "1er",
    ),
    "Spanish": Language(
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre "
        "noviembre diciembre",
        "ene feb mar abr may jun jul ago sept oct nov dic",
        "lunes martes miércoles jueves viernes sábado domingo",
        (
            "{d} de {month} de {y}", "el {d} de {month} de {y}",
            "{weekday}, {d} de {month} de {y}", "{d} {short} {y}",
        ),
    ),
    "Italian": Language(
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre "
        "novembre dicembre",
        "gen feb mar apr mag giu lug ago set ott nov dic",
        "lunedì martedì mercoledì giovedì venerdì sabato domenica",
        (
            "{d} {month} {y}", "il {d} {month} {y}", "{weekday} {d} {month} {y}",
            "{d} {short} {y}",
        ),
        "1º",
    ),
    "Portuguese": Language(
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro "
        "novembro dezembro",
        "jan fev mar abr mai jun jul ago set out nov dez",
        "segunda-feira terça-feira quarta-feira quinta-feira sexta-feira sábado "
        "domingo",
        (
            "{d} de {month} de {y}", "em {d} de {month} de {y}",
            "{weekday}, {d} de {month} de {y}", "{dd}/{short}/{y}",
        ),
        "1º",
    ),
    "Dutch": Language(
        "januari februari maart april mei juni juli augustus september oktober "
        "november december",
        "jan feb mrt apr mei jun jul aug sep okt nov dec",
        "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
        (
            "{d} {month} {y}", "op {d} {month} {y}", "{weekday} {d} {month} {y}",
            "{d} {short} {y}",
        ),
    ),
    # No Croatian beside Polish: its listopad is October, theirs is November.
    "Polish": Language(
        "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września "
        "października listopada grudnia",
        ROMAN,
        "poniedziałek wtorek środa czwartek piątek sobota niedziela",
        (
            "{d} {month} {y}", "{d} {month} {y} r.", "{weekday}, {d} {month} {y}",
            "{d} {short} {y}", "{d}.{short}.{y}",
        ),
    ),
    "numbers": Language(
        templates=(
            "{y}-{mm}-{dd}", "{y}/{m}/{d}", "{y}.{mm}.{dd}", "{y}年{m}月{d}日",
            "{y}년 {m}월 {d}일",
        ),
    ),
}  # fmt: skip
# Only for days after the 12th and for those like 3/3: else the order is in doubt.
EITHER_ORDER = (
    "{dd}/{mm}/{y}", "{m}/{d}/{y}", "{d}.{m}.{y}", "{dd}-{mm}-{y}",
)  # fmt: skip


class Example(NamedTuple):
    """A date as somebody wrote it, as ISO 8601 writes it, and in which language."""

    text: str
    iso: str
    language: str


def generate(n, seed=0, split="train"):
    """`n` Examples, the same ones for the same seed and split.

    The splits share no day, and so no text: a text has one reading. Each goes through
    its days in a random order, then through all of them again, written anew; a larger
    `n` adds examples behind the first ones. Raises ValueError for an unknown split and
    a negative `n`.
    """
    choice("split", split, SPLITS)
    n, seed = whole("the number of dates", n, 0), whole("a seed", seed, 0)
    examples, own = [], days(split)
    for round_ in itertools.count():
        if len(examples) == n:
            return examples
        rng = random.at(f"dates.{split}", round_, seed)
        order = rng.permutation(own).tolist()[: n - len(examples)]
        draws = rng.random((len(own), 3)).tolist()
        examples += map(_example, order, draws[: len(order)])


@functools.cache
def days(split):
    """The days of a split as ordinals, an array: the same ones for every seed."""
    count = LAST.toordinal() - FIRST.toordinal() + 1
    order = FIRST.toordinal() + random.at("dates.splits", 0, seed=0).permutation(count)
    order.setflags(write=False)  # it is kept for all
    validation, test, train = np.split(order, [HELD_OUT, 2 * HELD_OUT])
    return {"train": train, "validation": validation, "test": test}[split]


def _example(ordinal, draws):
    day = date.fromordinal(ordinal)
    language = _drawn(tuple(LANGUAGES), draws[0])
    template = _drawn(templates(language, day), draws[1])
    text = spell(day, language, template)
    return Example(_drawn(CASES, draws[2])(text), day.isoformat(), language)


def _drawn(ways, share):
    return ways[int(share * len(ways))]


def templates(language, day):
    """The templates of a language in which this day has one reading."""
    known = LANGUAGES[language].templates
    clear = day.day > 12 or day.day == day.month
    return known + EITHER_ORDER if language == "numbers" and clear else known


def spell(day, language, template):
    """The text that a template of a language makes of a `datetime.date`."""
    words, number = LANGUAGES[language], day.day
    last = 0 if number in (11, 12, 13) else min(number % 10, 4)
    return template.format(
        d=words.first if number == 1 else number, dd=f"{number:02}", m=day.month,
        mm=f"{day.month:02}", y=day.year, th=("th", "st", "nd", "rd", "th")[last],
        month=words.months.split()[day.month - 1],
        short=words.short.split()[day.month - 1],
        weekday=words.weekdays.split()[day.weekday()],
    )  # fmt: skip


# ---- reading by hand ----------------------------------------------------------------


@functools.cache
def month_words():
    """{word or abbreviation, in small letters without a point: month, 1 to 12}."""
    return {
        word.casefold().rstrip("."): number
        for language in LANGUAGES.values()
        for names in (language.months, language.short)
        for number, word in enumerate(names.split(), 1)
    }


def pieces(text):
    """The numbers and the words of a text, these in small letters."""
    return re.findall(r"\d+|[^\W\d_]+", text.casefold())


def readings(text):
    """Every date that a text may mean: a set of ISO dates.

    A number of four digits is the year. The month is a word, or else one of the other
    two numbers: either of them, but the first where the year stands in front. Other
    words do not count. Knows the words of LANGUAGES, and none of the templates.
    """
    numbers = [piece for piece in pieces(text) if piece.isdecimal()]
    years = [int(number) for number in numbers if len(number) == 4]
    others = [int(number) for number in numbers if len(number) != 4]
    months = [month_words()[word] for word in pieces(text) if word in month_words()]
    if months:
        pairs = itertools.product(months, others)
    elif numbers and len(numbers[0]) == 4:
        pairs = itertools.combinations(others, 2)  # in their order
    else:
        pairs = itertools.permutations(others, 2)
    found = {_iso(year, *pair) for pair, year in itertools.product(pairs, years)}
    return found - {None}


def _iso(year, month, day):
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None  # there is no such day


# ---- ids ----------------------------------------------------------------------------


@functools.cache
def tokenizer():
    """A CharTokenizer for all that can be written here; SPECIAL_TOKENS come last."""
    year = [date(2024, 1, 1) + timedelta(days=number) for number in range(366)]
    texts = {
        spell(day, language, template)
        for language in LANGUAGES
        for day in year
        for template in templates(language, day)
    }
    characters = "".join(sorted(set("".join(texts))))
    cases = [case(characters) for case in CASES]
    return CharTokenizer.train(cases, special_tokens=SPECIAL_TOKENS)


def encode(texts):
    """Ids of texts as people write them, padded at their end: (N, S).

    Raises ValueError for a character that no date here has.
    """
    coder = tokenizer()
    kind("dates.encode: texts, several at a time,", texts, list, tuple)
    ids = [coder.encode(text) for text in texts]
    return padded(ids, coder.special_tokens[PAD])[0]


def arrays(examples):
    """Ids of Examples: sources (N, S), inputs (N, 11), targets (N, 11).

    Inputs are the ISO date after the begin token, targets the date before the end.
    """
    coder = tokenizer()
    begin, end = coder.special_tokens[BEGIN], coder.special_tokens[END]
    iso = np.array([coder.encode(example.iso) for example in examples])
    inputs, targets = np.pad(iso, ((0, 0), (1, 0))), np.pad(iso, ((0, 0), (0, 1)))
    inputs[:, 0], targets[:, -1] = begin, end
    return encode([example.text for example in examples]), inputs, targets


def decode(ids):
    """The texts of rows of ids (N, T), each up to its end token."""
    coder = tokenizer()
    end = coder.special_tokens[END]
    return [
        coder.decode(list(itertools.takewhile(lambda i: i != end, row)),
                     skip_special_tokens=True)
        for row in np.asarray(ids).tolist()
    ]  # fmt: skip
