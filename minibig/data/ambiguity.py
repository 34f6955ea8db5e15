"""Can a grammar make one text in two ways? A check that proves it cannot."""

from itertools import combinations

from minibig.data.grammar import Bind, Expand, Grammar


def conflicts(grammar: Grammar) -> list[str]:
    """The pairs of ways that cannot be told apart from the left; empty is a proof.

    At each choice, a rule's or a table's, no text of one way may begin (or be) a text
    of another. Then a text read from the left admits one way at every choice, and has
    one derivation. What is remembered counts here as any row of its table: this only
    adds texts, so the proof holds for the grammar with its memory. The converse does
    not: a grammar with conflicts can still be unambiguous.
    """
    found = []
    for name in grammar.order:
        ways = [way.items for way in grammar.rules[name].alternatives]
        choices = {name: ways}
        for item in (item for items in ways for item in items):
            if isinstance(item, Bind):
                choices[f"{item.table}.{item.field}"] = grammar.said(item)
        for choice, options in choices.items():
            for first, second in combinations(options, 2):
                if _one_begins_the_other(grammar, first, second):
                    found.append(f"{choice}: {first} against {second}")
    return found


def _one_begins_the_other(grammar: Grammar, first: tuple, second: tuple) -> bool:
    """Whether some text of one sequence of items begins some text of the other."""
    seen, pairs = set(), [(first, second)]
    while pairs:
        pair = pairs.pop()
        if not all(pair):  # one text has ended, and they agreed so far
            return True
        if pair not in seen:
            seen.add(pair)
            ways = [list(_first_words(grammar, items)) for items in pair]
            pairs += [(a, b) for x, a in ways[0] for y, b in ways[1] if x == y]
    return False


def _first_words(grammar: Grammar, items: tuple):
    """Every first word of `items`, each with the items that are left after it."""
    head, rest = items[0], items[1:]
    if isinstance(head, Expand):
        for way in grammar.rules[head.rule].alternatives:
            yield from _first_words(grammar, way.items + rest)
    else:
        for said in set(grammar.said(head)):
            yield said[0], said[1:] + rest
