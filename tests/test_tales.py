"""The tales' exact numbers, against brute force and against what they generate."""

import itertools
import math
import re

import numpy as np
import pytest

from minibig.data import tales
from minibig.data.ambiguity import conflicts
from minibig.data.grammar import Bind, Expand, Grammar
from minibig.data.ngram import TrigramModel
from minibig.data.tokenizers import WordTokenizer

SMALL = {
    "story": {"{hero:child} met {who} . {end}": 3, "{long} {hero:child} slept .": 1},
    "long": ["Long ago ,", "One day ,"],
    "who": {"a {friend:animal}": 1, "the old {friend:animal.word} {twin}": 2},
    "twin": ["and {other:animal.two}", "{friend}"],
    "end": {"{hero.She} liked the {friend} .": 5, "The {friend} ran .": 2},
}
SMALL_TABLES = {
    "child": [
        {"name": "Mia", "she": "she"},
        {"name": "Tom", "she": "he"},
        {"name": "Ben", "she": "he"},
    ],
    "animal": [{"word": "cat", "two": "two cats"}, {"word": "owl", "two": "two owls"}],
}


@pytest.fixture(scope="module")
def small():
    return Grammar(SMALL, SMALL_TABLES)


@pytest.fixture(scope="module")
def held_out():
    return tales.generate(2000, split="test")


@pytest.fixture(scope="module")
def held_out_nll(held_out):
    return np.array([-tales.log_probability(story) for story in held_out])


def enumerate_texts(grammar):
    """Every derivation's words and probability, without the grammar's own methods."""

    def expand(items, rows):
        if not items:
            yield (), 1.0
            return
        item, rest = items[0], items[1:]
        if isinstance(item, str):
            options = [((item,), 1.0, (), rows)]
        elif isinstance(item, Expand):
            ways = grammar.rules[item.rule].alternatives
            options = [((), way.probability, way.items, rows) for way in ways]
        elif isinstance(item, Bind):
            found = grammar.tables[item.table].rows
            options = [
                (row[item.field], 1 / len(found), (), {**rows, item.variable: row})
                for row in found
            ]
        else:
            options = [(rows[item.variable][item.field], 1.0, (), rows)]
        for said, p, inner, known in options:
            for words, q in expand(inner + rest, known):
                yield said + words, p * q

    return list(expand((Expand(grammar.start),), {}))


# A small grammar, by brute force


def test_small_grammar_makes_each_text_in_one_way(small):
    texts = enumerate_texts(small)
    assert len({words for words, _ in texts}) == len(texts) == 54
    assert math.fsum(p for _, p in texts) == pytest.approx(1, abs=1e-14)
    assert conflicts(small) == []


def test_small_grammar_gives_each_text_its_enumerated_probability(small):
    for words, p in enumerate_texts(small):
        assert small.derivations(words) == [pytest.approx(math.log(p), abs=1e-12)]
        assert small.log_probability(words) == pytest.approx(math.log(p), abs=1e-12)


def test_small_grammar_refuses_every_other_text_of_its_words(small):
    texts = {words for words, _ in enumerate_texts(small)}
    for words in texts:
        for i, other in itertools.product(range(len(words)), ("cat", "owl", "Tom")):
            changed = (*words[:i], other, *words[i + 1 :])
            assert (small.derivations(changed) != []) == (changed in texts)


def test_small_grammar_expectations_equal_the_enumerated_ones(small):
    texts = enumerate_texts(small)
    entropy = -math.fsum(p * math.log(p) for _, p in texts)
    length = math.fsum(p * len(words) for words, p in texts)
    assert small.entropy() == pytest.approx(entropy, abs=1e-12)
    assert small.expected_length() == pytest.approx(length, abs=1e-12)
    assert small.longest() == max(len(words) for words, _ in texts)
    assert small.repeat_probability() == pytest.approx(
        math.fsum(p * p for _, p in texts), abs=1e-14
    )


def test_small_grammar_draws_texts_as_often_as_their_probability(small):
    uniforms = iter(np.random.default_rng(0).random(200_000).tolist())
    drawn = [tuple(small.sample(uniforms)[0]) for _ in range(20_000)]
    for words, p in enumerate_texts(small):
        spread = math.sqrt(p * (1 - p) / len(drawn))
        assert abs(drawn.count(words) / len(drawn) - p) < 4.5 * spread


