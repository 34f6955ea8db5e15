"""A row of the catalogue of mistakes, and how it is held."""

from typing import NamedTuple

import pytest


class Mistake(NamedTuple):
    what: str
    call: object
    error: type
    facts: tuple


def mistake(what, call, error, *facts):
    """`call` is wrong in one way: it raises `error`, whose message states the facts."""
    assert len(facts) >= 2, what
    return Mistake(what, call, error, facts)


def hold(row):
    """The error is exactly that type, and every fact stands in its message."""
    with pytest.raises(row.error) as caught:
        row.call()
    assert type(caught.value) is row.error
    for fact in row.facts:
        assert fact in str(caught.value), f"{fact!r} not in: {caught.value}"
