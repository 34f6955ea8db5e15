"""Weighted grammars with memory, and the exact probabilities of their texts.

A grammar has *rules* and *tables*. A rule lists weighted alternatives: templates of
words separated by spaces, in which

- `{rule}` stands for one of that rule's alternatives,
- `{hero:child}` draws a row of the table `child`, remembers it as `hero` and says the
  row's first field; `{hero:child.new}` says its field `new` instead,
- `{hero}` and `{hero.his}` say fields of the remembered row again, and `{hero.His}`
  says the field `his` with a capital letter.

A text's probability is the product of its choices. Two properties make that exact, and
both are checked. No rule contains itself, so texts have a longest length. And no text
of one alternative begins a text of another one of the same rule (see
`ambiguity.conflicts`): read from the left, a text leaves a single choice each time,
hence it has a single derivation. Choices do not depend on what is remembered, so that
expectations are sums over rules (Booth and Thompson 1973, "Applying probability
measures to abstract languages", IEEE Transactions on Computers C-22).
"""

import math
import re
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

_PLACEHOLDER = re.compile(r"\{(\w+)(?::(\w+))?(?:\.(\w+))?\}")


class Expand(NamedTuple):
    """A rule to be expanded."""

    rule: str


class Bind(NamedTuple):
    """A table's row to be drawn, remembered under a variable's name, and said."""

    variable: str
    table: str
    field: str


class Say(NamedTuple):
    """A field of a remembered row; the table it is from gives its length."""

    variable: str
    table: str
    field: str


Item = str | Expand | Bind | Say


class Alternative(NamedTuple):
    """One way to expand a rule."""

    items: tuple[Item, ...]
    probability: float
    choices: list[str]  # the rules and tables that it uses
    length: int  # its own words, without those of the rules that it uses


class Table:
    """Rows drawn with equal chance; a field has the same number of words in each."""

    def __init__(self, name: str, rows: Sequence[Mapping[str, str]]):
        fields = [tuple(row) for row in rows]
        lengths = [[len(text.split()) for text in row.values()] for row in rows]
        if not rows or fields != fields[:1] * len(rows):
            raise ValueError(f"table {name!r}: every row needs the same fields")
        if lengths != lengths[:1] * len(rows) or 0 in lengths[0]:
            raise ValueError(
                f"table {name!r}: a field needs the same number of words in every "
                "row, at least one, so that lengths do not depend on the row drawn"
            )
        self.first = fields[0][0]
        self.rows = [{f: tuple(text.split()) for f, text in r.items()} for r in rows]
        for row in self.rows:
            for field, (head, *tail) in tuple(row.items()):
                row.setdefault(field.capitalize(), (head.capitalize(), *tail))
        self.entropy = math.log(len(rows))

    def length(self, field: str) -> int:
        """Words of a field."""
        return len(self.rows[0][field])


class Rule:
    """Alternatives and their probabilities."""

    def __init__(self, alternatives: list[Alternative]):
        self.alternatives = alternatives
        probabilities = [alternative.probability for alternative in alternatives]
        self.logs = [math.log(p) for p in probabilities]
        self.steps = list(accumulate(probabilities))[:-1]
        self.entropy = -math.fsum(p * math.log(p) for p in probabilities)


