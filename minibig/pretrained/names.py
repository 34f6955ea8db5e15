"""How the names and shapes of published weights become ours, and back."""

import re
from dataclasses import dataclass

import numpy as np

from ..files import match_names


@dataclass(frozen=True)
class Weight:
    """One of our arrays and what it is called in published files.

    Several names: theirs are parts of ours, one after the other along the first axis.
    `transposed`: theirs are matrices (in, out), as GPT-2's are. `shape`: theirs, where
    the same numbers have another.
    """

    ours: str
    theirs: tuple[str, ...]
    transposed: bool = False
    shape: tuple[int, ...] | None = None

    def expected(self, shape):
        """The shape of each of theirs, if ours is `shape`."""
        if self.shape is not None:
            return self.shape
        shape = (shape[0] // len(self.theirs), *shape[1:])
        return shape[::-1] if self.transposed else shape

    def gathered(self, found, shape):
        """Our array from theirs."""
        parts = [found[name].T if self.transposed else found[name]
                 for name in self.theirs]  # fmt: skip
        return (parts[0] if len(parts) == 1 else np.concatenate(parts)).reshape(shape)

    def scattered(self, array):
        """Their names and arrays from ours."""
        for name, part in zip(
            self.theirs, np.split(array, len(self.theirs)), strict=True
        ):
            part = part if self.shape is None else part.reshape(self.shape)
            yield name, part.T if self.transposed else part


def tidied(arrays, rules, ignored):
    """The arrays by plain names: `rules` (pattern, replacement) applied in turn.

    Names that match one of the `ignored` patterns are left out. ValueError where two
    names become one.
    """
    found, origin = {}, {}
    for name, array in arrays.items():
        plain = name
        for pattern, replacement in rules:
            plain = re.sub(pattern, replacement, plain)
        if any(re.fullmatch(pattern, plain) for pattern in ignored):
            continue
        if plain in found:
            raise ValueError(f"{name} and {origin[plain]} are the same weight")
        found[plain], origin[plain] = array, name
    return found


def untie(found, copies, where):
    """Takes out the copies of tied weights (copy → original); they must be equal.

    A copy whose original is missing takes its place.
    """
    for copy, original in copies.items():
        if copy not in found:
            continue
        array = found.pop(copy)
        if original not in found:
            found[original] = array
        elif not np.array_equal(array, found[original]):
            raise ValueError(
                f"{where}: the config ties {copy} to {original}, but they differ: set "
                "tie_word_embeddings to false in config.json if they should"
            )


def gather(weights, found, shapes, where):
    """Our state (name → array) from theirs; `shapes` are those of ours.

    One ValueError lists all that is missing, unexpected or of another shape.
    """
    expected = {
        name: weight.expected(shapes[weight.ours])
        for weight in weights
        for name in weight.theirs
    }
    shapes_found = {name: array.shape for name, array in found.items()}
    match_names(expected, shapes_found, what=str(where))
    return {w.ours: w.gathered(found, shapes[w.ours]) for w in weights}


def scatter(weights, state):
    """Their arrays by name from our state; a bias that we lack is zeros."""
    arrays = {}
    for weight in weights:
        array = state.get(weight.ours)
        if array is None:
            weighted = state[weight.ours.removesuffix("bias") + "weight"]
            array = np.zeros(len(weighted), weighted.dtype)
        arrays.update(weight.scattered(array))
    return arrays


def linear(ours, *theirs, transposed=False):
    """The weight and bias of a layer."""
    for kind in ("weight", "bias"):
        flat = transposed and kind == "weight"
        names = tuple(f"{name}.{kind}" for name in theirs)
        yield Weight(f"{ours}.{kind}", names, flat)


def only(ours, theirs, kind="weight"):
    """One array of a layer."""
    return Weight(f"{ours}.{kind}", (f"{theirs}.{kind}",))
