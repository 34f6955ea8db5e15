"""Data as they should have come: one way of writing, nothing twice, one scale.

What BERT does to its text is another matter: `data/tokenizers/cleaning.py`. Taught by
notebook 05.
"""

import re
import unicodedata
from collections import Counter, defaultdict

import numpy as np

from .. import checks

_LINE_ENDS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# No width and no meaning: soft hyphen, zero-width space, word joiner, byte order mark.
# The zero-width joiners stay: words of some scripts, and emoji, are other ones without.
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
_FORMS = ("NFC", "NFD", "NFKC", "NFKD")


def clean_text(text, form="NFC"):
    """The text in one Unicode form, without invisible characters and idle space.

    In this order: line ends become "\\n"; control characters but tab and newline, half
    surrogate pairs and characters that neither show nor mean anything go; the Unicode
    normal form is made; runs of white space become one space, none at the ends of
    lines, and never more than one empty line. NFC keeps what a reader sees; NFKC also
    writes "ﬁ" as "fi" and "x²" as "x2". Cleaning twice changes nothing more.
    """
    checks.kind("clean_text: text", text, str)
    checks.choice("clean_text: form", form, _FORMS)
    text = _LINE_ENDS.sub("\n", text).translate(_INVISIBLE)
    text = "".join(c for c in text if c in "\n\t" or not _is_control(c))
    lines = unicodedata.normalize(form, text).split("\n")
    text = "\n".join(" ".join(line.split()) for line in lines)
    return re.sub("\n{3,}", "\n\n", text).strip("\n")


def _is_control(character):
    return unicodedata.category(character) in ("Cc", "Cs")


def remove_boilerplate(texts, share=0.5):
    """The texts without lines that stand in more than this share of them.

    Licences, headers and menus. White space around a line does not count, a line that
    a text repeats counts once, one that stands in a single text stays, and so do empty
    lines.
    """
    texts = _texts("remove_boilerplate", texts)
    checks.probability("remove_boilerplate: share", share)
    seen = Counter(
        line for text in texts for line in {line.strip() for line in text.split("\n")}
    )
    most = max(share * len(texts), 1)
    common = {line for line, count in seen.items() if line and count > most}
    return [
        "\n".join(line for line in text.split("\n") if line.strip() not in common)
        for text in texts
    ]


def near_duplicates(texts, similarity=0.8, n=3):
    """Pairs (i, j, similarity) of texts that are alike, i < j, in the order of j.

    A text counts as the set of its runs of n words, small and large letters alike; the
    similarity of two is the size of what they share by that of all they have (Jaccard).
    Shorter texts are one run. Exact; the time grows with the number of pairs that share
    a run. Broder, "On the resemblance and containment of documents" (1997).
    """
    return list(_alike("near_duplicates", texts, similarity, n))


def deduplicate(texts, similarity=0.8, n=3):
    """Indices of the texts to keep: those that are not `near_duplicates` of one kept.

    The first of each group stays, so a text may be alike to one that was left out.
    """
    left_out = set()
    for i, j, _ in _alike("deduplicate", texts, similarity, n):
        if i not in left_out:
            left_out.add(j)
    return [i for i in range(len(texts)) if i not in left_out]


def _alike(name, texts, similarity, n):
    texts = _texts(name, texts)
    checks.number(f"{name}: similarity", similarity, 0, 1, without=0)
    checks.whole(f"{name}: n", n, 1)
    sizes, holders = [], defaultdict(list)  # run of words -> texts that have it
    for j, text in enumerate(texts):
        runs = _runs(text, n)
        shared = Counter(i for run in runs for i in holders[run])
        for i in sorted(shared):
            alike = shared[i] / (sizes[i] + len(runs) - shared[i])
            if alike >= similarity:
                yield i, j, alike
        for run in runs:
            holders[run].append(j)
        sizes.append(len(runs))


def _runs(text, n):
    words = text.casefold().split()
    return {tuple(words[i : i + n]) for i in range(max(len(words) - n + 1, 1))}


def _texts(name, texts):
    checks.kind(f"{name}: texts", texts, list, tuple)
    for text in texts:
        checks.kind(f"{name}: each text", text, str)
    return texts


class Standardizer:
    """Rows (N, F) less their mean, by their standard deviation: of *training* rows.

    `Standardizer(rows)` takes the statistics, float64; calling it with other rows (M,
    F) applies them, in the rows' precision. A column that is constant in training is
    only centred. Raises ValueError for fewer than one row, and naming the columns where
    a number is missing or not finite.
    """

    def __init__(self, rows):
        rows = self._rows(rows).astype(np.float64)
        if not len(rows):
            raise ValueError("Standardizer: there must be at least one training row")
        constant = rows.min(0) == rows.max(0)  # where rounding leaves no exact 0
        self.mean = np.where(constant, rows[0], rows.mean(0))  # (F,)
        self.scale = np.where(constant, 1.0, rows.std(0))

    def __call__(self, rows):
        rows = self._rows(rows, len(self.mean))
        dtype = rows.dtype if rows.dtype.kind == "f" else np.float64
        return ((rows - self.mean) / self.scale).astype(dtype)

    @staticmethod
    def _rows(rows, columns=None):
        rows = np.asarray(rows)
        if rows.dtype.kind not in "fiub" or rows.ndim != 2:
            raise ValueError(
                f"Standardizer takes rows of numbers (N, F), not {rows.dtype} of shape "
                f"{rows.shape}"
            )
        if columns not in (None, rows.shape[1]):
            raise ValueError(
                f"Standardizer knows {columns} columns, but these rows have "
                f"{rows.shape[1]}"
            )
        bad = np.flatnonzero(~np.isfinite(rows).all(0))
        if len(bad):
            raise ValueError(
                f"Standardizer: numbers are missing or not finite in columns "
                f"{bad[:10].tolist()}: fill them in or leave these rows out first"
            )
        return rows