class Grammar:
    """A weighted grammar in the notation at the head of this module.

    `rules` maps each name to its alternatives: a list of templates, or a dict from
    template to weight. `tables` maps each name to rows, dicts from field to words.
    Raises ValueError for unknown names, empty alternatives, weights that are not
    positive, rules that contain themselves, and variables that may be said before
    they are drawn.
    """

    def __init__(self, rules: Mapping, tables: Mapping | None = None, start="story"):
        self.start = start
        self.tables = {name: Table(name, rows) for name, rows in (tables or {}).items()}
        self._variables: dict[str, str] = {}  # each with the table it is drawn from
        for templates in rules.values():
            for variable, table, _ in _PLACEHOLDER.findall(" ".join(templates)):
                if table and self._variables.setdefault(variable, table) != table:
                    raise ValueError(f"variable {variable!r} is drawn from two tables")
        same = {*rules} & {*self.tables, *self._variables}
        if same or start not in rules:
            raise ValueError(
                f"rules need names of their own ({sorted(same)} are taken), and one of "
                f"them must be the start, {start!r}"
            )
        self.rules = dict.fromkeys(rules)
        for name, templates in rules.items():
            self.rules[name] = self._rule(name, templates)
        self.order = self._topological_order()
        self._check_drawn((Expand(start),), frozenset())
        #: The most choices that one text can take.
        self.most_choices = self._fold(
            lambda table: 1, lambda ways: 1 + max(sum(x) for _, x in ways)
        )

    def _rule(self, name: str, templates) -> Rule:
        named = isinstance(templates, Mapping)
        weights = list(templates.values()) if named else [1.0] * len(templates)
        if not templates or min(weights) <= 0 or not all(map(str.split, templates)):
            raise ValueError(f"rule {name!r} needs words and positive weights")
        alternatives = []
        for template, weight in zip(templates, weights, strict=True):
            items = tuple(self._item(part) for part in template.split())
            choices = [item.rule for item in items if isinstance(item, Expand)]
            choices += [item.table for item in items if isinstance(item, Bind)]
            length = sum(len(said[0]) for said in map(self.said, items) if said)
            probability = weight / math.fsum(weights)
            alternatives.append(Alternative(items, probability, choices, length))
        return Rule(alternatives)

    def _item(self, part: str) -> Item:
        match = _PLACEHOLDER.fullmatch(part)
        if match is None:
            if "{" in part or "}" in part:
                raise ValueError(f"{part!r}: a placeholder stands between spaces")
            return part
        name, table, field = match.groups()
        if name in self.rules and field is None:
            return Expand(name)
        source = self._variables.get(name)
        if source not in self.tables:
            raise ValueError(f"{part!r}: no such rule, variable or table")
        field = field or self.tables[source].first
        if field not in self.tables[source].rows[0]:
            raise ValueError(f"{part!r}: the table {source!r} has no such field")
        return Bind(name, source, field) if table else Say(name, source, field)

    def said(self, item: Item) -> list[tuple[str, ...]]:
        """What an item may say, one entry a row; nothing for a rule."""
        if isinstance(item, Expand):
            return []
        if isinstance(item, str):
            return [(item,)]
        return [row[item.field] for row in self.tables[item.table].rows]

    def _topological_order(self) -> list[str]:
        """The rules that the start reaches, each before those that it uses."""
        order, path = [], []

        def visit(name):
            if name in path:
                raise ValueError(
                    f"rule {name!r} contains itself ({' > '.join([*path, name])}): "
                    "texts would have no longest length"
                )
            path.append(name)
            for alternative in self.rules[name].alternatives:
                for used in alternative.choices:
                    if used in self.rules and used not in order:
                        visit(used)
            order.append(path.pop())

        visit(self.start)
        return order[::-1]

    def _check_drawn(self, items: tuple[Item, ...], drawn: frozenset) -> frozenset:
        """The variables that are certainly drawn after `items`."""
        for item in items:
            if isinstance(item, Bind):
                drawn |= {item.variable}
            elif isinstance(item, Say) and item.variable not in drawn:
                raise ValueError(f"{item.variable!r} may be said before it is drawn")
            elif isinstance(item, Expand):
                ways = self.rules[item.rule].alternatives
                after = [self._check_drawn(way.items, drawn) for way in ways]
                drawn = frozenset.intersection(*after)
        return drawn

    def sample(self, uniforms: Iterator[float]) -> tuple[list[str], float]:
        """A text's words, and the log-probability of the choices that made it.

        Takes at most `most_choices` numbers from `uniforms`, each in [0, 1).
        """
        words, rows, log_probability = [], {}, 0.0
        pending = [Expand(self.start)]
        while pending:
            item = pending.pop()
            if isinstance(item, str):
                words.append(item)
            elif isinstance(item, Expand):
                rule = self.rules[item.rule]
                choice = bisect(rule.steps, next(uniforms)) if rule.steps else 0
                log_probability += rule.logs[choice]
                pending += rule.alternatives[choice].items[::-1]
            else:
                if isinstance(item, Bind):
                    table = self.tables[item.table]
                    row = table.rows[int(next(uniforms) * len(table.rows))]
                    rows[item.variable] = row
                    log_probability -= table.entropy
                words += rows[item.variable][item.field]
        return words, log_probability

    def derivations(self, words: Sequence[str]) -> list[float]:
        """The log-probability of each derivation of `words`: none, one, or several.

        Every choice is tried, so an ambiguous text is found out.
        """
        words, found = tuple(words), []
        states = [((Expand(self.start),), 0, {}, 0.0)]
        while states:
            pending, position, rows, log_probability = states.pop()
            if not pending:
                found += [log_probability] * (position == len(words))
                continue
            item, rest = pending[0], pending[1:]
            if isinstance(item, Expand):
                rule = self.rules[item.rule]
                for way, log in zip(rule.alternatives, rule.logs, strict=True):
                    after = (way.items + rest, position, rows, log_probability + log)
                    states.append(after)
            elif isinstance(item, Bind):
                table = self.tables[item.table]
                end = position + table.length(item.field)
                for row in table.rows:
                    if row[item.field] == words[position:end]:
                        known = {**rows, item.variable: row}
                        states.append(
                            (rest, end, known, log_probability - table.entropy)
                        )
            else:
                said = (item,)
                if isinstance(item, Say):
                    said = rows[item.variable][item.field]
                end = position + len(said)
                if said == words[position:end]:
                    states.append((rest, end, rows, log_probability))
        return found

    def log_probability(self, words: Sequence[str]) -> float:
        """The natural logarithm of a text's probability; -inf where it has none."""
        return float(np.logaddexp.reduce(self.derivations(words)))

    def expected_uses(self) -> dict[str, float]:
        """How often a text uses each rule and each table, on average."""
        uses = dict.fromkeys((*self.order, *self.tables), 0.0)
        uses[self.start] = 1.0
        for name in self.order:
            for way in self.rules[name].alternatives:
                for used in way.choices:
                    uses[used] += uses[name] * way.probability
        return uses

    def entropy(self) -> float:
        """H in nats a text: the sum over all choices of expected uses times entropy."""
        choices = {**self.tables, **self.rules}
        uses = self.expected_uses()
        return math.fsum(uses[name] * choices[name].entropy for name in uses)

    def expected_length(self) -> float:
        """Words a text, on average."""
        uses = self.expected_uses()
        return math.fsum(
            uses[name] * way.probability * way.length
            for name in self.order
            for way in self.rules[name].alternatives
        )

    def longest(self) -> int:
        """Words of the longest text."""
        return self._fold(
            lambda table: 0, lambda ways: max(way.length + sum(x) for way, x in ways)
        )

    def repeat_probability(self) -> float:
        """The chance that two texts drawn independently are the same: the sum of p²."""
        return self._fold(
            lambda table: 1 / len(table.rows),
            lambda ways: math.fsum(
                way.probability**2 * math.prod(x) for way, x in ways
            ),
        )

    def _fold(self, of_table, of_rule):
        """The start's value, from the last rules upwards.

        `of_rule` gets a rule's alternatives, each with the values of its choices.
        """
        values = {name: of_table(table) for name, table in self.tables.items()}
        for name in reversed(self.order):
            ways = self.rules[name].alternatives
            values[name] = of_rule([(w, [values[c] for c in w.choices]) for w in ways])
        return values[self.start]
