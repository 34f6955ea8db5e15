"""Plain text from a file, and how much of a text is made of known words."""

import codecs
import re
import stat
from pathlib import Path

from ..files import FileError

_WORD = re.compile(r"[^\W\d_]{3,}")  # letters of any script
_UTF16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE


def read_text(path):
    """The text of a UTF-8 file, without a byte order mark; line ends as they are.

    Raises FileError, which names the byte, where the file is something else, and for
    an empty one; OSError where there is no file that can be read.
    """
    path = Path(path)
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise FileError(f"{path} is a folder; name a text file in it")
    if not stat.S_ISREG(mode):  # a device could go on for ever
        raise FileError(f"{path} is not a regular file")
    data = path.read_bytes()
    if data.startswith(_UTF16):
        raise FileError(
            f"{path} is UTF-16, as its first two bytes say: save it as UTF-8"
        )
    if b"\0" in data:
        raise FileError(
            f"{path} is a binary file, not a text: byte {data.index(0)} is NUL"
        )
    body = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        place = error.start + len(data) - len(body)
        raise FileError(
            f"{path} is not UTF-8: byte {place}, 0x{data[place]:02x}, begins no "
            "character; save it as UTF-8"
        ) from None
    if not text:
        raise FileError(f"{path} is empty")
    return text


def share_of_known_words(text, corpus_text):
    """The share, 0 to 1, of the words of `text` that occur in `corpus_text`.

    Words are three letters or more, large and small alike; each occurrence counts. A
    text without any has the share 0.
    """
    known = set(_words(corpus_text))
    written = _words(text)
    return sum(word in known for word in written) / max(len(written), 1)


def _words(text):
    return [word.lower() for word in _WORD.findall(text)]
