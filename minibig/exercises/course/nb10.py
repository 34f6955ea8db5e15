"""The exercises of notebook 10: bits a byte, WordPiece, streaming, fewest pieces."""

import numpy as np

from ..exercise import Case, Exercise, Mistake

# ---- 10.bits_per_byte ---------------------------------------------------------------


def _bits_per_byte(nats, text):
    return nats.sum() / np.log(2) / len(text.encode())


bits_per_byte = Exercise(
    name="10.bits_per_byte",
    task="The loss of a text in bits for each of its bytes, from nats for each token.",
    solution=_bits_per_byte,
    cases=(
        Case("2 tokens of p = 1/16", lambda: (np.log([16.0, 16.0]), "8 bytes.")),
        Case("uneven losses", lambda: (np.array([0.5, 2.0, 0.1]), "some words")),
        Case("é, 日, 😀", lambda: (np.array([3.0, 1.0]), "é日😀"), "edge"),
        Case("one token", lambda: (np.log([256.0]), "a"), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda nats, text: nats.sum() / len(text.encode()),
            "yours are nats a byte. A nat is 1 / ln 2 = 1.44 bits: divide by ln 2.",
        ),
        Mistake(
            lambda nats, text: nats.sum() / np.log(2) / len(text),
            "you divided by the characters. é has two bytes: len(text.encode()).",
        ),
        Mistake(
            lambda nats, text: nats.mean() / np.log(2),
            "yours are bits a token, which cannot be compared between tokenizers. Add "
            "all losses up and divide by the bytes of the text.",
        ),
        Mistake(
            lambda nats, text: nats.mean() / np.log(2) / len(text.encode()),
            "you took the mean of the losses. The text costs their sum.",
        ),
        Mistake(
            lambda nats, text: nats.sum() * np.log(2) / len(text.encode()),
            "you multiplied by ln 2. A bit is the smaller unit, so there are more of "
            "them: divide.",
        ),
    ),
    hints=(
        "What does the whole text cost, in nats? Then change the unit, then share.",
        "One bit is ln 2 nats, so nats divided by ln 2 are bits.",
        "The bytes are len(text.encode()), not len(text).",
    ),
)


# ---- 10.wordpiece -------------------------------------------------------------------

_PIECES = (
    "[UNK]", "un", "una", "##aff", "##able", "##ffable", "##f", "a", "able", "##s", "b",
    "##b", "lo", "low", "##er", "##wer",
)  # fmt: skip


def _cut(word, pieces, *, mark="##", longest=True, stuck=None):
    """Greedy pieces; `stuck` makes the answer of what was found before nothing fits."""
    found, start = [], 0
    while start < len(word):
        prefix = mark if start else ""
        ends = range(len(word), start, -1)
        ends = ends if longest else reversed(ends)
        end = next((e for e in ends if prefix + word[start:e] in pieces), None)
        if end is None:
            return stuck(found) if stuck else ["[UNK]"]
        found.append(prefix + word[start:end])
        start = end
    return found


def _from_the_end(word, pieces):
    found, end = [], len(word)
    while end > 0:
        for start in range(end):
            piece = ("##" if start else "") + word[start:end]
            if piece in pieces:
                break
        else:
            return ["[UNK]"]
        found.insert(0, piece)
        end = start
    return found


