"""Bytes as characters that can be seen, as GPT-2's files write them.

Printable bytes stand for themselves, the others are moved to U+0100 and up: "Ġ" is the
space, "Ċ" the line end. Source: openai/gpt-2, encoder.py.
"""

_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTE_ORDER = bytes([*_PRINTABLE, *_OTHERS])  # ids 0 to 255 follow it
CHARACTERS = [*map(chr, _PRINTABLE), *(chr(256 + n) for n in range(len(_OTHERS)))]
TO_CHARACTER = dict(zip(BYTE_ORDER, CHARACTERS, strict=True))
TO_BYTE = dict(zip(CHARACTERS, BYTE_ORDER, strict=True))


def visible(data):
    """The visible form of some bytes."""
    return "".join(TO_CHARACTER[byte] for byte in data)


def hidden(token):
    """The bytes of a visible form; KeyError names a character that is none's."""
    return bytes(TO_BYTE[character] for character in token)


def check_encodable(text):
    """Refuse a string that UTF-8 cannot write, by a `ValueError` that says where."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"U+{ord(text[error.start]):04X} at position {error.start} is half of a "
            "surrogate pair, which UTF-8 cannot write; read the text with "
            'errors="replace", or give the bytes to BPETokenizer.encode_bytes'
        ) from None
