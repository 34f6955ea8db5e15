"""Text that every reader already has: corpora from the installed CPython.

They need no network, but differ a little from one Python version to the next: name
`corpus.python` and `corpus.hash` beside every number that depends on one.
"""

import ast
import functools
import importlib.util
import os
import platform
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

from .. import random
from ..checks import kind, number, whole
from .fingerprint import fingerprint

# Not library source: installed packages, tests, files written by the build (they hold
# paths of one machine), and the documentation, which is a corpus of its own.
_SKIPPED_FOLDERS = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idle_test",
    "lib-dynload",
    "pydoc_data",
    "__pycache__",
}
_SKIPPED_FILES = ("_sysconfigdata", "sitecustomize", "usercustomize")
_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_SIMPLE_STATEMENTS = (
    ast.Assign,
    ast.AugAssign,
    ast.AnnAssign,
    ast.Expr,
    ast.Return,
    ast.Raise,
    ast.Assert,
    ast.Delete,
    ast.Import,
    ast.ImportFrom,
    ast.Global,
    ast.Nonlocal,
)


@dataclass(frozen=True, repr=False)
class Corpus:
    """Documents in a fixed order, each with a name."""

    name: str
    documents: tuple[str, ...]
    names: tuple[str, ...]
    python: str = field(default_factory=platform.python_version)

    @functools.cached_property
    def text(self):
        """All documents in one string, a newline between them."""
        return "\n".join(self.documents)

    @functools.cached_property
    def hash(self):
        """16 hexadecimal digits that change when any name or document does."""
        return fingerprint(*self.names, *self.documents)

    @property
    def libraries(self):
        """The top-level module of each document: "json" for "json.decoder.scan"."""
        return tuple(name.partition(".")[0] for name in self.names)

    def __len__(self):
        return len(self.documents)

    def __repr__(self):
        size = sum(map(len, self.documents))
        return (
            f"Corpus({self.name!r}: {len(self):,} documents, {size:,} characters, "
            f"Python {self.python}, hash {self.hash})"
        )

    def split(self, held_out=0.1, seed=0):
        """Two corpora, training and held out: whole documents, each in one of them.

        In an order shuffled by `seed`, a document is held out while the characters
        held out stay within the fraction `held_out` of all: documents differ much in
        length, so counting them would miss the fraction. Raises `ValueError` when a
        part would be empty.
        """
        if not 0 < number("held_out", held_out) < 1:
            raise ValueError(f"held_out is a fraction between 0 and 1, not {held_out}")
        room = held_out * sum(map(len, self.documents))
        chosen = set()
        order = random.at("split", 0, seed).permutation(len(self))
        for index in order.tolist():
            if len(self.documents[index]) <= room:
                room -= len(self.documents[index])
                chosen.add(index)
        if not 0 < len(chosen) < len(self):
            raise ValueError(
                f"{len(self)} documents cannot be split with {held_out:.0%} held out: "
                "one part would be empty; use more or shorter documents"
            )
        rest = [index for index in range(len(self)) if index not in chosen]
        return self._part("training", rest), self._part("held out", sorted(chosen))

    def _part(self, label, indices):
        documents = tuple(self.documents[index] for index in indices)
        names = tuple(self.names[index] for index in indices)
        return Corpus(f"{self.name}, {label}", documents, names, self.python)


@functools.cache
def documentation():
    """The Python language reference as `help()` shows it; one topic a document.

    About 465,000 characters in 79 topics (Python 3.11), sorted by topic.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ModuleNotFoundError(
            "this Python comes without pydoc_data, the text that help() shows; "
            "install the full standard library"
        ) from error
    names = tuple(sorted(topics))
    return Corpus("documentation", tuple(topics[name] for name in names), names)


@functools.cache
def library_source(*libraries):
    """The standard library's Python source without its tests; one module a document.

    About 11 million characters (Python 3.11), sorted by path. Name top-level modules
    to take only those: `library_source("json", "email")`. Raises `ValueError` for a
    module that has no source here.
    """
    sources = {
        module: importlib.util.decode_source(path.read_bytes())
        for module, path in _library_files()
    }
    _check_libraries(libraries, sources)
    if libraries:
        sources = {m: s for m, s in sources.items() if m.split(".")[0] in libraries}
    return Corpus("library source", tuple(sources.values()), tuple(sources))


@functools.cache
def docstrings(*libraries):
    """The standard library's docstrings; each named "module.Class.method".

    Indentation is cleaned as `inspect.cleandoc` does. A text that occurs more than
    once is kept where it stands first, so none is both in training and held out.
    Modules are parsed, never imported. `libraries` as in `library_source`.
    """
    found = {}  # text -> name
    for name, node in _library_statements(libraries):
        if isinstance(node, (ast.Module, *_DEFINITIONS)):
            text = ast.get_docstring(node)
            if text:
                found.setdefault(text, name)
    return Corpus("docstrings", tuple(found), tuple(found.values()))


@functools.cache
def statements(*libraries, max_length=80):
    """One-line simple statements of the standard library, each once.

    Assignments, calls, imports, returns and the like, as `ast.unparse` writes them:
    one normal form, no comments. Only printable ASCII of 4 to `max_length` characters
    is kept; each is named by the place where it stands first. `libraries` as in
    `library_source`.
    """
    whole("max_length", max_length, 4)
    found = {}  # line -> name
    for name, node in _library_statements(libraries):
        if isinstance(node, _SIMPLE_STATEMENTS) and not _is_bare_string(node):
            line = ast.unparse(node)
            if 4 <= len(line) <= max_length and line.isascii() and line.isprintable():
                found.setdefault(line, name)
    return Corpus("statements", tuple(found), tuple(found.values()))


def _library_files():
    """(module name, path) of every source file, sorted by path."""
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [
            name
            for name in subfolders
            if name not in _SKIPPED_FOLDERS and not name.startswith("config-")
        ]
        for name in files:
            if name.endswith(".py") and not name.startswith(_SKIPPED_FILES):
                path = Path(folder, name)
                found.append((path.relative_to(root).with_suffix("").parts, path))
    if not found:
        raise FileNotFoundError(
            "this Python comes without the source of its standard library "
            "(an embedded or zipped build?); use a regular installation"
        )
    found.sort()
    return [(".".join(parts).removesuffix(".__init__"), path) for parts, path in found]


def _check_libraries(wanted, sources):
    for name in wanted:
        kind("the name of a library", name, str)
    available = {module.split(".")[0] for module in sources}
    missing = sorted(set(wanted) - available)
    if missing:
        raise ValueError(
            f"no source of {', '.join(missing)} in this standard library; "
            "name top-level modules written in Python, such as 'json' or 'email'"
        )


def _library_statements(libraries):
    """(qualified name, node) of every module and statement, in source order."""
    corpus = library_source(*libraries)
    for module, source in zip(corpus.names, corpus.documents, strict=True):
        yield from _walk(module, ast.parse(source))


def _walk(name, node):
    yield name, node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _DEFINITIONS):
            yield from _walk(f"{name}.{child.name}", child)
        elif isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case)):
            yield from _walk(name, child)


def _is_bare_string(node):
    """A docstring, or a string that serves as a comment."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
