"""Two questions about docstrings: are the words in order, and which library is it from?

The texts are read from what every reader has installed: the standard library, NumPy and
SciPy, parsed and never imported. They differ a little from one version to the next:
name `versions` and `hash` beside every number that depends on them. Notebooks 07 and 12
learn from these sets.
"""

import ast
import functools
import importlib.util
import platform
import re
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from .. import random
from .corpora import library_source
from .fingerprint import fingerprint
from .tabular import Split, stratified_split
from .tokenizers import Tokenizer, WordTokenizer
from .tokenizers import pad as padded

PAD = "<pad>"
BLANK = "___"  # in place of a word that would give the library away
LIBRARIES = (
    "asyncio", "email", "importlib", "logging",
    "scipy.optimize", "scipy.signal", "scipy.sparse", "scipy.stats",
)  # fmt: skip
SENTENCE_WORDS = 6, 24  # the shortest and the longest sentence
PARAGRAPH_WORDS = 5, 40  # shorter ones are left out, longer ones cut

_PARTS = ("train", "validation", "test")
_FRACTIONS = (0.7, 0.15, 0.15)
_TESTS = {"test", "tests", "testing", "_testing", "conftest.py"}
# What a later Python leaves out, or a distribution puts into a package of its own.
_NOT_EVERYWHERE = {
    "distutils", "ensurepip", "idlelib", "lib2to3", "tkinter", "turtle", "turtledemo",
}  # fmt: skip
_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Examples, headings underlined or in markup, what is set in from the margin.
_NOT_PROSE = re.compile(r">>>|^[-=~*^]{3,}\s*$|^\s*(?:\.\.|:)|^\s+\S", re.MULTILINE)
_SIGNS = re.compile(r"[=<>\[\]{}\\/|@#$%^~:;]")  # of code and formulas


@dataclass(frozen=True, repr=False)
class TextData:
    """Labelled texts in three parts: features are ids (N, T), targets classes (N,).

    Rows are filled up with `pad_id`. `texts["train"]` are the texts of that part, row
    by row. Words that stand only once in the training texts are "<unk>".
    """

    name: str
    train: Split
    validation: Split
    test: Split
    texts: dict[str, tuple[str, ...]]
    target_names: tuple[str, ...]
    tokenizer: Tokenizer
    versions: str  # of Python and of the packages that were read
    hash: str  # of texts, classes and parts

    @property
    def pad_id(self):
        """The id that fills rows up."""
        return self.tokenizer.special_tokens[PAD]

    def __repr__(self):
        rows = " + ".join(str(len(getattr(self, part).targets)) for part in _PARTS)
        return (
            f"TextData({self.name!r}: {rows} texts, {len(self.target_names)} classes, "
            f"vocabulary {self.tokenizer.vocab_size:,}, {self.versions}, "
            f"hash {self.hash})"
        )


