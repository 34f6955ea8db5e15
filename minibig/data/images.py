"""Small pictures to learn from, in parts that are fixed."""

import functools
from dataclasses import replace

from .tabular import digits


@functools.cache
def digit_images():
    """The set of `digits` as pictures: features (N, 1, 8, 8), 0 (paper) to 1 (ink)."""
    table = digits()
    parts = {
        name: part._replace(features=part.features.reshape(-1, 1, 8, 8))
        for name in ("train", "validation", "test")
        for part in (getattr(table, name),)
    }
    return replace(table, name="digit_images", **parts)