@pytest.mark.parametrize(
    "rules",
    [
        {"story": ["{a} {b}"], "a": ["x", "x y"], "b": ["y z", "z"]},
        {"story": ["a {b}", "a b c"], "b": ["b {c}"], "c": ["c", "d"]},
        {"story": ["{x:word} {y:word}", "one two"]},
    ],
)
def test_ambiguous_grammars_are_found_out(rules):
    rows = [{"word": "one"}, {"word": "two"}]
    grammar = Grammar(rules, {"word": rows})
    texts = [words for words, _ in enumerate_texts(grammar)]
    twice = next(words for words in texts if texts.count(words) > 1)
    assert len(grammar.derivations(twice)) == 2
    both = sum(math.exp(log) for log in grammar.derivations(twice))
    assert grammar.log_probability(twice) == pytest.approx(math.log(both))
    assert conflicts(grammar)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"story": ["a {story}", "b"]}, "contains itself"),
        ({"story": ["a {other}"]}, "no such rule"),
        ({"story": ["{x:nothing}"]}, "no such rule"),
        ({"story": ["{x:word.size}"]}, "no such field"),
        ({"story": ["{x} {x:word}"]}, "before it is drawn"),
        ({"story": ["{a} {x}"], "a": ["{x:word}", "b"]}, "before it is drawn"),
        ({"story": ["{x:word} {x:long}"]}, "two tables"),
        ({"story": ["a{x:word}"]}, "between spaces"),
        ({"story": {"a": 1, "b": 0}}, "positive weights"),
        ({"story": ["a", " "]}, "needs words"),
        ({"tale": ["a"]}, "start"),
    ],
)
def test_malformed_rules_are_refused(rules, message):
    tables = {"word": [{"word": "one"}], "long": [{"word": "two"}]}
    with pytest.raises(ValueError, match=message):
        Grammar(rules, tables)


@pytest.mark.parametrize(
    "rows", [[], [{"a": "x"}, {"b": "x"}], [{"a": "x"}, {"a": "x y"}], [{"a": ""}]]
)
def test_malformed_tables_are_refused(rows):
    with pytest.raises(ValueError, match="table 'word'"):
        Grammar({"story": ["{x:word}"]}, {"word": rows})


# The tales


def test_no_two_choices_of_the_tales_can_be_confused():
    assert conflicts(tales.grammar()) == []


def test_each_tale_has_one_derivation_with_the_probability_it_was_drawn_with():
    grammar = tales.grammar()
    rng = np.random.default_rng(0)
    for _ in range(3000):
        words, log_probability = grammar.sample(iter(rng.random(100).tolist()))
        assert grammar.derivations(words) == [pytest.approx(log_probability, abs=1e-9)]


def test_mean_nll_of_drawn_tales_is_the_entropy_and_cannot_be_memorised(held_out_nll):
    error = held_out_nll.std(ddof=1) / math.sqrt(len(held_out_nll))
    assert abs(held_out_nll.mean() - tales.entropy()) < 3 * error
    assert tales.entropy() >= 20


def test_mean_length_of_drawn_tales_is_the_expected_one(held_out):
    lengths = np.array([len(tales.words(story)) + 1 for story in held_out])
    error = lengths.std(ddof=1) / math.sqrt(len(lengths))
    assert abs(lengths.mean() - tales.expected_tokens()) < 3 * error
    assert tales.floor() == tales.entropy() / tales.expected_tokens()
    assert lengths.max() - 1 <= tales.longest() <= 100


def test_tales_survive_the_way_to_words_and_back(held_out):
    known = set(tales.vocabulary())
    for story in held_out:
        assert tales.text(tales.words(story)) == story
        assert known.issuperset(tales.words(story))
    assert known == {word for story in held_out for word in tales.words(story)}


def test_word_tokenizer_counts_the_tokens_that_the_floor_counts(held_out):
    tokenizer = WordTokenizer.train(held_out, unknown=False)
    assert tokenizer.vocab_size < 250
    for story in held_out[:200]:
        ids = tokenizer.encode(story)
        assert len(ids) == len(tales.words(story))
        assert tokenizer.decode(ids) == story


def test_articles_fit_the_next_word(held_out):
    found = re.findall(r"\b([Aa]n?) (\w)", " ".join(held_out))
    assert len(found) > 4000
    for article, letter in found:
        assert (article.lower() == "an") == (letter in "aeiou")


