"""Texts from the network, fetched once by name and held against their checksum."""

from pathlib import Path

from ..files import FileError
from .text import read_text

CACHE = Path("data-cache")  # in the working folder, not in the user's home
DOWNLOADS = {
    # name: (SHA-256, addresses tried in this order)
    "tiny-shakespeare": (
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        (
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
            "tinyshakespeare/input.txt",
            "https://storage.googleapis.com/download.tensorflow.org/data/shakespeare.txt",
        ),
    ),
}


class DownloadError(FileError):
    """A text that could not be fetched whole; says what was tried."""


def download(name, folder=CACHE):
    """The path of a text by name, fetched unless it is in `folder` already.

    Raises KeyError for an unknown name, DownloadError where no address answers with the
    right bytes.
    """
    if name not in DOWNLOADS:
        raise KeyError(f"no text is called {name!r}; there is {', '.join(DOWNLOADS)}")
    digest, addresses = DOWNLOADS[name]
    pooch = _pooch()
    problems = []
    for address in addresses:
        try:
            return Path(
                pooch.retrieve(
                    address, f"sha256:{digest}", fname=f"{name}.txt", path=folder
                )
            )
        except (OSError, ValueError) as error:  # no network; other bytes
            problems.append(f"{address.split('/')[2]}: {type(error).__name__}")
    raise DownloadError(
        f"{name} could not be fetched ({'; '.join(problems)}); everything else here "
        "works without a network"
    )


def tiny_shakespeare():
    """1,115,394 characters of Shakespeare's plays, as char-rnn and nanoGPT use them."""
    from .corpora import Corpus

    text = read_text(download("tiny-shakespeare"))
    return Corpus("tiny-shakespeare", (text,), ("input.txt",))


def _pooch():
    try:
        import pooch
    except ImportError as error:
        raise DownloadError(
            'fetching texts needs pooch: pip install "minibig[data]"'
        ) from error
    pooch.get_logger().setLevel("WARNING")
    return pooch
