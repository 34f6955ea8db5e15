"""Dates as people write them: one reading each, splits without a common day, ids."""

import itertools
from datetime import date, timedelta

import numpy as np
import pytest

from minibig.data import dates


@pytest.mark.parametrize("language", dates.LANGUAGES)
@pytest.mark.parametrize("year", [2000, 1999])  # with 29 February, and without
def test_every_text_has_one_reading(language, year):
    """All days, templates and cases; a year adds four digits and moves weekdays, whose
    names are held against the months' below."""
    day = date(year, 1, 1)
    while day.year == year:
        for template in dates.templates(language, day):
            text = dates.spell(day, language, template)
            assert {str(day)} == dates.readings(text) == dates.readings(text.upper())
            assert dates.readings(text.lower()) == {str(day)}
        day += timedelta(days=1)


def test_no_word_means_two_months():
    meanings = {}
    for language in dates.LANGUAGES.values():
        for names in (language.months, language.short):
            assert len(names.split()) == 12
            for month, word in enumerate(names.split(), 1):
                meanings.setdefault(word.casefold().rstrip("."), set()).add(month)
    assert all(len(months) == 1 for months in meanings.values())
    assert {w: m for w, (m,) in meanings.items()} == dates.month_words()
    assert meanings["sept"] == {9} and meanings["mrt"] == meanings["iii"] == {3}


def test_no_other_word_is_that_of_a_month():
    """Spanish "mar." would be Tuesday and March: weekdays are written out."""
    for name, language in dates.LANGUAGES.items():
        frames = [t.format_map(dict.fromkeys(FIELDS, " ")) for t in language.templates]
        texts = [*language.weekdays.split(), *frames, language.first]
        words = {word for text in texts for word in dates.pieces(text)}
        assert not words & dates.month_words().keys(), name
        assert len(language.weekdays.split()) == 7


FIELDS = ("d", "dd", "th", "m", "mm", "y", "month", "short", "weekday")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3/4/2024", {"2024-03-04", "2024-04-03"}),
        ("3/3/2024", {"2024-03-03"}),
        ("13/4/2024", {"2024-04-13"}),
        ("2024-03-04", {"2024-03-04"}),
        ("30.2.2024", set()),
        ("29 février 2023", set()),
        ("29 février 2024", {"2024-02-29"}),
        ("May or June 5, 2024", {"2024-05-05", "2024-06-05"}),
        ("5 May", set()),
        ("", set()),
    ],
)
def test_a_reader_finds_all_that_a_text_may_mean(text, expected):
    assert dates.readings(text) == expected


@pytest.mark.parametrize(
    ("day", "language", "template", "expected"),
    [
        ("2024-03-01", "English", "{month} {d}{th}, {y}", "March 1st, 2024"),
        ("2024-03-12", "English", "the {d}{th} of {month} {y}",
         "the 12th of March 2024"),
        ("2024-03-22", "English", "{d}{th} {month} {y}", "22nd March 2024"),
        ("2024-03-03", "English", "{d}{th} {short} {y}", "3rd Mar 2024"),
        ("2024-03-05", "German", "{weekday}, den {d}. {month} {y}",
         "Dienstag, den 5. März 2024"),
        ("2024-03-01", "French", "le {d} {month} {y}", "le 1er mars 2024"),
        ("2024-03-05", "numbers", "{y}年{m}月{d}日", "2024年3月5日"),
        ("2024-03-05", "Polish", "{d}.{short}.{y}", "5.III.2024"),
    ],
)  # fmt: skip
def test_a_template_makes_the_text_that_people_write(day, language, template, expected):
    assert dates.spell(date.fromisoformat(day), language, template) == expected


def test_examples_are_a_function_of_seed_and_split_and_place():
    first = dates.generate(50, seed=3, split="test")
    assert dates.generate(80, seed=3, split="test")[:50] == first
    assert dates.generate(50, seed=4, split="test") != first
    np.random.seed(0)
    assert dates.generate(50, seed=3, split="test") == first
    assert dates.generate(0) == []


def test_splits_share_no_day_and_no_text():
    parts = {split: dates.generate(4000, split=split) for split in dates.SPLITS}
    days = {split: set(dates.days(split).tolist()) for split in dates.SPLITS}
    for one, other in itertools.combinations(dates.SPLITS, 2):
        assert not days[one] & days[other]
        texts = [{example.text for example in parts[split]} for split in (one, other)]
        assert not texts[0] & texts[1]
    assert sum(map(len, days.values())) == 73049  # 200 years with 49 leap days
    for split, examples in parts.items():
        found = {date.fromisoformat(e.iso).toordinal() for e in examples}
        assert found <= days[split]
        assert len(found) == min(4000, len(days[split]))  # each day, then each again


def test_examples_are_of_all_languages_forms_and_cases():
    examples = dates.generate(3000)
    counts = {name: 0 for name in dates.LANGUAGES}
    for example in examples:
        counts[example.language] += 1
        assert dates.readings(example.text) == {example.iso}
    assert min(counts.values()) > 3000 / 9 - 80
    letters = [e.text for e in examples if e.language == "French"]
    assert 0.1 < np.mean([text.isupper() for text in letters]) < 0.3
    days = [int(e.text.partition("/")[0]) for e in examples if is_slashed(e.text)]
    assert min(days) <= 12 < max(days)


def is_slashed(text):
    return text.replace("/", "").isdigit() and len(text.partition("/")[0]) < 3


# ---- ids ----------------------------------------------------------------------------


def test_arrays_are_texts_and_dates_in_ids():
    examples = dates.generate(200)
    sources, inputs, targets = dates.arrays(examples)
    coder = dates.tokenizer()
    pad, begin, end = (coder.special_tokens[name] for name in dates.SPECIAL_TOKENS)
    assert inputs.shape == targets.shape == (200, 11)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    assert (inputs[:, 0] == begin).all() and (targets[:, -1] == end).all()
    assert dates.decode(targets) == [example.iso for example in examples]
    for row, example in zip(sources, examples, strict=True):
        assert coder.decode(row[row != pad]) == example.text
        assert (row[len(example.text) :] == pad).all()


def test_text_ends_at_the_end_token():
    coder = dates.tokenizer()
    end = coder.special_tokens[dates.END]
    ids = [[*coder.encode("2024"), end, *coder.encode("-0")], coder.encode("1999-01")]
    assert dates.decode(ids) == ["2024", "1999-01"]


def test_tokenizer_knows_every_character_that_can_be_drawn():
    coder = dates.tokenizer()
    dates.encode([e.text for e in dates.generate(5000, seed=9)])
    assert coder.vocab_size < 128
    with pytest.raises(ValueError, match="'ß'"):
        dates.encode(["5. März 2024, ß"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dates.generate(-1), ValueError, "the number of dates .*at least 0"),
        (
            lambda: dates.generate(2.5),
            ValueError,
            "the number of dates must be a whole",
        ),
        (lambda: dates.generate(1, split="dev"), ValueError, 'split is one of "train"'),
        (lambda: dates.generate(1, seed=-1), ValueError, "a seed must be a whole"),
    ],
)
def test_mistake_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