@functools.cache
def real_or_shuffled():
    """Sentences of docstrings as they are (class 1) and with their words shuffled (0).

    Each sentence stands in its part in both forms, real in an even row and shuffled in
    the next, so that only the order of the words can tell: a bag of words is right half
    of the time. Sentences have 6 to 24 words, at least 6 of them different, in lower
    case and without punctuation. All sentences of a docstring are in one part; of those
    with the same words of four letters or more, one is kept.
    """
    found = {}  # words that tell it from others → (docstring, package, words)
    for package in ("standard library", "numpy", "scipy"):
        for _, docstring in _docstrings(package):
            for words in _sentences(docstring):
                found.setdefault(_key(words), (docstring, package, words))
    package_of = {docstring: package for docstring, package, _ in found.values()}
    docstrings = list(package_of)
    parts = stratified_split(list(package_of.values()), _FRACTIONS)
    part_of = {
        docstrings[row]: part
        for part, rows in zip(_PARTS, parts, strict=True)
        for row in rows
    }
    texts, generator = {part: [] for part in _PARTS}, random.at("shuffle", 0, 0)
    for docstring, _, words in found.values():
        texts[part_of[docstring]] += [" ".join(words), _shuffled(words, generator)]
    targets = {part: np.tile([1, 0], len(texts[part]) // 2) for part in _PARTS}
    names = ("shuffled", "real")
    return _text_data("real_or_shuffled", texts, targets, names, ("numpy", "scipy"))


@functools.cache
def which_library():
    """First paragraphs of docstrings, and which of eight `LIBRARIES` they are from.

    As many of each, of 5 to 40 words (more are cut), in lower case and without
    punctuation. In the texts of all classes a `BLANK` replaces the words that would
    give the answer away: those that contain the name of a library or of SciPy
    ("emails"), and those that are the name of a module in one of them, or that with or
    without an s at its end. Of texts with the same words of four letters or more, one
    is kept.
    """
    found, classes, modules = [], [], set()
    standard = tuple(name for name in LIBRARIES if "." not in name)
    for read in (("standard library", *standard), ("scipy",)):
        for module, docstring in _docstrings(*read):
            library = ".".join(module.split(".")[: 1 + (read == ("scipy",))])
            if library in LIBRARIES:
                modules.update(module.split("."))
                found.append(_words(docstring.split("\n\n")[0])[: PARAGRAPH_WORDS[1]])
                classes.append(LIBRARIES.index(library))
    names = {part for name in LIBRARIES for part in name.split(".")}
    telling = {word.strip("_").removesuffix("s") for word in modules}
    distinct = {}  # words that tell it from others → (text, class)
    for words, label in zip(found, classes, strict=True):
        words = [BLANK if _tells(word, names, telling) else word for word in words]
        if len(words) - words.count(BLANK) >= PARAGRAPH_WORDS[0]:
            distinct.setdefault(_key(words), (" ".join(words), label))
    chosen = _as_many_of_each(list(distinct.values()))
    labels = np.array([label for _, label in chosen])
    parts = dict(zip(_PARTS, stratified_split(labels, _FRACTIONS), strict=True))
    texts = {part: [chosen[row][0] for row in rows] for part, rows in parts.items()}
    targets = {part: labels[rows] for part, rows in parts.items()}
    return _text_data("which_library", texts, targets, LIBRARIES, ("scipy",))


@functools.cache
def _docstrings(package, *libraries):
    """(module, docstring) of a package or of the standard library, or parts of that."""
    found = {}  # docstring → module
    for module, source in _sources(package, libraries):
        for node in _documented(ast.parse(source)):
            text = ast.get_docstring(node)
            if text:
                found.setdefault(text, module)
    return tuple((module, text) for text, module in found.items())


def _documented(node):
    """A module or class, its functions and classes: what may have a docstring."""
    yield node
    if isinstance(node, (ast.Module, ast.ClassDef)):
        for child in node.body:
            if isinstance(child, _DEFINITIONS):
                yield from _documented(child)


def _sources(package, libraries):
    """(module, source) of all modules in a fixed order, tests left out."""
    if package == "standard library":
        corpus = library_source(*libraries)
        for module, source in zip(corpus.names, corpus.documents, strict=True):
            if module.partition(".")[0] not in _NOT_EVERYWHERE:
                yield module, source
        return
    root = Path(importlib.util.find_spec(package).origin).parent
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).parts
        if not _TESTS & set(parts) and not parts[-1].startswith("test_"):
            module = ".".join(parts).removesuffix(".py").removesuffix(".__init__")
            yield module, importlib.util.decode_source(path.read_bytes())


def _sentences(docstring):
    """The words of each sentence of running text that is neither short nor long."""
    low, high = SENTENCE_WORDS
    for paragraph in re.split(r"\n\s*\n", docstring):
        if _NOT_PROSE.search(paragraph):
            continue
        line = re.sub(r"[`\"*]", "", " ".join(paragraph.split()))
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", line):
            words = _words(sentence)
            whole = sentence[:1].isupper() and sentence[-1] in ".!?"
            prose = whole and not _SIGNS.search(sentence)
            if prose and len(set(words)) >= low and len(words) <= high:
                yield words


def _words(text):
    """In lower case, without marks: "Don't stop." gives dont, stop."""
    return re.findall(r"\w+", text.lower().replace("'", ""))


def _key(words):
    """The longer words without their order: what near duplicates have in common."""
    return frozenset(word for word in words if len(word) >= 4)


def _shuffled(words, generator):
    """The words in an order drawn by lot that gives another text."""
    shuffled = words
    while shuffled == words:
        shuffled = [words[index] for index in generator.permutation(len(words))]
    return " ".join(shuffled)


def _tells(word, names, telling):
    return word.removesuffix("s") in telling or any(name in word for name in names)


def _as_many_of_each(rows):
    """The first rows of an order drawn by lot, as many of each label as the rarest."""
    count = min(Counter(label for _, label in rows).values())
    taken, chosen = Counter(), []
    for index in random.at("balance", 0, 0).permutation(len(rows)):
        label = rows[index][1]
        taken[label] += 1
        if taken[label] <= count:
            chosen.append(index)
    return [rows[index] for index in sorted(chosen)]


def _text_data(name, texts, targets, target_names, packages):
    """The TextData of {part: texts} and {part: classes}, read-only."""
    distinct = {" ".join(sorted(text.split())) for text in texts["train"]}
    counts = Counter(word for text in distinct for word in text.split())
    words = sum(count > 1 for count in counts.values())
    tokenizer = WordTokenizer.train(
        sorted(distinct), max_size=words + 3, special_tokens=(PAD,)
    )  # beside the words "<unk>", PAD and the space
    pad_id = tokenizer.special_tokens[PAD]
    parts = {}
    for part in _PARTS:
        ids, _ = padded([tokenizer.encode(text) for text in texts[part]], pad_id)
        parts[part] = Split(ids, targets[part].astype(np.int64))
        for array in parts[part]:
            array.flags.writeable = False  # the set is kept: nobody may change it
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{package} {metadata.version(package)}" for package in packages]
    texts = {part: tuple(texts[part]) for part in _PARTS}
    digest = fingerprint(*(x for p in _PARTS for x in (*texts[p], targets[p])))
    return TextData(
        name, *parts.values(), texts, target_names, tokenizer, ", ".join(versions),
        digest,
    )  # fmt: skip