wordpiece = Exercise(
    name="10.wordpiece",
    task="The pieces of a word, always the longest that fits; else [UNK] alone.",
    solution=_cut,
    cases=(
        Case("unaffable", lambda: ("unaffable", _PIECES)),
        Case("lowers", lambda: ("lowers", _PIECES)),
        Case("a whole token", lambda: ("able", _PIECES)),
        Case("nothing fits", lambda: ("xyz", _PIECES), "edge"),
        Case("stuck in the middle", lambda: ("lowest", _PIECES), "edge"),
        Case("the same letter", lambda: ("bbb", _PIECES), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda word, pieces: _cut(word, pieces, mark=""),
            "a piece that goes on a word is written with ## in the list; yours looks "
            "for the letters without it.",
        ),
        Mistake(
            lambda word, pieces: _cut(word, pieces, longest=False),
            "yours takes the shortest piece that fits. Begin with the longest end and "
            "go down.",
        ),
        Mistake(
            lambda word, pieces: _cut(
                word, pieces, stuck=lambda found: [*found, "[UNK]"]
            ),
            "where nothing fits the whole word becomes [UNK]; yours keeps the pieces "
            "found before it.",
        ),
        Mistake(
            lambda word, pieces: _cut(word, pieces, stuck=lambda found: found),
            "where nothing fits yours returns what it has. The rest of the word is "
            'lost; return ["[UNK]"].',
        ),
        Mistake(
            _from_the_end,
            "yours takes the longest piece at the end of the word. WordPiece begins at "
            "the left.",
        ),
        Mistake(
            lambda word, pieces: [p.removeprefix("##") for p in _cut(word, pieces)],
            "the pieces are right, but you took their ## off: pieces are returned as "
            "they stand in the list.",
        ),
    ),
    hints=(
        "Two loops: one over the places where a piece begins, one over its ends.",
        'For each end from the last down: is "##" + word[start:end] in the list? At '
        'the start of the word, without "##".',
        "Go on at that end. Where no end fits, return the list with [UNK] alone.",
    ),
)


# ---- 10.stream ----------------------------------------------------------------------


def _stream(tokens):
    parts, held = [], b""
    for token in tokens:
        held += bytes(token)
        cut = len(held) - _unfinished(held)
        parts.append(held[:cut].decode())
        held = held[cut:]
    return [*parts, "\ufffd" if held else ""]


def _unfinished(data):
    """How many bytes at the end belong to a character that is not complete."""
    for size, byte in enumerate(reversed(data), 1):
        if byte & 0b11000000 != 0b10000000:  # here a character begins
            needed = 1 + (byte >= 0xC0) + (byte >= 0xE0) + (byte >= 0xF0)
            return size if size < needed else 0
    return 0


def _each_alone(errors):
    def stream(tokens):
        return [*(bytes(token).decode(errors=errors) for token in tokens), ""]

    return stream


def _all_at_the_end(tokens):
    return [*("" for _ in tokens), bytes(sum(tokens, ())).decode(errors="replace")]


def _end_forgotten(tokens):
    return [*_stream(tokens)[:-1], ""]


def _whole_tokens_held(tokens):
    parts, held = [], b""
    for token in tokens:
        held += bytes(token)
        if _unfinished(held):
            parts.append("")
        else:
            parts.append(held.decode())
            held = b""
    return [*parts, held.decode(errors="replace")]


def _tokens(*hexadecimal):
    return (tuple(tuple(bytes.fromhex(token)) for token in hexadecimal),)


stream = Exercise(
    name="10.stream",
    task="The characters that each token completes, and U+FFFD for what stays open.",
    solution=_stream,
    cases=(
        Case("ASCII", lambda: _tokens("74 77 6f", "20 62 69 67")),
        Case("a日b in 3 tokens", lambda: _tokens("61 e6", "97 a5", "62")),
        Case("😀 in 4 tokens", lambda: _tokens("f0", "9f", "98", "80"), "edge"),
        Case("é, then half of é", lambda: _tokens("c3 a9 c3", "a9 61 c3"), "edge"),
        Case("no tokens", lambda: ((),), "edge"),
    ),
    mistakes=(
        Mistake(
            _each_alone("replace"),
            "you decoded each token alone: a character that is spread over two becomes "
            "a row of U+FFFD. Hold its bytes back until the rest comes.",
        ),
        Mistake(
            _each_alone("ignore"),
            'errors="ignore" drops the bytes of a character that is spread over two '
            "tokens: text is lost without a word.",
        ),
        Mistake(
            _all_at_the_end,
            "yours shows nothing until all is there. Whole characters can be shown at "
            "once.",
        ),
        Mistake(
            _end_forgotten,
            'a character that stayed unfinished is shown as "\\ufffd" at the end; '
            "yours forgets it.",
        ),
        Mistake(
            _whole_tokens_held,
            "yours holds back all that it has while one character is open. Hold back "
            "its bytes only: what stands before it can be shown.",
        ),
        Mistake(
            lambda tokens: ["".join(map(chr, token)) for token in tokens] + [""],
            "yours makes a character of each byte. é is two bytes in UTF-8.",
        ),
    ),
    hints=(
        "Keep the bytes that could not be shown yet, and put the next token behind "
        "them.",
        "Look back from the end for a byte that begins a character: its marks say how "
        "many bytes it needs.",
        'Python has it: codecs.getincrementaldecoder("utf-8")("replace"), with '
        "decode(token), and decode(b'', final=True) at the end.",
    ),
)


