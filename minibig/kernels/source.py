"""What stands in a .cu file: its text in one piece, its kernels, their parameters.

The parameters are read off the source, so that a launch cannot disagree with it.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
KERNEL = re.compile(
    r"(?:template\s*<(?P<template>[^>]*)>\s*)?"
    r"__global__\s+(?:__launch_bounds__\([^)]*\)\s*)?"
    r"void\s+(?:__launch_bounds__\([^)]*\)\s*)?"
    r"(?P<name>\w+)\s*\((?P<parameters>[^)]*)\)"
)
QUALIFIERS = ("const", "*", "__restrict__", "__grid_constant__")
INCLUDE = re.compile(r'#include "(\w+\.cuh)"')


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: an array (pointer) or a number of a C type."""

    name: str
    type: str  # "float", "int", …, or the name of a template's parameter
    pointer: bool
    writable: bool


@dataclass(frozen=True)
class Source:
    """A .cu text: what one compilation reads. All its templates have one argument list.

    `kernels` maps each kernel's name to its parameters, `template` names what its
    templates take, () if they are none.
    """

    name: str
    text: str
    kernels: dict
    template: tuple

    def expressions(self, *template):
        """{kernel: how C++ names its instance}: "f", or "f<float, 64>"."""
        given = ", ".join(map(str, template))
        if len(template) != len(self.template):
            names = ", ".join(self.template) or "no template arguments"
            raise ValueError(f"{self.name} takes {names}, not ({given})")
        return {k: f"{k}<{given}>" if template else k for k in self.kernels}


@functools.cache
def read(name):
    """The Source of `name`, a .cu file of this folder."""
    return parse(name, (FOLDER / name).read_text("utf-8"))


def parse(name, text):
    """The Source of a text, which may include this folder's headers.

    `name` stands in messages. Raises ValueError where there is no kernel in the text.
    """
    text = "\n".join(_lines(name, text, set())) + "\n"
    found = list(KERNEL.finditer(re.sub(r"//[^\n]*", "", text)))
    if not found:
        raise ValueError(f"{name}: no kernel, `__global__ void name(…)`, in the text")
    templates = {_template(match["template"]) for match in found}
    if len(templates) > 1:
        raise ValueError(f"{name}: its kernels must take the same template arguments")
    kernels = {m["name"]: _parameters(m["parameters"]) for m in found}
    return Source(name, text, kernels, templates.pop())


def _lines(name, text, included):
    """The lines of a text, the headers that it includes in their place, once each."""
    yield f'#line 1 "{name}"'
    for number, line in enumerate(text.splitlines(), 1):
        header = INCLUDE.fullmatch(line)
        if line == "#pragma once":
            yield ""
        elif header is None:
            yield line
        else:
            if header[1] not in included:
                included.add(header[1])
                inner = (FOLDER / header[1]).read_text("utf-8")
                yield from _lines(header[1], inner, included)
            yield f'#line {number + 1} "{name}"'


def _template(words):
    return tuple(word.split()[-1] for word in (words or "").split(",") if word)


def _parameters(text):
    return tuple(_parameter(word) for word in text.split(",") if word.strip())


def _parameter(text):
    words = text.replace("*", " * ").split()
    kind = " ".join(word for word in words[:-1] if word not in QUALIFIERS)
    pointer = "*" in words
    return Parameter(words[-1], kind, pointer, pointer and "const" not in words)