def test_pronouns_agree_with_the_child(held_out):
    for story in held_out:
        pronouns = set(re.findall(r"\b(she|her|he|his|him)\b", story.lower()))
        allowed = {"she", "her"} if "girl named" in story else {"he", "his", "him"}
        assert pronouns <= allowed


def test_stories_are_repeatable_and_longer_corpora_extend_shorter_ones():
    assert tales.generate(20, seed=3) == tales.generate(50, seed=3)[:20]
    assert tales.generate(20, seed=3) != tales.generate(20, seed=4)
    with pytest.raises(ValueError, match="validation"):
        tales.generate(1, split="dev")
    with pytest.raises(ValueError, match="at least 0"):
        tales.generate(-1)


def test_held_out_stories_are_new(held_out):
    train = tales.generate(10_000)
    assert len({*train, *held_out}) == 12_000
    assert 100_000 * 2_000 * tales.grammar().repeat_probability() < 0.01


def test_texts_that_are_no_tales_have_probability_zero(held_out):
    story = held_out[0]
    name = re.search(r"named (\w+)", story)[1]
    other = "Mia" if name != "Mia" else "Tom"
    head, _, tail = story.rpartition(name)
    wrong = ["", "Hello.", story[:-1], story + " The end.", story + " ", story.lower()]
    wrong += [story.replace(" ", "  ", 1), story.replace(" .", "."), story + "."]
    wrong += [head + other + tail, story.replace(" lived ", " live "), story + story]
    for text in wrong:
        assert text == story or tales.log_probability(text) == -math.inf
    assert head + other + tail != story


# Judging models


def test_trigram_stays_far_above_the_floor(held_out, held_out_nll):
    corpus = [tales.words(story) for story in tales.generate(20_000)]
    validation = [tales.words(s) for s in tales.generate(1000, split="validation")]
    model = TrigramModel(corpus, validation)
    nll = model.negative_log_likelihoods([tales.words(story) for story in held_out])
    excess = tales.excess(nll, held_out_nll)
    assert excess.value - 3 * excess.standard_error > 0.25


def test_trigram_probabilities_of_all_next_tokens_sum_to_one():
    model = TrigramModel([["a", "b", "a"], ["b", "b"]], [["a", "b"], ["c"]])
    end = model.negative_log_likelihoods([["a"]])[0]
    first = [model.negative_log_likelihoods([["a", x]])[0] for x in ("a", "b", "new")]
    ends = [model.negative_log_likelihoods([["a", x, "a"]])[0] for x in ("a", "b")]
    assert np.isfinite([end, *first, *ends]).all()
    begin = model._triples([[]])[0, :2]
    nexts = np.array([[*begin, index] for index in range(model._size) if index != 1])
    components, group = model._components(nexts)
    assert (model._weights[group] * components).sum() == pytest.approx(1, abs=1e-12)


def test_trigram_sums_each_text_by_itself():
    corpus = [tales.words(story) for story in tales.generate(60)]
    model = TrigramModel(corpus[:40], corpus[40:])
    together = model.negative_log_likelihoods(corpus)
    apart = [model.negative_log_likelihoods([words])[0] for words in corpus]
    np.testing.assert_allclose(together, apart, rtol=1e-12)
    assert model.negative_log_likelihoods([]).shape == (0,)
    with pytest.raises(ValueError, match="held out"):
        TrigramModel(corpus, [])


def test_excess_is_the_ratio_and_its_standard_error_that_of_repeated_samples():
    rng = np.random.default_rng(0)
    grammar = rng.normal(30, 3, (4000, 50))
    model = grammar * 1.02 + rng.gamma(2, 0.3, grammar.shape)
    results = [tales.excess(m, g) for m, g in zip(model, grammar, strict=True)]
    values, errors = np.array(results).T
    assert values[0] == pytest.approx(model[0].sum() / grammar[0].sum() - 1)
    assert errors.mean() == pytest.approx(values.std(), rel=0.05)
    assert tales.excess(grammar[0], grammar[0]) == (0, 0)


@pytest.mark.parametrize("shape", [(3,), (4, 1), (1,)])
def test_excess_refuses_what_is_not_paired(shape):
    with pytest.raises(ValueError, match="shapes"):
        tales.excess(np.ones(shape), np.ones(1 if shape == (1,) else 4))