# ---- 10.fewest_pieces ---------------------------------------------------------------


def _fewest_pieces(word, pieces):
    fewest = [0]  # of the first 0, 1, 2 … letters
    for end in range(1, len(word) + 1):
        ways = [fewest[s] + 1 for s in range(end) if word[s:end] in pieces]
        fewest.append(min(ways, default=np.inf))
    return fewest[-1] if fewest[-1] < np.inf else -1


def _greedy(word, pieces):
    found = _cut(word, pieces, mark="", stuck=lambda found: None)
    return -1 if found is None else len(found)


def _greedy_from_the_end(word, pieces):
    return _greedy(word[::-1], {piece[::-1] for piece in pieces})


def _each_piece_once(word, pieces):
    if not word:
        return 0
    starts = [piece for piece in pieces if word.startswith(piece)]
    ways = [_each_piece_once(word[len(p) :], set(pieces) - {p}) for p in starts]
    return min((1 + way for way in ways if way >= 0), default=-1)


fewest_pieces = Exercise(
    name="10.fewest_pieces",
    task="The smallest number of pieces that joined give a word; -1 if none do.",
    solution=_fewest_pieces,
    cases=(
        Case("abcd", lambda: ("abcd", ("a", "b", "c", "d", "ab", "bcd"))),
        Case("abcde", lambda: ("abcde", ("a", "b", "c", "d", "e", "abc", "de", "cde"))),
        Case("aabbb", lambda: ("aabbb", ("aab", "a", "aa", "bbb"))),
        Case("ab, 20 times", lambda: ("ab" * 20, ("a", "b", "ab", "ba", "bab"))),
        Case("bab, greed fails", lambda: ("abab", ("ab", "aba", "bab", "a"))),
        Case("cannot be done", lambda: ("abx", ("a", "b", "ab")), "edge"),
        Case("the empty word", lambda: ("", ("a",)), "edge"),
    ),
    mistakes=(
        Mistake(
            _greedy,
            "you take the longest piece first, from the left. That may leave many "
            "small ones, or nothing that fits, for the rest.",
        ),
        Mistake(
            _greedy_from_the_end,
            "you take the longest piece first, from the end. Greed from the other side "
            "fails on other words.",
        ),
        Mistake(
            lambda word, pieces: _fewest_pieces(word, pieces) - 1,
            "you counted the cuts. There is one piece more than cuts.",
        ),
        Mistake(
            lambda word, pieces: max(_fewest_pieces(word, pieces), 0),
            "where it cannot be done yours says 0, which is the answer for the empty "
            "word. Return -1.",
        ),
        Mistake(
            _each_piece_once,
            "a piece may be used more than once in a word; yours uses it up.",
        ),
    ),
    hints=(
        "If you knew the fewest pieces of every beginning, what of the whole word?",
        "The last piece is word[s:end] for some s: then it is one more than for the "
        "first s letters.",
        "fewest[end] is the smallest fewest[s] + 1 over all s with word[s:end] in the "
        "list; fewest[0] is 0.",
    ),
)
